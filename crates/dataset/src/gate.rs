//! The gate: one iterative pass over a data set, before any recursive parser sees it.
//!
//! It reads from a stream, keeps nothing but the short values of top-level elements, and never allocates by a declared
//! length. What it bounds is in [`Limits`]; why, in the measurements named there.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use dicom_core::{Tag, VR, dictionary::DataDictionary};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use crate::{Limits, TransferSyntax};

/// Why a data set may not pass. Says where (byte offset in the inflated data set) and at which tag, never a value.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The stream ended inside an element.
    #[error("{tag} at byte {offset} declares {declared} bytes, {available} are left")]
    Truncated {
        /// The element.
        tag: Tag,
        /// Where its header starts.
        offset: u64,
        /// Its declared length.
        declared: u64,
        /// The bytes that were left.
        available: u64,
    },
    /// The stream ended inside an element's header, or inside a sequence of undefined length.
    #[error("the data set ends at byte {offset} inside {within}")]
    Ended {
        /// Where.
        offset: u64,
        /// Inside what.
        within: &'static str,
    },
    /// Sequences are nested deeper than allowed.
    #[error("sequences nested deeper than {limit} at byte {offset}")]
    TooDeep {
        /// Where.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// More elements and items than allowed.
    #[error("more than {limit} elements")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// A deflated data set inflates to more than allowed, or does not inflate.
    #[error("the deflated data set inflates to more than {limit} bytes")]
    Inflation {
        /// The limit.
        limit: u64,
    },
    /// The bytes are no elements: an unknown VR, an item out of place, an undefined length where none may be.
    #[error("{what} at byte {offset}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        offset: u64,
    },
    /// The stream itself failed (disk, or broken deflate data).
    #[error("cannot read the data set: {0}")]
    Io(#[from] io::Error),
}

/// A short top-level value as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// Its value representation, from the stream or, for implicit VR, from the dictionary (UN when unknown).
    pub vr: VR,
    /// Its bytes, padding included, in the stream's byte order.
    pub bytes: Vec<u8>,
}

/// What the gate saw of a data set that passed.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Short values of top-level elements (sequences and values over the limit left out).
    pub values: BTreeMap<Tag, RawValue>,
    /// Elements and items in all.
    pub elements: u64,
    /// The deepest nesting met.
    pub depth: usize,
    /// Bytes of the data set, inflated.
    pub bytes: u64,
    /// Whether there is pixel data of any kind (native, float, double).
    pub has_pixel_data: bool,
    /// Whether a UN element of undefined length was met. Its content is implicit VR whatever the transfer syntax (PS3.5
    /// 6.2.2), which dicom-object 0.10 reads as explicit: it takes tags for lengths and spends seconds and gigabytes.
    pub has_undefined_length_un: bool,
}

/// Walks a data set to its end, reading every byte of it.
///
/// `length` is the number of bytes that `reader` holds, where known (never for a deflated set): a declared length beyond
/// it is refused at once.
pub fn scan(
    reader: impl Read,
    length: Option<u64>,
    syntax: TransferSyntax,
    limits: &Limits,
) -> Result<Scan, GateError> {
    if syntax.deflated() {
        let mut inflated = flate2::read::DeflateDecoder::new(reader).take(limits.inflated_bytes + 1);
        let scan = Walk::new(Streamed(BufReader::new(&mut inflated)), None, syntax, limits).run();
        // At the cap the walk meets an end that is ours and not the data set's, so its own finding is beside the point.
        if inflated.limit() == 0 { Err(GateError::Inflation { limit: limits.inflated_bytes }) } else { scan }
    } else {
        Walk::new(Streamed(BufReader::new(reader)), length, syntax, limits).run()
    }
}

/// Walks the data set that starts where `file` stands and ends with it, stepping over the values that nobody keeps.
///
/// The same walk as [`scan`] with the same outcome, but what it costs depends on the elements and not on the pixels. A
/// deflated set has to be read all the same.
pub fn scan_seekable(
    file: &mut (impl Read + Seek),
    syntax: TransferSyntax,
    limits: &Limits,
) -> Result<Scan, GateError> {
    if syntax.deflated() {
        return scan(file, None, syntax, limits);
    }
    let start = file.stream_position()?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(start))?;
    Walk::new(Seekable(BufReader::new(file)), Some(end.saturating_sub(start)), syntax, limits).run()
}

