//! The walk itself: element after element, without recursion and without allocating by a declared length.

use std::io;

use dicom_core::{Tag, VR, dictionary::DataDictionary};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::{GateError, RawValue, Scan};
use crate::{Limits, TransferSyntax, source::Source};

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);

/// An open sequence or item.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Sequence {
        end: Option<u64>,
        /// Sent as UN, so that its items may be encoded in another way than what is around them.
        unknown: bool,
    },
    Item {
        end: Option<u64>,
    },
    /// Pixel data fragments, whose items are bytes and not data sets.
    Fragments,
}

impl Open {
    fn end(self) -> Option<u64> {
        match self {
            Self::Sequence { end, .. } | Self::Item { end } => end,
            Self::Fragments => None,
        }
    }

    /// What ends it where its length does not say.
    fn delimiter(self) -> Tag {
        match self {
            Self::Item { .. } => ITEM_DELIMITATION,
            Self::Sequence { .. } | Self::Fragments => SEQUENCE_DELIMITATION,
        }
    }
}

/// How element headers are written.
#[derive(Clone, Copy, PartialEq)]
struct Encoding {
    explicit: bool,
    big_endian: bool,
}

/// What a UN element of undefined length holds, whatever the transfer syntax (PS3.5 6.2.2).
const INSIDE_UN: Encoding = Encoding { explicit: false, big_endian: false };

pub(super) struct Walk<'a, R> {
    reader: R,
    offset: u64,
    length: Option<u64>,
    limits: &'a Limits,
    /// What is open, and how what is around it is encoded.
    open: Vec<(Open, Encoding)>,
    encoding: Encoding,
    /// The next element tells whether its data set is of explicit VR.
    probe: bool,
    /// The delimiter of what has just ended by its length: it may follow all the same.
    redundant: Option<Tag>,
    /// Delimiters met.
    delimiters: u64,
    /// What the kept values take, in bytes.
    kept: usize,
    scan: Scan,
}

struct ElementHeader {
    tag: Tag,
    vr: VR,
    length: u32,
    at: u64,
}

/// What keeping a value costs besides its bytes: the tag, the vector, its place in the map.
const VALUE_OVERHEAD: usize = 64;

