//! Data sets to write in any encoding, right or wrong, and where their top-level elements end.

use dataset::{Tag, TransferSyntax, Uid, part10::Meta};

/// How element headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) explicit: bool,
    pub(crate) big_endian: bool,
}

pub(crate) const IMPLICIT: Encoding = Encoding { explicit: false, big_endian: false };
pub(crate) const EXPLICIT: Encoding = Encoding { explicit: true, big_endian: false };
pub(crate) const BIG_ENDIAN: Encoding = Encoding { explicit: true, big_endian: true };

impl Encoding {
    pub(crate) fn syntax(self) -> TransferSyntax {
        let uid = match (self.explicit, self.big_endian) {
            (false, _) => TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN,
            (true, false) => TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN,
            (true, true) => TransferSyntax::EXPLICIT_VR_BIG_ENDIAN,
        };
        TransferSyntax::from_uid(uid).expect("a known syntax")
    }

    fn u16(self, number: u16) -> [u8; 2] {
        if self.big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self.big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) tag: Tag,
    pub(crate) vr: [u8; 2],
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    /// Of defined length or not.
    Sequence(bool, Vec<Item>),
    /// Sent as UN of undefined length.
    Unknown(Vec<Item>),
    Fragments(Vec<Vec<u8>>),
    /// Another length than there are bytes.
    Lie(u32, Vec<u8>),
}

/// Of defined length or not.
#[derive(Debug, Clone)]
pub(crate) struct Item(pub(crate) bool, pub(crate) Vec<Element>);

pub(crate) const UNDEFINED: u32 = u32::MAX;
pub(crate) const ITEM: u16 = 0xe000;
pub(crate) const ITEM_END: u16 = 0xe00d;
pub(crate) const SEQUENCE_END: u16 = 0xe0dd;

/// An element of bytes.
pub(crate) fn bytes(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Element {
    Element { tag: Tag(group, number), vr: *vr, value: Value::Bytes(value.to_vec()) }
}

/// An element that says `length` and has `value`.
pub(crate) fn lie(group: u16, number: u16, vr: &[u8; 2], length: u32, value: &[u8]) -> Element {
    Element { tag: Tag(group, number), vr: *vr, value: Value::Lie(length, value.to_vec()) }
}

/// A sequence, (0040,A730).
pub(crate) fn sequence(defined: bool, items: Vec<Item>) -> Element {
    Element { tag: Tag(0x0040, 0xa730), vr: *b"SQ", value: Value::Sequence(defined, items) }
}

/// A delimiter or item header by itself.
pub(crate) fn bare(number: u16, length: u32, encoding: Encoding) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(encoding.u16(0xfffe));
    bytes.extend(encoding.u16(number));
    bytes.extend(encoding.u32(length));
    bytes
}

/// The elements one after the other.
pub(crate) fn write(elements: &[Element], encoding: Encoding) -> Vec<u8> {
    elements.iter().flat_map(|element| write_element(element, encoding)).collect()
}

/// One element.
pub(crate) fn write_element(element: &Element, encoding: Encoding) -> Vec<u8> {
    let (length, value) = match &element.value {
        Value::Bytes(value) => (u32::try_from(value.len()).expect("a short value"), value.clone()),
        Value::Lie(length, value) => (*length, value.clone()),
        Value::Sequence(true, items) => {
            let value = write_items(items, encoding);
            (u32::try_from(value.len()).expect("a short sequence"), value)
        }
        Value::Sequence(false, items) => {
            (UNDEFINED, [write_items(items, encoding), bare(SEQUENCE_END, 0, encoding)].concat())
        }
        Value::Unknown(items) => (UNDEFINED, [write_items(items, IMPLICIT), bare(SEQUENCE_END, 0, IMPLICIT)].concat()),
        Value::Fragments(fragments) => {
            let mut value = Vec::new();
            for fragment in fragments {
                value.extend(bare(ITEM, u32::try_from(fragment.len()).expect("a short fragment"), encoding));
                value.extend(fragment);
            }
            (UNDEFINED, [value, bare(SEQUENCE_END, 0, encoding)].concat())
        }
    };
    let mut bytes = Vec::new();
    bytes.extend(encoding.u16(element.tag.group()));
    bytes.extend(encoding.u16(element.tag.element()));
    if encoding.explicit {
        bytes.extend(element.vr);
        let long = matches!(&element.vr, b"SQ" | b"OB" | b"OW" | b"UN" | b"UT" | b"UC" | b"ZZ");
        if long {
            bytes.extend([0, 0]);
            bytes.extend(encoding.u32(length));
        } else {
            bytes.extend(encoding.u16(u16::try_from(length).expect("a short VR")));
        }
    } else {
        bytes.extend(encoding.u32(length));
    }
    bytes.extend(value);
    bytes
}

fn write_items(items: &[Item], encoding: Encoding) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Item(defined, elements) in items {
        let content = write(elements, encoding);
        let length = if *defined { u32::try_from(content.len()).expect("a short item") } else { UNDEFINED };
        bytes.extend(bare(ITEM, length, encoding));
        bytes.extend(content);
        if !defined {
            bytes.extend(bare(ITEM_END, 0, encoding));
        }
    }
    bytes
}

/// The preamble and the file meta information of a file in `transfer_syntax`.
pub(crate) fn meta_of(transfer_syntax: &str) -> Meta {
    Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        transfer_syntax_uid: transfer_syntax.parse::<Uid>().expect("a UID"),
        source_ae_title: None,
    }
}

/// Deflates as PS3.5 A.5 says.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
