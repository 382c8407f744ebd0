//! The walk itself: element after element, without recursion and without allocating by a declared length.

use std::io;

use dicom_core::{Tag, VR, dictionary::DataDictionary};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::{
    GateError, PixelDataAt, RawValue, Scan,
    visit::{Element, Visit},
};
use crate::{Limits, TransferSyntax, source::Source};

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);

/// What says whose an instance is, and how to read it: kept beside whatever else there is.
const IDENTITY: [Tag; 7] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::ACCESSION_NUMBER,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
];

/// An open sequence or item.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Sequence {
        end: Option<u64>,
        /// Sent as UN: its items are of implicit VR, or so the standard says.
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
pub(super) struct Encoding {
    explicit: bool,
    big_endian: bool,
}

impl Encoding {
    pub(super) fn of(syntax: TransferSyntax) -> Self {
        Self { explicit: syntax.explicit_vr(), big_endian: syntax.big_endian() }
    }
}

/// What a UN element holds, whatever the transfer syntax (PS3.5 6.2.2).
const INSIDE_UN: Encoding = Encoding { explicit: false, big_endian: false };

pub(super) struct Walk<'a, R, V> {
    reader: R,
    visit: &'a mut V,
    /// Bytes that were looked at and not consumed yet: the first `ahead_bytes` of these.
    ahead: [u8; HEADER],
    ahead_bytes: usize,
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
    /// The VR is the dictionary's.
    implied: bool,
    /// The value's byte order.
    big_endian: bool,
}

/// An element's header of the short form, and an item's.
const HEADER: usize = 8;
/// What of a value is read at a time where nobody knows how much there is.
const CHUNK: usize = 1 << 20;

/// What keeping a value costs besides its bytes: the tag, the vector, its place in the map.
const VALUE_OVERHEAD: usize = 64;

impl<'a, R: Source, V: Visit> Walk<'a, R, V> {
    pub(super) fn new(
        reader: R,
        length: Option<u64>,
        encoding: Encoding,
        limits: &'a Limits,
        visit: &'a mut V,
    ) -> Self {
        Self {
            reader,
            visit,
            ahead: [0; HEADER],
            ahead_bytes: 0,
            offset: 0,
            length,
            limits,
            open: Vec::new(),
            encoding,
            probe: !encoding.big_endian,
            redundant: None,
            delimiters: 0,
            kept: 0,
            scan: Scan::default(),
        }
    }

