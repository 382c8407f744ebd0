//! Contradictions among what was recognised.

use super::{Case, Found};
use crate::{
    draft::{Finding, NormalStatement, Presence, Side},
    vocabulary::{Place, Regions, Urgency},
};

pub(super) fn empty(case: &Case<'_>) -> Vec<Found> {
    let empty = case.draft.is_empty();
    if empty { vec![Found::whole("The model wrote nothing that can be reported.")] } else { Vec::new() }
}

/// The same concept both present and absent where the two places overlap. "No large effusion" and "small effusion" agree.
pub(super) fn contradictions(case: &Case<'_>) -> Vec<Found> {
    let draft = case.draft;
    let with = |presence| draft.findings.iter().filter(move |finding| finding.presence == presence);
    let of_more = |absent: &Finding| {
        let sentence = case.number_of(&absent.range).and_then(|number| case.structure().sentences.get(number));
        sentence.is_some_and(|sentence| sentence.marks.further)
    };
    let overlap = |present: &Finding, absent: &Finding| {
        present.concept == absent.concept
            && !of_more(absent)
            && (absent.side.is_none() || present.side.is_some())
            && sides_overlap(present.side, absent.side)
            && (absent.zone.is_none() || present.zone.is_none() || present.zone == absent.zone)
            && (absent.size.is_none() || present.size.is_none() || present.size == absent.size)
            && (absent.sites.is_empty()
                || present.sites.is_empty()
                || absent.sites.iter().any(|it| present.sites.contains(it)))
    };
    let found = |(present, absent): (&Finding, &Finding)| Found {
        number: case.number_of(&absent.range),
        explanation: format!("\"{}\" contradicts \"{}\"", present.text, absent.text),
    };
    with(Presence::Present)
        .flat_map(|present| with(Presence::Absent).map(move |absent| (present, absent)))
        .filter(|(present, absent)| overlap(present, absent))
        .map(found)
        .collect()
}

pub(super) fn sides_overlap(a: Option<Side>, b: Option<Side>) -> bool {
    !matches!((a, b), (Some(Side::Left), Some(Side::Right)) | (Some(Side::Right), Some(Side::Left)))
}

pub(super) fn normal_with_findings(case: &Case<'_>) -> Vec<Found> {
    let Some(normal) = &case.draft.normal else { return Vec::new() };
    let contradicted = |finding: &&Finding| {
        normal.statement == NormalStatement::NoAbnormality || finding.concept.urgency() < Urgency::Other
    };
    let found = |finding: &Finding| Found::whole(format!("\"{}\" contradicts \"{}\"", normal.text, finding.text));
    case.draft.positive().filter(contradicted).map(found).collect()
}

pub(super) fn clear_lungs_with_findings(case: &Case<'_>) -> Vec<Found> {
    let Some(clear) = case.draft.findings.iter().find(|finding| finding.concept.is("clear_lungs")) else {
        return Vec::new();
    };
    let in_lung = |finding: &&Finding| {
        let elsewhere = !finding.sites.is_empty() && !finding.sites.iter().any(|site| IN_LUNG.contains(&site.id()));
        let place = finding.concept.row().place == Place::Lung || finding.concept.is("pulmonary_edema");
        place && !elsewhere
    };
    let found = |finding: &Finding| Found {
        number: case.number_of(&clear.range),
        explanation: format!("\"{}\" contradicts \"{}\"", clear.text, finding.text),
    };
    case.draft.positive().filter(in_lung).map(found).collect()
}

/// Places of the lung itself.
const IN_LUNG: &[&str] = &[
    "lung",
    "upper_lobe",
    "middle_lobe",
    "lower_lobe",
    "lingula",
    "upper_zone",
    "mid_zone",
    "lower_zone",
    "lung_base",
    "lung_apex",
];

pub(super) fn side_missing(case: &Case<'_>) -> Vec<Found> {
    let sided = |finding: &Finding| {
        let sentence = case.number_of(&finding.range).and_then(|number| case.structure().sentences.get(number));
        sentence.is_some_and(|it| it.marks.left || it.marks.right)
            || case.draft.findings.iter().any(|other| other.concept == finding.concept && other.side.is_some())
    };
    let sideless = |finding: &&Finding| {
        let row = finding.concept.row();
        // What is of the chest has a side there; a limb is one, and a head has a midline.
        let of_chest = row.regions == Regions::read("chest") || row.place == Place::Lung;
        let one_side = case.study.side.is_some();
        row.own && row.place != Place::Nowhere && of_chest && !one_side && finding.sites.is_empty() && !sided(finding)
    };
    let found = |finding: &Finding| Found {
        number: case.number_of(&finding.range),
        explanation: format!("\"{}\" without a side", finding.text),
    };
    case.draft.positive().filter(sideless).map(found).collect()
}

/// One for all: how many, so that nobody takes the rest for the whole.
pub(super) fn unrecognised(case: &Case<'_>) -> Vec<Found> {
    match case.draft.not_understood().count() {
        0 => Vec::new(),
        1 => vec![Found::whole("1 sentence of the model's text could not be interpreted")],
        count => vec![Found::whole(format!("{count} sentences of the model's text could not be interpreted"))],
    }
}
