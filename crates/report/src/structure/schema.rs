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

/// Reads a text that is the JSON of [`schema`]; nothing when it is none. A fence around it does not matter.
pub(crate) fn from_json(text: &str) -> Option<Vec<FromJson>> {
    let body = text.trim();
    let body = body.strip_prefix("```json").or_else(|| body.strip_prefix("```")).unwrap_or(body);
    let body = body.strip_suffix("```").unwrap_or(body).trim();
    if !body.starts_with('{') {
        return None;
    }
    let written: Written = serde_json::from_str(body).ok()?;
    let mut placed = Vec::new();
    let mut from = 0;
    let mut place = |section, words: String, claim| {
        if words.trim().is_empty() {
            return;
        }
        let range = range_of(text, &words, &mut from);
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
    Some(placed)
}

/// Where the words stand in the JSON text, as they are escaped there; an empty range when they do not, as when the model
/// wrote the keys in another order.
fn range_of(text: &str, words: &str, from: &mut usize) -> Range<usize> {
    let escaped = Value::from(words).to_string();
    let escaped = &escaped[1..escaped.len() - 1];
    match text.get(*from..).and_then(|rest| rest.find(escaped)) {
        Some(at) => {
            let start = *from + at;
            *from = start + escaped.len();
            start..*from
        }
        None => 0..0,
    }
}
