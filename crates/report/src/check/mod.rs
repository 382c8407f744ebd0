//! What speaks against a draft before anything is written: contradictions in itself and with the study, claims that nothing
//! supports, text that is no report, and what the model itself is not sure of.

mod agreement;
mod anatomy;
mod claims;
mod doubt;
mod facts;
mod form;
mod guideline;
mod policy;
mod recognised;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    draft::Draft,
    structure::{Sentence, Structure},
};

pub use facts::{Measured, Opinion, ReadingFacts, StudyFacts, Thresholds};
pub use policy::{Action, Policy, Verdict, enforce};

/// How grave an objection is; what is done about it is the [`Policy`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known.
    Minor,
    /// The sentence is not to be trusted.
    Major,
    /// The report is not to be trusted.
    Critical,
}

/// What an objection is about. The names in kebab case are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing that can be reported.
    Empty,
    /// JSON that breaks off, or is of another schema.
    Malformed,
    /// The text breaks off, or was cut.
    Truncated,
    /// The model repeats itself without end.
    Loop,
    /// The same sentence twice in a section.
    Repetition,
    /// Present and absent at the same place.
    Contradiction,
    /// "No abnormality" beside an abnormality.
    NormalWithFindings,
    /// "The lungs are clear" beside a finding in the lung.
    ClearLungsWithFindings,
    /// The impression says what the findings deny, or denies what they say.
    ImpressionConflict,
    /// The impression says what the findings do not mention.
    ImpressionUnsupported,
    /// A critical finding is not in the impression.
    ImpressionMissing,
    /// A comparison with a study that was not given.
    Prior,
    /// A measurement that nobody made.
    Measurement,
    /// A device that nothing supports.
    Device,
    /// An operation that nothing supports.
    Procedure,
    /// A side contradicts another.
    SideConflict,
    /// A side that the images do not show.
    SideOfStudy,
    /// A place on a side that does not have it.
    LeftMiddleLobe,
    /// A finding that has a side, without one.
    SideMissing,
    /// A finding in a part of the body that the images do not show.
    NotInView,
    /// Nothing found in a part of the body that the images do not show.
    DeniedNotInView,
    /// What another modality or view would show.
    Modality,
    /// What the patient's sex does not have.
    Sex,
    /// What the patient's age does not have.
    Age,
    /// A signature, a name, a date, a number: no part of a draft.
    Foreign,
    /// Something of another patient.
    OtherPatient,
    /// Text that follows what header or pixels say, and not what they show.
    Instruction,
    /// A machine that speaks of itself.
    Machine,
    /// A recommendation that does not follow from what is stated.
    Guideline,
    /// The model is less sure than its threshold demands.
    LowConfidence,
    /// A finding that does not depend on the image.
    ImageIndependent,
    /// Another model sees it otherwise.
    SecondModel,
    /// The model's structure says something else than its sentence.
    StructureDisagrees,
    /// What could not be interpreted.
    Unrecognised,
}

impl Severity {
    /// Every severity, the least grave first.
    pub const ALL: [Self; 3] = [Self::Minor, Self::Major, Self::Critical];

    /// Its name in snake case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        SEVERITIES.iter().map(|(kind, _)| *kind)
    }

    /// How grave it is.
    pub fn severity(self) -> Severity {
        SEVERITIES.iter().find(|(kind, _)| *kind == self).map_or(Severity::Critical, |(_, severity)| *severity)
    }

    /// Its name in kebab case.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

const SEVERITIES: &[(Kind, Severity)] = {
    use Severity::{Critical, Major, Minor};
    &[
        (Kind::Empty, Critical),
        (Kind::Malformed, Critical),
        (Kind::Contradiction, Critical),
        (Kind::NormalWithFindings, Critical),
        (Kind::ClearLungsWithFindings, Critical),
        (Kind::SideOfStudy, Critical),
        (Kind::Truncated, Critical),
        (Kind::Loop, Critical),
        (Kind::SideConflict, Critical),
        (Kind::ImpressionConflict, Critical),
        (Kind::NotInView, Critical),
        (Kind::Sex, Critical),
        (Kind::OtherPatient, Critical),
        (Kind::Instruction, Critical),
        (Kind::Foreign, Major),
        (Kind::Prior, Major),
        (Kind::Measurement, Major),
        (Kind::Device, Major),
        (Kind::Procedure, Major),
        (Kind::Modality, Major),
        (Kind::Age, Major),
        (Kind::Machine, Major),
        (Kind::Guideline, Major),
        (Kind::LowConfidence, Major),
        (Kind::ImageIndependent, Major),
        (Kind::SecondModel, Major),
        (Kind::StructureDisagrees, Major),
        (Kind::ImpressionUnsupported, Major),
        (Kind::ImpressionMissing, Minor),
        (Kind::Repetition, Minor),
        (Kind::DeniedNotInView, Minor),
        (Kind::LeftMiddleLobe, Minor),
        (Kind::SideMissing, Minor),
        (Kind::Unrecognised, Minor),
    ]
};

