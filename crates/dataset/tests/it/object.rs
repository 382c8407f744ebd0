//! What is built of a data set: what dicom-object builds of a well-formed one, and what every viewer shows of one that is
//! not.

use dataset::{Instance, Limits, Tag, TransferSyntax, rewrite_bytes, tags};
use dicom_core::{VR, header::Header as _, value::Value as Parsed};
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use proptest::prelude::*;

use crate::{
    encode::{
        BIG_ENDIAN, EXPLICIT, Element, Encoding, IMPLICIT, Item, Value, bare, bytes, lie, meta_of, sequence, write,
    },
    random,
};

/// Whether two objects hold the same. Of text in many encodings the bytes are looked at elsewhere.
fn same(ours: &InMemDicomObject, theirs: &InMemDicomObject) -> Result<(), String> {
    let tags = |object: &InMemDicomObject| object.iter().map(|element| element.tag()).collect::<Vec<_>>();
    if tags(ours) != tags(theirs) {
        return Err(format!("{:?} and {:?}", tags(ours), tags(theirs)));
    }
    for (our, their) in ours.iter().zip(theirs.iter()) {
        let differ = || Err(format!("{our:?} and {their:?}"));
        match (our.value(), their.value()) {
            (Parsed::Sequence(ours), Parsed::Sequence(theirs)) if ours.items().len() == theirs.items().len() => {
                ours.items().iter().zip(theirs.items()).try_for_each(|(ours, theirs)| same(ours, theirs))?;
            }
            (Parsed::PixelSequence(ours), Parsed::PixelSequence(theirs)) if ours == theirs => {}
            (Parsed::Primitive(ours), Parsed::Primitive(theirs)) => {
                let is_text = matches!(ours, dicom_core::PrimitiveValue::Strs(_) | dicom_core::PrimitiveValue::Str(_));
                if our.vr() != their.vr() || std::mem::discriminant(ours) != std::mem::discriminant(theirs) {
                    return differ();
                }
                // Floats that are no numbers are not equal to themselves.
                if !is_text && ours.to_bytes() != theirs.to_bytes() {
                    return differ();
                }
            }
            _ => return differ(),
        }
    }
    Ok(())
}

fn open(data_set: &[u8], encoding: Encoding) -> Instance {
    let file = [&meta_of(encoding.syntax().uid()).to_bytes(), data_set].concat();
    Instance::from_bytes(&file, &Limits::default()).unwrap()
}

fn theirs(data_set: &[u8], syntax: TransferSyntax) -> Result<InMemDicomObject, String> {
    let syntax = TransferSyntaxRegistry.get(syntax.uid()).unwrap();
    InMemDicomObject::read_dataset_with_ts(data_set, syntax).map_err(|error| error.to_string())
}

/// Whether each number is whole: dicom-object loses its way behind one that is not.
fn is_whole(elements: &[Element]) -> bool {
    elements.iter().all(|Element { tag, vr, value }| match value {
        Value::Bytes(bytes) => {
            let unit = match vr {
                b"US" | b"OW" => 2,
                b"UL" => 4,
                _ => 1,
            };
            // It reads an offset table and a name in a set that it does not know as something else.
            bytes.len() % unit == 0 && *tag != tags::SPECIFIC_CHARACTER_SET
        }
        Value::Sequence(_, items) => items.iter().all(|Item(_, elements)| is_whole(elements)),
        Value::Fragments(fragments) => fragments.first().is_some_and(|table| table.len() % 4 == 0),
        _ => true,
    })
}