    /// A walk over the items of a sequence that was sent as UN of defined length: what `reader` holds, to its end. The
    /// sequence itself has begun already for whoever visits.
    pub(super) fn items_of_un(reader: R, length: u64, limits: &'a Limits, visit: &'a mut V) -> Result<Self, GateError> {
        let mut walk = Self::new(reader, Some(length), INSIDE_UN, limits, visit);
        walk.push(Open::Sequence { end: Some(length), unknown: true }, INSIDE_UN)?;
        Ok(walk)
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
            self.visit.end();
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
        let &ElementHeader { tag, vr, length, at, .. } = header;
        if tag.group() == 0xFFFE {
            return Err(GateError::Malformed { what: "an item outside a sequence", offset: at });
        }
        if self.open.is_empty() {
            // Of elements that come twice the last one counts.
            self.scan.values.remove(&tag);
            if IDENTITY.contains(&tag) && length != 0 {
                self.scan.unread_identity.insert(tag);
            }
            if matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA) {
                self.scan.has_pixel_data = true;
                let native = (length != UNDEFINED && vr != VR::SQ).then_some(length);
                let found = PixelDataAt { tag, element: at, value: self.offset, native };
                self.scan.pixel_data_at.get_or_insert(found);
            }
        }
        if length == UNDEFINED {
            return self.undefined_length(header);
        }
        self.require(tag, at, length)?;
        if vr != VR::SQ {
            return self.value(header, vr);
        }
        if !self.holds_items(length)? {
            // Neither the dictionary nor the sender is believed more than the bytes, which end where they say.
            return self.value(header, VR::UN);
        }
        let end = Some(self.offset + u64::from(length));
        self.begin(header, Open::Sequence { end, unknown: false }, self.encoding)
    }

    /// Whether what is said to be a sequence of so many bytes is one: it is empty, or begins with an item or the end.
    fn holds_items(&mut self, length: u32) -> Result<bool, GateError> {
        if length == 0 {
            return Ok(true);
        }
        let [a, b, c, d, ..] = self.peek()?;
        let tag = Tag(self.u16([a, b]), self.u16([c, d]));
        Ok(length as usize >= HEADER && matches!(tag, ITEM | SEQUENCE_DELIMITATION))
    }

    /// A value of defined length: kept where it is short and at the top, handed on where it is wanted, passed over
    /// otherwise.
    fn value(&mut self, header: &ElementHeader, vr: VR) -> Result<(), GateError> {
        let &ElementHeader { tag, length, at, implied, big_endian, .. } = header;
        let bytes = length as usize;
        let cost = bytes.saturating_add(VALUE_OVERHEAD);
        let kept = self.open.is_empty()
            && bytes <= self.limits.header_value_bytes
            && (IDENTITY.contains(&tag) || self.kept.saturating_add(cost) <= self.limits.header_bytes);
        if !kept && !V::WANTS_VALUES {
            return self.skip(tag, at, u64::from(length));
        }
        let value = self.read_value(tag, at, length)?;
        if kept {
            self.kept += cost;
            let mut bytes = value.clone();
            if big_endian != self.encoding.big_endian {
                swap(vr, &mut bytes);
            }
            self.scan.unread_identity.remove(&tag);
            self.scan.values.insert(tag, RawValue { vr, bytes });
        }
        if V::WANTS_VALUES {
            self.visit.value(&Element { tag, vr, length, implied, big_endian }, value)?;
        }
        Ok(())
    }

    fn undefined_length(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        let sequence = Open::Sequence { end: None, unknown: false };
        match header.vr {
            VR::SQ => self.begin(header, sequence, self.encoding),
            _ if header.tag == tags::PIXEL_DATA => self.begin(header, Open::Fragments, self.encoding),
            // The dictionary may err on private elements; the length does not.
            _ if !self.encoding.explicit => self.begin(header, sequence, self.encoding),
            VR::UN => self.begin(header, Open::Sequence { end: None, unknown: true }, INSIDE_UN),
            VR::OB | VR::OW => self.begin(header, Open::Fragments, self.encoding),
            _ => Err(GateError::Malformed { what: "an undefined length on a value that has none", offset: header.at }),
        }
    }

    fn begin(&mut self, header: &ElementHeader, open: Open, inside: Encoding) -> Result<(), GateError> {
        let &ElementHeader { tag, vr, length, implied, big_endian, .. } = header;
        self.push(open, inside)?;
        self.visit.begin(&Element { tag, vr, length, implied, big_endian }, open == Open::Fragments);
        Ok(())
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
        self.visit.begin_item();
        self.probe = unknown;
        Ok(())
    }

    fn fragment(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        if header.tag != ITEM || header.length == UNDEFINED {
            let what = "pixel data holds something other than fragments";
            return Err(GateError::Malformed { what, offset: header.at });
        }
        self.require(header.tag, header.at, header.length)?;
        if !V::WANTS_VALUES {
            return self.skip(header.tag, header.at, u64::from(header.length));
        }
        let bytes = self.read_value(header.tag, header.at, header.length)?;
        self.visit.fragment(bytes, header.big_endian);
        Ok(())
    }

    /// The next element's header, or nothing at a clean end of the stream.
    fn element_header(&mut self) -> Result<Option<ElementHeader>, GateError> {
        let at = self.offset;
        let mut head = [0; HEADER];
        let got = self.read(&mut head)?;
        if self.open.is_empty() && head[..got].iter().all(|byte| *byte == 0) {
            self.scan.bytes = at;
            self.padding()?;
            return Ok(None);
        }
        match got {
            0 => return Ok(None),
            HEADER => {}
            _ => return Err(GateError::Ended { offset: self.offset, within: "an element" }),
        }
        let tag = Tag(self.u16([head[0], head[1]]), self.u16([head[2], head[3]]));
        let length = self.u32([head[4], head[5], head[6], head[7]]);
        let big_endian = self.encoding.big_endian;
        if tag.group() == 0xFFFE {
            // Items have no VR, whatever the transfer syntax (PS3.5 7.5).
            return Ok(Some(ElementHeader { tag, vr: VR::UN, length, at, implied: false, big_endian }));
        }
        if std::mem::take(&mut self.probe) {
            self.probe_encoding(tag, &head);
        }
        if !self.encoding.explicit {
            let vr = dictionary_vr(tag, length);
            return Ok(Some(ElementHeader { tag, vr, length, at, implied: true, big_endian }));
        }
        let short = u32::from(self.u16([head[6], head[7]]));
        let code = [head[4], head[5]];
        let (vr, long) = match VR::from_binary(code) {
            Some(vr) => (vr, has_long_length(vr)),
            // The standard promises that what it adds will have the long form (PS3.5 7.1.2), and that its reserved bytes
            // are zero. Whatever else stands for a VR has the short one, as DCMTK reads it: `??`, spaces, zeros.
            None => (VR::UN, code.iter().all(u8::is_ascii_uppercase) && short == 0),
        };
        let length = if long {
            let mut long = [0; 4];
            self.fill(&mut long, "an element")?;
            self.u32(long)
        } else {
            short
        };
        let header = ElementHeader { tag, vr, length, at, implied: false, big_endian };
        Ok(Some(if vr == VR::UN { known(header) } else { header }))
    }

    /// Some senders encode in the other VR form than they agreed to. The first element shows it: as a length, two letters
    /// would be more than 16 kB.
    fn probe_encoding(&mut self, tag: Tag, head: &[u8; HEADER]) {
        let code = [head[4], head[5]];
        let upper_half_is_zero = head[6..] == [0, 0];
        self.encoding.explicit = match VR::from_binary(code) {
            // Of no length, or of the long form. As a length it would be odd, which none is, or what the dictionary says.
            Some(vr) if upper_half_is_zero && !self.encoding.explicit => {
                code[0] % 2 == 1 || dictionary_vr(tag, 0) == vr
            }
            Some(_) => true,
            None if self.encoding.explicit => {
                // What is no VR may be a bad one, or the length of a short value.
                code.iter().all(u8::is_ascii_uppercase) || !(upper_half_is_zero || head[4..] == [0xff; 4])
            }
            None => false,
        };
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
        let ahead = self.take_ahead(usize::try_from(declared).unwrap_or(usize::MAX));
        self.ahead.rotate_left(ahead);
        let passed = self.reader.pass(declared - ahead as u64).map_err(|error| self.failure(error))?;
        self.offset += passed;
        let available = ahead as u64 + passed;
        if available < declared { Err(GateError::Truncated { tag, offset: at, declared, available }) } else { Ok(()) }
    }

    /// Reads a value that has been required to be there. Where its bytes may not be there all the same, room for them is
    /// made as they come.
    fn read_value(&mut self, tag: Tag, at: u64, declared: u32) -> Result<Vec<u8>, GateError> {
        let length = declared as usize;
        let mut value = Vec::new();
        while value.len() < length {
            let start = value.len();
            let piece = if self.length.is_some() { length } else { CHUNK.min(length - start) };
            value.resize(start + piece, 0);
            let got = self.read(&mut value[start..])?;
            if got < piece {
                let (declared, available) = (u64::from(declared), (start + got) as u64);
                return Err(GateError::Truncated { tag, offset: at, declared, available });
            }
        }
        Ok(value)
    }

    /// Fills the buffer.
    fn fill(&mut self, buffer: &mut [u8], within: &'static str) -> Result<(), GateError> {
        if self.read(buffer)? == buffer.len() { Ok(()) } else { Err(GateError::Ended { offset: self.offset, within }) }
    }

    /// What comes next, without consuming it; zeros where nothing does.
    fn peek(&mut self) -> Result<[u8; HEADER], GateError> {
        let mut next = [0; HEADER];
        let got = self.read(&mut next)?;
        self.offset -= got as u64;
        (self.ahead, self.ahead_bytes) = (next, got);
        Ok(next)
    }

    /// Fills the buffer as far as there is something to read; returns how far.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, GateError> {
        let mut filled = self.take_ahead(buffer.len());
        buffer[..filled].copy_from_slice(&self.ahead[..filled]);
        self.ahead.rotate_left(filled);
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

    /// Consumes what was looked at, at most `wanted` of it; returns how many bytes.
    fn take_ahead(&mut self, wanted: usize) -> usize {
        let taken = self.ahead_bytes.min(wanted);
        self.ahead_bytes -= taken;
        self.offset += taken as u64;
        taken
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

/// An element sent as UN whose VR is known: it is read as that, and holds it in little endian (PS3.5 6.2.2). A sequence
/// stays UN here: whether it is one only its bytes tell.
fn known(header: ElementHeader) -> ElementHeader {
    let vr = dictionary_vr(header.tag, header.length);
    let fits = header.length != UNDEFINED && header.length.is_multiple_of(unit(vr));
    if fits && !matches!(vr, VR::SQ | VR::UN) {
        ElementHeader { vr, implied: true, big_endian: false, ..header }
    } else {
        header
    }
}

/// The bytes of which one number of a VR is made; 1 for text and bytes.
fn unit(vr: VR) -> u32 {
    use VR::*;
    match vr {
        US | SS | OW | AT => 2,
        UL | SL | FL | OF | OL => 4,
        FD | OD | OV | UV | SV => 8,
        _ => 1,
    }
}

/// Turns the byte order of a value's numbers.
pub(crate) fn swap(vr: VR, value: &mut [u8]) {
    value.chunks_exact_mut(unit(vr) as usize).for_each(<[u8]>::reverse);
}

/// The VR of an element of implicit VR. An unknown element of undefined length can only be a sequence.
fn dictionary_vr(tag: Tag, length: u32) -> VR {
    match StandardDataDictionary.by_tag(tag) {
        Some(entry) => entry.vr.relaxed(),
        None if length == UNDEFINED => VR::SQ,
        None => VR::UN,
    }
}
