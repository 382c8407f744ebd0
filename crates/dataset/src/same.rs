//! Whether two data sets hold the same values, however they are encoded: byte order, implicit or explicit VR, defined or
//! undefined lengths, padding, group lengths and the character set make no difference.
//!
//! Pixel data is left to who can decode it.

use std::collections::BTreeSet;

use dicom_core::{
    PrimitiveValue, Tag, VR,
    dictionary::{DataDictionary, DataDictionaryEntry},
    value::Value,
};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{Header, Instance, Limits, TransferSyntax, parse_data_set};

/// What belongs to the encoding, or is compared by who decodes the pixels.
const OF_THE_ENCODING: [Tag; 10] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::PIXEL_DATA,
    tags::FLOAT_PIXEL_DATA,
    tags::DOUBLE_FLOAT_PIXEL_DATA,
    tags::EXTENDED_OFFSET_TABLE,
    tags::EXTENDED_OFFSET_TABLE_LENGTHS,
    tags::DATA_SET_TRAILING_PADDING,
    // What an encoder without loss writes of itself (C.7.6.1.1.3); that it had none, the pixels show.
    tags::DERIVATION_DESCRIPTION,
    tags::DERIVATION_CODE_SEQUENCE,
    // Length to End, retired.
    Tag(0x0008, 0x0001),
];

/// The attributes of the data sets themselves in which two instances differ, pixel data left out. An attribute that is
/// absent and one that is empty are the same.
///
/// What cannot be told is a difference: text that does not decode, or items that cannot be parsed.
pub fn differing(first: &Instance, second: &Instance) -> BTreeSet<Tag> {
    let (one, other) = (first.object(), second.object());
    let tags: BTreeSet<Tag> = one.iter().chain(other.iter()).map(|element| element.header().tag).collect();
    tags.into_iter()
        .filter(|tag| !is_of_the_encoding(*tag))
        .filter(|tag| {
            let (a, b) = (one.get(*tag), other.get(*tag));
            // The short values as they came are decoded by the whole of DICOM's character sets.
            let is_decoded = a.or(b).is_some_and(|element| is_decoded(element.vr()));
            match (text(&first.header, *tag, a), text(&second.header, *tag, b)) {
                (Text::Decoded(a), Text::Decoded(b)) if is_decoded => a != b,
                (Text::Undecodable(a), Text::Undecodable(b)) if is_decoded => {
                    a != b || first.header.character_set() != second.header.character_set()
                }
                (Text::Elsewhere, _) | (_, Text::Elsewhere) => !same_element(a, b),
                _ => is_decoded || !same_element(a, b),
            }
        })
        .collect()
}

/// The keyword of an attribute (PS3.6 table 6-1), or its number where it has none.
pub fn keyword(tag: Tag) -> String {
    StandardDataDictionary.by_tag(tag).map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned())
}

fn is_of_the_encoding(tag: Tag) -> bool {
    tag.element() == 0 || OF_THE_ENCODING.contains(&tag)
}

/// A text value of a header.
enum Text<'a> {
    Decoded(Vec<String>),
    Undecodable(&'a [u8]),
    /// It is too long for the header.
    Elsewhere,
}

fn text<'a>(header: &'a Header, tag: Tag, element: Option<&InMemElement>) -> Text<'a> {
    match header.raw(tag) {
        Some(raw) => match header.character_set().decode_exactly(raw) {
            Some(text) => Text::Decoded(values(&text)),
            None => Text::Undecodable(trimmed(raw)),
        },
        None if element.is_none() => Text::Decoded(Vec::new()),
        None => Text::Elsewhere,
    }
}

/// The values of a text, without padding and without empty ones at the end.
fn values(text: &str) -> Vec<String> {
    let mut values: Vec<String> = text.split('\\').map(|value| value.trim_matches([' ', '\0']).to_owned()).collect();
    while values.last().is_some_and(String::is_empty) {
        values.pop();
    }
    values
}

