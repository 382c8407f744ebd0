//! What speaks against a draft before anything is written: contradictions in itself and with the study.

use dataset::{Header, tags};
use serde::Serialize;

use crate::{
    draft::{Draft, Finding, NormalStatement, Presence, Side, Zone},
    vocabulary::{Concept, Place, Urgency},
};

/// What an objection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The draft waits for a person.
    Hold,
    /// The draft goes out; the objection is on record.
    Note,
}

/// Something that speaks against a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Objection {
    /// What it does.
    pub severity: Severity,
    /// The rule's name, stable.
    pub rule: &'static str,
    /// One sentence for a person.
    pub sentence: String,
}

/// What the study says about itself that a draft can contradict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyFacts {
    /// The one side that every image shows: Laterality (0020,0060) or Image Laterality (0020,0062).
    pub side: Option<Side>,
    /// Whether every image shows a limb: what a draft says of the chest is then not in the picture, whatever its side.
    pub limb: bool,
}

impl StudyFacts {
    /// The facts of a study's instances; a side only where every one of them has the same.
    ///
    /// A chest has no side although DX demands a value (PS3.3 C.8.11.2 has `U` for it, and senders write `R` or `L`), so
    /// that the attribute counts only where the body part leaves a side to be shown.
    pub fn of<'a>(headers: impl IntoIterator<Item = &'a Header>) -> Self {
        let body_part = |header: &Header| header.text(tags::BODY_PART_EXAMINED).unwrap_or_default();
        let side = |header: &Header| {
            if UNPAIRED.contains(&body_part(header).as_str()) {
                return None;
            }
            let value = header.text(tags::IMAGE_LATERALITY).or_else(|| header.text(tags::LATERALITY));
            match value.as_deref() {
                Some("L") => Some(Side::Left),
                Some("R") => Some(Side::Right),
                _ => None,
            }
        };
        let seen: Vec<(Option<Side>, bool)> =
            headers.into_iter().map(|header| (side(header), LIMBS.contains(&body_part(header).as_str()))).collect();
        let first = seen.first().and_then(|(side, _)| *side);
        Self {
            side: first.filter(|first| seen.iter().all(|(side, _)| side == &Some(*first))),
            limb: !seen.is_empty() && seen.iter().all(|(_, limb)| *limb),
        }
    }
}

/// Body parts of PS3.16 annex L whose image shows both sides.
const UNPAIRED: &[&str] = &[
    "ABDOMEN",
    "ABDOMENPELVIS",
    "BRAIN",
    "CHEST",
    "CHESTABDOMEN",
    "CHESTABDPELVIS",
    "CSPINE",
    "HEAD",
    "HEADNECK",
    "HEART",
    "LSPINE",
    "LSSPINE",
    "NECK",
    "PELVIS",
    "SKULL",
    "SPINE",
    "STERNUM",
    "THORAX",
    "TLSPINE",
    "TSPINE",
    "WHOLEBODY",
];

/// Body parts of PS3.16 annex L that are limbs or parts of them.
const LIMBS: &[&str] = &[
    "ANKLE",
    "ARM",
    "CALCANEUS",
    "ELBOW",
    "EXTREMITY",
    "FEMUR",
    "FINGER",
    "FOOT",
    "FOREARM",
    "HAND",
    "HUMERUS",
    "KNEE",
    "LEG",
    "PATELLA",
    "TIBIAFIBULA",
    "THIGH",
    "THUMB",
    "TOE",
    "ULNA",
    "WRIST",
];

/// A rule: one sentence for each thing that speaks against the draft.
type Rule = fn(&Draft, &StudyFacts) -> Vec<String>;

const RULES: &[(Severity, &str, Rule)] = &[
    (Severity::Hold, "empty", empty),
    (Severity::Hold, "contradiction", contradictions),
    (Severity::Hold, "normal-with-findings", normal_with_findings),
    (Severity::Hold, "clear-lungs-with-findings", clear_lungs_with_findings),
    (Severity::Hold, "side-of-study", side_of_study),
    (Severity::Hold, "truncated", truncated),
    (Severity::Note, "not-in-view", not_in_view),
    (Severity::Note, "left-middle-lobe", left_middle_lobe),
    (Severity::Note, "side-missing", side_missing),
    (Severity::Note, "unrecognised", unrecognised),
];

