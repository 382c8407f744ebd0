//! The content tree (PS3.3 C.17.3).

use dataset::{Uid, tags};
use dicom_core::VR;

use crate::{
    codes::Code,
    copy::Copier,
    elements::DataSet,
    localized::{Measurement, Region},
    references::{image_reference, reference},
};

/// A content item with what hangs on it.
pub(crate) struct Item {
    relationship: &'static str,
    /// None for an image whose template gives it no name.
    name: Option<Code>,
    value: ItemValue,
    /// Content Template Sequence (0040,A504) of a container that begins a template.
    template: Option<&'static str>,
    pub(crate) children: Vec<Item>,
}

pub(crate) enum ItemValue {
    Container,
    Text(TextValue),
    Code(CodeValue),
    Uid(Uid),
    Image {
        class: Uid,
        instance: Uid,
        /// Counted from 1.
        frame: Option<u32>,
    },
    /// An instance that is no image.
    Composite {
        class: Uid,
        instance: Uid,
    },
    Number {
        value: f64,
        unit: Code,
    },
    Region(Region),
}

/// Text of our own, or the source's bytes.
pub(crate) enum TextValue {
    Own(String),
    Copied(Vec<u8>),
}

/// A code of our own, or the source's item.
pub(crate) enum CodeValue {
    Own(Code),
    Copied(DataSet),
}

pub(crate) fn container(name: Code, children: Vec<Item>) -> Item {
    Item { children, ..Item::contains(name, ItemValue::Container) }
}

/// A text of our own.
pub(crate) fn text(value: &str) -> ItemValue {
    ItemValue::Text(TextValue::Own(multi_line(value)))
}

/// A code of our own.
pub(crate) fn code(value: Code) -> ItemValue {
    ItemValue::Code(CodeValue::Own(value))
}

impl Item {
    pub(crate) fn contains(name: Code, value: ItemValue) -> Self {
        Self { relationship: "CONTAINS", name: Some(name), value, template: None, children: Vec::new() }
    }

    /// An image as an entry of the image library, or as a key object: without a name (TID 1601, 2010).
    pub(crate) fn image_entry(class: &Uid, instance: &Uid, frame: Option<u32>) -> Self {
        let value = ItemValue::Image { class: class.clone(), instance: instance.clone(), frame };
        Self { relationship: "CONTAINS", name: None, value, template: None, children: Vec::new() }
    }

    /// An instance that is no image, as a key object: without a name (TID 2010).
    pub(crate) fn composite_entry(class: &Uid, instance: &Uid) -> Self {
        let value = ItemValue::Composite { class: class.clone(), instance: instance.clone() };
        Self { relationship: "CONTAINS", name: None, value, template: None, children: Vec::new() }
    }

    /// A number with its unit.
    pub(crate) fn number(measurement: &Measurement) -> Self {
        Self::contains(measurement.name, ItemValue::Number { value: measurement.value, unit: measurement.unit })
    }

    /// An outline with the image that it was drawn on.
    pub(crate) fn region(name: Code, region: &Region) -> Self {
        let image = Self {
            relationship: "SELECTED FROM",
            ..Self::image_entry(&region.sop_class_uid, &region.sop_instance_uid, region.frame)
        };
        Self { children: vec![image], ..Self::contains(name, ItemValue::Region(region.clone())) }
    }

    /// The same, as what its parent was inferred from.
    pub(crate) fn inferred(self) -> Self {
        Self { relationship: "INFERRED FROM", ..self }
    }

    /// The same, as the root of a template.
    pub(crate) fn of_template(self, template: &'static str) -> Self {
        Self { template: Some(template), ..self }
    }

    pub(crate) fn modifier(name: Code, value: ItemValue) -> Self {
        Self { relationship: "HAS CONCEPT MOD", ..Self::contains(name, value) }
    }

    pub(crate) fn context(name: Code, value: ItemValue) -> Self {
        Self { relationship: "HAS OBS CONTEXT", ..Self::contains(name, value) }
    }

