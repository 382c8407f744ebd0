//! What the gate lets pass, what it refuses, and what it says.

use dataset::{
    Instance, Limits, TransferSyntax,
    gate::{self, Scan},
    tags,
};

use crate::encode::{
    BIG_ENDIAN, EXPLICIT, Element, Encoding, IMPLICIT, ITEM_END, Item, SEQUENCE_END, UNDEFINED, Value, bare, bytes,
    deflate, lie, meta_of, sequence, write,
};

fn scan(bytes: &[u8], encoding: Encoding) -> Result<Scan, String> {
    gate::scan(bytes, Some(bytes.len() as u64), encoding.syntax(), &Limits::default())
        .map_err(|error| error.to_string())
}

fn charset() -> Element {
    bytes(0x0008, 0x0005, b"CS", b"ISO_IR 6")
}

fn name() -> Element {
    bytes(0x0010, 0x0010, b"PN", b"Doe^John")
}

/// What becomes of a data set.
enum Due {
    /// It passes, is read, and the name behind the case is reached.
    Passes,
    /// It is refused with these words.
    Refused(&'static str),
}
use Due::{Passes, Refused};

/// `case` stands between Specific Character Set and Patient's Name; `after` is the end of the data set.
fn check(what: &str, encoding: Encoding, case: &[u8], after: &[u8], due: &Due) {
    let data_set = [&write(&[charset()], encoding), case, &write(&[name()], encoding), after].concat();
    let scanned = scan(&data_set, encoding);
    let mut file = meta_of(encoding.syntax().uid()).to_bytes();
    file.extend_from_slice(&data_set);
    let parsed = Instance::from_bytes(&file, &Limits::default());
    if let Refused(reason) = due {
        let refusal = scanned.expect_err(what);
        assert!(refusal.contains(reason), "{what}: {refusal:?} does not say {reason:?}");
        assert!(parsed.is_err(), "{what}");
        return;
    }
    let scanned = scanned.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    assert_eq!(scanned.values[&tags::PATIENT_NAME].bytes, b"Doe^John", "{what}");
    let parsed = parsed.unwrap_or_else(|error| panic!("{what}: {error}"));
    let name = parsed.element(tags::PATIENT_NAME).map(|name| name.to_str().expect("text").into_owned());
    assert_eq!(name.as_deref(), Some("Doe^John"), "{what}");
}

fn meaning() -> Element {
    bytes(0x0008, 0x0104, b"LO", b"Chest ")
}

fn nested(depth: usize, defined: bool) -> Element {
    let inner = sequence(defined, vec![Item(defined, vec![meaning()])]);
    (1..depth).fold(inner, |inner, _| sequence(defined, vec![Item(defined, vec![inner])]))
}

#[test]
fn what_senders_really_send_can_be_kept() {
    let item = |defined| Item(defined, vec![meaning()]);
    for encoding in [IMPLICIT, EXPLICIT, BIG_ENDIAN] {
        let of = |element: Element| write(&[element], encoding);
        let end = |number| bare(number, 0, encoding);
        let cases: &[(&str, Vec<u8>, &[u8], Due)] = &[
            ("nothing unusual", vec![], &[], Passes),
            ("an empty sequence", of(sequence(true, vec![])), &[], Passes),
            ("an empty sequence with its end", of(sequence(false, vec![])), &[], Passes),
            ("an empty item", of(sequence(true, vec![Item(true, vec![])])), &[], Passes),
            ("defined in undefined", of(sequence(false, vec![item(true), item(true)])), &[], Passes),
            ("undefined in defined", of(sequence(true, vec![item(false), item(false)])), &[], Passes),
            ("as deep as allowed", of(nested(64, true)), &[], Passes),
            ("one deeper", of(nested(65, false)), &[], Refused("nested deeper than 64")),
            ("a group length", of(bytes(0x0009, 0x0000, b"UL", &[9; 4])), &[], Passes),
            ("a group length that lies", of(bytes(0x0008, 0x0000, b"UL", &[0xff; 4])), &[], Passes),
            ("an odd length", of(bytes(0x0008, 0x0070, b"LO", b"odd")), &[], Passes),
            ("padding as the standard has it", vec![], &of(bytes(0xfffc, 0xfffc, b"OB", &[0; 6])), Passes),
            ("an element of an earlier group", of(bytes(0x0018, 0x0015, b"CS", b"CHEST ")), &[], Passes),
            ("an element that comes twice", of(bytes(0x0010, 0x0010, b"PN", b"Other^One ")), &[], Passes),
            ("zeros behind the end", vec![], &[0; 700], Passes),
            ("a zero behind the end", vec![], &[0], Passes),
            ("zeros and then something else", vec![], &[[0; 30], [1; 30]].concat(), Refused("zeros and then")),
            ("one byte too many", vec![], b"x", Refused("ends at byte")),
            ("the end of pixel data twice", vec![], &end(SEQUENCE_END), Passes),
            ("an item's end outside of everything", end(ITEM_END), &[], Passes),
            ("an item outside of everything", bare(0xe000, 0, encoding), &[], Refused("an item outside a sequence")),
            (
                "the end of a sequence that said its length",
                [of(sequence(true, vec![item(true)])), end(SEQUENCE_END)].concat(),
                &[],
                Passes,
            ),
            (
                "the end of an item that said its length",
                {
                    let whole = of(sequence(false, vec![item(true)]));
                    let (before, sequence_end) = whole.split_at(whole.len() - 8);
                    [before, &end(ITEM_END), sequence_end].concat()
                },
                &[],
                Passes,
            ),
            (
                "a sequence's end in the place of an item's",
                {
                    let whole = of(sequence(false, vec![item(false)]));
                    let (before, ends) = whole.split_at(whole.len() - 16);
                    [before, &ends[8..]].concat()
                },
                &[],
                Refused("a delimiter of something that is not open"),
            ),
            (
                "a delimiter with a length",
                {
                    let whole = of(sequence(false, vec![item(true)]));
                    [&whole[..whole.len() - 8], &bare(SEQUENCE_END, 6, encoding)].concat()
                },
                &[],
                Passes,
            ),
            (
                "something other than an item where a sequence should begin",
                of(lie(0x0040, 0xa730, b"SQ", u32::try_from(of(meaning()).len()).unwrap(), &of(meaning()))),
                &[],
                Passes,
            ),
            (
                "an item longer than its sequence",
                {
                    let mut whole = of(sequence(true, vec![item(true)]));
                    let at = whole.len() - of(meaning()).len() - 8;
                    whole[at..at + 8].copy_from_slice(&bare(0xe000, 100, encoding));
                    whole
                },
                &[],
                Refused("declares 100 bytes"),
            ),
        ];
        for (what, case, after, due) in cases {
            check(&format!("{what}, {encoding:?}"), encoding, case, after, due);
        }
    }
}

#[test]
fn what_depends_on_the_encoding() {
    let private = |value| Element { tag: dataset::Tag(0x0009, 0x1001), vr: *b"UN", value };
    let item = |defined| Item(defined, vec![private(Value::Bytes(vec![7; 4])), meaning()]);
    let inside =
        private(Value::Sequence(false, vec![Item(false, vec![private(Value::Sequence(false, vec![item(true)]))])]));
    let text = |vr: &[u8; 2], length, value: &[u8]| lie(0x0040, 0xa160, vr, length, value);
    let fragments = |tag, vr: &[u8; 2]| Element { tag, vr: *vr, value: Value::Fragments(vec![vec![], vec![7; 10]]) };
    let overlay = dataset::Tag(0x6000, 0x3000);
    let explicit_inside = |element: &Element| {
        let whole = write(&[private(Value::Unknown(vec![Item(true, vec![])]))], EXPLICIT);
        let (before, ends) = whole.split_at(whole.len() - 16);
        let content = write(std::slice::from_ref(element), EXPLICIT);
        [before, &bare(0xe000, u32::try_from(content.len()).unwrap(), IMPLICIT), &content, &ends[8..]].concat()
    };
    let cases: &[(&str, Encoding, Vec<u8>, Due)] = &[
        // PS3.5 6.2.2: implicit inside, whatever is around it.
        (
            "UN of undefined length",
            EXPLICIT,
            write(&[private(Value::Unknown(vec![item(true), item(false)]))], EXPLICIT),
            Passes,
        ),
        ("UN in big endian", BIG_ENDIAN, write(&[private(Value::Unknown(vec![item(true)]))], BIG_ENDIAN), Passes),
        ("UN with explicit VR inside all the same", EXPLICIT, explicit_inside(&meaning()), Passes),
        (
            "UN of defined length",
            EXPLICIT,
            write(&[private(Value::Bytes(write(&[nested(3, true)], IMPLICIT)))], EXPLICIT),
            Passes,
        ),
        ("private sequences", IMPLICIT, write(&[inside], IMPLICIT), Passes),
        (
            "a private sequence of defined length",
            IMPLICIT,
            write(&[private(Value::Sequence(true, vec![item(true)]))], IMPLICIT),
            Passes,
        ),
        (
            "a sequence that the dictionary has as text",
            IMPLICIT,
            write(
                &[Element { tag: tags::TEXT_VALUE, vr: *b"UT", value: Value::Sequence(false, vec![item(true)]) }],
                IMPLICIT,
            ),
            Passes,
        ),
        ("fragments", EXPLICIT, write(&[fragments(tags::PIXEL_DATA, b"OB")], EXPLICIT), Passes),
        ("fragments sent as UN", EXPLICIT, write(&[fragments(tags::PIXEL_DATA, b"UN")], EXPLICIT), Passes),
        ("fragments elsewhere", EXPLICIT, write(&[fragments(overlay, b"OW")], EXPLICIT), Passes),
        ("a VR to come", EXPLICIT, write(&[text(b"ZZ", 4, b"1234")], EXPLICIT), Passes),
        ("the VR ??", EXPLICIT, write(&[text(b"??", 4, b"1234")], EXPLICIT), Passes),
        ("no VR", EXPLICIT, write(&[text(b"\0\0", 4, b"1234")], EXPLICIT), Passes),
        (
            "text of undefined length",
            EXPLICIT,
            write(&[text(b"UT", UNDEFINED, b"1234")], EXPLICIT),
            Refused("an undefined length on a value that has none"),
        ),
        (
            "more than there is",
            EXPLICIT,
            write(&[text(b"UT", 0xffff_fff0, b"1234")], EXPLICIT),
            Refused("declares 4294967280 bytes, 20 are left"),
        ),
        (
            "more than there is",
            IMPLICIT,
            write(&[text(b"UT", 0x8000_0000, b"1234")], IMPLICIT),
            Refused("declares 2147483648 bytes, 20 are left"),
        ),
    ];
    for (what, encoding, case, due) in cases {
        check(&format!("{what}, {encoding:?}"), *encoding, case, &[], due);
    }
}

/// dicom-object's own reader loses its way in these.
#[test]
fn what_leads_a_parser_astray_is_read_as_the_gate_saw_it() {
    let depth_of_one = |content: &[Element]| sequence(true, vec![Item(true, content.to_vec())]);
    let no_fragments = Element { tag: tags::PIXEL_DATA, vr: *b"OB", value: Value::Fragments(vec![]) };
    let side_by_side = write(&vec![depth_of_one(&[no_fragments]); 20_000], EXPLICIT);
    check("items with pixel data without a fragment", EXPLICIT, &side_by_side, &[], &Passes);
    let odd = write(&[bytes(0x0028, 0x0010, b"US", &[1, 0, 9]), bytes(0x0028, 0x0011, b"US", &[2, 0])], EXPLICIT);
    check("a number of an odd length", EXPLICIT, &odd, &[], &Passes);
    let table = Element { tag: tags::PIXEL_DATA, vr: *b"OB", value: Value::Fragments(vec![vec![0; 7], vec![0; 10]]) };
    check("an offset table of seven bytes", EXPLICIT, &[], &write(&[table], EXPLICIT), &Passes);
    let pixels = write(&[bytes(0x7fe0, 0x0010, b"OW", &[7; 9])], EXPLICIT);
    check("an odd number of bytes as OW", EXPLICIT, &[], &pixels, &Passes);
}

#[test]
fn the_other_vr_form_than_agreed_is_read() {
    let elements = [charset(), nested(3, false), nested(2, true), name()];
    for (agreed, sent, due) in
        [(EXPLICIT, IMPLICIT, Passes), (IMPLICIT, EXPLICIT, Passes), (BIG_ENDIAN, IMPLICIT, Refused(""))]
    {
        let data_set = write(&elements, sent);
        match due {
            Passes => {
                let file = [meta_of(agreed.syntax().uid()).to_bytes(), data_set].concat();
                let parsed = Instance::from_bytes(&file, &Limits::default()).unwrap();
                assert_eq!(parsed.element(tags::PATIENT_NAME).unwrap().to_str().unwrap(), "Doe^John");
            }
            Refused(_) => assert!(scan(&data_set, agreed).is_err()),
        }
    }
}

#[test]
fn hostile_lengths_and_counts_are_refused_before_they_cost_anything() {
    let nested: Vec<u8> = (0..100_000)
        .flat_map(|_| {
            [write(&[lie(0x0040, 0xa730, b"SQ", UNDEFINED, b"")], EXPLICIT), bare(0xe000, UNDEFINED, EXPLICIT)].concat()
        })
        .collect();
    let refusal = scan(&nested, EXPLICIT).unwrap_err();
    assert!(refusal.contains("nested deeper than 64"), "{refusal}");
    let of_element = |limits: &Limits, data_set: &[u8]| gate::scan(data_set, None, EXPLICIT.syntax(), limits);
    let four: Vec<_> = (0..4).map(|number| bytes(0x0009, number, b"LO", b"")).collect();
    let limits = Limits { elements: 3, ..Limits::default() };
    assert!(matches!(of_element(&limits, &write(&four, EXPLICIT)), Err(gate::GateError::TooMany { limit: 3 })));
    // Values that are too many or too long are passed over, and the last of an element that comes twice counts.
    let limits = Limits { header_bytes: 3 * 74, header_value_bytes: 10, ..Limits::default() };
    let elements = [
        bytes(0x0009, 1, b"LO", b"0123456789"),
        bytes(0x0009, 2, b"LO", b"0123456789"),
        bytes(0x0009, 2, b"LO", b"0123456789A"),
        bytes(0x0009, 3, b"LO", b"0123456789"),
        bytes(0x0009, 4, b"LO", b"0"),
    ];
    let kept = of_element(&limits, &write(&elements, EXPLICIT)).unwrap().values;
    assert_eq!(kept.keys().map(|tag| tag.element()).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn what_says_whose_an_instance_is_is_kept_or_said_to_be_unread() {
    let limits = Limits { header_bytes: 74, header_value_bytes: 10, ..Limits::default() };
    let filler = || bytes(0x0009, 1, b"LO", b"0123456789");
    let check = |id: Vec<(u16, &[u8; 2], &[u8])>, unread: bool, kept: Option<&[u8]>| {
        let mut elements = vec![filler()];
        elements.extend(id.iter().map(|(element, vr, value)| bytes(0x0010, *element, vr, value)));
        let scan = gate::scan(&write(&elements, EXPLICIT)[..], None, EXPLICIT.syntax(), &limits).unwrap();
        assert_eq!(scan.unread_identity.contains(&tags::PATIENT_ID), unread, "{id:?}");
        assert_eq!(scan.values.get(&tags::PATIENT_ID).map(|it| it.bytes.as_slice()), kept, "{id:?}");
    };
    check(vec![], false, None);
    check(vec![(0x20, b"LO", b"")], false, Some(b""));
    check(vec![(0x20, b"LO", b"0123456789")], false, Some(b"0123456789"));
    check(vec![(0x20, b"UT", b"0123456789AB")], true, None);
    // The last one of two counts.
    check(vec![(0x20, b"UT", b"0123456789AB"), (0x20, b"LO", b"1 ")], false, Some(b"1 "));
    check(vec![(0x20, b"LO", b"1 "), (0x20, b"UT", b"0123456789AB")], true, None);
    check(vec![(0x21, b"UT", b"0123456789AB")], false, None);
}

#[test]
fn a_deflated_set_is_bounded_and_what_follows_it_is_not_read() {
    use std::io::Write;
    let data_set = write(&[charset(), bytes(0x7fe0, 0x0010, b"OW", &vec![0; 8 << 20])], EXPLICIT);
    let deflated = deflate(&data_set);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&data_set).unwrap();
    let zlib = zlib.finish().unwrap();
    // A stored block of 94 bytes, whose first two bytes would do for a zlib header.
    let stored = write(&[charset(), bytes(0x0010, 0x0010, b"PN", &[b'x'; 70])], EXPLICIT);
    let stored = [&[0x78, 94, 0, !94, !0][..], &stored, &[1, 0, 0, 0xff, 0xff]].concat();
    let scan = |bytes: &[u8], inflated_bytes| {
        let syntax = TransferSyntax::from_uid(TransferSyntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
        gate::scan(bytes, None, syntax, &Limits { inflated_bytes, ..Limits::default() })
            .map(|scan| scan.bytes)
            .map_err(|error| error.to_string())
    };
    let whole = Ok(data_set.len() as u64);
    assert_eq!(scan(&deflated, 16 << 20), whole);
    assert_eq!(scan(&[&deflated[..], &[0]].concat(), 16 << 20), whole);
    assert_eq!(scan(&[&deflated[..], b"trailing bytes of any kind"].concat(), 16 << 20), whole);
    assert_eq!(scan(&zlib, 16 << 20), whole);
    assert_eq!(scan(&stored, 16 << 20), Ok(94));
    for refused in [&deflated, &zlib] {
        assert!(scan(refused, 1 << 20).unwrap_err().contains("more than 1048576 bytes"));
        assert!(scan(&refused[..refused.len() / 2], 16 << 20).is_err());
    }
    let refusal = scan(&[0xff; 40], 16 << 20).unwrap_err();
    assert!(refusal.contains("does not inflate"), "{refusal}");
}
