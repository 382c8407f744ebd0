//! What is known beside the text: the study, and how the model read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use dataset::{Header, Phi, tags};
use serde::{Deserialize, Serialize};

use crate::{
    calibration::Calibration,
    draft::Side,
    lexicon::Language,
    structure,
    vocabulary::{Concept, Sex, Sort},
};

/// A measurement that somebody made: a program with the pixels, or an earlier document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The value, in `unit`.
    pub value: f64,
    /// The unit's UCUM code.
    pub unit: String,
}

/// What a second model says of a concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// The concept's id.
    pub concept: String,
    /// How probable it is, from 0 to 1.
    pub probability: f64,
}

/// Below what a model's sentence is not to be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// The calibrated probability of a sentence.
    pub probability: f64,
    /// The same for sentences that state a concept, by its id, instead of `probability`; the most of several counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<String, f64>,
    /// How much a positive finding depends on the image, from 0 to 1.
    pub image_dependence: f64,
    /// A second model disagrees when it calls something stated this improbable, or something denied that probable.
    pub second_model: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { probability: 0.5, findings: BTreeMap::new(), image_dependence: 0.05, second_model: 0.15 }
    }
}

impl Thresholds {
    /// The calibrated probability that a sentence which states these concepts needs.
    pub(super) fn of(&self, concepts: impl Iterator<Item = Concept>) -> f64 {
        let own = concepts.filter_map(|concept| self.findings.get(concept.id()).copied());
        own.reduce(f64::max).unwrap_or(self.probability)
    }
}

/// What is known of the reading itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadingFacts {
    /// The model was stopped before it ended its text.
    pub cut: bool,
    /// The model's calibration; without one, its probabilities mean nothing and are not held against a threshold.
    pub calibration: Option<Calibration>,
    /// The model's thresholds.
    pub thresholds: Thresholds,
    /// How much what stands at these bytes of the text depends on the image, from 0 to 1.
    pub image_dependence: Vec<(Range<usize>, f64)>,
    /// What a second model says.
    pub second_model: Vec<Opinion>,
}

/// What the study says about itself that a draft can contradict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StudyFacts {
    /// The one side that every image shows: Laterality (0020,0060) or Image Laterality (0020,0062).
    pub side: Option<Side>,
    /// Modality (0008,0060) of the images.
    pub modalities: BTreeSet<String>,
    /// Body Part Examined (0018,0015) of the images; empty when one of them does not say.
    pub body_parts: BTreeSet<String>,
    /// View Position (0018,5101) of the images.
    pub views: BTreeSet<String>,
    /// Patient's Sex (0010,0040); nothing for `O` and when it is not said.
    pub sex: Option<Sex>,
    /// Patient's Age (0010,1010), or what the birth date says, in years.
    pub age: Option<f64>,
    /// Whether the model was given an earlier study.
    pub prior_given: bool,
    /// What was measured.
    pub measured: Vec<Measured>,
    /// Devices and operations that the order or the description speaks of.
    pub supported: BTreeSet<Concept>,
    /// Texts of the header, and of the pixels where somebody read them, that a model could take for an instruction.
    pub texts: Vec<String>,
    /// The parts of the patient's name.
    pub names: Vec<Phi<String>>,
    /// How the model read.
    pub reading: ReadingFacts,
}

/// Free texts of the header.
const TEXTS: &[dicom_core::Tag] = &[
    tags::STUDY_DESCRIPTION,
    tags::SERIES_DESCRIPTION,
    tags::PROTOCOL_NAME,
    tags::IMAGE_COMMENTS,
    tags::PATIENT_COMMENTS,
    tags::ADDITIONAL_PATIENT_HISTORY,
    tags::REASON_FOR_THE_REQUESTED_PROCEDURE,
    tags::REQUESTED_PROCEDURE_DESCRIPTION,
    tags::DERIVATION_DESCRIPTION,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::PATIENT_ID,
    tags::INSTITUTION_NAME,
];

