//! The structure as JSON that a model writes under a constraint.
//!
//! What the model says of its own sentences is a claim: the sentence is read as any other, and what the model's structure
//! says beside it counts only where the two agree.

use std::ops::Range;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Evidence, SectionKind, section::Piece};
use crate::{
    draft::{Presence, Side},
    vocabulary::{Concept, Site},
};

/// The JSON Schema (draft 2020-12) of what a model may write: an object with the sections, every value out of the closed
/// tables. An engine that constrains its output takes it as it is.
pub fn schema() -> Value {
    let concepts: Vec<&str> = Concept::all().map(Concept::id).collect();
    let sites: Vec<&str> = Site::all().map(Site::id).collect();
    let text = json!({ "type": "string", "maxLength": 1000 });
    let texts = json!({ "type": "array", "maxItems": 50, "items": text });
    let finding = json!({
        "type": "object",
        "properties": {
            "sentence": text,
            "concept": { "enum": concepts },
            "presence": { "enum": ["present", "absent"] },
            "certainty": { "enum": ["certain", "probable", "possible"] },
            "site": { "enum": sites },
            "laterality": { "enum": ["left", "right", "bilateral"] },
            "measurements": { "type": "array", "maxItems": 3, "items": {
                "type": "object",
                "properties": {
                    "values": { "type": "array", "minItems": 1, "maxItems": 3, "items": { "type": "number" } },
                    "unit": { "enum": ["mm", "cm", "[hnsf'U]", "ml", "%"] }
                },
                "required": ["values", "unit"], "additionalProperties": false
            } },
            "evidence": { "type": "array", "maxItems": 8, "items": {
                "type": "object",
                "properties": {
                    "image": { "type": "integer", "minimum": 0 },
                    "frame": { "type": "integer", "minimum": 1 },
                    "region": { "type": "array", "minItems": 4, "maxItems": 4,
                                "items": { "type": "number", "minimum": 0, "maximum": 1 } }
                },
                "required": ["image"], "additionalProperties": false
            } }
        },
        "required": ["sentence", "concept", "presence"], "additionalProperties": false
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Draft report",
        "type": "object",
        "properties": {
            "indication": text, "technique": text, "comparison": text,
            "findings": { "type": "array", "maxItems": 100, "items": finding },
            "impression": texts, "recommendations": texts
        },
        "required": ["findings", "impression"], "additionalProperties": false
    })
}

/// What the model's structure says of a sentence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) concept: Option<Concept>,
    pub(crate) presence: Presence,
    pub(crate) side: Option<Side>,
    /// The pictures and regions that it names.
    pub(crate) evidence: Vec<Evidence>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    indication: String,
    #[serde(default)]
    technique: String,
    #[serde(default)]
    comparison: String,
    findings: Vec<WrittenFinding>,
    impression: Vec<String>,
    #[serde(default)]
    recommendations: Vec<String>,
}

#[derive(Deserialize)]
struct WrittenFinding {
    sentence: String,
    concept: String,
    presence: Presence,
    #[serde(default)]
    laterality: Option<Side>,
    #[serde(default)]
    evidence: Vec<Evidence>,
}

/// The sentences of a model's JSON, with the words themselves, because in the text they are escaped.
pub(crate) struct FromJson {
    pub(crate) piece: Piece,
    pub(crate) words: String,
    pub(crate) claim: Option<Claim>,
}

/// What a model's text is.
pub(crate) enum Output {
    /// Prose.
    Prose,
    /// The JSON of [`schema`]: its sentences, and what stands before and after it.
    Json { sentences: Vec<FromJson>, around: [Range<usize>; 2] },
    /// Meant for JSON, and none of ours: why, without a word of it.
    Unreadable(String),
}

/// Where JSON begins in a text: an object that has a key, or a list of such.
fn begins(text: &str) -> Option<usize> {
    let opens = |at: usize| {
        let mut rest = text[at..].chars().filter(|c| !c.is_whitespace());
        match (rest.next(), rest.next()) {
            (Some('{'), next) => matches!(next, None | Some('"' | '}')),
            (Some('['), Some('{')) => true,
            _ => false,
        }
    };
    text.match_indices(['{', '[']).map(|(at, _)| at).find(|at| opens(*at))
}

/// Looks whether a text is the JSON of [`schema`]. A fence around it, and prose before and after, do not matter.
pub(crate) fn output_of(text: &str) -> Output {
    let Some(start) = begins(text) else { return Output::Prose };
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let unreadable = |error: &serde_json::Error| match error.is_eof() {
        true => Output::Unreadable("the model's JSON breaks off".to_owned()),
        false => Output::Unreadable("the model's JSON is not of the schema that it was to be held to".to_owned()),
    };
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => return unreadable(&error),
        None => return Output::Prose,
    };
    let end = start + values.byte_offset();
    let written: Written = match serde_json::from_value(value) {
        Ok(written) => written,
        Err(error) => return unreadable(&error),
    };
    let before = text[..start].trim_end().trim_end_matches("json").trim_end_matches('`').len();
    let fence = text[end..].len() - text[end..].trim_start().trim_start_matches('`').len();
    let after = end + fence;
    if begins(&text[after..]).is_some() {
        // Two drafts, or one and a piece of another: which one is meant is not known.
        return Output::Unreadable("the model wrote JSON more than once".to_owned());
    }
    Output::Json { sentences: sentences(text, written), around: [0..before, after..text.len()] }
}

fn sentences(text: &str, written: Written) -> Vec<FromJson> {
    let mut placed = Vec::new();
    let mut from = 0;
    let mut place = |section, words: String, claim| {
        if words.trim().is_empty() {
            return;
        }
        // A range is what tells sentences apart, so that each of those that are not found has one of its own.
        let range = range_of(text, &words, &mut from).unwrap_or(text.len() + placed.len()..text.len() + placed.len());
        placed.push(FromJson { piece: Piece { section, range, ends: true }, words, claim });
    };
    place(SectionKind::Indication, written.indication, None);
    place(SectionKind::Technique, written.technique, None);
    place(SectionKind::Comparison, written.comparison, None);
    for finding in written.findings {
        let evidence = finding.evidence.into_iter().take(8).collect();
        let claim = Claim {
            concept: Concept::named(&finding.concept),
            presence: finding.presence,
            side: finding.laterality,
            evidence,
        };
        place(SectionKind::Findings, finding.sentence, Some(claim));
    }
    written.impression.into_iter().for_each(|words| place(SectionKind::Impression, words, None));
    written.recommendations.into_iter().for_each(|words| place(SectionKind::Recommendations, words, None));
    placed
}

/// Where the words stand in the JSON text, as they are escaped there; behind the text when they do not, as when the model
/// wrote the keys in another order.
fn range_of(text: &str, words: &str, from: &mut usize) -> Option<Range<usize>> {
    let escaped = Value::from(words).to_string();
    let escaped = &escaped[1..escaped.len() - 1];
    let start = *from + text.get(*from..)?.find(escaped)?;
    *from = start + escaped.len();
    Some(start..*from)
}
