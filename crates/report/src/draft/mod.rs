//! A draft: what a model's text says, in a closed structure.

mod sentence;
mod support;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    lexicon::Language,
    structure::{
        self, Certainty, Change, Evidence, Measurement, Output, Sentence, Statement, Status, Structure, Understood,
    },
    vocabulary::{Concept, Site, Urgency},
};

/// What a model wrote, with what is known about each of its tokens.
#[derive(Debug, Clone)]
pub struct ModelText<'a> {
    /// The text, without special tokens.
    pub text: &'a str,
    /// The tokens behind it, in any order; may be empty.
    pub tokens: Vec<TokenEvidence>,
    /// Rows and columns of the grid that `TokenEvidence::attention` is laid out on, where the model has one.
    pub grid: Option<(usize, usize)>,
}

/// What is known about one token.
#[derive(Debug, Clone)]
pub struct TokenEvidence {
    /// The bytes of the text that the token stands for.
    pub range: Range<usize>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// What it attended to, row by row.
    pub attention: Option<Vec<f32>>,
}

/// Whether a finding is said to be there or not (PS3.16 CID 240).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is there.
    Present,
    /// It is not.
    Absent,
}

/// The side of a finding (PS3.16 CID 244).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Left.
    Left,
    /// Right.
    Right,
    /// Both sides.
    Bilateral,
}

/// Where in the lung, by the zones of a radiograph or by lobe (PS3.16 CID 6170, 6171): the two are not the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// Upper zone.
    Upper,
    /// Mid zone.
    Mid,
    /// Lower zone.
    Lower,
    /// Upper lobe.
    UpperLobe,
    /// Middle lobe.
    MiddleLobe,
    /// Lower lobe.
    LowerLobe,
}

/// How large, or for what has no size how severe: small and mild, large and severe are the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Small or mild.
    Small,
    /// Moderate.
    Moderate,
    /// Large or severe.
    Large,
}

/// How sure the model was of its words.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confidence {
    /// The probability of the least probable token, not calibrated.
    pub minimum: f32,
    /// The mean of the tokens' probabilities, not calibrated.
    pub mean: f32,
    /// The probability that the sentence is true, after the model's calibration; nothing for a model without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<f32>,
    /// The share of answers drawn at random that say the same, from 0 to 1; nothing when none were drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated: Option<f32>,
    /// How much of the sentence's probability the images bring, from 0 to 1; nothing when that was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_dependence: Option<f32>,
}

impl Confidence {
    /// What the model's own token probabilities say.
    pub fn of_tokens(minimum: f32, mean: f32) -> Self {
        Self { minimum, mean, calibrated: None, repeated: None, image_dependence: None }
    }
}

/// A map over the picture, row by row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grid {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `rows` times `columns` values.
    pub values: Vec<f32>,
}

impl Grid {
    /// Row and column of the largest value; the first of equals.
    pub fn best_cell(&self) -> Option<(usize, usize)> {
        let best = self.values.iter().enumerate().max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)))?.0;
        Some((best / self.columns.max(1), best % self.columns.max(1)))
    }
}

/// A recognised statement about one concept.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What.
    pub concept: Concept,
    /// There or not.
    pub presence: Presence,
    /// On which side, only if the text says so.
    pub side: Option<Side>,
    /// Where in the lung, only if the text says so.
    pub zone: Option<Zone>,
    /// How large or severe, only if the text says so.
    pub size: Option<Size>,
    /// Where in the body, only if the text says so; the lung's zones and lobes are in `zone` too where they are said so.
    pub sites: Vec<Site>,
    /// How sure the text says it is.
    pub certainty: Certainty,
    /// What was measured of it, as the text says.
    pub measurements: Vec<Measurement>,
    /// What became of it, as the text says.
    pub change: Option<Change>,
    /// The pictures and regions that the model names for it.
    pub evidence: Vec<Evidence>,
    /// The model's sentence, all of whose words are in the closed tables.
    pub text: String,
    /// The bytes of the model's text that it was read from.
    pub range: Range<usize>,
    /// Token probabilities of the sentence.
    pub confidence: Option<Confidence>,
    /// Attention averaged over the sentence's tokens.
    pub attention: Option<Grid>,
}

/// How much a normal statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalStatement {
    /// Nothing abnormal at all.
    NoAbnormality,
    /// Nothing acute; what is old may be there.
    NothingAcute,
}

/// A statement that the whole study is normal.
#[derive(Debug, Clone, PartialEq)]
pub struct Normal {
    /// What it says.
    pub statement: NormalStatement,
    /// The model's sentence.
    pub text: String,
    /// The bytes of the model's text that it was read from.
    pub range: Range<usize>,
}