/// Everything that speaks against a draft, in the order of the rules. Never fails: a draft is data.
pub fn check(draft: &Draft, study: &StudyFacts) -> Vec<Objection> {
    let objections = |&(severity, rule, find): &(Severity, &'static str, Rule)| {
        find(draft, study).into_iter().map(move |sentence| Objection { severity, rule, sentence })
    };
    RULES.iter().flat_map(objections).collect()
}

fn empty(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    if draft.is_empty() { vec!["The model wrote nothing that can be reported.".to_owned()] } else { Vec::new() }
}

/// The same concept both present and absent where the two places overlap. "No large effusion" and "small effusion" agree.
fn contradictions(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    let with = |presence| draft.findings.iter().filter(move |finding| finding.presence == presence);
    let overlap = |present: &Finding, absent: &Finding| {
        present.concept == absent.concept
            && sides_overlap(present.side, absent.side)
            && (absent.zone.is_none() || present.zone.is_none() || present.zone == absent.zone)
            && (absent.size.is_none() || present.size.is_none() || present.size == absent.size)
    };
    with(Presence::Present)
        .flat_map(|present| with(Presence::Absent).map(move |absent| (present, absent)))
        .filter(|(present, absent)| overlap(present, absent))
        .map(|(present, absent)| format!("\"{}\" contradicts \"{}\"", present.text, absent.text))
        .collect()
}

fn sides_overlap(a: Option<Side>, b: Option<Side>) -> bool {
    !matches!((a, b), (Some(Side::Left), Some(Side::Right)) | (Some(Side::Right), Some(Side::Left)))
}

fn normal_with_findings(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    let Some(normal) = &draft.normal else { return Vec::new() };
    let contradicted = |finding: &&Finding| {
        normal.statement == NormalStatement::NoAbnormality || finding.concept.urgency() < Urgency::Other
    };
    let sentence = |finding: &Finding| format!("\"{}\" contradicts \"{}\"", normal.statement.text(), finding.text);
    draft.positive().filter(contradicted).map(sentence).collect()
}

fn clear_lungs_with_findings(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    let Some(clear) = draft.findings.iter().find(|finding| finding.concept == Concept::ClearLungs) else {
        return Vec::new();
    };
    let in_lung =
        |finding: &&Finding| finding.concept.row().place == Place::Lung || finding.concept == Concept::PulmonaryEdema;
    let sentence = |finding: &Finding| format!("\"{}\" contradicts \"{}\"", clear.text, finding.text);
    draft.positive().filter(in_lung).map(sentence).collect()
}

fn side_of_study(draft: &Draft, study: &StudyFacts) -> Vec<String> {
    let Some(shown) = study.side else { return Vec::new() };
    let other = |finding: &&Finding| {
        finding.side.is_some_and(|side| side != shown) && !(study.limb && is_of_chest_or_head(finding))
    };
    let name = if shown == Side::Left { "left" } else { "right" };
    let sentence = |finding: &Finding| format!("\"{}\" but the images show the {name} side only", finding.text);
    draft.findings.iter().filter(other).map(sentence).collect()
}

/// A model of the chest that was given a limb: nothing it says is of the picture, and its sides are not the limb's.
fn not_in_view(draft: &Draft, study: &StudyFacts) -> Vec<String> {
    let elsewhere = |finding: &&Finding| study.limb && is_of_chest_or_head(finding);
    draft.positive().filter(elsewhere).map(|it| format!("\"{}\" but the images show a limb", it.text)).collect()
}

/// Every concept of the vocabulary but one that any bone may have.
fn is_of_chest_or_head(finding: &Finding) -> bool {
    finding.concept != Concept::Fracture
}

fn truncated(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    let sentence = || format!("{} sentences beyond the limit were left out: the model may be looping", draft.omitted);
    if draft.omitted > 0 { vec![sentence()] } else { Vec::new() }
}

