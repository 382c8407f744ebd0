//! What the study cannot show: the other side, another part of the body, another sex or age, another modality.

use super::{Case, Found};
use crate::{
    draft::{Presence, Side},
    lexicon,
    structure::{SectionKind, Sentence, Statement, Status},
    vocabulary::{Regions, Sex, Site},
};

/// The statements about the images, with their sentences' numbers.
fn statements<'a>(case: &'a Case<'_>) -> impl Iterator<Item = (usize, &'a Sentence, &'a Statement)> {
    case.of_images().flat_map(|(number, sentence)| {
        let current = sentence.statements.iter().filter(|statement| statement.status == Status::Current);
        current.map(move |statement| (number, sentence, statement))
    })
}

pub(super) fn side_of_study(case: &Case<'_>) -> Vec<Found> {
    let Some(shown) = case.study.side else { return Vec::new() };
    let name = if shown == Side::Left { "left" } else { "right" };
    let shown = shown_regions(case);
    statements(case)
        .filter(|(_, _, it)| it.side.is_some_and(|side| case.study.does_not_show(side)))
        // What is not in view is no question of sides.
        .filter(|(_, _, it)| shown.is_none_or(|shown| is_in_view(it, shown)))
        .map(|(number, _, it)| {
            Found::at(
                number,
                format!("{} on the other side, but the images show the {name} side only", it.concept.name()),
            )
        })
        .collect()
}

/// A model of the chest that was given a limb: nothing it says is of the picture.
pub(super) fn not_in_view(case: &Case<'_>) -> Vec<Found> {
    out_of_view(case, |presence| presence != Presence::Absent)
}

/// The same of what it denies, which leads nobody to treat what is not there.
pub(super) fn denied_not_in_view(case: &Case<'_>) -> Vec<Found> {
    out_of_view(case, |presence| presence == Presence::Absent)
}

fn out_of_view(case: &Case<'_>, wanted: impl Fn(Presence) -> bool) -> Vec<Found> {
    let Some(shown) = shown_regions(case) else { return Vec::new() };
    statements(case)
        .filter(|(_, _, it)| wanted(it.presence) && !is_in_view(it, shown))
        .map(|(number, _, it)| {
            let place = it.sites.first().map_or(it.concept.name(), |site| site.id());
            let parts: Vec<&str> = case.study.body_parts.iter().map(String::as_str).collect();
            Found::at(
                number,
                format!("{} is not in view: the images show {}", place.replace('_', " "), parts.join(", ")),
            )
        })
        .collect()
}

fn is_in_view(statement: &Statement, shown: Regions) -> bool {
    let concept = statement.concept.row().regions.meet(shown);
    concept && (statement.sites.is_empty() || statement.sites.iter().any(|site| site.regions().meet(shown)))
}

/// What the images can show; nothing when an image does not say, or says something the table does not have.
fn shown_regions(case: &Case<'_>) -> Option<Regions> {
    let study = case.study;
    let sections = ["CT", "MR", "PT", "NM", "US"].iter().any(|it| study.modalities.contains(*it));
    if study.body_parts.is_empty() && study.modalities.len() == 1 && study.modalities.contains("MG") {
        return regions_of("BREAST", true);
    }
    let mut shown = None;
    for part in &study.body_parts {
        shown = Some(shown.unwrap_or(Regions::default()).and(regions_of(part, sections)?));
    }
    shown
}

fn regions_of(body_part: &str, sections: bool) -> Option<Regions> {
    let row =
        lexicon::rows(include_str!("../../lexicon/body_parts.tsv")).find(|row| row.first() == Some(&body_part))?;
    let (usual, more) = (row.get(1)?, row.get(2)?);
    let usual = Regions::read(usual);
    Some(if sections { usual.and(Regions::read(more)) } else { usual })
}

pub(super) fn sex(case: &Case<'_>) -> Vec<Found> {
    let Some(sex) = case.study.sex else { return Vec::new() };
    let name = if sex == Sex::Female { "female" } else { "male" };
    let mut found = Vec::new();
    for (number, sentence) in case.of_images() {
        let current = sentence.statements.iter().filter(|it| it.status == Status::Current);
        let concept = current.filter_map(|it| Some((it.concept.name(), it.concept.row().sex?)));
        let sites = sentence.marks.sites.iter().filter_map(|(site, _)| Some((site.id(), site.sex()?)));
        if let Some((what, _)) = concept.chain(sites).find(|(_, wanted)| *wanted != sex) {
            found.push(Found::at(number, format!("{what} in a {name} patient")));
        }
    }
    found
}