impl<'a, R: Source> Walk<'a, R> {
    pub(super) fn new(reader: R, length: Option<u64>, syntax: TransferSyntax, limits: &'a Limits) -> Self {
        Self {
            reader,
            offset: 0,
            length,
            limits,
            open: Vec::new(),
            encoding: Encoding { explicit: syntax.explicit_vr(), big_endian: syntax.big_endian() },
            probe: !syntax.big_endian(),
            redundant: None,
            delimiters: 0,
            kept: 0,
            scan: Scan::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Scan, GateError> {
        loop {
            self.close_ended()?;
            let Some(header) = self.element_header()? else { break };
            let is_delimiter = matches!(header.tag, ITEM_DELIMITATION | SEQUENCE_DELIMITATION);
            match is_delimiter {
                true => self.delimiters += 1,
                false => self.scan.elements += 1,
            }
            if self.scan.elements + self.delimiters > self.limits.elements {
                return Err(GateError::TooMany { limit: self.limits.elements });
            }
            let redundant = self.redundant.take();
            if is_delimiter {
                self.delimiter(&header, redundant)?;
                continue;
            }
            match self.open.last() {
                Some((Open::Sequence { unknown, .. }, _)) => {
                    let unknown = *unknown;
                    self.item(&header, unknown)?;
                }
                Some((Open::Fragments, _)) => self.fragment(&header)?,
                Some((Open::Item { .. }, _)) | None => self.element(&header)?,
            }
        }
        if !self.open.is_empty() {
            return Err(GateError::Ended { offset: self.offset, within: "a sequence" });
        }
        if self.length.is_some_and(|length| self.offset < length) {
            return Err(GateError::Ended { offset: self.offset, within: "a file that became shorter" });
        }
        Ok(self.scan)
    }

    /// Closes what has a defined length and ends here.
    fn close_ended(&mut self) -> Result<(), GateError> {
        while let Some((open, _)) = self.open.last().copied() {
            match open.end() {
                Some(end) if self.offset == end => {
                    self.redundant = Some(open.delimiter());
                    self.close();
                }
                Some(end) if self.offset > end => {
                    return Err(GateError::Malformed {
                        what: "an element reaches beyond its item",
                        offset: self.offset,
                    });
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some((_, outside)) = self.open.pop() {
            self.encoding = outside;
        }
        self.probe = false;
    }

    fn push(&mut self, open: Open, inside: Encoding) -> Result<(), GateError> {
        if self.open.len() >= self.limits.depth * 2 {
            return Err(GateError::TooDeep { offset: self.offset, limit: self.limits.depth });
        }
        self.open.push((open, self.encoding));
        self.encoding = inside;
        self.scan.depth = self.scan.depth.max(self.open.len().div_ceil(2));
        Ok(())
    }

    /// A delimiter closes what has no defined length. One that says again what a length has said already is passed
    /// over, and so is one where nothing is open; its own length, which must be zero, is not believed.
    fn delimiter(&mut self, header: &ElementHeader, redundant: Option<Tag>) -> Result<(), GateError> {
        match self.open.last().copied() {
            None => Ok(()),
            Some((open, _)) if open.delimiter() == header.tag && open.end().is_none() => {
                self.close();
                Ok(())
            }
            Some((open, _)) if open.delimiter() == header.tag && open.end() == Some(self.offset) => Ok(()),
            _ if redundant == Some(header.tag) => Ok(()),
            _ => Err(GateError::Malformed { what: "a delimiter of something that is not open", offset: header.at }),
        }
    }

    fn element(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        let &ElementHeader { tag, vr, length, at } = header;
        if tag.group() == 0xFFFE {
            return Err(GateError::Malformed { what: "an item outside a sequence", offset: at });
        }
        if self.open.is_empty() {
            // Of elements that come twice the last one counts, here as in the parser.
            self.scan.values.remove(&tag);
            if matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA) {
                self.scan.has_pixel_data = true;
                self.scan.pixel_data_at.get_or_insert((at, self.scan.elements - 1));
            }
        }
        if length == UNDEFINED {
            return self.undefined_length(header);
        }
        self.require(tag, at, length)?;
        if vr == VR::SQ {
            let end = Some(self.offset + u64::from(length));
            return self.push(Open::Sequence { end, unknown: false }, self.encoding);
        }
        let bytes = length as usize;
        let cost = bytes.saturating_add(VALUE_OVERHEAD);
        if self.open.is_empty()
            && bytes <= self.limits.header_value_bytes
            && self.kept.saturating_add(cost) <= self.limits.header_bytes
        {
            let mut value = vec![0; bytes];
            self.fill(&mut value, "a value")?;
            self.kept += cost;
            self.scan.values.insert(tag, RawValue { vr, bytes: value });
            return Ok(());
        }
        self.skip(tag, at, u64::from(length))
    }

    fn undefined_length(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        let sequence = Open::Sequence { end: None, unknown: false };
        match header.vr {
            VR::SQ => self.push(sequence, self.encoding),
            _ if header.tag == tags::PIXEL_DATA => self.push(Open::Fragments, self.encoding),
            // The dictionary may err on private elements; the length does not.
            _ if !self.encoding.explicit => self.push(sequence, self.encoding),
            VR::UN => {
                self.irregular("holds a sequence sent as UN of undefined length");
                self.push(Open::Sequence { end: None, unknown: true }, INSIDE_UN)
            }
            VR::OB | VR::OW => {
                self.irregular("holds fragments in another element than Pixel Data");
                self.push(Open::Fragments, self.encoding)
            }
            _ => Err(GateError::Malformed { what: "an undefined length on a value that has none", offset: header.at }),
        }
    }

    fn item(&mut self, header: &ElementHeader, unknown: bool) -> Result<(), GateError> {
        if header.tag != ITEM {
            let what = "a sequence holds something other than items";
            return Err(GateError::Malformed { what, offset: header.at });
        }
        let end = if header.length == UNDEFINED {
            None
        } else {
            self.require(header.tag, header.at, header.length)?;
            Some(self.offset + u64::from(header.length))
        };
        self.push(Open::Item { end }, self.encoding)?;
        self.probe = unknown;
        Ok(())
    }

    fn fragment(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        if header.tag != ITEM || header.length == UNDEFINED {
            let what = "pixel data holds something other than fragments";
            return Err(GateError::Malformed { what, offset: header.at });
        }
        self.require(header.tag, header.at, header.length)?;
        self.skip(header.tag, header.at, u64::from(header.length))
    }

    /// The next element's header, or nothing at a clean end of the stream.
    fn element_header(&mut self) -> Result<Option<ElementHeader>, GateError> {
        let at = self.offset;
        let mut head = [0; 8];
        let got = self.read(&mut head)?;
        if self.open.is_empty() && head[..got].iter().all(|byte| *byte == 0) {
            self.scan.bytes = at;
            self.padding()?;
            return Ok(None);
        }
        match got {
            0 => return Ok(None),
            8 => {}
            _ => return Err(GateError::Ended { offset: self.offset, within: "an element" }),
        }
        let tag = Tag(self.u16([head[0], head[1]]), self.u16([head[2], head[3]]));
        let length = self.u32([head[4], head[5], head[6], head[7]]);
        if tag.group() == 0xFFFE {
            // Items have no VR, whatever the transfer syntax (PS3.5 7.5).
            return Ok(Some(ElementHeader { tag, vr: VR::UN, length, at }));
        }
        let code = [head[4], head[5]];
        if std::mem::take(&mut self.probe) {
            self.probe_encoding(code);
        }
        if !self.encoding.explicit {
            return Ok(Some(ElementHeader { tag, vr: dictionary_vr(tag, length), length, at }));
        }
        let (vr, long) = match VR::from_binary(code) {
            Some(vr) => (vr, has_long_length(vr)),
            // The standard promises that what it adds will have the long form.
            None if code.iter().all(u8::is_ascii_uppercase) => (VR::UN, true),
            None if code == *b"??" => {
                self.irregular("holds an element whose value representation is `??`");
                (VR::UN, false)
            }
            None => return Err(GateError::Malformed { what: "an unknown value representation", offset: at }),
        };
        let length = if long {
            let mut long = [0; 4];
            self.fill(&mut long, "an element")?;
            self.u32(long)
        } else {
            u32::from(self.u16([head[6], head[7]]))
        };
        Ok(Some(ElementHeader { tag, vr, length, at }))
    }

    /// Some senders encode in the other VR form than they agreed to. The first element shows it: as a length, two
    /// letters would be more than 16 kB.
    fn probe_encoding(&mut self, code: [u8; 2]) {
        let explicit = match self.encoding.explicit {
            true => code.iter().all(u8::is_ascii_uppercase),
            false => VR::from_binary(code).is_some(),
        };
        if explicit != self.encoding.explicit {
            self.encoding.explicit = explicit;
            self.irregular("has not the VR form of its transfer syntax");
        }
    }

    fn irregular(&mut self, why: &'static str) {
        self.scan.irregular.get_or_insert(why);
    }

    /// Some senders pad a data set with zeros, which are no element: group 0000 is that of commands.
    fn padding(&mut self) -> Result<(), GateError> {
        let mut bytes = [0; 512];
        loop {
            let offset = self.offset;
            match self.read(&mut bytes)? {
                0 => return Ok(()),
                got if bytes[..got].iter().all(|byte| *byte == 0) => {}
                _ => return Err(GateError::Malformed { what: "zeros and then something else", offset }),
            }
        }
    }

    /// Refuses a declared length that is more than what is left, before anything is read or allocated.
    fn require(&self, tag: Tag, at: u64, declared: u32) -> Result<(), GateError> {
        let declared = u64::from(declared);
        let bound = self.open.iter().rev().find_map(|(open, _)| open.end()).or(self.length);
        match bound {
            Some(end) if declared > end.saturating_sub(self.offset) => {
                Err(GateError::Truncated { tag, offset: at, declared, available: end.saturating_sub(self.offset) })
            }
            _ => Ok(()),
        }
    }

    /// Moves past a value that has been required to be there.
    fn skip(&mut self, tag: Tag, at: u64, declared: u64) -> Result<(), GateError> {
        let available = self.reader.pass(declared).map_err(|error| self.failure(error))?;
        self.offset += available;
        if available < declared { Err(GateError::Truncated { tag, offset: at, declared, available }) } else { Ok(()) }
    }

    /// Fills the buffer.
    fn fill(&mut self, buffer: &mut [u8], within: &'static str) -> Result<(), GateError> {
        if self.read(buffer)? == buffer.len() { Ok(()) } else { Err(GateError::Ended { offset: self.offset, within }) }
    }

    /// Fills the buffer as far as there is something to read; answers how far.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, GateError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(got) => {
                    filled += got;
                    self.offset += got as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(error)),
            }
        }
        Ok(filled)
    }

    /// Broken deflate data is the sender's doing and not the disk's.
    fn failure(&self, error: io::Error) -> GateError {
        match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                GateError::Malformed { what: "the deflated data set does not inflate", offset: self.offset }
            }
            _ => error.into(),
        }
    }

    fn u16(&self, bytes: [u8; 2]) -> u16 {
        if self.encoding.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.encoding.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// PS3.5 7.1.2: these carry two reserved bytes and a length of 32 bits.
pub(crate) fn has_long_length(vr: VR) -> bool {
    use VR::*;
    matches!(vr, OB | OD | OF | OL | OV | OW | SQ | SV | UC | UN | UR | UT | UV)
}

/// The VR of an element of implicit VR. An unknown element of undefined length can only be a sequence.
fn dictionary_vr(tag: Tag, length: u32) -> VR {
    match StandardDataDictionary.by_tag(tag) {
        Some(entry) => entry.vr.relaxed(),
        None if length == UNDEFINED => VR::SQ,
        None => VR::UN,
    }
}
