//! A data set as elements in order, each value as bytes: what lets a value be copied byte for byte, and lets a check see
//! what a parser would have repaired.

use dataset::TransferSyntax;
use dicom_core::{Tag, VR, dictionary::DataDictionary};
use dicom_dictionary_std::StandardDataDictionary;

use crate::Error;

/// Elements in the order in which they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DataSet {
    pub(crate) elements: Vec<Element>,
}

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) tag: Tag,
    pub(crate) vr: VR,
    pub(crate) value: Value,
}

/// Its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// As it stands, with padding.
    Bytes(Vec<u8>),
    /// The items of a sequence.
    Items(Vec<DataSet>),
}

impl DataSet {
    /// Puts an element in its place, in place of an earlier one with its tag.
    pub(crate) fn put(&mut self, tag: Tag, vr: VR, value: Value) {
        let element = Element { tag, vr, value };
        match self.elements.binary_search_by_key(&tag, |element| element.tag) {
            Ok(at) => self.elements[at] = element,
            Err(at) => self.elements.insert(at, element),
        }
    }

    /// Puts bytes, padded to even length.
    pub(crate) fn put_bytes(&mut self, tag: Tag, vr: VR, bytes: impl Into<Vec<u8>>) {
        let mut bytes = bytes.into();
        if bytes.len() % 2 == 1 {
            bytes.push(if matches!(vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
        }
        self.put(tag, vr, Value::Bytes(bytes));
    }

    /// Puts a sequence.
    pub(crate) fn put_items(&mut self, tag: Tag, items: Vec<Self>) {
        self.put(tag, VR::SQ, Value::Items(items));
    }

    pub(crate) fn get(&self, tag: Tag) -> Option<&Element> {
        self.elements.iter().find(|element| element.tag == tag)
    }

    /// The bytes of a value; nothing for a sequence.
    pub(crate) fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        match &self.get(tag)?.value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Items(_) => None,
        }
    }

    /// A value of plain ASCII without padding; empty when absent.
    pub(crate) fn plain(&self, tag: Tag) -> &str {
        self.bytes(tag).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("").trim_matches(['\0', ' '])
    }

    /// The items of a sequence; none when absent.
    pub(crate) fn items(&self, tag: Tag) -> &[Self] {
        match self.get(tag).map(|element| &element.value) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    /// Explicit VR Little Endian (PS3.5 A.2), sequences and items of defined length.
    #[cfg(test)]
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    /// The same, behind what is in `bytes` already.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        for element in &self.elements {
            push_tag(bytes, element.tag);
            bytes.extend(element.vr.to_bytes());
            let length_at = if long_form(element.vr) {
                bytes.extend([0; 6]);
                bytes.len() - 4
            } else {
                bytes.extend([0; 2]);
                bytes.len() - 2
            };
            let start = bytes.len();
            match &element.value {
                Value::Bytes(value) => bytes.extend(value),
                Value::Items(items) => {
                    for item in items {
                        push_tag(bytes, ITEM);
                        bytes.extend([0; 4]);
                        let start = bytes.len();
                        item.encode_into(bytes)?;
                        let length = length32(element.tag, bytes.len() - start)?;
                        bytes[start - 4..start].copy_from_slice(&length);
                    }
                }
            }
            let length = bytes.len() - start;
            if long_form(element.vr) {
                bytes[length_at..start].copy_from_slice(&length32(element.tag, length)?);
            } else {
                let length = u16::try_from(length).map_err(|_| Error::TooLong { tag: element.tag })?;
                bytes[length_at..start].copy_from_slice(&length.to_le_bytes());
            }
        }
        Ok(())
    }
}

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

fn push_tag(bytes: &mut Vec<u8>, tag: Tag) {
    bytes.extend(tag.group().to_le_bytes());
    bytes.extend(tag.element().to_le_bytes());
}

fn length32(tag: Tag, length: usize) -> Result<[u8; 4], Error> {
    u32::try_from(length).ok().filter(|length| *length != UNDEFINED).map(u32::to_le_bytes).ok_or(Error::TooLong { tag })
}