/// Something that speaks against a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Objection {
    /// The sentence that it is about, cleaned; nothing when it is about the whole.
    pub sentence: Option<String>,
    /// What it is about.
    pub kind: Kind,
    /// How grave it is.
    pub severity: Severity,
    /// One sentence for a person. Of the model's words it has only those of the closed tables.
    pub explanation: String,
    /// The sentence's number in the structure.
    #[serde(skip)]
    pub(crate) number: Option<usize>,
}

/// What a rule finds: the number of the sentence, and one sentence for a person.
struct Found {
    number: Option<usize>,
    explanation: String,
}

impl Found {
    fn whole(explanation: impl Into<String>) -> Self {
        Self { number: None, explanation: explanation.into() }
    }

    fn at(number: usize, explanation: impl Into<String>) -> Self {
        Self { number: Some(number), explanation: explanation.into() }
    }
}

/// What the rules look at.
struct Case<'a> {
    draft: &'a Draft,
    study: &'a StudyFacts,
}

impl Case<'_> {
    fn structure(&self) -> &Structure {
        &self.draft.structure
    }

    /// The sentences that say what the images show, with their numbers.
    fn of_images(&self) -> impl Iterator<Item = (usize, &Sentence)> {
        self.structure().sentences.iter().enumerate().filter(|(_, sentence)| sentence.section.is_of_images())
    }

    /// The sentence that a finding was read from.
    fn number_of(&self, range: &Range<usize>) -> Option<usize> {
        self.structure().sentences.iter().position(|sentence| sentence.range == *range)
    }
}

type Rule = fn(&Case<'_>) -> Vec<Found>;

const RULES: &[(Kind, Rule)] = &[
    (Kind::Malformed, form::malformed),
    (Kind::Empty, recognised::empty),
    (Kind::Contradiction, recognised::contradictions),
    (Kind::Contradiction, agreement::contradictions),
    (Kind::NormalWithFindings, recognised::normal_with_findings),
    (Kind::ClearLungsWithFindings, recognised::clear_lungs_with_findings),
    (Kind::SideOfStudy, anatomy::side_of_study),
    (Kind::Truncated, form::truncated),
    (Kind::Loop, form::loops),
    (Kind::SideConflict, agreement::side_conflict),
    (Kind::ImpressionConflict, agreement::impression_conflict),
    (Kind::Sex, anatomy::sex),
    (Kind::OtherPatient, form::other_patient),
    (Kind::Instruction, form::instruction),
    (Kind::Foreign, form::foreign),
    (Kind::Prior, claims::prior),
    (Kind::Measurement, claims::measurement),
    (Kind::Device, claims::device),
    (Kind::Procedure, claims::procedure),
    (Kind::Modality, anatomy::modality),
    (Kind::Age, anatomy::age),
    (Kind::Machine, form::machine),
    (Kind::Guideline, guideline::guideline),
    (Kind::LowConfidence, doubt::low_confidence),
    (Kind::ImageIndependent, doubt::image_independent),
    (Kind::SecondModel, doubt::second_model),
    (Kind::StructureDisagrees, doubt::structure_disagrees),
    (Kind::ImpressionUnsupported, agreement::impression_unsupported),
    (Kind::ImpressionMissing, agreement::impression_missing),
    (Kind::Repetition, form::repetition),
    (Kind::NotInView, anatomy::not_in_view),
    (Kind::DeniedNotInView, anatomy::denied_not_in_view),
    (Kind::LeftMiddleLobe, anatomy::left_middle_lobe),
    (Kind::SideMissing, recognised::side_missing),
    (Kind::Unrecognised, recognised::unrecognised),
];

/// Everything that speaks against a draft, in the order of the rules, each once. Never fails: a draft is data.
pub fn check(draft: &Draft, study: &StudyFacts) -> Vec<Objection> {
    let case = Case { draft, study };
    let mut objections: Vec<Objection> = Vec::new();
    for (kind, find) in RULES {
        for Found { number, explanation } in find(&case) {
            let sentence = number.and_then(|it| draft.structure.sentences.get(it)).map(|it| it.text.clone());
            let same = |it: &Objection| {
                it.kind == *kind && it.number == number && (number.is_some() || it.explanation == explanation)
            };
            if !objections.iter().any(same) {
                objections.push(Objection { sentence, kind: *kind, severity: kind.severity(), explanation, number });
            }
        }
    }
    objections
}

#[cfg(test)]
mod tests;
