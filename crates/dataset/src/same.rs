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

use crate::{Header, Instance, Limits, TransferSyntax, parse_data_set, texts::Texts};

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
    let texts = (&Texts::of(first), &Texts::of(second));
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
                (Text::Elsewhere, _) | (_, Text::Elsewhere) => !same_element(a, b, texts),
                _ => is_decoded || !same_element(a, b, texts),
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

/// How the texts of the one and of the other are read.
type Both<'a> = (&'a Texts, &'a Texts);

fn same_element(first: Option<&InMemElement>, second: Option<&InMemElement>, texts: Both) -> bool {
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (None, None) => return true,
        (Some(only), None) | (None, Some(only)) => return is_empty(only),
    };
    match (first.value(), second.value()) {
        (Value::Primitive(_), Value::Primitive(_)) => same_values(first, second, texts),
        (Value::Sequence(first), Value::Sequence(second)) => same_items(first.items(), second.items(), texts),
        // A private sequence in Implicit VR is bytes to who does not know it.
        (Value::Sequence(sequence), Value::Primitive(bytes)) => same_as_bytes(sequence.items(), bytes, texts),
        (Value::Primitive(bytes), Value::Sequence(sequence)) => {
            same_as_bytes(sequence.items(), bytes, (texts.1, texts.0))
        }
        (first, second) => first == second,
    }
}

fn same_as_bytes(items: &[InMemDicomObject], bytes: &PrimitiveValue, (one, other): Both) -> bool {
    let bytes = bytes.to_bytes();
    match items_of(&bytes) {
        _ if bytes.is_empty() => items.is_empty(),
        Some(parsed) => {
            let parsed = parsed.get(tags::REFERENCED_IMAGE_SEQUENCE).and_then(InMemElement::items);
            same_items(items, parsed.unwrap_or_default(), (one, &other.of_bytes()))
        }
        None => false,
    }
}

fn is_empty(element: &InMemElement) -> bool {
    match element.value() {
        Value::Primitive(_) => trimmed(&bytes(element)).is_empty(),
        Value::Sequence(sequence) => sequence.items().is_empty(),
        Value::PixelSequence(_) => false,
    }
}

fn same_items(first: &[InMemDicomObject], second: &[InMemDicomObject], texts: Both) -> bool {
    first.len() == second.len() && first.iter().zip(second).all(|(first, second)| same_item(first, second, texts))
}

fn same_item(first: &InMemDicomObject, second: &InMemDicomObject, texts: Both) -> bool {
    // An item may have a character set of its own.
    let texts = (&texts.0.of_item(first), &texts.1.of_item(second));
    let tags: BTreeSet<Tag> = first.iter().chain(second.iter()).map(|element| element.header().tag).collect();
    let compared = |tag: &&Tag| tag.element() != 0 && **tag != tags::SPECIFIC_CHARACTER_SET;
    tags.iter().filter(compared).all(|tag| same_element(first.get(*tag), second.get(*tag), texts))
}

fn same_values(first: &InMemElement, second: &InMemElement, texts: Both) -> bool {
    if !is_text(first.vr()) && !is_text(second.vr()) {
        let (one, other) = (bytes(first), bytes(second));
        return one == other || (first.vr() != second.vr() && trimmed(&one) == trimmed(&other));
    }
    // Where only one side knows that it is text, the other has its bytes.
    let raw = |element: &InMemElement, texts: &Texts| match is_text(element.vr()) {
        true => texts.bytes(element),
        false => Some(bytes(element)),
    };
    // What is not known any more may have been anything.
    let (Some(one), Some(other)) = (raw(first, texts.0), raw(second, texts.1)) else { return false };
    if !is_decoded(first.vr()) && !is_decoded(second.vr()) {
        let latin = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
        return values(&latin(&one)) == values(&latin(&other));
    }
    match (texts.0.set().decode_exactly(&one), texts.1.set().decode_exactly(&other)) {
        (Some(one), Some(other)) => values(&one) == values(&other),
        (None, None) => trimmed(&one) == trimmed(&other) && texts.0.set() == texts.1.set(),
        _ => false,
    }
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
    fn a_text_in_an_item_is_the_same_in_two_character_sets() {
        let within = |set: &str, of_item: &str, meaning: &[u8]| {
            let element = |tag: Tag, vr: &[u8; 2], value: &[u8]| {
                let padded = value.len() + value.len() % 2;
                let mut bytes = [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat();
                bytes.extend(vr);
                if vr == b"SQ" {
                    bytes.extend([0, 0]);
                    bytes.extend(u32::try_from(padded).unwrap().to_le_bytes());
                } else {
                    bytes.extend(u16::try_from(padded).unwrap().to_le_bytes());
                }
                bytes.extend(value);
                bytes.resize(bytes.len() + padded - value.len(), b' ');
                bytes
            };
            let own = element(tags::SPECIFIC_CHARACTER_SET, b"CS", of_item.as_bytes());
            let item = [if of_item.is_empty() { &[][..] } else { &own }, &element(tags::CODE_MEANING, b"LO", meaning)];
            let item = item.concat();
            let mut items = vec![0xfe, 0xff, 0x00, 0xe0];
            items.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
            items.extend(item);
            let data_set = [
                element(tags::SPECIFIC_CHARACTER_SET, b"CS", set.as_bytes()),
                element(tags::ANATOMIC_REGION_SEQUENCE, b"SQ", &items),
            ];
            of_bytes(&data_set.concat(), EXPLICIT)
        };
        type Set<'a> = (&'a str, &'a str, &'a [u8]);
        let check = |first: Set, second: Set, same: bool| {
            let (one, other) = (within(first.0, first.1, first.2), within(second.0, second.1, second.2));
            assert_eq!(differing(&one, &other).is_empty(), same, "{first:?} {second:?}");
            assert_eq!(differing(&other, &one).is_empty(), same, "{second:?} {first:?}");
        };
        let (utf8, latin) = ("Brustk\u{f6}rper".as_bytes(), &b"Brustk\xf6rper"[..]);
        check(("ISO_IR 192", "", utf8), ("ISO_IR 100", "", latin), true);
        check(("ISO_IR 100", "ISO_IR 192", utf8), ("ISO_IR 100", "", latin), true);
        check(("ISO_IR 100", "ISO_IR 144", latin), ("ISO_IR 100", "", latin), false);
        check(("ISO_IR 100", "", latin), ("ISO_IR 100", "", b"Brustkorper"), false);
        check(("", "", latin), ("ISO_IR 100", "", latin), false);
        check(("ISO_IR 192", "", b"\xff"), ("ISO_IR 192", "", b"\xfe"), false);
        let meaning = |set, of_item, bytes| within(set, of_item, bytes).codes(&[tags::ANATOMIC_REGION_SEQUENCE]);
        for (set, of_item, bytes) in [("ISO_IR 192", "", utf8), ("ISO_IR 100", "", latin), ("", "ISO_IR 100", latin)] {
            assert_eq!(meaning(set, of_item, bytes)[0].meaning, "Brustk\u{f6}rper", "{set} {of_item}");
        }
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