fn left_middle_lobe(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    let no_such_place = |finding: &&Finding| {
        finding.zone == Some(Zone::MiddleLobe) && matches!(finding.side, Some(Side::Left | Side::Bilateral))
    };
    let sentence = |finding: &Finding| format!("\"{}\" but the left lung has no middle lobe", finding.text);
    draft.findings.iter().filter(no_such_place).map(sentence).collect()
}

fn side_missing(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    let sideless = |finding: &&Finding| finding.side.is_none() && finding.concept.row().place != Place::Nowhere;
    draft.positive().filter(sideless).map(|finding| format!("\"{}\" without a side", finding.text)).collect()
}

fn unrecognised(draft: &Draft, _: &StudyFacts) -> Vec<String> {
    match draft.unrecognised.len() {
        0 => Vec::new(),
        1 => vec!["1 sentence of the model's text could not be interpreted".to_owned()],
        count => vec![format!("{count} sentences of the model's text could not be interpreted")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{ModelText, parse};

    #[test]
    fn the_side_of_a_chest_is_no_fact() {
        use dataset::{Limits, part10::Meta};
        let header = |body_part: &str| {
            let mut file = Meta {
                sop_class_uid: None,
                sop_instance_uid: None,
                transfer_syntax_uid: dataset::TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN.parse().unwrap(),
                source_ae_title: None,
            }
            .to_bytes();
            for (group, number, value) in [(0x0018_u16, 0x0015_u16, body_part), (0x0020, 0x0062, "R ")] {
                file.extend([group.to_le_bytes(), number.to_le_bytes(), *b"CS"].concat());
                file.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
                file.extend(value.as_bytes());
            }
            dataset::Instance::from_bytes(&file, &Limits::default()).unwrap().header
        };
        assert_eq!(StudyFacts::of([&header("CHEST ")]).side, None);
        assert_eq!(StudyFacts::of([&header("HAND")]), StudyFacts { side: Some(Side::Right), limb: true });
        assert_eq!(StudyFacts::of([&header("RIB ")]), StudyFacts { side: Some(Side::Right), limb: false });
        assert_eq!(StudyFacts::of([&header("HAND"), &header("THORAX")]).side, None);
    }

    #[test]
    fn each_rule_speaks_when_it_should_and_only_then() {
        let with = |text: &str, study: StudyFacts, expected: &[&str]| {
            let draft = parse(&ModelText { text, tokens: Vec::new(), grid: None });
            let rules: Vec<&str> = check(&draft, &study).iter().map(|objection| objection.rule).collect();
            assert_eq!(rules, expected, "{text}");
        };
        let check = |text, side, expected: &[&str]| with(text, StudyFacts { side, limb: false }, expected);
        let right_limb = || StudyFacts { side: Some(Side::Right), limb: true };
        with("Left pneumothorax.", right_limb(), &["not-in-view"]);
        with("No abnormality.", right_limb(), &[]);
        check("", None, &["empty"]);
        check("Left pneumothorax.", None, &[]);
        check("Left pneumothorax. No pneumothorax.", None, &["contradiction"]);
        check("Left pneumothorax. No right pneumothorax.", None, &[]);
        check("Small left pleural effusion. No large pleural effusion.", None, &[]);
        check("Bilateral pleural effusion. No right pleural effusion.", None, &["contradiction"]);
        check("No abnormality. Left pneumothorax.", None, &["normal-with-findings"]);
        check("No abnormality. Left pacemaker in place. No pleural effusion.", None, &[]);
        check("No acute abnormality. The heart is enlarged.", None, &[]);
        check("No acute abnormality. Left pneumothorax.", None, &["normal-with-findings"]);
        check("The lungs are clear. Large nodule in the left upper zone.", None, &["clear-lungs-with-findings"]);
        check("Left pneumothorax.", Some(Side::Right), &["side-of-study"]);
        check("Left pneumothorax.", Some(Side::Left), &[]);
        check("The heart is enlarged.", Some(Side::Left), &[]);
        check("Consolidation in the left middle lobe.", None, &["left-middle-lobe"]);
        check("Pneumothorax.", None, &["side-missing"]);
        check("Something else entirely.", None, &["unrecognised"]);
        check(&"Blah blah. ".repeat(201), None, &["truncated", "unrecognised"]);
    }
}