    /// All text of our own, here and below: it decides the character set.
    pub(crate) fn own_text<'a>(&'a self, into: &mut Vec<&'a str>) {
        into.extend(self.name.map(|name| name.meaning));
        match &self.value {
            ItemValue::Text(TextValue::Own(text)) => into.push(text),
            ItemValue::Code(CodeValue::Own(code)) | ItemValue::Number { unit: code, .. } => into.push(code.meaning),
            _ => {}
        }
        self.children.iter().for_each(|child| child.own_text(into));
    }

    fn data_set(&self, copier: &Copier<'_>) -> DataSet {
        let mut item = DataSet::default();
        item.put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, self.relationship);
        if let Some(name) = &self.name {
            item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code_item(name)]);
        }
        if let Some(template) = self.template {
            item.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template_item(template)]);
        }
        let value_type = match &self.value {
            ItemValue::Container => {
                item.put_bytes(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
                "CONTAINER"
            }
            ItemValue::Text(text) => {
                let bytes = match text {
                    TextValue::Own(text) => text.clone().into_bytes(),
                    TextValue::Copied(bytes) => copier.quote(bytes),
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
            ItemValue::Image { class, instance, frame } => {
                item.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![image_reference(class, instance, *frame)]);
                "IMAGE"
            }
            ItemValue::Composite { class, instance } => {
                item.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![reference(class, instance)]);
                "COMPOSITE"
            }
            ItemValue::Number { value, unit } => {
                item.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured_value(*value, unit)]);
                "NUM"
            }
            ItemValue::Region(region) => {
                let (graphic_type, points) = region.shape.graphic();
                let data: Vec<u8> = points.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
                item.put_bytes(tags::GRAPHIC_DATA, VR::FL, data);
                item.put_bytes(tags::GRAPHIC_TYPE, VR::CS, graphic_type);
                "SCOORD"
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
pub(crate) fn root(data_set: &mut DataSet, title: Code, template: &str, items: &[Item], copier: &Copier<'_>) {
    data_set.put_bytes(tags::VALUE_TYPE, VR::CS, "CONTAINER");
    data_set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code_item(&title)]);
    data_set.put_bytes(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    data_set.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template_item(template)]);
    data_set.put_items(tags::CONTENT_SEQUENCE, items.iter().map(|item| item.data_set(copier)).collect());
}

fn template_item(template: &str) -> DataSet {
    let mut identification = DataSet::default();
    identification.put_bytes(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    identification.put_bytes(tags::TEMPLATE_IDENTIFIER, VR::CS, template);
    identification
}

pub(crate) fn code_item(code: &Code) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::CODE_VALUE, VR::SH, code.value);
    item.put_bytes(tags::CODING_SCHEME_DESIGNATOR, VR::SH, code.scheme);
    item.put_bytes(tags::CODE_MEANING, VR::LO, code.meaning);
    item
}

/// An item of Measured Value Sequence (PS3.3 C.18.1): the number as decimal, and exactly where that had to be rounded.
fn measured_value(value: f64, unit: &Code) -> DataSet {
    let (text, exact) = decimal(value);
    let mut item = DataSet::default();
    item.put_bytes(tags::NUMERIC_VALUE, VR::DS, text);
    if !exact {
        item.put_bytes(tags::FLOATING_POINT_VALUE, VR::FD, value.to_le_bytes());
    }
    item.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code_item(unit)]);
    item
}

/// A number as a decimal string of at most 16 characters (PS3.5 6.2), and whether that is the whole of it.
pub(crate) fn decimal(value: f64) -> (String, bool) {
    let whole = format!("{value}");
    if whole.len() <= 16 {
        return (whole, true);
    }
    let digits = (0..=14).rev();
    let plain = digits.clone().map(|digits| format!("{value:.digits$}"));
    // A number too small or too large for that is rounded with an exponent.
    let exponent = digits.map(|digits| format!("{value:.digits$e}"));
    let near = |text: &String| {
        let read: f64 = text.parse().unwrap_or(f64::NAN);
        text.len() <= 16 && (read - value).abs() <= value.abs() * 1e-6
    };
    let shortened = plain.chain(exponent).find(near).unwrap_or_else(|| "0".to_owned());
    (shortened, false)
}

/// Text for a TEXT item: lines stay, other control characters go. `\` and `~` are other characters in the Japanese
/// single-byte set, and our text has to mean the same in every one.
pub(crate) fn multi_line(text: &str) -> String {
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
pub(crate) fn one_line(text: &str) -> String {
    let text: String = multi_line(text).replace('\n', " ").chars().take(64).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_fit_and_say_when_they_are_rounded() {
        let check = |value: f64, expected: &str, exact: bool| {
            assert_eq!(decimal(value), (expected.to_owned(), exact));
            assert!((expected.parse::<f64>().unwrap() - value).abs() <= value.abs() * 1e-6);
        };
        check(26.2, "26.2", true);
        check(-3.0, "-3", true);
        check(26.245_678_901_234_567, "26.2456789012346", false);
        check(1.0 / 3.0, "0.33333333333333", false);
        check(-1.234_567_890_123_456e-30, "-1.234567890e-30", false);
        check(1.234_567_890_123_456e30, "1.23456789012e30", false);
        check(f64::MIN_POSITIVE, "2.225073859e-308", false);
    }
}
