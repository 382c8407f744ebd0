//! What is done about objections.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Kind, Objection, Severity};
use crate::draft::{self, Draft};

/// What is done about an objection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is on record with the report.
    Note,
    /// The sentence is taken out, and the report says that it was and why.
    Strike,
    /// The report is marked partial (Completion Flag), with the reason.
    Partial,
    /// The report waits for a person.
    Hold,
}

/// What is done about which objection: by kind, else by severity.
///
/// By default what is minor is noted, what is major makes the report partial, what is critical holds it; claims and foreign
/// text that the report can do without are taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// For a minor one.
    pub minor: Action,
    /// For a major one.
    pub major: Action,
    /// For a critical one.
    pub critical: Action,
    /// For a kind, whatever its severity.
    #[serde(flatten)]
    pub kinds: BTreeMap<Kind, Action>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { minor: Action::Note, major: Action::Partial, critical: Action::Hold, kinds: BTreeMap::new() }
    }
}

/// What is taken out when nothing else is said of it.
const STRUCK: &[Kind] = &[Kind::Prior, Kind::Procedure, Kind::Foreign, Kind::Machine, Kind::LowConfidence];

impl Policy {
    /// What is done about an objection of this kind.
    pub fn action(&self, kind: Kind) -> Action {
        self.kinds.get(&kind).copied().unwrap_or_else(|| match kind.severity() {
            _ if STRUCK.contains(&kind) => Action::Strike,
            Severity::Minor => self.minor,
            Severity::Major => self.major,
            Severity::Critical => self.critical,
        })
    }
}

/// What became of a draft.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The draft without what was struck, with its impression derived again.
    pub draft: Draft,
    /// Why it waits for a person; empty when it does not.
    pub held: Vec<String>,
    /// Why it is partial; empty when it is not.
    pub partial: Vec<String>,
}

/// Does what the policy says about the objections of [`check`](super::check()).
///
/// A struck sentence is named by what it was about, in the words of the closed tables, so that nothing positive is lost
/// without a trace. What is about the whole and cannot be struck makes the report partial.
pub fn enforce(mut draft: Draft, objections: &[Objection], policy: &Policy) -> Verdict {
    let (mut held, mut partial, mut struck) = (Vec::new(), Vec::new(), BTreeMap::<usize, Vec<&Objection>>::new());
    for objection in objections {
        match (policy.action(objection.kind), objection.number) {
            (Action::Note, _) => {}
            (Action::Hold, _) => held.push(objection.explanation.clone()),
            (Action::Strike, Some(number)) => struck.entry(number).or_default().push(objection),
            (Action::Partial, _) | (Action::Strike, None) => partial.push(objection.explanation.clone()),
        }
    }
    for (number, objections) in &struck {
        let Some(sentence) = draft.structure.sentences.get(*number) else { continue };
        let named: BTreeSet<&str> = sentence.statements.iter().map(|statement| statement.concept.name()).collect();
        let named: Vec<&str> = named.into_iter().collect();
        let about = if named.is_empty() { String::new() } else { format!(" on {}", named.join(", ")) };
        let reasons: Vec<&str> = objections.iter().map(|it| it.explanation.as_str()).collect();
        draft.struck.push(format!("A sentence{about} was taken out: {}", reasons.join("; ")));
        let range = sentence.range.clone();
        draft.findings.retain(|finding| finding.range != range);
        draft.unrecognised.retain(|sentence| sentence.range != range);
    }
    draft.impression = draft::impression(&draft);
    partial.dedup();
    Verdict { draft, held, partial }
}
