//! The object that is made of a data set, by the very walk that is the gate: so that it holds the elements that the gate
//! saw, within the bounds that the gate set.
//!
//! dicom-object's own reader is not used: on what senders really send (sequences as UN, VRs that are none, numbers cut in
//! the middle) it takes other bytes for tags and lengths than the gate does, and follows them to any depth.

use std::io::{Read, Seek};

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary, VirtualVr},
    header::Length,
    value::{C, DataSetSequence, PixelFragmentSequence, PrimitiveValue, Value},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{
    Limits, TransferSyntax,
    gate::{self, Element, GateError, Scan, Visit},
};

/// Text of several values takes up to 24 times its bytes when it is taken apart (measured: 32 MB of backslashes take
/// 800 MB). The contours of a large RT structure set, the longest real text, stay below this.
const SEPARATED_TEXT_BYTES: u64 = 32 << 20;

/// Sequences sent as UN of defined length that are read within each other: each is held in memory once more. Inside of one
/// all is of implicit VR, or should be, and no UN.
const UN_WITHIN_UN: u8 = 2;

/// Builds the object of the data set that starts where `file` stands and ends with it.
///
/// A text is decoded where Specific Character Set says UTF-8. Otherwise each of its characters is one byte (ISO 8859-1),
/// so that nothing is lost whatever the set: [`crate::CharacterSet`] decodes.
pub(crate) fn build(
    file: &mut (impl Read + Seek),
    syntax: TransferSyntax,
    limits: &Limits,
) -> Result<(Scan, InMemDicomObject), GateError> {
    let mut builder = Builder::new(limits);
    let scan = gate::walk(file, syntax, limits, &mut builder)?;
    let object = builder.built(&scan)?;
    Ok((scan, object))
}

/// [`build`] of the first `bytes` of a data set that is not deflated: they end where an element does.
pub(crate) fn build_front(
    file: &mut impl Read,
    bytes: u64,
    syntax: TransferSyntax,
    limits: &Limits,
) -> Result<InMemDicomObject, GateError> {
    let mut builder = Builder::new(limits);
    let scan = gate::walk_front(file, bytes, syntax, limits, &mut builder)?;
    builder.built(&scan)
}

/// Whether the texts of an object are decoded from UTF-8, as its Specific Character Set says; otherwise each of their
/// characters is a byte.
pub(crate) fn is_unicode(declared: &[u8]) -> bool {
    declared.trim_ascii() == b"ISO_IR 192"
}

/// What is being built: the innermost last.
enum Frame {
    /// The data set, or an item of a sequence.
    DataSet(InMemDicomObject),
    Sequence {
        tag: Tag,
        length: Length,
        items: C<InMemDicomObject>,
    },
    Fragments {
        tag: Tag,
        /// The first fragment is the offset table.
        table: Option<Vec<u32>>,
        fragments: C<Vec<u8>>,
    },
}

struct Builder {
    open: Vec<Frame>,
    /// Bytes of separated text that may still come.
    text: u64,
    /// Items with an element in them that may still come; nothing when there were more, of which nothing is kept.
    items: Option<u64>,
    /// What a sequence within a value may still take.
    limits: Limits,
    /// How many sequences sent as UN of defined length this is within.
    within_un: u8,
    /// Pixel Representation (0028,0103) says that pixels are signed, and with them what has their VR.
    signed: bool,
    /// Specific Character Set (0008,0005) says UTF-8.
    unicode: bool,
}

impl Visit for Builder {
    const WANTS_VALUES: bool = true;

    fn begin(&mut self, element: &Element, fragments: bool) {
        let (tag, length) = (element.tag, Length(element.length));
        self.open.push(match fragments {
            true => Frame::Fragments { tag, table: None, fragments: C::new() },
            false => Frame::Sequence { tag, length, items: C::new() },
        });
    }

    fn begin_item(&mut self) {
        self.open.push(Frame::DataSet(InMemDicomObject::new_empty()));
    }

