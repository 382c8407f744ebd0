//! A report's text as one closed structure: its sections, and what each sentence says in terms of the closed tables.
//!
//! Nothing is coded that the tables do not have, a side is never guessed, and a sentence is understood as a whole only when
//! every one of its words is in the language's tables; what is left stays text in its section.

mod amounts;
mod reader;
mod schema;
mod section;
mod token;

use std::ops::Range;

use serde::Serialize;

use crate::{
    draft::{Confidence, NormalStatement, Presence, Side, Size},
    lexicon::Language,
    vocabulary::{Concept, Site},
};

pub use schema::schema;
pub(crate) use schema::{Claim, Output, output_of};
pub(crate) use section::{Piece, pieces};

/// The sections of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SectionKind {
    /// Why the study was made.
    Indication,
    /// How.
    Technique,
    /// What it is compared with.
    Comparison,
    /// What is seen; what stands under no heading is taken for it.
    #[default]
    Findings,
    /// What is seen in one organ: a heading below findings.
    Organ,
    /// What it means.
    Impression,
    /// What should be done.
    Recommendations,
    /// What is no part of a draft: signatures, names, dates.
    Foreign,
}

impl SectionKind {
    /// The section of a name such as `impression`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "indication" => Self::Indication,
            "technique" => Self::Technique,
            "comparison" => Self::Comparison,
            "findings" => Self::Findings,
            "organ" => Self::Organ,
            "impression" => Self::Impression,
            "recommendations" => Self::Recommendations,
            "foreign" => Self::Foreign,
            _ => return None,
        })
    }

    /// Whether a report has a section of its own for its sentences, which say nothing of the images.
    pub(crate) fn stands_by_itself(self) -> bool {
        matches!(self, Self::Indication | Self::Technique | Self::Comparison | Self::Recommendations)
    }

    /// Whether its sentences say what the images show.
    pub(crate) fn is_of_images(self) -> bool {
        matches!(self, Self::Findings | Self::Organ | Self::Impression)
    }
}

/// How sure a sentence says it is, in its own words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// "Possible", "cannot be excluded".
    Possible,
    /// "Likely", "consistent with".
    Probable,
    /// Said without reserve.
    #[default]
    Certain,
}

/// What became of a finding since another study: a claim that there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Was not there.
    New,
    /// Has grown or worsened.
    Larger,
    /// Has shrunk or improved.
    Smaller,
    /// As it was.
    Same,
    /// Is gone.
    Resolved,
}

/// Whether a statement is about the images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is.
    #[default]
    Current,
    /// The patient's history.
    History,
    /// Something to be looked for.
    Question,
}

/// What a nodule consists of, on CT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Composition {
    /// Solid.
    Solid,
    /// Part solid.
    PartSolid,
    /// Pure ground glass.
    GroundGlass,
}

/// One measurement: a length, two or three of them, a range, or a density.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The numbers, in `unit`.
    pub values: Vec<f64>,
    /// The unit's UCUM code.
    pub unit: &'static str,
    /// Whether the two values are the ends of a range and not two dimensions.
    pub range: bool,
}

impl Measurement {
    /// The largest value in millimetres, for a length.
    pub fn millimetres(&self) -> Option<f64> {
        let largest = self.values.iter().copied().fold(f64::NAN, f64::max);
        match self.unit {
            "mm" => Some(largest),
            "cm" => Some(largest * 10.0),
            _ => None,
        }
    }

    /// `8 x 6 mm`.
    pub fn text(&self) -> String {
        let values: Vec<String> = self.values.iter().map(f64::to_string).collect();
        format!("{} {}", values.join(if self.range { " - " } else { " x " }), self.unit)
    }
}

/// Where in the pictures a model says that it saw something.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Evidence {
    /// The picture, counted from 0 in the order in which the model was given them; the caller knows which SOP instance it is.
    pub image: usize,
    /// The frame, counted from 1.
    #[serde(default = "first_frame")]
    pub frame: u32,
    /// Left, top, right, bottom as parts of the picture's width and height, from 0 to 1.
    #[serde(default)]
    pub region: Option<[f64; 4]>,
}

fn first_frame() -> u32 {
    1
}

/// What a sentence says about one concept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statement {
    /// What.
    pub concept: Concept,
    /// There or not.
    pub presence: Presence,
    /// How sure.
    pub certainty: Certainty,
    /// On which side, only if the text says so.
    pub side: Option<Side>,
    /// Where, only if the text says so.
    pub sites: Vec<Site>,
    /// How large or severe, only if the text says so.
    pub size: Option<Size>,
    /// What was measured of it.
    pub measurements: Vec<Measurement>,
    /// What became of it.
    pub change: Option<Change>,
    /// What it consists of.
    pub composition: Option<Composition>,
    /// Whether it is about the images.
    pub status: Status,
    /// Where the model says it saw it.
    pub evidence: Vec<Evidence>,
}

impl Statement {
    /// Whether it says that something abnormal is there, or may be.
    pub fn is_positive(&self) -> bool {
        self.status == Status::Current
            && self.presence == Presence::Present
            && self.concept.sort() == crate::vocabulary::Sort::Finding
    }
}

