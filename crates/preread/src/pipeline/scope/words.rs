//! How senders write body parts and views: terms and codes of DICOM, synonyms, and words that say something else.

use std::{collections::HashMap, sync::LazyLock};

/// Words beside a body part or a view that are neither: how the patient stood, who took the picture.
const BESIDE: &[&str] = &[
    "AND",
    "OF",
    "THE",
    "WITH",
    "VIEW",
    "VIEWS",
    "XRAY",
    "XR",
    "PORT",
    "PORTABLE",
    "MOBILE",
    "BEDSIDE",
    "ERECT",
    "UPRIGHT",
    "STANDING",
    "SUPINE",
    "PRONE",
    "SITTING",
    "SEMI",
    "STRUCTURE",
    "REGION",
    "ADULT",
    "PED",
    "PEDS",
    "ROUTINE",
    "1",
    "2",
    "3",
    "1V",
    "2V",
    "3V",
];

/// What is written where nobody knows.
const NOTHING: &[&str] =
    &["UNKNOWN", "UNDEFINED", "UNSPECIFIED", "NONE", "NA", "NULL", "OTHER", "ANY", "NOTSPECIFIED", "NOTAPPLICABLE"];

/// A term of PS3.16 annex L by itself, by its codes and by its synonyms.
static PARTS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let mut parts = HashMap::new();
    for row in include_str!("body_parts.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut columns = row.split('\t');
        let term = columns.next().unwrap_or_default();
        parts.insert(term, term);
        let others = columns.flat_map(|column| column.split(' ')).filter(|word| *word != "-");
        parts.extend(others.map(|word| (word, term)));
    }
    parts
});

/// The words of a text in capital letters, without those that are beside the point.
fn words(text: &str, beside: &[&str]) -> Vec<String> {
    let upper = text.to_uppercase();
    let words = upper.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.filter(|word| !BESIDE.contains(word) && !beside.contains(word)).map(str::to_owned).collect()
}

/// A body part as it is compared; nothing where the text says none.
pub(super) fn body_part(text: &str) -> Option<String> {
    let whole = words(text, &[]).concat();
    // `L SPINE` is a spine, `L KNEE` a left knee.
    if let Some(term) = PARTS.get(whole.as_str()) {
        return Some((*term).to_owned());
    }
    let views = [
        "PA",
        "AP",
        "LAT",
        "LATERAL",
        "LL",
        "RL",
        "FRONTAL",
        "OBL",
        "OBLIQUE",
        "DECUBITUS",
        "LEFT",
        "RIGHT",
        "L",
        "R",
        "LT",
        "RT",
    ];
    let part = words(text, &views).concat();
    let singular = part.strip_suffix('S').unwrap_or(&part);
    let known = PARTS.get(part.as_str()).or_else(|| PARTS.get(singular));
    let nothing = part.is_empty() || NOTHING.contains(&part.as_str()) || NOTHING.contains(&whole.as_str());
    (!nothing).then(|| known.map_or(part, |term| (*term).to_owned()))
}

/// The body part of a code in SNOMED CT or SNOMED RT.
pub(super) fn body_part_of_code(code: &str) -> Option<&'static str> {
    PARTS.get(code).copied().filter(|_| code.contains(|letter: char| letter.is_ascii_digit()))
}

/// Whether a body part is one of PS3.16 annex L, so that it can be said aloud: what else stands there is free text.
pub(super) fn is_known(body_part: &str) -> bool {
    PARTS.contains_key(body_part)
}

/// A view as it is compared; nothing where the text says none.
pub(super) fn view(text: &str) -> Option<String> {
    let view = words(text, &["CHEST", "THORAX", "PROJECTION"]).concat();
    let nothing = view.is_empty() || NOTHING.contains(&view.as_str());
    (!nothing).then(|| match view.as_str() {
        "POSTEROANTERIOR" => "PA".to_owned(),
        "ANTEROPOSTERIOR" => "AP".to_owned(),
        "LAT" | "LATERAL" => "LATERAL".to_owned(),
        "LLAT" | "LEFTLATERAL" | "LATLEFT" => "LL".to_owned(),
        "RLAT" | "RIGHTLATERAL" | "LATRIGHT" => "RL".to_owned(),
        "AX" => "AXIAL".to_owned(),
        "OBL" => "OBLIQUE".to_owned(),
        _ => view,
    })
}

/// The views that a word stands for.
pub(super) fn views_of(view: &str) -> Vec<&str> {
    match view {
        "FRONTAL" => vec!["PA", "AP"],
        "LATERAL" => vec!["LL", "RL"],
        "OBLIQUE" => vec!["LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "OBLIQUE"],
        one => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_parts_are_one_however_they_are_written() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(body_part(text).as_deref(), expected, "{text:?}");
        for chest in ["CHEST", " chest ", "Thorax", "THORAX_PA", "CHEST PORT", "Chest^2 views", "LUNGS", "Chest AP"] {
            check(chest, Some("CHEST"));
        }
        check("C-SPINE", Some("CSPINE"));
        check("L SPINE", Some("LSPINE"));
        check("LEFT KNEE", Some("KNEE"));
        check("Chest and Abdomen", Some("CHESTABDOMEN"));
        check("Ribs", Some("RIB"));
        check("TIB_FIB", Some("TIBIAFIBULA"));
        check("SCHIENBEIN", Some("SCHIENBEIN"));
        for nothing in ["", " ", "UNKNOWN", "n/a", "-", "*", "PORTABLE", "PA"] {
            check(nothing, None);
        }
        assert_eq!(body_part_of_code("51185008"), Some("CHEST"));
        assert_eq!(body_part_of_code("T-D3000"), Some("CHEST"));
        assert_eq!(body_part_of_code("12611008"), Some("TIBIA"));
        assert_eq!(body_part_of_code("CHEST"), None);
        assert!(is_known("CHEST") && !is_known("SCHIENBEIN"));
    }

    #[test]
    fn views_are_one_however_they_are_written() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(view(text).as_deref(), expected, "{text:?}");
        check(" pa", Some("PA"));
        check("CHEST PA ERECT", Some("PA"));
        check("Lat", Some("LATERAL"));
        check("postero-anterior", Some("PA"));
        check("LLD", Some("LLD"));
        check("UNKNOWN", None);
        check("", None);
    }
}