/// Value representations whose characters Specific Character Set decides of (PS3.5 section 6.1.2.3).
fn is_decoded(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

fn is_text(vr: VR) -> bool {
    use VR::*;
    is_decoded(vr) || matches!(vr, AE | AS | CS | DA | DS | DT | IS | TM | UI | UR)
}

fn same_element(first: Option<&InMemElement>, second: Option<&InMemElement>) -> bool {
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (None, None) => return true,
        (Some(only), None) | (None, Some(only)) => return is_empty(only),
    };
    match (first.value(), second.value()) {
        (Value::Primitive(_), Value::Primitive(_)) => same_values(first, second),
        (Value::Sequence(first), Value::Sequence(second)) => same_items(first.items(), second.items()),
        // A private sequence in Implicit VR is bytes to who does not know it.
        (Value::Sequence(sequence), Value::Primitive(bytes)) | (Value::Primitive(bytes), Value::Sequence(sequence)) => {
            let bytes = bytes.to_bytes();
            match items_of(&bytes) {
                _ if bytes.is_empty() => sequence.items().is_empty(),
                Some(parsed) => {
                    let items = parsed.get(tags::REFERENCED_IMAGE_SEQUENCE).and_then(InMemElement::items);
                    same_items(sequence.items(), items.unwrap_or_default())
                }
                None => false,
            }
        }
        (first, second) => first == second,
    }
}

fn is_empty(element: &InMemElement) -> bool {
    match element.value() {
        Value::Primitive(_) => trimmed(&bytes(element)).is_empty(),
        Value::Sequence(sequence) => sequence.items().is_empty(),
        Value::PixelSequence(_) => false,
    }
}

fn same_items(first: &[InMemDicomObject], second: &[InMemDicomObject]) -> bool {
    first.len() == second.len() && first.iter().zip(second).all(|(first, second)| same_item(first, second))
}

fn same_item(first: &InMemDicomObject, second: &InMemDicomObject) -> bool {
    let tags: BTreeSet<Tag> = first.iter().chain(second.iter()).map(|element| element.header().tag).collect();
    // A character set of the item's own has been used by the parser.
    let compared = |tag: &&Tag| tag.element() != 0 && **tag != tags::SPECIFIC_CHARACTER_SET;
    tags.iter().filter(compared).all(|tag| same_element(first.get(*tag), second.get(*tag)))
}

fn same_values(first: &InMemElement, second: &InMemElement) -> bool {
    if is_text(first.vr()) && is_text(second.vr()) {
        let text = |element: &InMemElement| element.to_multi_str().ok().map(|values| values.join("\\"));
        return match (text(first), text(second)) {
            // What the parser could not decode looks the same whatever it was.
            (Some(first), Some(second)) if first.contains('\u{fffd}') || second.contains('\u{fffd}') => false,
            (Some(first), Some(second)) => values(&first) == values(&second),
            _ => false,
        };
    }
    let (one, other) = (bytes(first), bytes(second));
    // Where only one side knows that it is text, the other has its padding.
    one == other || (first.vr() != second.vr() && trimmed(&one) == trimmed(&other))
}