proptest! {
    #![proptest_config(random::config())]

    #[test]
    fn a_well_formed_data_set_becomes_what_dicom_object_makes_of_it(
        elements in random::data_set(),
        encoding in random::encoding(),
    ) {
        prop_assume!(is_whole(&elements[1..]));
        let data_set = write(&elements, encoding);
        let theirs = theirs(&data_set, encoding.syntax());
        prop_assume!(theirs.is_ok());
        let compared = same(open(&data_set, encoding).object(), &theirs.unwrap());
        prop_assert!(compared.is_ok(), "{:?}: {:?}", encoding, compared);
    }

    #[test]
    fn what_is_rewritten_is_the_same_to_dicom_object(
        elements in random::data_set(),
        encoding in random::encoding(),
        explicit in any::<bool>(),
    ) {
        prop_assume!(is_whole(&elements[1..]));
        let data_set = write(&elements, encoding);
        let of_whole = theirs(&data_set, encoding.syntax());
        prop_assume!(of_whole.is_ok());
        let mut of_whole = of_whole.unwrap();
        let file = [meta_of(encoding.syntax().uid()).to_bytes(), data_set].concat();
        let to = if explicit { EXPLICIT } else { IMPLICIT }.syntax();
        let rewritten = rewrite_bytes(&mut std::io::Cursor::new(file), to, &Limits::default()).unwrap();
        // Group lengths are left out, in items too; these are not made up here.
        of_whole.remove_element(Tag(0x0008, 0x0000));
        let compared = theirs(&rewritten, to).map(|theirs| {
            let tags = |object: &InMemDicomObject| object.iter().map(|element| element.tag()).collect::<Vec<_>>();
            prop_assert_eq!(tags(&theirs), tags(&of_whole));
            Ok(())
        });
        prop_assert!(compared.is_ok(), "{:?}", compared);
    }
}

const PRIVATE: Tag = Tag(0x0009, 0x1001);

fn meaning(text: &[u8]) -> Element {
    bytes(0x0008, 0x0104, b"LO", text)
}

fn un(tag: Tag, value: Value) -> Element {
    Element { tag, vr: *b"UN", value }
}

/// Says briefly what is in an object: tags, items in brackets, values as they are.
fn brief(object: &InMemDicomObject) -> String {
    let said: Vec<String> = object
        .iter()
        .map(|element| {
            let value = match element.value() {
                Parsed::Sequence(sequence) => {
                    format!("[{}]", sequence.items().iter().map(brief).collect::<Vec<_>>().join("|"))
                }
                Parsed::PixelSequence(fragments) => format!("{} fragments", fragments.fragments().len()),
                Parsed::Primitive(value) if element.vr() == VR::UN => format!("{} bytes", value.to_bytes().len()),
                Parsed::Primitive(value) => value.to_str().trim_end().to_owned(),
            };
            format!("{:04x},{:04x} {value}", element.tag().group(), element.tag().element())
        })
        .collect();
    said.join("; ")
}