pub(super) fn age(case: &Case<'_>) -> Vec<Found> {
    let Some(age) = case.study.age else { return Vec::new() };
    let out_of = |statement: &Statement| {
        let (from, to) = statement.concept.row().years;
        age < f64::from(from) || age >= f64::from(to.saturating_add(1))
    };
    statements(case)
        .filter(|(_, _, it)| it.presence == Presence::Present && out_of(it))
        .map(|(number, _, it)| Found::at(number, format!("{} at {age:.0} years", it.concept.name())))
        .collect()
}

/// What names another modality, another view, or what only another modality shows.
pub(super) fn modality(case: &Case<'_>) -> Vec<Found> {
    let study = case.study;
    if study.modalities.is_empty() {
        return Vec::new();
    }
    let families: Vec<&str> = study.modalities.iter().flat_map(|it| families(it)).copied().collect();
    if families.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, sentence) in case.structure().sentences.iter().enumerate() {
        let of_study = sentence.section.is_of_images() || sentence.section == SectionKind::Technique;
        if !of_study
            || sentence.recommendation.is_some()
            || sentence.marks.asks
            || sentence.marks.compares && study.prior_given
        {
            continue;
        }
        let only =
            sentence.statements.iter().filter(|it| it.status == Status::Current).filter_map(|it| only(it.concept.id()));
        let units = sentence.marks.measurements.iter().filter(|it| it.unit == "[hnsf'U]").map(|_| "CT");
        let named = sentence.marks.modalities.iter().copied().chain(only).chain(units);
        let mut named: Vec<&str> = named.collect();
        // A word such as "T2" or "CC" of two modalities is of the study's.
        if named.iter().any(|it| families.contains(it)) && sentence.section == SectionKind::Technique {
            named.clear();
        }
        if let Some(other) = named.into_iter().find(|it| !families.contains(it)) {
            let of: Vec<&str> = study.modalities.iter().map(String::as_str).collect();
            found.push(Found::at(number, format!("the sentence speaks of {other}, the images are {}", of.join(", "))));
        } else if sentence.section == SectionKind::Technique && claims_a_lateral_view(case, sentence) {
            found.push(Found::at(number, "a lateral view is spoken of, and there is none among the images"));
        }
    }
    found
}

fn claims_a_lateral_view(case: &Case<'_>, sentence: &Sentence) -> bool {
    let views = &case.study.views;
    let lateral = |view: &String| matches!(view.trim(), "LL" | "RL" | "LATERAL" | "LAT" | "LLD" | "RLD");
    let chest = case.study.modalities.iter().all(|it| matches!(it.as_str(), "CR" | "DX"));
    chest && !views.is_empty() && !views.iter().any(lateral) && sentence.text.to_lowercase().contains("lateral")
}

/// What the words of `modality_*` call a modality (0008,0060).
fn families(modality: &str) -> &'static [&'static str] {
    match modality {
        "CR" | "DX" | "RG" | "RF" | "XA" | "PX" => &["XR"],
        "CT" => &["CT"],
        "MR" => &["MR"],
        "US" => &["US"],
        "MG" => &["MG", "XR"],
        "PT" => &["PT", "CT", "MR"],
        _ => &[],
    }
}

/// The modality without which nobody sees it.
fn only(concept: &str) -> Option<&'static str> {
    match concept {
        "t2_hyperintensity" | "restricted_diffusion" => Some("MR"),
        _ => None,
    }
}

pub(super) fn left_middle_lobe(case: &Case<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, _, statement) in statements(case) {
        let no_such_side = |site: &&Site| {
            let only = site.only_side();
            only.is_some() && statement.side.is_some() && only != statement.side
        };
        if let Some(site) = statement.sites.iter().find(no_such_side) {
            let only = if site.only_side() == Some(Side::Left) { "left" } else { "right" };
            found.push(Found::at(number, format!("the {} is on the {only} side only", site.id().replace('_', " "))));
        }
    }
    found
}
