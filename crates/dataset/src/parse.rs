//! The object that dicom-object would build, built from the same tokens within bounds of our own.
//!
//! The gate and dicom-parser 0.10 agree on well-formed data sets. On others they may not: a number whose length is no
//! multiple of its size leaves the parser in the middle of a value, and pixel data without a fragment leaves it within
//! an item that is over. From there on it takes other bytes for tags and lengths than the gate did, and dicom-object
//! follows it to any depth (a few hundred kilobytes end the process by a stack overflow) and allocates what it finds
//! declared. So depth, lengths and count are bounded here again, on what the parser says, and an object is one only if
//! the parser saw as many elements as the gate.

use std::{
    cell::Cell,
    io::{BufReader, Read},
};

use dicom_core::{
    VR,
    header::{DataElementHeader, Length},
    value::{C, DataSetSequence, PixelFragmentSequence, Value},
};
use dicom_dictionary_std::tags;
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::{InMemDicomObject, mem::InMemElement};
use dicom_parser::{
    DataSetReader,
    dataset::{DataToken, read},
};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::{Limits, TransferSyntax, gate::Scan, source::Inflated};

/// Text of several values takes up to 24 times its bytes when parsed (measured: 32 MB of backslashes take 800 MB). The
/// contours of a large RT structure set, the longest real text, stay below this.
const SEPARATED_TEXT_BYTES: u64 = 32 << 20;

/// The parser stopped, or sees other elements than the gate. Its own message may quote values, so it is dropped.
pub(crate) struct NotParsed;

/// Parses the data set that the gate has walked.
pub(crate) fn parse(
    data_set: &[u8],
    syntax: TransferSyntax,
    scan: &Scan,
    limits: &Limits,
) -> Result<InMemDicomObject, NotParsed> {
    if scan.irregular.is_some() {
        return Err(NotParsed);
    }
    if syntax.deflated() {
        let inflated = Inflated::new(data_set).map_err(|_| NotParsed)?;
        return parse_stream(BufReader::new(inflated), syntax, scan, limits);
    }
    parse_stream(data_set, syntax, scan, limits)
}

/// As [`parse`], of a data set that is not deflated and need not be in memory.
pub(crate) fn parse_stream(
    reader: impl Read,
    syntax: TransferSyntax,
    scan: &Scan,
    limits: &Limits,
) -> Result<InMemDicomObject, NotParsed> {
    let syntax = TransferSyntaxRegistry.get(syntax.uid()).ok_or(NotParsed)?;
    let left = Cell::new(scan.bytes);
    let reader = Counted { reader: reader.take(scan.bytes), left: &left };
    let tokens = DataSetReader::new_with_ts(reader, syntax).map_err(|_| NotParsed)?;
    let mut builder =
        Builder { tokens, left: &left, depth: limits.depth, elements: scan.elements, text: SEPARATED_TEXT_BYTES };
    let object = builder.data_set(0)?;
    // What an uneven number at the very end leaves unread harms nobody.
    if builder.elements == 0 && left.get() < 8 { Ok(object) } else { Err(NotParsed) }
}

/// Says how much there is still to read.
struct Counted<'a, R> {
    reader: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

struct Builder<'a, T> {
    tokens: T,
    left: &'a Cell<u64>,
    /// Sequences that may be nested.
    depth: usize,
    /// Elements and items that are still to come.
    elements: u64,
    /// Bytes of separated text that may still come.
    text: u64,
}

impl<T: Iterator<Item = read::Result<DataToken>>> Builder<'_, T> {
    fn next(&mut self) -> Result<Option<DataToken>, NotParsed> {
        self.tokens.next().transpose().map_err(|_| NotParsed)
    }

    /// The elements up to the end of the item, or of everything at depth 0.
    fn data_set(&mut self, depth: usize) -> Result<InMemDicomObject, NotParsed> {
        let mut object = InMemDicomObject::new_empty();
        while let Some(token) = self.next()? {
            let element = match token {
                DataToken::ElementHeader(header) => {
                    let value = self.value(&header)?;
                    if header.tag.group() == 0xFFFE {
                        // A delimiter that closes nothing.
                        continue;
                    }
                    self.count()?;
                    InMemElement::new_with_len(header.tag, header.vr, header.len, value)
                }
                DataToken::SequenceStart { tag, len } => {
                    self.count()?;
                    let items = self.items(depth)?;
                    let value = Value::Sequence(DataSetSequence::new(items, len));
                    InMemElement::new_with_len(tag, VR::SQ, len, value)
                }
                DataToken::PixelSequenceStart => {
                    self.count()?;
                    let value = Value::PixelSequence(self.fragments()?);
                    InMemElement::new_with_len(tags::PIXEL_DATA, VR::OB, Length::UNDEFINED, value)
                }
                DataToken::ItemEnd if depth > 0 => return Ok(object),
                _ => return Err(NotParsed),
            };
            object.put(element);
        }
        if depth == 0 { Ok(object) } else { Err(NotParsed) }
    }

    fn value(&mut self, header: &DataElementHeader) -> Result<Value<InMemDicomObject, Vec<u8>>, NotParsed> {
        self.require(header.len)?;
        if is_separated_text(header.vr) {
            let length = header.len.get().map_or(0, u64::from);
            self.text = self.text.checked_sub(length).ok_or(NotParsed)?;
        }
        match self.next()? {
            Some(DataToken::PrimitiveValue(value)) => Ok(Value::Primitive(value)),
            _ => Err(NotParsed),
        }
    }

    /// The items of a sequence in a data set at `depth`.
    fn items(&mut self, depth: usize) -> Result<C<InMemDicomObject>, NotParsed> {
        if depth >= self.depth {
            return Err(NotParsed);
        }
        let mut items = C::new();
        loop {
            match self.next()? {
                Some(DataToken::ItemStart { .. }) => {
                    self.count()?;
                    items.push(self.data_set(depth + 1)?);
                }
                Some(DataToken::SequenceEnd) => return Ok(items),
                _ => return Err(NotParsed),
            }
        }
    }

    fn fragments(&mut self) -> Result<PixelFragmentSequence<Vec<u8>>, NotParsed> {
        let mut offset_table = None;
        let mut fragments = C::new();
        loop {
            match self.next()? {
                Some(DataToken::ItemStart { len }) => {
                    self.count()?;
                    self.require(len)?;
                }
                Some(DataToken::OffsetTable(table)) => offset_table = Some(table),
                Some(DataToken::ItemValue(fragment)) => fragments.push(fragment),
                // The first item is the offset table, empty or not.
                Some(DataToken::ItemEnd) => offset_table = Some(offset_table.unwrap_or_default()),
                Some(DataToken::SequenceEnd) => {
                    return Ok(PixelFragmentSequence::new(offset_table.unwrap_or_default(), fragments));
                }
                _ => return Err(NotParsed),
            }
        }
    }

    fn count(&mut self) -> Result<(), NotParsed> {
        self.elements = self.elements.checked_sub(1).ok_or(NotParsed)?;
        Ok(())
    }

    /// Refuses a declared length before the parser allocates it.
    fn require(&self, length: Length) -> Result<(), NotParsed> {
        match length.get() {
            Some(length) if u64::from(length) <= self.left.get() => Ok(()),
            _ => Err(NotParsed),
        }
    }
}

/// Text that the parser takes apart at each backslash.
fn is_separated_text(vr: VR) -> bool {
    use VR::*;
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | PN | SH | TM | UC | UI)
}
