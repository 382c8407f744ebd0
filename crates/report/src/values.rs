//! How values are written (PS3.5 section 6.2), and which attributes may have several.

use dataset::tags;
use dicom_core::{Tag, VR, dictionary::DataDictionary};
use dicom_dictionary_std::StandardDataDictionary;

/// The attributes of our objects that may have several values (PS3.6); every other text, code or number has one.
const SEVERAL: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::IMAGE_TYPE,
    tags::SOFTWARE_VERSIONS,
    tags::PATIENT_ORIENTATION,
    tags::DEIDENTIFICATION_METHOD,
    tags::REFERENCED_FRAME_NUMBER,
    tags::REFERENCED_CONTENT_ITEM_IDENTIFIER,
    tags::PRESENTATION_PIXEL_SPACING,
    tags::PRESENTATION_PIXEL_ASPECT_RATIO,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::OTHER_PATIENT_NAMES,
    tags::NUMERIC_VALUE,
    tags::CLINICAL_TRIAL_COORDINATING_CENTER_NAME,
    tags::PATIENT_BREED_DESCRIPTION,
];

/// An attribute's keyword, or its tag.
pub(crate) fn keyword(tag: Tag) -> String {
    StandardDataDictionary.by_tag(tag).map_or_else(|| tag.to_string(), |entry| entry.alias.to_owned())
}

/// Whether an attribute may have several values.
pub(crate) fn may_be_several(tag: Tag) -> bool {
    SEVERAL.contains(&tag)
}

/// The VRs that Specific Character Set governs (PS3.5 6.1.2.3).
pub(crate) fn is_text(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

/// Whether a text may have tabs and line ends.
pub(crate) fn has_lines(vr: VR) -> bool {
    matches!(vr, VR::ST | VR::LT | VR::UT)
}

/// Whether a VR's values are characters of the default repertoire.
pub(crate) fn is_plain(vr: VR) -> bool {
    use VR::{AE, AS, CS, DA, DS, DT, IS, TM, UI, UR};
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | TM | UI | UR)
}

/// What is wrong with a decoded text for its VR; nothing for a good one. Lengths are in characters, not bytes.
pub(crate) fn wrong_text(tag: Tag, vr: VR, text: &str) -> Option<&'static str> {
    let single = matches!(vr, VR::SH | VR::LO | VR::PN);
    if single && text.contains('\\') && !may_be_several(tag) {
        return Some("several values where there may be one");
    }
    let each = |valid: fn(&str) -> bool| text.split('\\').all(|value| valid(value.trim_matches(' ')));
    let (good, sentence) = match vr {
        VR::SH => (each(|value| line(value, 16)), "more than 16 characters, or a control character, in an SH"),
        VR::LO => (each(|value| line(value, 64)), "more than 64 characters, or a control character, in an LO"),
        VR::PN => (
            each(|name| name.split('=').count() <= 3 && name.split('=').all(|group| line(group, 64))),
            "more than three groups, more than 64 characters in one, or a control character, in a PN",
        ),
        VR::ST => (text.chars().count() <= 1024, "more than 1024 characters in an ST"),
        VR::LT => (text.chars().count() <= 10240, "more than 10240 characters in an LT"),
        _ => (true, ""),
    };
    (!good).then_some(sentence)
}

fn line(value: &str, limit: usize) -> bool {
    value.chars().count() <= limit && !value.chars().any(char::is_control)
}

/// A value without padding.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let padding = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes.iter().position(|byte| !padding(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A date as it stands, or the ACR-NEMA form with dots without them (PS3.5 6.2); nothing else is a date.
pub(crate) fn date(raw: &[u8]) -> Option<Vec<u8>> {
    match trimmed(raw) {
        date if is_date(date) => Some(date.to_vec()),
        [y1, y2, y3, y4, b'.', m1, m2, b'.', d1, d2] => {
            let date = [*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2];
            is_date(&date).then(|| date.to_vec())
        }
        _ => None,
    }
}

/// `YYYYMMDD` of the calendar; `00000000` is what some senders write for "unknown".
pub(crate) fn is_date(value: &[u8]) -> bool {
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    value.len() == 8
        && value.iter().all(u8::is_ascii_digit)
        && (1..=12).contains(&number(&value[4..6]))
        && (1..=31).contains(&number(&value[6..8]))
}

/// A time as it stands, or the ACR-NEMA form with colons without them.
pub(crate) fn time(raw: &[u8]) -> Option<Vec<u8>> {
    let valid = |time: &[u8]| {
        let (whole, fraction) = match time.iter().position(|byte| *byte == b'.') {
            Some(at) => (&time[..at], &time[at + 1..]),
            None => (time, &[][..]),
        };
        matches!(whole.len(), 2 | 4 | 6)
            && (fraction.is_empty() || whole.len() == 6)
            && fraction.len() <= 6
            && whole.iter().chain(fraction).all(u8::is_ascii_digit)
            && !time.ends_with(b".")
    };
    let time = trimmed(raw);
    if valid(time) {
        return Some(time.to_vec());
    }
    let without: Vec<u8> = time.iter().copied().filter(|byte| *byte != b':').collect();
    valid(&without).then_some(without)
}

pub(crate) fn is_age(value: &[u8]) -> bool {
    matches!(value, [a, b, c, b'D' | b'W' | b'M' | b'Y'] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()))
}

pub(crate) fn is_decimal(value: &[u8]) -> bool {
    value.len() <= 16 && std::str::from_utf8(value).is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}

/// One value of a CS.
pub(crate) fn is_code_string(value: &[u8]) -> bool {
    let valid = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_');
    value.len() <= 16 && value.iter().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_kept_repaired_or_emptied() {
        let check_date = |raw: &[u8], expected: Option<&[u8]>| assert_eq!(date(raw).as_deref(), expected, "{raw:?}");
        check_date(b"19970424", Some(b"19970424"));
        check_date(b"1997.04.24", Some(b"19970424"));
        check_date(b"24.04.1997", None);
        check_date(b"00000000", None);
        check_date(b"", None);
        let check_time = |raw: &[u8], expected: Option<&[u8]>| assert_eq!(time(raw).as_deref(), expected, "{raw:?}");
        check_time(b"101500.123456 ", Some(b"101500.123456"));
        check_time(b"10", Some(b"10"));
        check_time(b"10:15:00", Some(b"101500"));
        check_time(b"noon", None);
    }
}
