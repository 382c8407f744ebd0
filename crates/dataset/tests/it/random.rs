//! Properties of the gate over data sets that chance makes up: any bytes, what is valid, and what is cut or changed.

use std::io::Cursor;

use dataset::{Header, Limits, Tag, gate, tags};
use proptest::{collection::vec, prelude::*};

use crate::{
    bodies,
    encode::{
        BIG_ENDIAN, EXPLICIT, Element, Encoding, IMPLICIT, Item, Value, bytes, deflate, meta_of, write, write_element,
    },
};

/// Elements of bytes: text, numbers, private ones, in no order and with lengths of any parity.
fn primitive() -> impl Strategy<Value = Element> {
    let known = prop::sample::select(vec![
        (tags::MODALITY, *b"CS"),
        (tags::PATIENT_NAME, *b"PN"),
        (tags::IMAGE_COMMENTS, *b"LT"),
        (tags::TEXT_VALUE, *b"UT"),
        (tags::ROWS, *b"US"),
        (Tag(0x6000, 0x3000), *b"OW"),
        (Tag(0x0009, 0x0010), *b"LO"),
        (Tag(0x0009, 0x1001), *b"UN"),
        (Tag(0x0021, 0x1004), *b"OB"),
        (Tag(0x0008, 0x0000), *b"UL"),
        (Tag(0xfffc, 0xfffc), *b"OB"),
    ]);
    (known, vec(any::<u8>(), 0..40)).prop_map(|((tag, vr), value)| Element { tag, vr, value: Value::Bytes(value) })
}

/// Sequences within sequences, of defined length and not, and pixel data in fragments.
fn element() -> impl Strategy<Value = Element> {
    let fragments = vec(vec(any::<u8>(), 0..30), 0..4);
    let pixels = fragments.prop_map(|fragments| Element {
        tag: tags::PIXEL_DATA,
        vr: *b"OB",
        value: Value::Fragments(fragments),
    });
    prop_oneof![8 => primitive(), 1 => pixels].prop_recursive(6, 48, 4, |inner| {
        let tag = prop::sample::select(vec![tags::CONTENT_SEQUENCE, tags::REFERENCED_SERIES_SEQUENCE]);
        let item = (any::<bool>(), vec(inner, 0..4)).prop_map(|(defined, elements)| Item(defined, elements));
        let items = (any::<bool>(), vec(item, 0..3));
        (tag, items).prop_map(|(tag, (defined, items))| Element {
            tag,
            vr: *b"SQ",
            value: Value::Sequence(defined, items),
        })
    })
}

pub(crate) fn data_set() -> impl Strategy<Value = Vec<Element>> {
    vec(element(), 0..8).prop_map(|mut elements| {
        elements.insert(0, bytes(0x0008, 0x0005, b"CS", b"ISO_IR 192"));
        elements
    })
}

pub(crate) fn encoding() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![IMPLICIT, EXPLICIT, BIG_ENDIAN])
}

/// Elements and items; nested sequences.
fn count(elements: &[Element]) -> (u64, usize) {
    let of_item = |Item(_, elements): &Item| {
        let (inner, depth) = count(elements);
        (inner + 1, depth + 1)
    };
    let of = |element: &Element| match &element.value {
        Value::Sequence(_, items) => {
            items.iter().map(of_item).fold((1, 1), |(count, depth), (inner, deep)| (count + inner, depth.max(deep)))
        }
        Value::Fragments(fragments) => (1 + fragments.len() as u64, 1),
        _ => (1, 0),
    };
    elements.iter().map(of).fold((0, 0), |(count, depth), (inner, deep)| (count + inner, depth.max(deep)))
}

pub(crate) fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_valid_passes_and_is_counted_right(elements in data_set(), encoding in encoding()) {
        let data_set = write(&elements, encoding);
        let length = data_set.len() as u64;
        let scan = gate::scan(data_set.as_slice(), Some(length), encoding.syntax(), &Limits::default()).unwrap();
        prop_assert_eq!((scan.elements, scan.depth), count(&elements));
        prop_assert_eq!(scan.bytes, length);
        let name = elements.iter().rev().find(|element| element.tag == tags::PATIENT_NAME);
        let kept = scan.values.get(&tags::PATIENT_NAME);
        let name = name.map(|name| match &name.value {
            Value::Bytes(value) => value,
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(kept.map(|kept| &kept.bytes), name);
    }

    #[test]
    fn a_cut_is_found_wherever_it_is(elements in data_set(), encoding in encoding()) {
        let data_set = write(&elements, encoding);
        let mut boundaries = vec![0];
        for element in &elements {
            boundaries.push(boundaries[boundaries.len() - 1] + write_element(element, encoding).len());
        }
        let meta = meta_of(encoding.syntax().uid()).to_bytes();
        for cut in 0..data_set.len() {
            let left = &data_set[..cut];
            let last_boundary = boundaries.iter().rev().find(|boundary| **boundary <= cut).copied().unwrap_or(0);
            // What begins with zeros cannot be told from padding.
            let whole = left[last_boundary..].iter().all(|byte| *byte == 0);
            let file = [&meta, left].concat();
            let header = Header::read(&mut Cursor::new(&file), &Limits::default());
            prop_assert_eq!(header.is_ok(), whole, "cut at {} of {}: {:?}", cut, data_set.len(), header);
            let scanned = gate::scan(left, None, encoding.syntax(), &Limits::default());
            prop_assert_eq!(scanned.is_ok(), whole, "cut at {} of {}: {:?}", cut, data_set.len(), scanned);
        }
    }

    #[test]
    fn whatever_the_bytes_are_the_walk_ends_within_its_limits(
        choice in 0..5_u8,
        noise in vec(any::<u8>(), 0..200),
    ) {
        bodies::gate(&[&[choice], noise.as_slice()].concat());
        bodies::part10(&noise);
        bodies::character_set(&noise);
    }

    #[test]
    fn changed_bytes_end_within_the_limits_as_well(
        elements in data_set(),
        encoding in encoding(),
        deflated in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut data_set = write(&elements, encoding);
        let choice = match (deflated, encoding) {
            (true, _) => 3,
            (false, IMPLICIT) => 0,
            (false, EXPLICIT) => 1,
            (false, _) => 2,
        };
        for (at, byte) in changes {
            let at = at.index(data_set.len());
            data_set[at] = byte;
        }
        if deflated {
            data_set = deflate(&data_set);
        }
        bodies::gate(&[&[choice], data_set.as_slice()].concat());
        bodies::part10(&[&meta_of(encoding.syntax().uid()).to_bytes(), data_set.as_slice()].concat());
    }
}