/// What the walk reads from: the two differ in how they get past a value that nobody keeps.
trait Source: Read {
    /// Moves on by `bytes`, or by what is left where that is less; answers by how many.
    fn pass(&mut self, bytes: u64) -> io::Result<u64>;
}

struct Streamed<R>(BufReader<R>);

/// To be walked with a known length only: a file lets itself be sought beyond its end.
struct Seekable<R>(BufReader<R>);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Source for Streamed<R> {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())
    }
}

impl<R: Read> Read for Seekable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + Seek> Source for Seekable<R> {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        self.0.seek_relative(bytes.cast_signed())?;
        Ok(bytes)
    }
}

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);

/// An open sequence or item.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Sequence {
        end: Option<u64>,
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
            Self::Sequence { end } | Self::Item { end } => end,
            Self::Fragments => None,
        }
    }
}

struct Walk<'a, R> {
    reader: R,
    offset: u64,
    length: Option<u64>,
    syntax: TransferSyntax,
    limits: &'a Limits,
    open: Vec<(Open, bool)>,
    /// Inside a UN element of undefined length everything is implicit little endian (PS3.5 6.2.2).
    implicit: bool,
    scan: Scan,
}

struct ElementHeader {
    tag: Tag,
    vr: VR,
    length: u32,
    at: u64,
}

impl<'a, R: Source> Walk<'a, R> {
    fn new(reader: R, length: Option<u64>, syntax: TransferSyntax, limits: &'a Limits) -> Self {
        Self {
            reader,
            offset: 0,
            length,
            syntax,
            limits,
            open: Vec::new(),
            implicit: !syntax.explicit_vr(),
            scan: Scan::default(),
        }
    }

    fn run(mut self) -> Result<Scan, GateError> {
        loop {
            self.close_ended()?;
            let Some(header) = self.element_header()? else { break };
            self.scan.elements += 1;
            if self.scan.elements > self.limits.elements {
                return Err(GateError::TooMany { limit: self.limits.elements });
            }
            match self.open.last().map(|(open, _)| *open) {
                Some(Open::Sequence { .. }) => self.item_of_sequence(&header)?,
                Some(Open::Fragments) => self.fragment(&header)?,
                Some(Open::Item { .. }) | None => self.element(&header)?,
            }
        }
        if !self.open.is_empty() {
            return Err(GateError::Ended { offset: self.offset, within: "a sequence" });
        }
        if self.length.is_some_and(|length| self.offset < length) {
            return Err(GateError::Ended { offset: self.offset, within: "a file that became shorter" });
        }
        self.scan.bytes = self.offset;
        Ok(self.scan)
    }