/// Whether a VR's length has four bytes (PS3.5 table 7.1-1).
fn long_form(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// Why bytes could not be read as elements, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

/// How deep sequences may nest here: as deep as the gate lets them, and this does not rely on it.
const DEPTH: usize = 64;

/// Reads a data set that passed the gate.
pub(crate) fn decode(bytes: &[u8], syntax: TransferSyntax) -> Result<DataSet, Malformed> {
    let mut reader = Reader { bytes, at: 0, depth: 0, explicit: syntax.explicit_vr(), big_endian: syntax.big_endian() };
    reader.data_set(Some(bytes.len()))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    explicit: bool,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.at })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return self.fail("a value longer than what is left") };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let pair = self.take(2)?;
        let pair = [pair[0], pair[1]];
        Ok(if self.big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        let four = self.take(4)?;
        let four = [four[0], four[1], four[2], four[3]];
        Ok(if self.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn tag(&mut self) -> Result<Tag, Malformed> {
        Ok(Tag(self.u16()?, self.u16()?))
    }

    /// Elements up to `end`, or up to an item delimitation where there is none.
    fn data_set(&mut self, end: Option<usize>) -> Result<DataSet, Malformed> {
        let mut elements = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            let tag = self.tag()?;
            if tag == ITEM_DELIMITATION {
                self.u32()?;
                if end.is_none() {
                    return Ok(DataSet { elements });
                }
                return self.fail("an item delimitation that closes nothing");
            }
            elements.push(self.element(tag)?);
        }
        Ok(DataSet { elements })
    }

    fn element(&mut self, tag: Tag) -> Result<Element, Malformed> {
        let (vr, length) = if self.explicit {
            let code = self.take(2)?;
            let Some(vr) = VR::from_binary([code[0], code[1]]) else { return self.fail("an unknown VR") };
            if long_form(vr) {
                self.take(2)?;
                (vr, self.u32()?)
            } else {
                (vr, u32::from(self.u16()?))
            }
        } else {
            let vr = StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr.relaxed());
            (vr, self.u32()?)
        };
        let value = if vr == VR::SQ {
            Value::Items(self.items(length)?)
        } else if length == UNDEFINED {
            // A sequence that somebody wrote as UN (PS3.5 6.2.2): implicit inside.
            let explicit = std::mem::replace(&mut self.explicit, false);
            let items = self.items(length)?;
            self.explicit = explicit;
            Value::Items(items)
        } else {
            Value::Bytes(self.take(length as usize)?.to_vec())
        };
        Ok(Element { tag, vr, value })
    }

    fn items(&mut self, length: u32) -> Result<Vec<DataSet>, Malformed> {
        if self.depth == DEPTH {
            return self.fail("sequences nested too deep");
        }
        self.depth += 1;
        let end = (length != UNDEFINED).then(|| self.at.saturating_add(length as usize));
        let mut items = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            let tag = self.tag()?;
            let length = self.u32()?;
            match tag {
                ITEM if length == UNDEFINED => items.push(self.data_set(None)?),
                ITEM => items.push(self.data_set(Some(self.at.saturating_add(length as usize)))?),
                SEQUENCE_DELIMITATION if end.is_none() => break,
                _ => return self.fail("something other than an item in a sequence"),
            }
        }
        self.depth -= 1;
        Ok(items)
    }
}

/// A Part 10 file around a data set, for tests.
#[cfg(test)]
pub(crate) fn file(data_set: &DataSet) -> Vec<u8> {
    use dataset::tags;
    let meta = dataset::part10::Meta {
        sop_class_uid: data_set.plain(tags::SOP_CLASS_UID).parse().ok(),
        sop_instance_uid: data_set.plain(tags::SOP_INSTANCE_UID).parse().ok(),
        transfer_syntax_uid: TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN.parse().expect("a UID"),
        source_ae_title: None,
    };
    let mut file = meta.to_bytes();
    file.extend(data_set.encode().expect("short values"));
    file
}
