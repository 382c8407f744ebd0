//! What the model itself, its dependence on the image, or a second model holds against a sentence.

use super::{Case, Found};
use crate::{
    draft::Presence,
    structure::{Status, Understood},
    vocabulary::Concept,
};

/// Less probable than the model's threshold demands; only where its probabilities are calibrated.
pub(super) fn low_confidence(case: &Case<'_>) -> Vec<Found> {
    let reading = &case.study.reading;
    let Some(calibration) = &reading.calibration else { return Vec::new() };
    let mut found = Vec::new();
    for (number, sentence) in case.of_images() {
        let Some(confidence) = sentence.confidence else { continue };
        let least = reading.thresholds.of(sentence.statements.iter().map(|it| it.concept));
        let probability = calibration.apply(f64::from(confidence.mean));
        if probability < least {
            let percent = |value: f64| (value * 100.0).round();
            let words = format!(
                "not assessed: {} % probable, below the threshold of {} %",
                percent(probability),
                percent(least)
            );
            found.push(Found::at(number, words));
        }
    }
    found
}

/// A positive finding that the model would have written without the image as well.
pub(super) fn image_independent(case: &Case<'_>) -> Vec<Found> {
    let reading = &case.study.reading;
    let mut found = Vec::new();
    for (number, sentence) in case.of_images() {
        let positive = sentence.statements.iter().any(crate::Statement::is_positive);
        let meets =
            |range: &std::ops::Range<usize>| range.start < sentence.range.end && sentence.range.start < range.end;
        let dependence = reading.image_dependence.iter().filter(|(range, _)| meets(range)).map(|(_, value)| *value);
        let most = dependence.fold(f64::NAN, f64::max);
        if positive && most < reading.thresholds.image_dependence {
            found.push(Found::at(number, "the model would say so without the image as well"));
        }
    }
    found
}

pub(super) fn second_model(case: &Case<'_>) -> Vec<Found> {
    let reading = &case.study.reading;
    let margin = reading.thresholds.second_model;
    let mut found = Vec::new();
    for (number, sentence) in case.of_images() {
        for statement in sentence.statements.iter().filter(|it| it.status == Status::Current) {
            let about = |it: &&super::Opinion| Concept::named(&it.concept) == Some(statement.concept);
            let Some(opinion) = reading.second_model.iter().find(about) else { continue };
            let disagrees = match statement.presence {
                Presence::Present => opinion.probability < margin,
                Presence::Absent => opinion.probability > 1.0 - margin,
            };
            if disagrees {
                let percent = (opinion.probability * 100.0).round();
                let words = format!("a second model gives {} a probability of {percent} %", statement.concept.name());
                found.push(Found::at(number, words));
            }
        }
    }
    found
}

/// The model's own structure says something else than the sentence beside it.
pub(super) fn structure_disagrees(case: &Case<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, sentence) in case.structure().sentences.iter().enumerate() {
        let Some(claim) = &sentence.claim else { continue };
        if sentence.understood == Understood::Nothing {
            continue;
        }
        let agrees = |it: &crate::Statement| {
            Some(it.concept) == claim.concept
                && it.presence == claim.presence
                && (claim.side.is_none() || claim.side == it.side)
        };
        if !sentence.statements.iter().any(agrees) {
            found.push(Found::at(number, "the structure that the model gave says something else than the sentence"));
        }
    }
    found
}