    /// Closes what has a defined length and ends here.
    fn close_ended(&mut self) -> Result<(), GateError> {
        while let Some((open, implicit_outside)) = self.open.last().copied() {
            match open.end() {
                Some(end) if self.offset == end => self.close(implicit_outside),
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

    fn close(&mut self, implicit_outside: bool) {
        self.open.pop();
        self.implicit = implicit_outside;
    }

    fn push(&mut self, open: Open, implicit_inside: bool) -> Result<(), GateError> {
        if self.open.len() >= self.limits.depth * 2 {
            return Err(GateError::TooDeep { offset: self.offset, limit: self.limits.depth });
        }
        self.open.push((open, self.implicit));
        self.implicit = implicit_inside;
        self.scan.depth = self.scan.depth.max(self.open.len().div_ceil(2));
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        let &ElementHeader { tag, vr, length, at } = header;
        if tag == ITEM_DELIMITATION {
            return match self.open.last().copied() {
                Some((Open::Item { end: None }, outside)) => {
                    self.close(outside);
                    Ok(())
                }
                _ => Err(GateError::Malformed { what: "an item delimiter outside an item", offset: at }),
            };
        }
        if tag.group() == 0xFFFE {
            return Err(GateError::Malformed { what: "an item outside a sequence", offset: at });
        }
        if self.open.is_empty()
            && matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA)
        {
            self.scan.has_pixel_data = true;
        }
        if length == UNDEFINED {
            return match vr {
                VR::OB | VR::OW if tag == tags::PIXEL_DATA => self.push(Open::Fragments, self.implicit),
                VR::SQ => self.push(Open::Sequence { end: None }, self.implicit),
                VR::UN => {
                    self.scan.has_undefined_length_un = true;
                    self.push(Open::Sequence { end: None }, true)
                }
                _ => Err(GateError::Malformed { what: "an undefined length on a value that has none", offset: at }),
            };
        }
        self.require(tag, at, length)?;
        if vr == VR::SQ {
            let end = Some(self.offset + u64::from(length));
            return self.push(Open::Sequence { end }, self.implicit);
        }
        if self.open.is_empty() && length as usize <= self.limits.header_value_bytes {
            let mut bytes = vec![0; length as usize];
            self.fill(&mut bytes, "a value")?;
            self.scan.values.insert(tag, RawValue { vr, bytes });
            return Ok(());
        }
        self.skip(tag, at, u64::from(length))
    }

    fn item_of_sequence(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        match header.tag {
            ITEM => {
                let end = if header.length == UNDEFINED {
                    None
                } else {
                    self.require(header.tag, header.at, header.length)?;
                    Some(self.offset + u64::from(header.length))
                };
                self.push(Open::Item { end }, self.implicit)
            }
            SEQUENCE_DELIMITATION => {
                let Some((_, outside)) = self.open.last().copied() else { return Ok(()) };
                self.close(outside);
                Ok(())
            }
            _ => Err(GateError::Malformed { what: "a sequence holds something other than items", offset: header.at }),
        }
    }

    fn fragment(&mut self, header: &ElementHeader) -> Result<(), GateError> {
        match header.tag {
            ITEM if header.length != UNDEFINED => {
                self.require(header.tag, header.at, header.length)?;
                self.skip(header.tag, header.at, u64::from(header.length))
            }
            SEQUENCE_DELIMITATION => {
                let Some((_, outside)) = self.open.last().copied() else { return Ok(()) };
                self.close(outside);
                Ok(())
            }
            _ => {
                Err(GateError::Malformed { what: "pixel data holds something other than fragments", offset: header.at })
            }
        }
    }

    /// The next element's header, or nothing at a clean end of the stream.
    fn element_header(&mut self) -> Result<Option<ElementHeader>, GateError> {
        let at = self.offset;
        let mut head = [0; 8];
        if !self.fill_or_end(&mut head)? {
            return Ok(None);
        }
        let tag = Tag(self.u16([head[0], head[1]]), self.u16([head[2], head[3]]));
        if tag.group() == 0xFFFE {
            // Items have no VR, whatever the transfer syntax (PS3.5 7.5).
            return Ok(Some(ElementHeader {
                tag,
                vr: VR::UN,
                length: self.u32([head[4], head[5], head[6], head[7]]),
                at,
            }));
        }
        if self.implicit {
            let length = self.u32([head[4], head[5], head[6], head[7]]);
            return Ok(Some(ElementHeader { tag, vr: dictionary_vr(tag, length), length, at }));
        }
        let vr = VR::from_binary([head[4], head[5]])
            .ok_or(GateError::Malformed { what: "an unknown value representation", offset: at })?;
        let length = if has_long_length(vr) {
            let mut long = [0; 4];
            self.fill(&mut long, "an element's header")?;
            self.u32(long)
        } else {
            u32::from(self.u16([head[6], head[7]]))
        };
        Ok(Some(ElementHeader { tag, vr, length, at }))
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
        let available = self.reader.pass(declared)?;
        self.offset += available;
        if available < declared { Err(GateError::Truncated { tag, offset: at, declared, available }) } else { Ok(()) }
    }

    fn fill(&mut self, buffer: &mut [u8], within: &'static str) -> Result<(), GateError> {
        if buffer.is_empty() || self.fill_or_end(buffer)? {
            Ok(())
        } else {
            Err(GateError::Ended { offset: self.offset, within })
        }
    }

    /// Fills the buffer; false at a clean end before its first byte.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, GateError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(GateError::Ended { offset: self.offset, within: "an element" }),
                Ok(got) => {
                    filled += got;
                    self.offset += got as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn u16(&self, bytes: [u8; 2]) -> u16 {
        if self.syntax.big_endian() { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.syntax.big_endian() { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// PS3.5 7.1.2: these carry two reserved bytes and a length of 32 bits.
fn has_long_length(vr: VR) -> bool {
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
