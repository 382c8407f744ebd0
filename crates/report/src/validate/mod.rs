//! Our own check of the objects that we write: IOD and template, codes, evidence, and the rules without which a viewer
//! goes blank.
//!
//! Every object must pass before it leaves; `preread report validate` is the same check. It works on the bytes, so that
//! it sees what a parser would have repaired. What it asks for stands in tables: `iod.rs` and `templates.txt`.

mod content;
mod encoding;
mod iod;
mod modules;
mod template;

use std::collections::BTreeSet;

use dataset::part10::Meta;

use crate::{document::Document, text, uids::Kind};

/// What a violation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The object may not leave.
    Breach,
    /// A value taken over from the source breaks a rule; changing it would break the link to the study.
    Remark,
}

/// A rule that an object breaks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// What it does.
    pub weight: Weight,
    /// The rule's name, stable.
    pub rule: &'static str,
    /// Where: the attribute's keyword, behind the position of its content item, such as `1.8.1 TextValue`.
    pub at: String,
    /// One sentence for a person; never a value of the object.
    pub sentence: String,
}

/// Whether an object with these violations may not leave.
pub fn must_hold(violations: &[Violation]) -> bool {
    violations.iter().any(|violation| violation.weight == Weight::Breach)
}

/// Checks a file; nothing for a good one.
pub fn validate(file: &[u8]) -> Vec<Violation> {
    let mut found = Violations::default();
    match text::read(file) {
        Ok(data_set) => {
            encoding::check(&data_set, Meta::parse(file).ok().map(|(meta, _)| meta), &mut found);
            if modules::check(&data_set, &mut found) {
                content::check(&data_set, &mut found);
            }
        }
        Err(what) => found.breach("readable", "file", what),
    }
    found.0
}

/// Checks the documents of one reading, and that they can stand beside each other in a study: each has a series of its
/// own, and study-level results, which blank a viewer, never go without a text report.
pub fn validate_all<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<Violation> {
    let mut found = Violations::default();
    let (mut series, mut instances, mut kinds) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for document in documents {
        found.0.extend(validate(&document.file));
        let own_series = series.insert(&document.series_instance_uid);
        found.require(own_series, "own-series", "SeriesInstanceUID", "two documents in one series: a viewer shows one");
        let own_instance = instances.insert(&document.sop_instance_uid);
        found.require(own_instance, "own-series", "SOPInstanceUID", "two documents with one UID");
        kinds.insert(document.kind);
    }
    let text = kinds.contains(&Kind::BasicTextReport) || kinds.contains(&Kind::EnhancedTextReport);
    let alone = kinds.contains(&Kind::Results) && !text;
    found.require(!alone, "blank-viewer", "documents", "study-level results without a text report beside them");
    found.0
}

/// Violations as they are found.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn breach(&mut self, rule: &'static str, at: impl Into<String>, sentence: impl Into<String>) {
        self.add(Weight::Breach, rule, at, sentence);
    }

    fn add(&mut self, weight: Weight, rule: &'static str, at: impl Into<String>, sentence: impl Into<String>) {
        self.0.push(Violation { weight, rule, at: at.into(), sentence: sentence.into() });
    }

    /// A breach unless the condition holds.
    fn require(&mut self, holds: bool, rule: &'static str, at: impl Into<String>, sentence: impl Into<String>) {
        if !holds {
            self.breach(rule, at, sentence);
        }
    }
}

#[cfg(test)]
mod tests;