/// What a model's text says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// What was understood, in the order of the text, each statement once.
    pub findings: Vec<Finding>,
    /// The statement that the study is normal, where there is one.
    pub normal: Option<Normal>,
    /// The text in its sections, sentence by sentence, understood or not, with what the checks did to each.
    pub structure: Structure,
}

/// Reads a model's text: prose in English, or the JSON of [`schema`](crate::schema()). Of JSON that breaks off or is of
/// another schema nothing is read, and nothing shown.
///
/// A sentence is understood only when every one of its words is in the closed tables; the others are shown as they stand,
/// with a sign, and never coded. A side is never guessed. What stands under the headings of indication, technique,
/// comparison and recommendations is no finding.
pub fn parse(model: &ModelText<'_>) -> Draft {
    parse_in(model, Language::ENGLISH)
}

/// As [`parse`], for a model that was asked for JSON of [`crate::schema`]: of a text that has none nothing is read.
pub fn parse_json(model: &ModelText<'_>) -> Draft {
    let output = match structure::output_of(model.text) {
        Output::Prose => Output::Unreadable("the model wrote no JSON, which it was asked for".to_owned()),
        output => output,
    };
    of_output(model, output, Language::ENGLISH)
}

/// Reads a model's text in another language.
pub fn parse_in(model: &ModelText<'_>, language: Language) -> Draft {
    of_output(model, structure::output_of(model.text), language)
}

fn of_output(model: &ModelText<'_>, output: Output, language: Language) -> Draft {
    let mut draft = Draft { structure: Structure { language, ..Structure::default() }, ..Draft::default() };
    let prose = |range: Range<usize>| {
        let shifted = move |piece: structure::Piece| structure::Piece {
            range: range.start + piece.range.start..range.start + piece.range.end,
            ..piece
        };
        structure::pieces(&model.text[range.clone()], language.lexicon()).into_iter().map(shifted)
    };
    let plain = |range| prose(range).map(|piece| (piece, None, None));
    let pieces: Vec<_> = match output {
        Output::Json { sentences, around: [before, after] } => {
            let written = sentences.into_iter().map(|it| (it.piece, Some(it.words), it.claim));
            plain(before).chain(written).chain(plain(after)).collect()
        }
        Output::Prose => plain(0..model.text.len()).collect(),
        Output::Unreadable(why) => {
            draft.structure.unreadable = Some(why);
            Vec::new()
        }
    };
    for (number, (piece, words, claim)) in pieces.into_iter().enumerate() {
        if number >= structure::SENTENCES {
            draft.structure.omitted += 1;
            continue;
        }
        let words = words.unwrap_or_else(|| model.text[piece.range.clone()].to_owned());
        let confidence = confidence(model, &piece.range);
        let mut sentence = read(&words, language, &piece, confidence);
        sentence.claim = claim;
        agree(&mut sentence);
        let attention = || attention(model, &piece.range);
        draft.take(&sentence, attention);
        draft.structure.sentences.push(sentence);
    }
    draft
}

fn read(words: &str, language: Language, piece: &structure::Piece, confidence: Option<Confidence>) -> Sentence {
    let reading = structure::read_sentence(words, language);
    Sentence {
        section: piece.section,
        text: sentence::clean(words),
        range: piece.range.clone(),
        understood: reading.understood,
        statements: reading.statements,
        recommendation: reading.recommendation,
        categories: reading.categories,
        confidence,
        marks: reading.marks,
        ends: piece.ends,
        claim: None,
        struck: None,
        unmeasured: false,
    }
}

/// What the model's own structure adds to a sentence: the pictures that it names, where both say the same.
fn agree(sentence: &mut Sentence) {
    let Some(claim) = &sentence.claim else { return };
    let agrees = |it: &&mut Statement| Some(it.concept) == claim.concept && it.presence == claim.presence;
    if let Some(statement) = sentence.statements.iter_mut().find(agrees) {
        statement.evidence.clone_from(&claim.evidence);
    }
}

impl Draft {
    /// Adds what a sentence says of the images.
    fn take(&mut self, sentence: &Sentence, attention: impl Fn() -> Option<Grid>) {
        if !sentence.section.is_of_images() || sentence.understood != Understood::Whole {
            return;
        }
        if let Some(statement) = sentence.marks.normal_study {
            let (text, range) = (sentence.text.clone(), sentence.range.clone());
            self.normal.get_or_insert(Normal { statement, text, range });
        }
        for finding in placed(sentence, &attention) {
            if !self.findings.iter().any(|earlier| same_statement(earlier, &finding)) {
                self.findings.push(finding);
            }
        }
    }

