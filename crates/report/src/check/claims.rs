//! Claims that nothing supports: a comparison, a measurement, a device, an operation.

use super::{Case, Found};
use crate::{
    draft::Presence,
    structure::{Measurement, SectionKind, Status, Understood},
    vocabulary::{Concept, Sort},
};

/// Speaks of another study although none was given.
pub(super) fn prior(case: &Case<'_>) -> Vec<Found> {
    if case.study.prior_given {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, sentence) in case.structure().sentences.iter().enumerate() {
        let marks = &sentence.marks;
        let of_images = sentence.section.is_of_images();
        let compares = of_images && marks.compares && !marks.no_prior && sentence.recommendation.is_none();
        // "Comparison: chest radiograph of 3 May" names a study.
        let names = sentence.section == SectionKind::Comparison
            && !marks.no_prior
            && (marks.dates > 0 || !marks.modalities.is_empty() || marks.compares);
        if compares || names {
            found.push(Found::at(number, "the sentence compares with an earlier study, and none was given"));
        }
    }
    found
}

/// Gives a number that nobody measured. Numbers of a recommendation are a guideline's.
pub(super) fn measurement(case: &Case<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, sentence) in case.of_images() {
        if sentence.recommendation.is_some() {
            continue;
        }
        for measurement in &sentence.marks.measurements {
            if !case.study.measured.iter().any(|made| agrees(measurement, made.value, &made.unit)) {
                found.push(Found::at(number, format!("nobody measured {}", measurement.text())));
            }
        }
    }
    found
}

/// Every dimension need not have been given, but the largest must be the one that was, up to rounding.
fn agrees(said: &Measurement, value: f64, unit: &str) -> bool {
    let factor = |unit: &str| match unit {
        "mm" => Some(1.0),
        "cm" => Some(10.0),
        _ => None,
    };
    let near = |a: f64, b: f64, least: f64| (a - b).abs() <= least.max(0.05 * b.abs());
    match (factor(said.unit), factor(unit)) {
        (Some(ours), Some(theirs)) => said.values.iter().any(|it| near(it * ours, value * theirs, 0.6)),
        (None, None) => said.unit == unit && said.values.iter().any(|it| near(*it, value, 0.6)),
        _ => false,
    }
}

/// A device that the model did not look at, and that neither order nor description speaks of.
pub(super) fn device(case: &Case<'_>) -> Vec<Found> {
    let looked_at = |concept: Concept| {
        let of = case.draft.findings.iter().filter(|finding| finding.concept == concept);
        of.into_iter().any(|finding| finding.attention.is_some() || !finding.evidence.is_empty())
    };
    made(case, Sort::Device)
        .filter(|(_, concept)| !looked_at(*concept))
        .map(|(number, concept)| {
            Found::at(number, format!("nothing supports that there is a device: {}", concept.name()))
        })
        .collect()
}

/// An operation cannot be seen: only order and description know of it.
pub(super) fn procedure(case: &Case<'_>) -> Vec<Found> {
    made(case, Sort::Procedure)
        .map(|(number, concept)| Found::at(number, format!("nothing supports that this was done: {}", concept.name())))
        .collect()
}

fn made<'a>(case: &'a Case<'_>, sort: Sort) -> impl Iterator<Item = (usize, Concept)> + 'a {
    case.of_images().flat_map(move |(number, sentence)| {
        let claimed = sentence.statements.iter().filter(move |statement| {
            let said = statement.status != Status::Question && statement.presence == Presence::Present;
            statement.concept.sort() == sort && said && sentence.understood != Understood::Nothing
        });
        claimed.filter(|it| !case.study.supported.contains(&it.concept)).map(move |it| (number, it.concept))
    })
}
