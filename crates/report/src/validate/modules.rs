//! The modules above the content tree, by the tables of [`super::iod`], and what our own objects say of themselves.

use dataset::tags;

use super::{
    Violations,
    iod::{Attribute, Condition, IODS, Need, has_value},
};
use crate::{
    elements::{DataSet, Value},
    uids::Kind,
    values::keyword,
};

/// Checks the modules; whether the object is of a class that is checked here at all.
pub(super) fn check(data_set: &DataSet, found: &mut Violations) -> bool {
    let uid = data_set.plain(tags::SOP_CLASS_UID);
    let Some(iod) = IODS.iter().find(|iod| iod.uid == uid) else {
        found.breach("class", "SOPClassUID", "is none of the objects that are written here");
        return false;
    };
    for attribute in iod.modules.iter().copied().flatten() {
        check_attribute(data_set, attribute, "", found);
    }
    for &tag in iod.foreign {
        found.require(data_set.get(tag).is_none(), "foreign", keyword(tag), "is no attribute of this object");
    }
    for Condition { rule, at, sentence, holds } in iod.conditions {
        found.require(holds(data_set), rule, keyword(*at), *sentence);
    }
    draft_marks(data_set, found);
    true
}

fn check_attribute(data_set: &DataSet, attribute: &Attribute, path: &str, found: &mut Violations) {
    let Attribute { tag, need, values, items } = attribute;
    let at = || if path.is_empty() { keyword(*tag) } else { format!("{path}.{}", keyword(*tag)) };
    match need {
        Need::Value if !has_value(data_set, *tag) => {
            return found.breach("type-1", at(), "must be there with a value");
        }
        Need::Present if data_set.get(*tag).is_none() => {
            return found.breach("type-2", at(), "must be there, perhaps empty");
        }
        _ => {}
    }
    if !values.is_empty() {
        let value = data_set.plain(*tag);
        let good = value.is_empty() || values.contains(&value);
        if !good {
            found.breach("flag", at(), format!("must be one of {}", values.join(", ")));
        }
    }
    if let (Some(Value::Items(elements)), false) = (data_set.get(*tag).map(|element| &element.value), items.is_empty())
    {
        for (number, item) in elements.iter().enumerate() {
            let path = format!("{}[{}]", at(), number + 1);
            items.iter().for_each(|inner| check_attribute(item, inner, &path, found));
        }
    }
}

/// What every object of our own says about itself, wherever a viewer may look.
fn draft_marks(data_set: &DataSet, found: &mut Violations) {
    if data_set.plain(tags::MANUFACTURER) != dataset::MANUFACTURER {
        return;
    }
    for (tag, expected) in [(tags::VERIFICATION_FLAG, "UNVERIFIED"), (tags::PRELIMINARY_FLAG, "PRELIMINARY")] {
        let of_sr = data_set.plain(tags::MODALITY) == "SR";
        let value = data_set.plain(tag);
        let good = value == expected || (!of_sr && value.is_empty());
        found.require(good, "draft", keyword(tag), format!("our documents are {expected}"));
    }
    let (class, described) = (data_set.plain(tags::SOP_CLASS_UID), data_set.plain(tags::SERIES_DESCRIPTION));
    let known = Kind::of(class, described).is_some();
    found.require(known, "draft", "SeriesDescription", "our series say that they are a draft, and of what");
    let number = data_set.plain(tags::SERIES_NUMBER).parse::<u32>().is_ok_and(|number| number >= 900);
    found.require(number, "draft", "SeriesNumber", "our series sort behind the images: 900 or more");
    for tag in [tags::MANUFACTURER_MODEL_NAME, tags::DEVICE_SERIAL_NUMBER, tags::SOFTWARE_VERSIONS] {
        found.require(has_value(data_set, tag), "draft", keyword(tag), "our documents say what made them");
    }
    let contributing = has_value(data_set, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE);
    found.require(contributing, "draft", "ContributingEquipmentSequence", "our documents say what made them");
}