    fn end(&mut self) {
        let element = match self.open.pop() {
            Some(Frame::DataSet(object)) => {
                if let Some(Frame::Sequence { items, .. }) = self.open.last_mut() {
                    items.push(object);
                }
                return;
            }
            Some(Frame::Sequence { tag, length, items }) => {
                InMemElement::new_with_len(tag, VR::SQ, length, Value::Sequence(DataSetSequence::new(items, length)))
            }
            Some(Frame::Fragments { tag, table, fragments }) => {
                let value = PixelFragmentSequence::new(table.unwrap_or_default(), fragments);
                InMemElement::new_with_len(tag, VR::OB, Length::UNDEFINED, Value::PixelSequence(value))
            }
            None => return,
        };
        self.put(element);
    }

    fn value(&mut self, element: &Element, bytes: Vec<u8>) -> Result<(), GateError> {
        let Element { tag, vr, .. } = *element;
        self.require_items()?;
        // What only begins like a sequence stays bytes.
        if vr == VR::UN
            && is_sequence(tag, &bytes)
            && let Some(sequence) = self.sequence_sent_as_un(tag, &bytes)
        {
            self.put(sequence);
            return Ok(());
        }
        if is_separated_text(vr) {
            let limit = SEPARATED_TEXT_BYTES;
            self.text = self.text.checked_sub(bytes.len() as u64).ok_or(GateError::SeparatedText { limit })?;
        }
        let vr = if element.implied && vr == VR::US && self.signed && has_the_pixels_vr(tag) { VR::SS } else { vr };
        let length = Length(element.length);
        if self.open.len() == 1 && tag == tags::SPECIFIC_CHARACTER_SET {
            self.unicode = is_unicode(&bytes);
        }
        let value = primitive(vr, bytes, element.big_endian, self.unicode);
        if tag == tags::PIXEL_REPRESENTATION {
            self.signed = value.to_int::<u16>().is_ok_and(|representation| representation == 1);
        }
        self.put(InMemElement::new_with_len(tag, vr, length, value));
        Ok(())
    }

    fn fragment(&mut self, bytes: Vec<u8>, big_endian: bool) {
        let Some(Frame::Fragments { table, fragments, .. }) = self.open.last_mut() else { return };
        match table {
            None => *table = Some(numbers(&bytes, big_endian, u32::from_le_bytes, u32::from_be_bytes)),
            Some(_) => fragments.push(bytes),
        }
    }
}

impl Builder {
    fn new(limits: &Limits) -> Self {
        Self {
            open: vec![Frame::DataSet(InMemDicomObject::new_empty())],
            text: SEPARATED_TEXT_BYTES,
            items: Some(limits.filled_items),
            limits: limits.clone(),
            within_un: 0,
            signed: false,
            unicode: false,
        }
    }

    fn built(mut self, scan: &Scan) -> Result<InMemDicomObject, GateError> {
        self.require_items()?;
        match self.open.pop() {
            Some(Frame::DataSet(object)) => Ok(object),
            _ => Err(GateError::Ended { offset: scan.bytes, within: "a sequence" }),
        }
    }

    /// Of elements that come twice the last one counts.
    fn put(&mut self, element: InMemElement) {
        let is_item = self.open.len() > 1;
        let Some(Frame::DataSet(object)) = self.open.last_mut() else { return };
        if is_item && object.iter().next().is_none() {
            self.items = self.items.and_then(|items| items.checked_sub(1));
        }
        if self.items.is_some() {
            object.put(element);
        }
    }

    fn require_items(&self) -> Result<(), GateError> {
        let limit = self.limits.filled_items;
        self.items.map(|_| ()).ok_or(GateError::FilledItems { limit })
    }

    /// A sequence that was sent as UN of defined length (PS3.5 6.2.2): nothing where its bytes are no items to their end.
    fn sequence_sent_as_un(&mut self, tag: Tag, bytes: &[u8]) -> Option<InMemElement> {
        if self.within_un >= UN_WITHIN_UN {
            return None;
        }
        let length = Length(u32::try_from(bytes.len()).ok()?);
        let limits = Limits { depth: self.limits.depth - (self.open.len() - 1) / 2, ..self.limits.clone() };
        let mut inner = Builder {
            open: vec![Frame::DataSet(InMemDicomObject::new_empty()), Frame::Sequence { tag, length, items: C::new() }],
            text: self.text,
            items: self.items,
            limits: limits.clone(),
            within_un: self.within_un + 1,
            signed: self.signed,
            unicode: self.unicode,
        };
        let walked = gate::walk_items_of_un(bytes, &limits, &mut inner);
        if inner.items.is_none() {
            self.items = None;
        }
        let scan = walked.ok()?;
        (self.text, self.items) = (inner.text, inner.items);
        self.limits.elements = inner.limits.elements.saturating_sub(scan.elements);
        match inner.open.pop() {
            Some(Frame::DataSet(mut object)) => object.take(tag),
            _ => None,
        }
    }
}