/// What a sentence asks to be done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Recommendation {
    /// What: `ct`, `biopsy`, `none` and so on.
    pub actions: Vec<&'static str>,
    /// When, in months: from, to.
    pub months: Option<(f64, f64)>,
}

/// A category of a scheme such as BI-RADS.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Category {
    /// The scheme, such as `birads`.
    pub scheme: &'static str,
    /// The category: `4`, `4a`, `b`.
    pub value: String,
}

/// How much of a sentence was understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Understood {
    /// Every word.
    Whole,
    /// Some of it: the rest could change what it says.
    Part,
    /// Nothing.
    #[default]
    Nothing,
}

/// What a sentence claims besides its statements: what the checks look at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Marks {
    /// It speaks of another study.
    pub(crate) compares: bool,
    /// It says that there is no other study.
    pub(crate) no_prior: bool,
    pub(crate) modalities: Vec<&'static str>,
    pub(crate) sites: Vec<(Site, Option<Side>)>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) left: bool,
    pub(crate) right: bool,
    /// Both sides for one thing: "left effusion on the right".
    pub(crate) side_clash: bool,
    pub(crate) dates: usize,
    pub(crate) signature: bool,
    pub(crate) title: bool,
    pub(crate) identity: bool,
    pub(crate) telephone: bool,
    pub(crate) other_patient: bool,
    pub(crate) instruction: bool,
    pub(crate) machine: bool,
    /// What it denies are others than those that were named: "no other nodules".
    pub(crate) further: bool,
    /// It asks, or recommends.
    pub(crate) asks: bool,
    /// It says that the whole study is normal.
    pub(crate) normal_study: Option<NormalStatement>,
    /// "The size of the liver is normal" leaves room for a cyst in it.
    pub(crate) aspect: bool,
    /// It breaks off in the middle: after "and", "with", a comma.
    pub(crate) breaks_off: bool,
}

/// A sentence, in its section, with what it says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sentence {
    /// Where it stands.
    pub section: SectionKind,
    /// Its words, cleaned.
    pub text: String,
    /// The bytes of the text that it was read from.
    #[serde(skip)]
    pub range: Range<usize>,
    /// How much of it was understood.
    pub understood: Understood,
    /// What it says, a statement for each concept.
    pub statements: Vec<Statement>,
    /// What it asks to be done.
    pub recommendation: Option<Recommendation>,
    /// The categories that it gives.
    pub categories: Vec<Category>,
    /// Probabilities of its tokens.
    pub confidence: Option<Confidence>,
    #[serde(skip)]
    pub(crate) marks: Marks,
    #[serde(skip)]
    pub(crate) ends: bool,
    /// What the model's own structure says of it, when it gave one.
    #[serde(skip)]
    pub(crate) claim: Option<Claim>,
    /// Why the checks struck it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub struck: Option<Struck>,
    /// Whether the checks found numbers in it that nobody measured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unmeasured: bool,
}

/// Why a sentence was struck out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Struck {
    /// The objections to it.
    pub why: String,
    /// Whether its words are shown beside that: not those that may name a person or were meant for a machine.
    #[serde(skip)]
    pub words: bool,
}

/// A report's text, read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Structure {
    /// The language it was read in.
    pub language: Language,
    /// Its sentences, in order.
    pub sentences: Vec<Sentence>,
    /// Sentences beyond the limit.
    pub omitted: usize,
    /// Why nothing was read, of a text that was meant for JSON: nothing of it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// More sentences than any report has; a model that loops writes thousands.
pub(crate) const SENTENCES: usize = 200;

/// The longest sentence that is read, in bytes; a longer one stays text.
const LONGEST: usize = 1_000;

impl Structure {
    /// Reads a report's text, or the JSON of [`schema`]. Never fails, and takes time in proportion to the text.
    pub fn read(text: &str, language: Language) -> Self {
        crate::draft::parse_in(&crate::draft::ModelText { text, tokens: Vec::new(), grid: None }, language).structure
    }

    /// The sentences of a section.
    pub fn section(&self, kind: SectionKind) -> impl Iterator<Item = &Sentence> {
        self.sentences.iter().filter(move |sentence| sentence.section == kind)
    }

    /// Every statement about the images, with its sentence.
    pub fn statements(&self) -> impl Iterator<Item = (&Sentence, &Statement)> {
        let of_images = self.sentences.iter().filter(|sentence| sentence.section.is_of_images());
        of_images.flat_map(|sentence| sentence.statements.iter().map(move |statement| (sentence, statement)))
    }
}

/// What a sentence says, before it is placed.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) understood: Understood,
    pub(crate) statements: Vec<Statement>,
    pub(crate) recommendation: Option<Recommendation>,
    pub(crate) categories: Vec<Category>,
    pub(crate) marks: Marks,
}

/// Reads one sentence.
pub(crate) fn read_sentence(words: &str, language: Language) -> Reading {
    if words.len() > LONGEST {
        return Reading::default();
    }
    reader::read(words, language.lexicon())
}

#[cfg(test)]
mod tests;