    /// The findings that say something is wrong: present, and neither a device nor a statement of normality.
    pub fn positive(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.presence == Presence::Present && finding.concept.urgency() < Urgency::Device)
    }

    /// The sentences about the images that were not wholly understood: shown with a sign, never coded.
    pub fn not_understood(&self) -> impl Iterator<Item = &Sentence> {
        let of_images = self.structure.sentences.iter().filter(|it| it.section.is_of_images() && it.struck.is_none());
        of_images.filter(|it| it.understood != Understood::Whole && !it.text.is_empty())
    }

    /// Why sentences were struck out, in the order of the text.
    pub fn struck(&self) -> Vec<String> {
        let struck = self.structure.sentences.iter().filter_map(|it| it.struck.as_ref());
        struck.map(|it| it.why.clone()).collect()
    }

    /// Whether the model said nothing at all.
    pub fn is_empty(&self) -> bool {
        self.structure.sentences.iter().all(|sentence| sentence.text.is_empty())
    }
}

/// The findings of a sentence that says nothing but what the images show.
fn placed(sentence: &Sentence, attention: &impl Fn() -> Option<Grid>) -> Vec<Finding> {
    let marks = &sentence.marks;
    let only_images = sentence.statements.iter().all(|statement| statement.status == Status::Current)
        && sentence.recommendation.is_none()
        && !(marks.instruction || marks.machine || marks.signature || marks.title || marks.identity || marks.telephone);
    if !only_images {
        return Vec::new();
    }
    let attention = attention();
    let finding = |statement: &Statement| Finding {
        concept: statement.concept,
        presence: statement.presence,
        side: statement.side,
        zone: statement.sites.iter().find_map(|site| zone_of(*site)),
        size: statement.size,
        sites: statement.sites.clone(),
        certainty: statement.certainty,
        measurements: statement.measurements.clone(),
        change: statement.change,
        evidence: statement.evidence.clone(),
        text: sentence.text.clone(),
        range: sentence.range.clone(),
        confidence: sentence.confidence,
        attention: attention.clone(),
    };
    sentence.statements.iter().map(finding).collect()
}

fn zone_of(site: Site) -> Option<Zone> {
    Some(match site.id() {
        "upper_zone" => Zone::Upper,
        "mid_zone" => Zone::Mid,
        "lower_zone" => Zone::Lower,
        "upper_lobe" => Zone::UpperLobe,
        "middle_lobe" => Zone::MiddleLobe,
        "lower_lobe" => Zone::LowerLobe,
        _ => return None,
    })
}

fn same_statement(a: &Finding, b: &Finding) -> bool {
    let parts = |it: &Finding| (it.concept, it.presence, it.side, it.zone, it.size, it.certainty, it.change);
    parts(a) == parts(b) && a.sites == b.sites && a.measurements == b.measurements
}

fn tokens<'a>(model: &'a ModelText<'_>, range: &Range<usize>) -> impl Iterator<Item = &'a TokenEvidence> {
    let (start, end) = (range.start, range.end);
    model.tokens.iter().filter(move |token| token.range.start < end && token.range.end > start)
}

fn confidence(model: &ModelText<'_>, range: &Range<usize>) -> Option<Confidence> {
    let probabilities: Vec<f32> = tokens(model, range)
        .map(|token| token.logprob.exp().clamp(0.0, 1.0))
        .filter(|probability| !probability.is_nan())
        .collect();
    let minimum = probabilities.iter().copied().min_by(f32::total_cmp)?;
    Some(Confidence::of_tokens(minimum, probabilities.iter().sum::<f32>() / probabilities.len() as f32))
}

fn attention(model: &ModelText<'_>, range: &Range<usize>) -> Option<Grid> {
    let (rows, columns) = model.grid?;
    let cells = rows.checked_mul(columns).filter(|cells| *cells > 0)?;
    let mut values = vec![0.0_f32; cells];
    let mut count = 0.0_f32;
    for map in tokens(model, range).filter_map(|token| token.attention.as_ref()) {
        if map.len() == cells && map.iter().all(|value| value.is_finite()) {
            values.iter_mut().zip(map).for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
    }
    (count > 0.0).then(|| {
        values.iter_mut().for_each(|value| *value /= count);
        Grid { rows, columns, values }
    })
}

#[cfg(test)]
mod tests;