/// Whether the dictionary has a sequence under the tag, and the bytes begin with an item of one, in little endian.
pub(crate) fn is_sequence(tag: Tag, bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xfe, 0xff, 0x00, 0xe0])
        && StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr == VirtualVr::Exact(VR::SQ))
}

/// Whether the dictionary leaves it to Pixel Representation whether the value is signed.
fn has_the_pixels_vr(tag: Tag) -> bool {
    StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr == VirtualVr::Xs)
}

/// Text that is taken apart at each backslash.
fn is_separated_text(vr: VR) -> bool {
    use VR::*;
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | PN | SH | TM | UC | UI)
}

/// A value as its VR says. Of a number that is cut short nothing is read; words of an odd number of bytes are bytes.
fn primitive(vr: VR, bytes: Vec<u8>, big_endian: bool, unicode: bool) -> PrimitiveValue {
    if bytes.is_empty() {
        return PrimitiveValue::Empty;
    }
    let text = |bytes: &[u8]| match unicode {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => bytes.iter().map(|&byte| char::from(byte)).collect(),
    };
    match vr {
        vr if is_separated_text(vr) => PrimitiveValue::Strs(bytes.split(|byte| *byte == b'\\').map(text).collect()),
        VR::LT | VR::ST | VR::UT | VR::UR => PrimitiveValue::Str(text(&bytes)),
        VR::OW if bytes.len() % 2 == 1 => PrimitiveValue::U8(bytes.into()),
        VR::US | VR::OW => {
            PrimitiveValue::U16(numbers(&bytes, big_endian, u16::from_le_bytes, u16::from_be_bytes).into())
        }
        VR::SS => PrimitiveValue::I16(numbers(&bytes, big_endian, i16::from_le_bytes, i16::from_be_bytes).into()),
        VR::UL | VR::OL => {
            PrimitiveValue::U32(numbers(&bytes, big_endian, u32::from_le_bytes, u32::from_be_bytes).into())
        }
        VR::SL => PrimitiveValue::I32(numbers(&bytes, big_endian, i32::from_le_bytes, i32::from_be_bytes).into()),
        VR::UV | VR::OV => {
            PrimitiveValue::U64(numbers(&bytes, big_endian, u64::from_le_bytes, u64::from_be_bytes).into())
        }
        VR::SV => PrimitiveValue::I64(numbers(&bytes, big_endian, i64::from_le_bytes, i64::from_be_bytes).into()),
        VR::FL | VR::OF => {
            PrimitiveValue::F32(numbers(&bytes, big_endian, f32::from_le_bytes, f32::from_be_bytes).into())
        }
        VR::FD | VR::OD => {
            PrimitiveValue::F64(numbers(&bytes, big_endian, f64::from_le_bytes, f64::from_be_bytes).into())
        }
        VR::AT => {
            let halves = numbers(&bytes, big_endian, u16::from_le_bytes, u16::from_be_bytes);
            PrimitiveValue::Tags(halves.chunks_exact(2).map(|pair| Tag(pair[0], pair[1])).collect())
        }
        _ => PrimitiveValue::U8(bytes.into()),
    }
}

fn numbers<T, const BYTES: usize>(
    bytes: &[u8],
    big_endian: bool,
    from_le: fn([u8; BYTES]) -> T,
    from_be: fn([u8; BYTES]) -> T,
) -> Vec<T> {
    let from = if big_endian { from_be } else { from_le };
    bytes.as_chunks::<BYTES>().0.iter().map(|number| from(*number)).collect()
}
