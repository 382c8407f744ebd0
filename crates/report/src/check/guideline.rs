//! Whether what is recommended follows from what is stated: `lexicon/guidelines.tsv`.

use super::{Case, Found};
use crate::{
    lexicon,
    structure::{Composition, Recommendation, SectionKind},
};

/// A row of the guidelines.
struct Guideline {
    applies_to: &'static str,
    modalities: &'static str,
    from: f64,
    to: f64,
    actions: &'static str,
    months: Option<(f64, f64)>,
    words: &'static str,
}

fn guidelines() -> impl Iterator<Item = Guideline> {
    lexicon::rows(include_str!("../../lexicon/guidelines.tsv")).filter_map(|row| {
        let [_, applies_to, modalities, from, to, actions, months, words] = *row.as_slice() else { return None };
        let months = months.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        Some(Guideline {
            applies_to,
            modalities,
            from: from.parse().ok()?,
            to: to.parse().ok()?,
            actions,
            months,
            words,
        })
    })
}

/// Fleischner's guideline is for adults of 35 years and more.
const ADULT: f64 = 35.0;

pub(super) fn guideline(case: &Case<'_>) -> Vec<Found> {
    let recommendations: Vec<(usize, &Recommendation)> = case
        .structure()
        .sentences
        .iter()
        .enumerate()
        .filter_map(|(number, sentence)| Some((number, sentence.recommendation.as_ref()?)))
        .collect();
    let mut found = Vec::new();
    for (number, what, value) in stated(case) {
        let of_modality = |rule: &Guideline| {
            case.study.modalities.is_empty()
                || lexicon::list(rule.modalities).any(|it| case.study.modalities.contains(it))
        };
        let applies = |rule: &Guideline| {
            let within = if rule.from == rule.to { value == rule.from } else { value >= rule.from && value < rule.to };
            rule.applies_to == what && within && of_modality(rule)
        };
        let Some(rule) = guidelines().find(applies) else { continue };
        found.extend(judge(&rule, number, &recommendations, case));
    }
    found
}

fn judge(rule: &Guideline, stated: usize, all: &[(usize, &Recommendation)], case: &Case<'_>) -> Option<Found> {
    let allowed: Vec<&str> = lexicon::list(rule.actions).collect();
    let about_it: Vec<&(usize, &Recommendation)> =
        all.iter().filter(|(_, it)| it.actions.iter().any(|action| *action != "clinical")).collect();
    if about_it.is_empty() {
        // A report without an impression is a list of findings, and recommends nothing.
        let concludes = case.structure().section(SectionKind::Impression).next().is_some();
        let demanded = !allowed.contains(&"none");
        return (concludes && demanded)
            .then(|| Found::at(stated, format!("{}, and nothing is recommended", rule.words)));
    }
    let follows = |recommendation: &Recommendation| {
        let action = recommendation.actions.iter().any(|action| allowed.contains(action));
        let timed =
            |(from, to): (f64, f64)| rule.months.is_none_or(|(least, most)| from + 0.01 >= least && to <= most + 0.01);
        // A biopsy has no date, and neither has the absence of a follow-up.
        let dated =
            !recommendation.actions.iter().any(|action| matches!(*action, "biopsy" | "none" | "pet" | "treatment"));
        action && (!dated || recommendation.months.is_none_or(timed))
    };
    let (number, _) = about_it.iter().find(|(_, it)| !follows(it))?;
    Some(Found::at(*number, format!("{}, and something else is recommended", rule.words)))
}

/// What guidelines speak of: the largest nodule of the lung in millimetres, categories by their number.
fn stated(case: &Case<'_>) -> Vec<(usize, &'static str, f64)> {
    let mut stated = Vec::new();
    let adult = case.study.age.is_none_or(|age| age >= ADULT);
    let chest = case.study.body_parts.is_empty()
        || case.study.body_parts.iter().any(|part| part.contains("CHEST") || part == "LUNG" || part == "THORAX");
    let mut largest: Option<(usize, &'static str, f64)> = None;
    for (number, sentence) in case.of_images() {
        for category in &sentence.categories {
            if category.scheme == "birads"
                && let Ok(value) = category.value.trim_end_matches(char::is_alphabetic).parse()
            {
                stated.retain(|(_, what, _)| *what != "birads");
                stated.push((number, "birads", value));
            }
        }
        for statement in sentence.statements.iter().filter(|it| it.is_positive() && it.concept.is("nodule")) {
            let millimetres =
                statement.measurements.iter().filter_map(crate::Measurement::millimetres).fold(f64::NAN, f64::max);
            let what = match statement.composition {
                Some(Composition::GroundGlass) => "ground_glass_nodule",
                Some(Composition::PartSolid) => "part_solid_nodule",
                Some(Composition::Solid) | None => "nodule",
            };
            if millimetres.is_finite() && largest.is_none_or(|(_, _, before)| millimetres > before) {
                largest = Some((number, what, millimetres));
            }
        }
    }
    stated.extend(largest.filter(|_| adult && chest));
    stated
}
