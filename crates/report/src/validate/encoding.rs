//! How values are written (PS3.5 sections 6.2, 7.1) and that codes are whole (PS3.3 section 8).

use dataset::{CharacterSet, part10::Meta, tags};
use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary, VirtualVr},
};
use dicom_dictionary_std::StandardDataDictionary;

use super::{Violations, Weight};
use crate::{
    elements::{DataSet, Element, Value},
    values::{has_lines, is_code_string, is_date, is_plain, is_text, keyword, may_be_several, trimmed, wrong_text},
};

pub(super) fn check(data_set: &DataSet, meta: Option<Meta>, found: &mut Violations) {
    if let Some(meta) = meta {
        let same = |uid: Option<dataset::Uid>, tag| uid.is_some_and(|uid| uid.as_str() == data_set.plain(tag));
        found.require(
            same(meta.sop_class_uid, tags::SOP_CLASS_UID) && same(meta.sop_instance_uid, tags::SOP_INSTANCE_UID),
            "file-meta",
            "file meta information",
            "Media Storage SOP Class or Instance UID is not that of the data set (PS3.10 7.1)",
        );
    }
    let declared = data_set.bytes(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
    Walk { character_set: CharacterSet::declared(declared), found }.data_set(data_set, "", Weight::Breach);
}

/// The attributes whose values are the study's, which we do not change: groups 0010 and 0012 whole, and these.
const OF_THE_STUDY: &[Tag] = &[
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::STUDY_DESCRIPTION,
    tags::STUDY_ID,
    tags::INSTITUTION_NAME,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::PERFORMED_PROCEDURE_CODE_SEQUENCE,
    tags::REFERENCED_REQUEST_SEQUENCE,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
];

/// The UIDs that are ours, at the top level.
const OUR_UIDS: &[Tag] = &[tags::SOP_INSTANCE_UID, tags::SERIES_INSTANCE_UID];

struct Walk<'a> {
    character_set: CharacterSet,
    found: &'a mut Violations,
}

impl Walk<'_> {
    fn data_set(&mut self, data_set: &DataSet, path: &str, weight: Weight) {
        let mut previous: Option<Tag> = None;
        for element in &data_set.elements {
            let tag = element.tag;
            let at = if path.is_empty() { keyword(tag) } else { format!("{path}.{}", keyword(tag)) };
            if previous.is_some_and(|previous| previous >= tag) {
                self.found.breach("order", &at, "tags do not rise (PS3.5 7.1)");
            }
            previous = Some(tag);
            if tag.element() == 0 || tag.group() < 8 {
                self.found.breach("group", &at, "a group length or a command or file meta element in a data set");
            }
            let copied = path.is_empty() && (matches!(tag.group(), 0x0010 | 0x0012) || OF_THE_STUDY.contains(&tag));
            self.element(element, &at, if copied { Weight::Remark } else { weight });
        }
    }

    fn element(&mut self, element: &Element, at: &str, weight: Weight) {
        let defined = StandardDataDictionary.by_tag(element.tag).map(|entry| entry.vr);
        if let Some(VirtualVr::Exact(expected)) = defined
            && expected != element.vr
        {
            self.found.breach("vr", at, format!("written as {}, defined as {expected} (PS3.6)", element.vr));
        }
        match &element.value {
            Value::Bytes(bytes) => self.value((element.tag, element.vr), bytes, at, weight),
            Value::Items(items) => {
                let codes = at.ends_with("CodeSequence");
                for (number, item) in items.iter().enumerate() {
                    let at = format!("{at}[{}]", number + 1);
                    if codes {
                        self.code(item, &at, weight);
                    }
                    self.data_set(item, &at, weight);
                }
            }
        }
    }

    /// Basic Code Sequence macro (PS3.3 table 8.8-1a).
    fn code(&mut self, item: &DataSet, at: &str, weight: Weight) {
        let has = |tag| item.bytes(tag).is_some_and(|bytes| !trimmed(bytes).is_empty());
        let value = has(tags::CODE_VALUE) || has(tags::LONG_CODE_VALUE) || has(tags::URN_CODE_VALUE);
        let scheme = has(tags::CODING_SCHEME_DESIGNATOR) || has(tags::URN_CODE_VALUE);
        if !(value && scheme && has(tags::CODE_MEANING)) {
            self.found.add(weight, "code", at, "a code without value, scheme or meaning");
        }
        if item.plain(tags::CODING_SCHEME_DESIGNATOR) == "SRT" {
            self.found.add(weight, "code-scheme", at, "SRT is retired: SNOMED CT is SCT (PS3.16 section 8)");
        }
    }

    fn value(&mut self, (tag, vr): (Tag, VR), bytes: &[u8], at: &str, weight: Weight) {
        if bytes.len() % 2 == 1 {
            self.found.breach("even-length", at, "a value of odd length (PS3.5 7.1)");
        }
        let text = if is_text(vr) {
            let cleaned = self.character_set.clean(bytes, has_lines(vr));
            if cleaned.dropped > 0 {
                self.found.breach("control", at, "a control character: no terminal and no viewer may get one");
            }
            cleaned.text
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        };
        let text = text.trim_matches(['\0', ' ']);
        if text.is_empty() {
            return;
        }
        if is_plain(vr) && text.chars().any(char::is_control) {
            self.found.breach("control", at, "a control character: no terminal and no viewer may get one");
        }
        let single = matches!(vr, VR::CS | VR::UI | VR::DS | VR::IS | VR::DA | VR::TM | VR::DT);
        if single && text.contains('\\') && !may_be_several(tag) {
            self.found.add(weight, "multiplicity", at, "several values where there may be one (PS3.6)");
        }
        let each = |valid: fn(&str) -> bool| text.split('\\').all(|value| valid(value.trim_matches(' ')));
        let (good, sentence) = match vr {
            _ if is_text(vr) => match wrong_text(tag, vr, text) {
                Some(sentence) => (false, sentence),
                None => (true, ""),
            },
            VR::CS => (
                each(|value| is_code_string(value.as_bytes())),
                "not a CS: at most 16 of A-Z, 0-9, space and underscore",
            ),
            VR::UI => (each(|value| value.trim_end_matches('\0').parse::<dataset::Uid>().is_ok()), "not a UID"),
            VR::DS => {
                (each(|value| value.len() <= 16 && decimal(value)), "not a DS: a decimal of at most 16 characters")
            }
            VR::IS => (each(|value| value.len() <= 12 && value.parse::<i32>().is_ok()), "not an IS"),
            VR::DA => (each(|value| is_date(value.as_bytes())), "not a date YYYYMMDD"),
            VR::TM => (each(time), "not a time HHMMSS.FFFFFF"),
            VR::DT => (
                each(|value| (4..=26).contains(&value.len()) && value.get(..4).is_some_and(digits)),
                "not a date and time",
            ),
            _ => (true, ""),
        };
        if !good {
            self.found.add(weight, "value", at, sentence);
        }
        if vr == VR::UI && text.split('.').any(|part| part.len() > 1 && part.starts_with('0')) {
            // A source's UID is taken over as it is: it identifies as well as any other.
            let weight = if OUR_UIDS.contains(&tag) && !at.contains('.') { weight } else { Weight::Remark };
            self.found.add(weight, "value", at, "a component of a UID with a leading zero (PS3.5 9.1)");
        }
    }
}

fn digits(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn decimal(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
        && value.parse::<f64>().is_ok()
}

fn time(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    matches!(whole.len(), 2 | 4 | 6) && (1..=6).contains(&fraction.len()) && digits(whole) && digits(fraction)
}