#[test]
fn what_senders_really_send_is_read() {
    let check = |what: &str, encoding: Encoding, case: &[u8], expected: &str| {
        let after = write(&[bytes(0x4008, 0x0300, b"ST", b"Read on.")], encoding);
        let opened = open(&[case, &after].concat(), encoding);
        let expected = format!("{expected}; 4008,0300 Read on.");
        assert_eq!(brief(opened.object()), expected.trim_start_matches("; "), "{what}, {encoding:?}");
    };
    let item = || Item(true, vec![meaning(b"Chest ")]);
    // Sent as UN of undefined length: implicit inside (PS3.5 6.2.2), to any depth, within what has a length too.
    let inner = Element { tag: Tag(0x0009, 0x1002), vr: *b"SQ", value: Value::Sequence(false, vec![item(), item()]) };
    let deep = un(PRIVATE, Value::Unknown(vec![Item(false, vec![inner.clone()]), Item(true, vec![])]));
    let deep_read = "0009,1001 [0009,1002 [0008,0104 Chest|0008,0104 Chest]|]";
    for encoding in [EXPLICIT, BIG_ENDIAN] {
        check("UN of undefined length", encoding, &write(std::slice::from_ref(&deep), encoding), deep_read);
        let around = write(&[sequence(true, vec![Item(true, vec![deep.clone()])])], encoding);
        check("the same within a sequence", encoding, &around, &format!("0040,a730 [{deep_read}]"));
    }
    let known = un(tags::PROCEDURE_CODE_SEQUENCE, Value::Unknown(vec![item()]));
    check("a sequence that is known", EXPLICIT, &write(&[known], EXPLICIT), "0008,1032 [0008,0104 Chest]");
    // Of defined length: what the dictionary has as a sequence is read as one, if it is one.
    let of_bytes = |tag, items: Vec<Item>| {
        let whole = write(&[Element { tag, vr: *b"SQ", value: Value::Sequence(true, items) }], IMPLICIT);
        write(&[un(tag, Value::Bytes(whole[8..].to_vec()))], EXPLICIT)
    };
    let codes = tags::PROCEDURE_CODE_SEQUENCE;
    check("UN of defined length", EXPLICIT, &of_bytes(codes, vec![item()]), "0008,1032 [0008,0104 Chest]");
    check("a private one", EXPLICIT, &of_bytes(PRIVATE, vec![item()]), "0009,1001 22 bytes");
    let broken = write(&[un(codes, Value::Bytes(bare(0xe000, 99, IMPLICIT)))], EXPLICIT);
    check("one that only begins like one", EXPLICIT, &broken, "0008,1032 8 bytes");
    // UN whose VR is known: little endian, whatever is around it.
    for encoding in [EXPLICIT, BIG_ENDIAN] {
        let rows = write(&[un(Tag(0x0008, 0x1197), Value::Bytes(vec![1, 2]))], encoding);
        check("a number as UN", encoding, &rows, "0008,1197 513");
        let name = write(&[un(Tag(0x0008, 0x0090), Value::Bytes(b"Ref^A ".to_vec()))], encoding);
        check("a name as UN", encoding, &name, "0008,0090 Ref^A");
    }
    // What is no VR has a length of 16 bits.
    for code in [b"\0\0", b"  ", b"??", b"--", b"xx", b"un", b"\x01\x02", b"O\0", b"0A"] {
        let case = write(&[lie(0x0009, 0x1001, code, 4, b"abcd")], EXPLICIT);
        check(&format!("the VR {code:?}"), EXPLICIT, &case, "0009,1001 4 bytes");
        let within = write(&[sequence(true, vec![Item(false, vec![lie(0x0009, 0x1001, code, 4, b"abcd")])])], EXPLICIT);
        check(&format!("the VR {code:?} in an item"), EXPLICIT, &within, "0040,a730 [0009,1001 4 bytes]");
    }
    // Two capitals may be a VR to come, whose reserved bytes are zero; if these are not, they are the length.
    check("a VR to come", EXPLICIT, &write(&[lie(0x0009, 0x1001, b"ZZ", 4, b"abcd")], EXPLICIT), "0009,1001 4 bytes");
    let mut short = write(&[bytes(0x0009, 0x1001, b"LO", b"abcd")], EXPLICIT);
    short[4..6].copy_from_slice(b"ZZ");
    check("one with a short length", EXPLICIT, &short, "0009,1001 4 bytes");
    // Text where a sequence belongs.
    for text in [&b"Vendor Header Anonymizer  "[..], b"NONE", b"NO", b"12345678", b"\0\0\0\0\0\0\0\0\0\0"] {
        let case = |encoding| write(&[bytes(0x0008, 0x1032, b"SQ", text)], encoding);
        let read = format!("0008,1032 {} bytes", text.len());
        check("text where a sequence belongs", IMPLICIT, &case(IMPLICIT), &read);
        check("text that says it is a sequence", EXPLICIT, &case(EXPLICIT), &read);
        let within = write(&[sequence(true, vec![Item(true, vec![bytes(0x0008, 0x1032, b"SQ", text)])])], IMPLICIT);
        check("the same in an item", IMPLICIT, &within, &format!("0040,a730 [{read}]"));
    }
    // A sequence where text belongs.
    let items = Element { tag: Tag(0x0008, 0x103e), vr: *b"LO", value: Value::Sequence(false, vec![item()]) };
    check("a sequence where text belongs", IMPLICIT, &write(&[items], IMPLICIT), "0008,103e [0008,0104 Chest]");
    let fragments = Element { tag: PRIVATE, vr: *b"OB", value: Value::Fragments(vec![vec![], vec![7; 10]]) };
    check("fragments elsewhere", EXPLICIT, &write(&[fragments], EXPLICIT), "0009,1001 1 fragments");
    check("half a number", EXPLICIT, &write(&[bytes(0x0008, 0x1197, b"US", &[1, 2, 3])], EXPLICIT), "0008,1197 513");
}

