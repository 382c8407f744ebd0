//! Our own check of an SR: IOD and template, and the rules without which a viewer goes blank.
//!
//! Every object must pass before it leaves; `preread report validate` is the same check. It works on the bytes, so that
//! it sees what a parser would have repaired.

mod content;
mod encoding;
mod modules;

use dataset::part10::Meta;

use crate::text;

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

/// Checks an SR file; nothing for a good one.
pub fn validate(file: &[u8]) -> Vec<Violation> {
    let mut found = Violations::default();
    match text::read(file) {
        Ok(data_set) => {
            encoding::check(&data_set, Meta::parse(file).ok().map(|(meta, _)| meta), &mut found);
            modules::check(&data_set, &mut found);
            content::check(&data_set, &mut found);
        }
        Err(what) => found.breach("readable", "file", what),
    }
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
