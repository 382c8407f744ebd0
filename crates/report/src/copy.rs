//! What a report takes over from its source, and in which character set.

use dataset::{CharacterSet, Instance, tags};
use dicom_core::{Tag, VR, value::Value as ParsedValue};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::elements::{DataSet, Element, Value};

/// In which character set a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The source's, whose values are taken over byte for byte; new text is ASCII, which every set has.
    Source,
    /// ISO_IR 192 (UTF-8); the source's values are transcoded.
    Unicode,
}

impl Policy {
    /// The source's set as long as all new text is ASCII, and the source's is written as a set is (PS3.5 6.2, CS).
    pub(crate) fn for_text<'a>(source: &Instance, own: impl IntoIterator<Item = &'a str>) -> Self {
        let declared = source.header.raw(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
        let term =
            |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_' | b'\\');
        let legal = trimmed(declared).iter().all(term);
        if legal && own.into_iter().all(str::is_ascii) { Self::Source } else { Self::Unicode }
    }
}

/// Takes values over from a source.
pub(crate) struct Copier<'a> {
    pub(crate) source: &'a Instance,
    pub(crate) policy: Policy,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(source: &'a Instance, policy: Policy) -> Self {
        Self { source, policy }
    }

    /// Specific Character Set (0008,0005) of the document; nothing for the default repertoire.
    pub(crate) fn character_set(&self) -> Option<Vec<u8>> {
        match self.policy {
            Policy::Unicode => Some(b"ISO_IR 192".to_vec()),
            Policy::Source => {
                let declared = self.source.header.raw(tags::SPECIFIC_CHARACTER_SET)?;
                (!trimmed(declared).is_empty()).then(|| declared.to_vec())
            }
        }
    }

    /// A text value of the source in the document's character set.
    pub(crate) fn convert(&self, bytes: &[u8]) -> Vec<u8> {
        self.convert_from(self.source.header.character_set(), bytes)
    }

    /// A value in the document's character set, as text.
    pub(crate) fn decode(&self, bytes: &[u8]) -> String {
        match self.policy {
            Policy::Source => self.source.header.character_set().decode(bytes),
            Policy::Unicode => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    fn convert_from(&self, from: &CharacterSet, bytes: &[u8]) -> Vec<u8> {
        match self.policy {
            Policy::Source => bytes.to_vec(),
            Policy::Unicode => from.decode(bytes).trim_end_matches([' ', '\0']).as_bytes().to_vec(),
        }
    }

    /// An item of a sequence in the document's character set. An item may declare a set of its own.
    pub(crate) fn convert_item(&self, item: DataSet) -> DataSet {
        self.convert_item_from(self.source.header.character_set(), item)
    }

    fn convert_item_from(&self, outer: &CharacterSet, item: DataSet) -> DataSet {
        if self.policy == Policy::Source {
            return item;
        }
        let own = item.bytes(tags::SPECIFIC_CHARACTER_SET).map(CharacterSet::declared);
        let from = own.as_ref().unwrap_or(outer);
        let mut converted = DataSet::default();
        for Element { tag, vr, value } in item.elements {
            match value {
                _ if tag == tags::SPECIFIC_CHARACTER_SET => {}
                Value::Bytes(bytes) if is_text(vr) => converted.put_bytes(tag, vr, self.convert_from(from, &bytes)),
                Value::Bytes(bytes) => converted.put_bytes(tag, vr, bytes),
                Value::Items(items) => {
                    converted.put_items(tag, items.into_iter().map(|item| self.convert_item_from(from, item)).collect())
                }
            }
        }
        converted
    }

    /// Takes over a value that may not be absent: zero length when the source has none (type 2).
    pub(crate) fn required(&self, to: &mut DataSet, tag: Tag, vr: VR) {
        to.put_bytes(tag, vr, self.value(tag, vr).unwrap_or_default());
    }

    /// Takes over a value if there is one (type 3).
    pub(crate) fn optional(&self, to: &mut DataSet, tag: Tag, vr: VR) {
        if let Some(bytes) = self.value(tag, vr).filter(|bytes| !trimmed(bytes).is_empty()) {
            to.put_bytes(tag, vr, bytes);
        }
    }

    /// Takes over a sequence if it has items.
    pub(crate) fn sequence(&self, to: &mut DataSet, tag: Tag) {
        let items: Vec<DataSet> = items(self.source, tag)
            .into_iter()
            .filter(|item| !item.elements.is_empty())
            .map(|item| self.convert_item(item))
            .collect();
        if !items.is_empty() {
            to.put_items(tag, items);
        }
    }

    /// Takes over the whole codes of a sequence, if it has any.
    pub(crate) fn code_sequence(&self, to: &mut DataSet, tag: Tag) {
        let codes = self.codes(tag);
        if !codes.is_empty() {
            to.put_items(tag, codes);
        }
    }

    /// The source's whole codes at `tag`.
    pub(crate) fn codes(&self, tag: Tag) -> Vec<DataSet> {
        code_items(self.source, tag).into_iter().map(|item| self.convert_item(item)).collect()
    }

    /// A value in the form that its VR asks for; nothing when the source has none, or none that can be repaired.
    fn value(&self, tag: Tag, vr: VR) -> Option<Vec<u8>> {
        let raw = self.source.header.raw(tag)?;
        match vr {
            VR::DA => date(raw),
            VR::TM => time(raw),
            VR::AS => is_age(trimmed(raw)).then(|| raw.to_vec()),
            VR::DS => is_decimal(trimmed(raw)).then(|| raw.to_vec()),
            _ if is_text(vr) => Some(self.convert(raw)),
            _ => Some(raw.to_vec()),
        }
    }
}

/// The items of a sequence of the source, without private elements.
pub(crate) fn items(source: &Instance, tag: Tag) -> Vec<DataSet> {
    let declared = source.header.raw(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
    let codec = codec(declared);
    source
        .element(tag)
        .and_then(|element| element.items())
        .unwrap_or_default()
        .iter()
        .map(|item| read_item(item, &codec))
        .collect()
}

/// The items of a code sequence of the source that have all three parts (PS3.3 table 8.8-1).
pub(crate) fn code_items(source: &Instance, tag: Tag) -> Vec<DataSet> {
    let has = |item: &DataSet, tag| item.bytes(tag).is_some_and(|bytes| !trimmed(bytes).is_empty());
    let parts = [tags::CODE_VALUE, tags::CODING_SCHEME_DESIGNATOR, tags::CODE_MEANING];
    items(source, tag).into_iter().filter(|item| parts.iter().all(|part| has(item, *part))).collect()
}

/// The codec that dicom-object decoded text with: the first declared term, or Latin 1 for an unknown one. Encoding with
/// it gives back the bytes that stood in the file.
fn codec(declared: &[u8]) -> SpecificCharacterSet {
    let first = declared.split(|byte| *byte == b'\\').next().and_then(|term| std::str::from_utf8(term).ok());
    first.and_then(|term| SpecificCharacterSet::from_code(term.trim())).unwrap_or_default()
}

fn read_item(item: &InMemDicomObject, codec: &SpecificCharacterSet) -> DataSet {
    let mut read = DataSet::default();
    for element in item {
        let tag = element.header().tag;
        if tag.group() % 2 == 1 || tag.element() == 0 {
            continue;
        }
        let vr = element.vr();
        match element.value() {
            ParsedValue::Sequence(sequence) => {
                read.put_items(tag, sequence.items().iter().map(|item| read_item(item, codec)).collect());
            }
            ParsedValue::Primitive(_) => read.put_bytes(tag, vr, bytes(element, codec)),
            ParsedValue::PixelSequence(_) => {}
        }
    }
    read
}

fn bytes(element: &InMemElement, codec: &SpecificCharacterSet) -> Vec<u8> {
    if !is_text(element.vr()) {
        return element.to_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    }
    let text = element.to_multi_str().map(|values| values.join("\\")).unwrap_or_default();
    codec.encode(&text).unwrap_or_else(|_| text.into_bytes())
}

/// The VRs that Specific Character Set governs (PS3.5 6.1.2.3).
fn is_text(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

/// A value without padding.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let padding = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes.iter().position(|byte| !padding(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A date as it stands, or the ACR-NEMA form with dots without them (PS3.5 6.2); nothing else is a date.
fn date(raw: &[u8]) -> Option<Vec<u8>> {
    match trimmed(raw) {
        date if is_date(date) => Some(date.to_vec()),
        [y1, y2, y3, y4, b'.', m1, m2, b'.', d1, d2] => {
            let date = [*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2];
            is_date(&date).then(|| date.to_vec())
        }
        _ => None,
    }
}

/// `YYYYMMDD` of the calendar; `00000000` is what some senders write for "unknown".
pub(crate) fn is_date(value: &[u8]) -> bool {
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    value.len() == 8
        && value.iter().all(u8::is_ascii_digit)
        && (1..=12).contains(&number(&value[4..6]))
        && (1..=31).contains(&number(&value[6..8]))
}

/// A time as it stands, or the ACR-NEMA form with colons without them.
fn time(raw: &[u8]) -> Option<Vec<u8>> {
    let valid = |time: &[u8]| {
        let (whole, fraction) = match time.iter().position(|byte| *byte == b'.') {
            Some(at) => (&time[..at], &time[at + 1..]),
            None => (time, &[][..]),
        };
        matches!(whole.len(), 2 | 4 | 6)
            && (fraction.is_empty() || whole.len() == 6)
            && fraction.len() <= 6
            && whole.iter().chain(fraction).all(u8::is_ascii_digit)
            && !time.ends_with(b".")
    };
    let time = trimmed(raw);
    if valid(time) {
        return Some(raw.to_vec());
    }
    let without: Vec<u8> = time.iter().copied().filter(|byte| *byte != b':').collect();
    valid(&without).then_some(without)
}

fn is_age(value: &[u8]) -> bool {
    matches!(value, [a, b, c, b'D' | b'W' | b'M' | b'Y'] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()))
}

pub(crate) fn is_decimal(value: &[u8]) -> bool {
    value.len() <= 16 && std::str::from_utf8(value).is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_kept_repaired_or_emptied() {
        let check_date = |raw: &[u8], expected: Option<&[u8]>| assert_eq!(date(raw).as_deref(), expected, "{raw:?}");
        check_date(b"19970424", Some(b"19970424"));
        check_date(b"1997.04.24", Some(b"19970424"));
        check_date(b"24.04.1997", None);
        check_date(b"00000000", None);
        check_date(b"", None);
        let check_time = |raw: &[u8], expected: Option<&[u8]>| assert_eq!(time(raw).as_deref(), expected, "{raw:?}");
        check_time(b"101500.123456 ", Some(b"101500.123456 "));
        check_time(b"10", Some(b"10"));
        check_time(b"10:15:00", Some(b"101500"));
        check_time(b"noon", None);
    }
}
