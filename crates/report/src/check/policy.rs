//! What is done about objections.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Objection, Severity};
use crate::{Error, draft::Draft, structure::Struck};

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

/// What is done about which objection.
///
/// By default what is minor is noted, what is major makes the report partial, what is critical holds it; claims and foreign
/// text that the report can do without are taken out. Read from names and actions: a severity (`minor`, `major`,
/// `critical`) for all of its kinds, a kind for itself whatever its severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Action>", into = "BTreeMap<Kind, Action>")]
pub struct Policy {
    /// For every kind.
    actions: BTreeMap<Kind, Action>,
}

/// What is struck when nothing else is said of it; of a measurement only the coded number.
const STRUCK: &[Kind] =
    &[Kind::Prior, Kind::Procedure, Kind::Foreign, Kind::Machine, Kind::LowConfidence, Kind::Measurement];

impl Default for Policy {
    fn default() -> Self {
        let action = |kind: Kind| match kind.severity() {
            _ if STRUCK.contains(&kind) => Action::Strike,
            Severity::Minor => Action::Note,
            Severity::Major => Action::Partial,
            Severity::Critical => Action::Hold,
        };
        Self { actions: Kind::all().map(|kind| (kind, action(kind))).collect() }
    }
}

impl Policy {
    /// What is done about an objection of this kind.
    pub fn action(&self, kind: Kind) -> Action {
        self.actions.get(&kind).copied().unwrap_or(Action::Hold)
    }

    /// The default with other actions for severities and kinds, by name. A kind goes before its severity.
    ///
    /// # Errors
    /// [`Error::Check`] for a name that is neither; it lists them all.
    pub fn with(settings: &BTreeMap<String, Action>) -> Result<Self, Error> {
        let mut policy = Self::default();
        let severity = |name: &str| Severity::ALL.into_iter().find(|severity| severity.name() == name);
        for (name, action) in settings {
            if let Some(severity) = severity(name) {
                let of_it = policy.actions.iter_mut().filter(|(kind, _)| kind.severity() == severity);
                of_it.for_each(|(_, of_kind)| *of_kind = *action);
            }
        }
        for (name, action) in settings.iter().filter(|(name, _)| severity(name).is_none()) {
            let kind = Kind::all().find(|kind| kind.name() == *name).ok_or_else(|| Error::Check {
                name: name.clone(),
                severities: Severity::ALL.map(Severity::name).join(", "),
                kinds: Kind::all().map(Kind::name).collect::<Vec<_>>().join(", "),
            })?;
            policy.actions.insert(kind, *action);
        }
        Ok(policy)
    }
}

impl TryFrom<BTreeMap<String, Action>> for Policy {
    type Error = Error;

    fn try_from(settings: BTreeMap<String, Action>) -> Result<Self, Error> {
        Self::with(&settings)
    }
}

impl From<Policy> for BTreeMap<Kind, Action> {
    fn from(policy: Policy) -> Self {
        policy.actions
    }
}

/// What became of a draft.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The draft with what was struck marked as such.
    pub draft: Draft,
    /// Why it waits for a person; empty when it does not.
    pub held: Vec<String>,
    /// Why it is partial; empty when it is not.
    pub partial: Vec<String>,
}

/// Does what the policy says about the objections of [`check`](super::check()).
///
/// A struck sentence stays in its place, as struck and with the reason, so that nothing positive is lost without a trace. One
/// that is objected to for its measurement alone stands, with a note that nobody measured it, and its number is not coded.
/// What is about the whole and cannot be struck makes the report partial.
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
        strike(&mut draft, *number, objections);
    }
    partial.dedup();
    Verdict { draft, held, partial }
}

/// Strikes a sentence out, or says that nobody measured its numbers.
fn strike(draft: &mut Draft, number: usize, objections: &[&Objection]) {
    let Some(sentence) = draft.structure.sentences.get_mut(number) else { return };
    let range = sentence.range.clone();
    if objections.iter().all(|it| it.kind == Kind::Measurement) {
        sentence.unmeasured = true;
        draft.findings.iter_mut().filter(|it| it.range == range).for_each(|it| it.measurements.clear());
        return;
    }
    let reasons: Vec<&str> = objections.iter().map(|it| it.explanation.as_str()).collect();
    let words = !objections.iter().any(|it| UNSHOWN.contains(&it.kind));
    sentence.struck = Some(Struck { why: reasons.join("; "), words });
    draft.findings.retain(|finding| finding.range != range);
    draft.normal.take_if(|normal| normal.range == range);
}

/// What may name a person, or speaks to a machine: a struck sentence of these kinds is not shown.
const UNSHOWN: &[Kind] = &[Kind::Foreign, Kind::OtherPatient, Kind::Machine, Kind::Instruction];
