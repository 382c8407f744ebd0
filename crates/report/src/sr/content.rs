//! The content tree (PS3.3 C.17.3).

use dataset::{Uid, tags};
use dicom_core::VR;

use super::copy::Copier;
use crate::{codes::Code, elements::DataSet};

/// A content item with what hangs on it.
pub(super) struct Item {
    relationship: &'static str,
    name: Code,
    value: ItemValue,
    pub(super) children: Vec<Item>,
}

pub(super) enum ItemValue {
    Container,
    Text(TextValue),
    Code(CodeValue),
    Uid(Uid),
    Image { class: Uid, instance: Uid },
}

/// Text of our own, or the source's bytes.
pub(super) enum TextValue {
    Own(String),
    Copied(Vec<u8>),
}

/// A code of our own, or the source's item.
pub(super) enum CodeValue {
    Own(Code),
    Copied(DataSet),
}

pub(super) fn container(name: Code, children: Vec<Item>) -> Item {
    Item { children, ..Item::contains(name, ItemValue::Container) }
}

impl Item {
    pub(super) fn contains(name: Code, value: ItemValue) -> Self {
        Self { relationship: "CONTAINS", name, value, children: Vec::new() }
    }

    pub(super) fn modifier(name: Code, value: ItemValue) -> Self {
        Self { relationship: "HAS CONCEPT MOD", ..Self::contains(name, value) }
    }

    pub(super) fn context(name: Code, value: ItemValue) -> Self {
        Self { relationship: "HAS OBS CONTEXT", ..Self::contains(name, value) }
    }

    pub(super) fn inferred_from(name: Code, value: ItemValue) -> Self {
        Self { relationship: "INFERRED FROM", ..Self::contains(name, value) }
    }

    /// Whether all text of our own is ASCII, here and below.
    pub(super) fn is_ascii(&self) -> bool {
        let here = if let ItemValue::Text(TextValue::Own(text)) = &self.value { text.is_ascii() } else { true };
        here && self.children.iter().all(Self::is_ascii)
    }

    fn data_set(&self, copier: &Copier<'_>) -> DataSet {
        let mut item = DataSet::default();
        item.put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, self.relationship);
        item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code_item(&self.name)]);
        let value_type = match &self.value {
            ItemValue::Container => {
                item.put_bytes(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
                "CONTAINER"
            }
            ItemValue::Text(text) => {
                let bytes = match text {
                    TextValue::Own(text) => text.clone().into_bytes(),
                    TextValue::Copied(bytes) => copier.convert(bytes),
                };
                item.put_bytes(tags::TEXT_VALUE, VR::UT, bytes);
                "TEXT"
            }
            ItemValue::Code(code) => {
                let code = match code {
                    CodeValue::Own(code) => code_item(code),
                    CodeValue::Copied(code) => copier.convert_item(code.clone()),
                };
                item.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code]);
                "CODE"
            }
            ItemValue::Uid(uid) => {
                item.put_bytes(tags::UID, VR::UI, uid.as_str());
                "UIDREF"
            }
            ItemValue::Image { class, instance } => {
                item.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![reference(class, instance)]);
                "IMAGE"
            }
        };
        item.put_bytes(tags::VALUE_TYPE, VR::CS, value_type);
        if !self.children.is_empty() {
            item.put_items(tags::CONTENT_SEQUENCE, self.children.iter().map(|child| child.data_set(copier)).collect());
        }
        item
    }
}

/// The root container and everything in it (SR Document Content module).
pub(super) fn root(data_set: &mut DataSet, title: Code, template: &str, items: &[Item], copier: &Copier<'_>) {
    data_set.put_bytes(tags::VALUE_TYPE, VR::CS, "CONTAINER");
    data_set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code_item(&title)]);
    data_set.put_bytes(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    let mut identification = DataSet::default();
    identification.put_bytes(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    identification.put_bytes(tags::TEMPLATE_IDENTIFIER, VR::CS, template);
    data_set.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![identification]);
    data_set.put_items(tags::CONTENT_SEQUENCE, items.iter().map(|item| item.data_set(copier)).collect());
}

pub(super) fn code_item(code: &Code) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::CODE_VALUE, VR::SH, code.value);
    item.put_bytes(tags::CODING_SCHEME_DESIGNATOR, VR::SH, code.scheme);
    item.put_bytes(tags::CODE_MEANING, VR::LO, code.meaning);
    item
}

/// SOP Instance Reference macro (PS3.3 table 10-11).
pub(super) fn reference(class: &Uid, instance: &Uid) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::REFERENCED_SOP_CLASS_UID, VR::UI, class.as_str());
    item.put_bytes(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance.as_str());
    item
}

/// Text for a TEXT item: lines stay, other control characters go. `\` and `~` are other characters in the Japanese
/// single-byte set, and our text has to mean the same in every one.
pub(super) fn multi_line(text: &str) -> String {
    let character = |c: char| match c {
        '\\' => Some('/'),
        '~' => Some('-'),
        '\n' => Some('\n'),
        c if c.is_control() => None,
        c => Some(c),
    };
    text.trim().chars().filter_map(character).collect()
}

/// Text for an element of one line: at most 64 characters, the limit of LO.
pub(super) fn one_line(text: &str) -> String {
    let text: String = multi_line(text).replace('\n', " ").chars().take(64).collect();
    text.trim().to_owned()
}