#[test]
fn what_was_sent_as_un_is_in_the_header() {
    for encoding in [EXPLICIT, BIG_ENDIAN] {
        let elements = [un(tags::MODALITY, Value::Bytes(b"CT".to_vec())), un(tags::ROWS, Value::Bytes(vec![0, 2]))];
        let opened = open(&write(&elements, encoding), encoding);
        assert_eq!((opened.header.modality().as_str(), opened.header.integer(tags::ROWS)), ("CT", Some(512)));
    }
}

#[test]
fn text_keeps_its_bytes() {
    let check = |declared: &[u8], name: &[u8], expected: &str| {
        let elements = [bytes(0x0008, 0x0005, b"CS", declared), bytes(0x0010, 0x0010, b"PN", name)];
        let opened = open(&write(&elements, EXPLICIT), EXPLICIT);
        assert_eq!(opened.element(tags::PATIENT_NAME).unwrap().to_str().unwrap(), expected);
        for to in [IMPLICIT, EXPLICIT] {
            let file = [meta_of(EXPLICIT.syntax().uid()).to_bytes(), write(&elements, EXPLICIT)].concat();
            let rewritten = rewrite_bytes(&mut std::io::Cursor::new(file), to.syntax(), &Limits::default());
            assert_eq!(rewritten.unwrap(), write(&elements, to));
        }
    };
    check(b"ISO_IR 192", "Müller^Jürgen ".as_bytes(), "Müller^Jürgen");
    check(b"ISO_IR 100", b"M\xfcller", "Müller");
    check(b"\\ISO 2022 IR 87 ", b"A=\x1b$B;3ED\x1b(B", "A=\u{1b}$B;3ED\u{1b}(B");
    check(b"GB18030 ", b"\xcd\xf5^\xd0\xa1", "\u{cd}\u{f5}^\u{d0}\u{a1}");
}

#[test]
fn a_signed_image_has_signed_extremes() {
    for (representation, expected) in [(1, -2), (0, 65534)] {
        let elements =
            [bytes(0x0028, 0x0103, b"US", &[representation, 0]), bytes(0x0028, 0x0106, b"US", &[0xfe, 0xff])];
        let opened = open(&write(&elements, IMPLICIT), IMPLICIT);
        let value = opened.element(tags::SMALLEST_IMAGE_PIXEL_VALUE).unwrap();
        assert_eq!(value.to_int::<i32>().unwrap(), expected);
    }
}

#[test]
fn items_that_hold_something_are_bounded() {
    let check = |filled: usize, empty: usize, as_un: bool, is_read: bool| {
        let value = || vec![bytes(0x0029, 0x1020, b"US", &[1, 0])];
        let within = || vec![sequence(true, vec![Item(true, value())])];
        // The last one holds a sequence, whose item is one more that is filled.
        let mut items: Vec<Item> = (2..filled).map(|_| Item(true, value())).collect();
        items.push(Item(true, within()));
        items.extend((0..empty).map(|_| Item(true, Vec::new())));
        let data_set = match as_un {
            false => write(&[sequence(true, items)], EXPLICIT),
            // What follows tag and length.
            true => write(&[bytes(0x0040, 0xa730, b"UN", &write(&[sequence(true, items)], IMPLICIT)[8..])], EXPLICIT),
        };
        let file = [&meta_of(EXPLICIT.syntax().uid()).to_bytes()[..], &data_set].concat();
        let read = Instance::from_bytes(&file, &Limits { filled_items: 10, ..Limits::default() });
        let said = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(read.is_ok(), is_read, "{filled} filled, {empty} empty, UN {as_un}: {said}");
        assert_eq!(said.contains("more than 10 items that hold something"), !is_read, "{said}");
    };
    for as_un in [false, true] {
        check(10, 0, as_un, true);
        check(10, 100, as_un, true);
        check(11, 0, as_un, false);
        check(30, 0, as_un, false);
    }
}