impl StudyFacts {
    /// The facts of a study's instances; a side only where every one of them has the same.
    ///
    /// A chest has no side although DX demands a value (PS3.3 C.8.11.2 has `U` for it, and senders write `R` or `L`), so
    /// that the attribute counts only where the body part leaves a side to be shown.
    pub fn of<'a>(headers: impl IntoIterator<Item = &'a Header>) -> Self {
        let mut facts = Self::default();
        let mut first = true;
        let mut every_part = true;
        for header in headers {
            let body_part = header.text(tags::BODY_PART_EXAMINED).unwrap_or_default().trim().to_uppercase();
            let side = side_of(header, &body_part);
            facts.side = if first { side } else { facts.side.filter(|one| side == Some(*one)) };
            first = false;
            every_part &= !body_part.is_empty();
            facts.body_parts.insert(body_part);
            facts.modalities.insert(header.modality());
            facts.views.extend(header.text(tags::VIEW_POSITION).filter(|view| !view.trim().is_empty()));
            facts.sex = facts.sex.or(match header.text(tags::PATIENT_SEX).as_deref().map(str::trim) {
                Some("F") => Some(Sex::Female),
                Some("M") => Some(Sex::Male),
                _ => None,
            });
            facts.age = facts.age.or_else(|| age(header));
            for text in TEXTS.iter().flat_map(|tag| header.texts(*tag)) {
                if !text.trim().is_empty() && !facts.texts.contains(&text) && facts.texts.len() < 64 {
                    facts.texts.push(text.chars().take(2_000).collect());
                }
            }
            if facts.names.is_empty() {
                let name = header.patient_name();
                // A name that is a word of reports, such as Klein or Lung, tells nothing.
                let lexicon = Language::ENGLISH.lexicon();
                let parts = name.expose().split(['^', ' ', '=', '-']).map(str::to_lowercase);
                let telling = |part: &String| part.chars().count() >= 4 && lexicon.forms(part).is_empty();
                facts.names = parts.filter(telling).map(Phi::new).collect();
            }
        }
        if !every_part {
            facts.body_parts.clear();
        }
        facts.supported = supported(&facts.texts);
        facts
    }

    /// Whether this side is not in the pictures.
    pub(super) fn does_not_show(&self, side: Side) -> bool {
        self.side.is_some_and(|shown| shown != side)
    }
}

/// The devices and operations that texts name.
fn supported(texts: &[String]) -> BTreeSet<Concept> {
    let made = |concept: &Concept| matches!(concept.sort(), Sort::Device | Sort::Procedure);
    let read = |text: &String| structure::read_sentence(text, Language::ENGLISH).statements;
    texts.iter().flat_map(read).map(|statement| statement.concept).filter(made).collect()
}

fn side_of(header: &Header, body_part: &str) -> Option<Side> {
    if UNPAIRED.contains(&body_part) {
        return None;
    }
    let value = header.text(tags::IMAGE_LATERALITY).or_else(|| header.text(tags::LATERALITY));
    match value.as_deref() {
        Some("L") => Some(Side::Left),
        Some("R") => Some(Side::Right),
        _ => None,
    }
}

/// Years, from `045Y`, `006M`, `012W`, `003D`, else from birth date and study date.
fn age(header: &Header) -> Option<f64> {
    if let Some(age) = header.text(tags::PATIENT_AGE) {
        let age = age.trim();
        let (number, unit) = age.split_at_checked(age.len().saturating_sub(1))?;
        let per_year = match unit {
            "Y" => 1.0,
            "M" => 12.0,
            "W" => 52.18,
            "D" => 365.25,
            _ => return None,
        };
        return number.parse::<f64>().ok().map(|number| number / per_year);
    }
    let days = |text: String| {
        let text = text.trim().to_owned();
        let part = |from: usize, to: usize| text.get(from..to)?.parse::<f64>().ok();
        Some(part(0, 4)? * 365.25 + part(4, 6)? * 30.44 + part(6, 8)?)
    };
    let born = header.text(tags::PATIENT_BIRTH_DATE).and_then(days)?;
    let taken = header.text(tags::STUDY_DATE).and_then(days)?;
    (taken >= born).then(|| (taken - born) / 365.25)
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