/// The bytes of a value in little endian order.
fn bytes(element: &InMemElement) -> Vec<u8> {
    match element.value() {
        Value::Primitive(PrimitiveValue::U16(words)) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        Value::Primitive(value) => value.to_bytes().into_owned(),
        _ => Vec::new(),
    }
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Parses bytes as the items of a sequence in Implicit VR Little Endian, as a data set that holds nothing but that
/// sequence.
fn items_of(bytes: &[u8]) -> Option<InMemDicomObject> {
    let mut data_set = Vec::with_capacity(bytes.len() + 8);
    let sequence = tags::REFERENCED_IMAGE_SEQUENCE;
    data_set.extend(sequence.group().to_le_bytes());
    data_set.extend(sequence.element().to_le_bytes());
    data_set.extend(u32::try_from(bytes.len()).ok()?.to_le_bytes());
    data_set.extend(bytes);
    let syntax = TransferSyntax::from_uid(TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN).ok()?;
    parse_data_set(&data_set, syntax, &Limits::default()).ok()
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, dicom_value, value::DataSetSequence};

    use super::*;
    use crate::part10::Meta;

    const IMPLICIT: &str = TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN;
    const EXPLICIT: &str = TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN;
    const BIG: &str = "1.2.840.10008.1.2.2";

    /// An instance with these elements beside its identity, written in a transfer syntax.
    fn instance(elements: &[InMemElement], syntax: &str) -> Instance {
        let mut object = InMemDicomObject::new_empty();
        for (tag, value) in [
            (tags::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.1"),
            (tags::SOP_INSTANCE_UID, "1.2.3"),
            (tags::STUDY_INSTANCE_UID, "1.2.4"),
            (tags::SERIES_INSTANCE_UID, "1.2.5"),
        ] {
            object.put(DataElement::new(tag, VR::UI, value));
        }
        elements.iter().for_each(|element| {
            object.put(element.clone());
        });
        let mut data_set = Vec::new();
        let known =
            dicom_encoding::TransferSyntaxIndex::get(&dicom_transfer_syntax_registry::TransferSyntaxRegistry, syntax);
        object.write_dataset_with_ts(&mut data_set, known.unwrap()).unwrap();
        of_bytes(&data_set, syntax)
    }

    fn of_bytes(data_set: &[u8], syntax: &str) -> Instance {
        let meta = Meta {
            sop_class_uid: None,
            sop_instance_uid: None,
            transfer_syntax_uid: syntax.parse().unwrap(),
            source_ae_title: None,
        };
        let mut file = Vec::new();
        meta.write_file(data_set, &mut file).unwrap();
        Instance::from_bytes(&file, &Limits::default()).unwrap()
    }

    fn text(tag: Tag, vr: VR, value: &str) -> InMemElement {
        DataElement::new(tag, vr, value)
    }

    fn raw(tag: Tag, vr: VR, value: &[u8]) -> InMemElement {
        DataElement::new(tag, vr, PrimitiveValue::from(value.to_vec()))
    }

    fn items(tag: Tag, values: &[&str]) -> InMemElement {
        let item = |value: &&str| InMemDicomObject::from_element_iter([text(tags::CODE_VALUE, VR::SH, value)]);
        DataElement::new(tag, VR::SQ, DataSetSequence::from(values.iter().map(item).collect::<Vec<_>>()))
    }

    #[test]
    fn values_are_compared_and_not_their_encoding() {
        let check = |first: &[InMemElement], in_one: &str, second: &[InMemElement], in_other: &str, differ: &[Tag]| {
            let (one, other) = (instance(first, in_one), instance(second, in_other));
            let found: Vec<Tag> = differing(&one, &other).into_iter().collect();
            assert_eq!(found, differ, "{first:?} {in_one}, {second:?} {in_other}");
            assert_eq!(differing(&other, &one).into_iter().collect::<Vec<_>>(), differ);
        };
        let same = |elements: &[InMemElement]| {
            for syntax in [EXPLICIT, IMPLICIT, BIG] {
                check(elements, EXPLICIT, elements, syntax, &[]);
            }
        };
        let private = Tag(0x0011, 0x1001);
        let name = |value| text(tags::PATIENT_NAME, VR::PN, value);
        same(&[name("Doe^Jane"), text(tags::PATIENT_ID, VR::LO, "7")]);
        same(&[DataElement::new(tags::ROWS, VR::US, dicom_value!(U16, 512))]);
        same(&[DataElement::new(tags::RECOMMENDED_DISPLAY_FRAME_RATE_IN_FLOAT, VR::FL, dicom_value!(F32, 1.5))]);
        same(&[items(tags::ANATOMIC_REGION_SEQUENCE, &["a", "b"])]);
        same(&[text(Tag(0x0011, 0x0010), VR::LO, "ACME"), text(private, VR::LO, "odd")]);
        same(&[text(Tag(0x0011, 0x0010), VR::LO, "ACME"), items(private, &["a", "b"])]);
        same(&[text(tags::PIXEL_SPACING, VR::DS, "0.1\\0.20")]);
        let explicit = |first: &[InMemElement], second: &[InMemElement], differ: &[Tag]| {
            check(first, EXPLICIT, second, EXPLICIT, differ);
        };
        // Padding, empty attributes, group lengths and the pixels are no difference.
        explicit(&[name("Doe^Jane ")], &[name("Doe^Jane")], &[]);
        explicit(&[name("")], &[], &[]);
        explicit(&[items(tags::ANATOMIC_REGION_SEQUENCE, &[])], &[], &[]);
        explicit(&[DataElement::new(Tag(0x0010, 0), VR::UL, dicom_value!(U32, 9))], &[], &[]);
        explicit(&[raw(tags::PIXEL_DATA, VR::OW, &[1, 2])], &[raw(tags::PIXEL_DATA, VR::OW, &[3, 4])], &[]);
        // Values are.
        explicit(&[name("Doe^Jane")], &[name("Doe^John")], &[tags::PATIENT_NAME]);
        explicit(&[name("Doe^Jane")], &[], &[tags::PATIENT_NAME]);
        explicit(&[name("Doe^Jane")], &[name("DOE^JANE")], &[tags::PATIENT_NAME]);
        explicit(
            &[text(tags::PATIENT_ID, VR::LO, "7"), name("a")],
            &[text(tags::PATIENT_ID, VR::LO, "07"), name("b")],
            &[tags::PATIENT_NAME, tags::PATIENT_ID],
        );
        explicit(
            &[items(tags::ANATOMIC_REGION_SEQUENCE, &["a", "b"])],
            &[items(tags::ANATOMIC_REGION_SEQUENCE, &["b", "a"])],
            &[tags::ANATOMIC_REGION_SEQUENCE],
        );
        explicit(&[items(private, &["a"])], &[items(private, &["b"])], &[private]);
        check(&[items(private, &["a"])], EXPLICIT, &[items(private, &["b"])], IMPLICIT, &[private]);
        explicit(&[raw(private, VR::UN, &[1, 2])], &[raw(private, VR::UN, &[1, 3])], &[private]);
        explicit(
            &[DataElement::new(tags::ROWS, VR::US, dicom_value!(U16, 512))],
            &[DataElement::new(tags::ROWS, VR::US, dicom_value!(U16, 2))],
            &[tags::ROWS],
        );
    }

    #[test]
    fn a_name_is_the_same_in_two_character_sets_and_what_does_not_decode_never_is() {
        let named = |set: &str, name: &[u8]| {
            let mut data_set = Vec::new();
            let mut put = |tag: Tag, vr: &[u8; 2], value: &[u8]| {
                data_set.extend(tag.group().to_le_bytes());
                data_set.extend(tag.element().to_le_bytes());
                data_set.extend(vr);
                let padded = value.len() + value.len() % 2;
                data_set.extend(u16::try_from(padded).unwrap().to_le_bytes());
                data_set.extend(value);
                data_set.resize(data_set.len() + padded - value.len(), b' ');
            };
            put(tags::SPECIFIC_CHARACTER_SET, b"CS", set.as_bytes());
            put(tags::SOP_CLASS_UID, b"UI", b"1.2.840.10008.5.1.4.1.1.10");
            put(tags::SOP_INSTANCE_UID, b"UI", b"1.20");
            put(tags::PATIENT_NAME, b"PN", name);
            put(tags::STUDY_INSTANCE_UID, b"UI", b"1.30");
            put(tags::SERIES_INSTANCE_UID, b"UI", b"1.40");
            of_bytes(&data_set, EXPLICIT)
        };
        let check = |first: (&str, &[u8]), second: (&str, &[u8]), same: bool| {
            let found = differing(&named(first.0, first.1), &named(second.0, second.1));
            assert_eq!(found.is_empty(), same, "{first:?} {second:?}: {found:?}");
        };
        let utf8 = "Müller^Jörg".as_bytes();
        check(("ISO_IR 192", utf8), ("ISO_IR 100", b"M\xfcller^J\xf6rg"), true);
        check(("ISO_IR 192", utf8), ("ISO_IR 100", b"M\xfcller^Jorg"), false);
        check(
            ("ISO_IR 192", "Yamada^Tarou=山田^太郎".as_bytes()),
            ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
            true,
        );
        check(("ISO_IR 192", b"A\xff^B"), ("ISO_IR 192", b"A\xfe^B"), false);
        check(("", b"M\xfcller"), ("ISO_IR 100", b"M\xfcller"), false);
        check(("", b"M\xfcller"), ("", b"M\xfcller "), true);
        check(("", b"Muller"), ("ISO_IR 100", b"Muller"), true);
    }
}
