//! A draft: what a model's text says, in a closed structure.

mod phrase;
mod recognise;
mod sentence;

use std::ops::Range;

use serde::Serialize;

use crate::vocabulary::{Concept, Urgency};
use recognise::Reading;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is there.
    Present,
    /// It is not.
    Absent,
}

/// The side of a finding (PS3.16 CID 244).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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

/// How sure the model was of its words: probabilities of a sentence's tokens, not calibrated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confidence {
    /// The least probable token.
    pub minimum: f32,
    /// The mean.
    pub mean: f32,
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
    /// Our own sentence for it; never the model's words.
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
    /// Token probabilities of the sentence.
    pub confidence: Option<Confidence>,
}

impl NormalStatement {
    /// Our own sentence for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoAbnormality => "No abnormality.",
            Self::NothingAcute => "No acute abnormality.",
        }
    }
}

/// A sentence that was not recognised: shown, marked, never coded.
#[derive(Debug, Clone, PartialEq)]
pub struct Unrecognised {
    /// The model's words, cleaned: no control or direction characters, bounded, no `\` and no `~`.
    pub text: String,
    /// The bytes of the model's text that it was read from.
    pub range: Range<usize>,
    /// Token probabilities of the sentence.
    pub confidence: Option<Confidence>,
}

/// What a model's text says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// What was recognised, in the order of the text, each statement once.
    pub findings: Vec<Finding>,
    /// The statement that the study is normal, where there is one.
    pub normal: Option<Normal>,
    /// What was not recognised, in the order of the text.
    pub unrecognised: Vec<Unrecognised>,
    /// Derived from the findings, never the model's words: [`parse`] has the rule.
    pub impression: Vec<String>,
    /// Sentences beyond the limit that were left out.
    pub omitted: usize,
}

/// More sentences than any report has; a model that loops writes thousands.
const SENTENCES: usize = 200;

/// Reads a model's text.
///
/// A sentence is recognised only when every one of its words is in the closed vocabulary: "resolved", "possible" or
/// "old" change what a sentence means, so a sentence with such a word is shown as it stands and not interpreted. A side
/// is never guessed.
///
/// The impression is derived: each positive finding that is no device, most urgent first; if there is none, that the
/// model reported no abnormality. Sentences that were not recognised are counted in it, so that nobody takes it for
/// the whole.
pub fn parse(model: &ModelText<'_>) -> Draft {
    let mut draft = Draft::default();
    for (number, range) in sentence::split(model.text).into_iter().enumerate() {
        if number >= SENTENCES {
            draft.omitted += 1;
            continue;
        }
        let words = &model.text[range.clone()];
        let confidence = confidence(model, &range);
        match recognise::sentence(words) {
            Reading::Findings(facts) => {
                let attention = attention(model, &range);
                for fact in facts {
                    let finding = fact.finding(range.clone(), confidence, attention.clone());
                    if !draft.findings.iter().any(|earlier| same_statement(earlier, &finding)) {
                        draft.findings.push(finding);
                    }
                }
            }
            Reading::Normal(statement) => {
                draft.normal.get_or_insert(Normal { statement, confidence });
            }
            Reading::Unknown => {
                let text = sentence::clean(words);
                if !text.is_empty() {
                    draft.unrecognised.push(Unrecognised { text, range, confidence });
                }
            }
        }
    }
    draft.impression = impression(&draft);
    draft
}

impl Draft {
    /// The findings that say something is wrong: present, and neither a device nor a statement of normality.
    pub fn positive(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.presence == Presence::Present && finding.concept.urgency() < Urgency::Device)
    }

    /// Whether the model said nothing at all.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.normal.is_none() && self.unrecognised.is_empty()
    }
}

fn same_statement(a: &Finding, b: &Finding) -> bool {
    (a.concept, a.presence, a.side, a.zone, a.size) == (b.concept, b.presence, b.side, b.zone, b.size)
}

fn impression(draft: &Draft) -> Vec<String> {
    let mut positive: Vec<&Finding> = draft.positive().collect();
    // The vocabulary stands in order of urgency, and the sort keeps the text's order among equals.
    positive.sort_by_key(|finding| (finding.concept.urgency(), finding.concept));
    let mut lines: Vec<String> = positive.into_iter().map(|finding| finding.text.clone()).collect();
    let unread = draft.unrecognised.len() + draft.omitted;
    let count = if unread == 1 { "1 sentence".to_owned() } else { format!("{unread} sentences") };
    if unread > 0 {
        let found = if lines.is_empty() { "No abnormality recognised, but " } else { "" };
        lines.push(format!("{found}{count} of the model's text could not be interpreted: see Findings."));
    } else if draft.is_empty() {
        lines.push("The model reported nothing.".to_owned());
    } else if lines.is_empty() {
        lines.push("No abnormality reported by the model.".to_owned());
    }
    lines
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
    Some(Confidence { minimum, mean: probabilities.iter().sum::<f32>() / probabilities.len() as f32 })
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
