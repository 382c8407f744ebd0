//! `[[rule]]`: which images go to which model, what is asked of it besides its text, and what its checks do.

use report::Policy;
use serde::{Deserialize, Serialize};

use super::{
    DestinationSection, ModelSection,
    check::Findings,
    values::{mode, no_unless},
};
use crate::route::Rule;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSection {
    pub(super) name: String,
    #[serde(default = "always")]
    when: String,
    model: String,
    second_model: Option<String>,
    #[serde(default)]
    destinations: Vec<String>,
    #[serde(default, deserialize_with = "mode")]
    mode: Mode,
    #[serde(default, deserialize_with = "no_unless", rename = "unless")]
    _unless: (),
    #[serde(default)]
    priority: Priority,
    /// What becomes of an image that does not state what its model asks for.
    #[serde(default)]
    unstated: Unstated,
    /// What severities and kinds of objections do.
    #[serde(default)]
    checks: Policy,
    #[serde(default)]
    evidence: EvidenceSection,
}

/// What becomes of a report.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// It is sent as a draft.
    #[default]
    Draft,
    /// It is kept, and nothing is sent.
    Shadow,
    /// The rule takes nothing.
    Off,
}

/// What becomes of an image that does not state what its model's manifest asks for.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unstated {
    /// It is read, with a note.
    Read,
    /// Its study waits for a person, unless there are images that do.
    #[default]
    Hold,
}

/// Which study is read first.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    #[default]
    Routine,
    /// Overtakes what is routine.
    Stat,
}

/// `[rule.evidence]`: what a model is asked for besides its text, at a cost.
#[derive(Deserialize, Serialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EvidenceSection {
    /// How much each sentence depends on the images.
    pub(crate) image_dependence: bool,
    /// So many answers drawn at random.
    pub(crate) samples: usize,
    /// Rows and columns of cells that are covered one after the other.
    pub(crate) saliency: Option<[usize; 2]>,
}

/// Most samples, and most cells, that are asked for: what `infer` refuses beyond is refused here at start.
const SAMPLES: usize = 32;
const CELLS: usize = 1024;

/// What a rule asks and does besides choosing images, model and destinations.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) checks: Policy,
    pub(crate) evidence: EvidenceSection,
    pub(crate) second_model: Option<String>,
    pub(crate) unstated: Unstated,
}

impl RuleSection {
    /// Whether it asks a model anything.
    pub(super) fn uses_model(&self, name: &str) -> bool {
        self.model == name || self.second_model.as_deref() == Some(name)
    }

    /// Whether its reports go to a destination.
    pub(super) fn sends_to(&self, name: &str) -> bool {
        self.destinations.iter().any(|it| it == name)
    }

    /// The rule, compiled; what is wrong with it is found, and names the rule and what is not there.
    pub(super) fn rule(
        self,
        index: usize,
        models: &[ModelSection],
        destinations: &[DestinationSection],
        found: &mut Findings<'_>,
    ) -> Option<Rule> {
        self.check_names(index, models, destinations, found);
        self.check_evidence(index, found);
        let settings = Settings {
            checks: self.checks,
            evidence: self.evidence,
            second_model: self.second_model,
            unstated: self.unstated,
        };
        match Rule::new(self.name, &self.when, self.model, self.destinations, self.mode, self.priority) {
            Ok(rule) => Some(rule.with(settings)),
            Err(error) => {
                found.error(("rule", index, "when"), format!("{error:#}"));
                None
            }
        }
    }

    fn check_names(
        &self,
        index: usize,
        models: &[ModelSection],
        destinations: &[DestinationSection],
        found: &mut Findings<'_>,
    ) {
        let name = &self.name;
        for (key, model) in [("model", Some(&self.model)), ("second_model", self.second_model.as_ref())] {
            if let Some(model) = model.filter(|model| !models.iter().any(|it| it.name == **model))
                && !found.is_damaged("model")
            {
                let text =
                    format!("rule \"{name}\" names the model \"{model}\", and there is no [[model]] of that name");
                found.error(("rule", index, key), text);
            }
        }
        for destination in &self.destinations {
            if !destinations.iter().any(|it| &it.name == destination) && !found.is_damaged("destination") {
                let text = format!(
                    "rule \"{name}\" names the destination \"{destination}\", and there is no [[destination]] of that name"
                );
                found.error(("rule", index, "destinations"), text);
            }
        }
        if self.mode == Mode::Draft && self.destinations.is_empty() {
            let text = format!(
                "rule \"{name}\" has no destinations, so that its drafts would go nowhere; name one, or write mode = \"shadow\" \
                 to read and send nothing"
            );
            found.error(("rule", index, "destinations"), text);
        }
    }

    fn check_evidence(&self, index: usize, found: &mut Findings<'_>) {
        let name = &self.name;
        let EvidenceSection { samples, saliency, .. } = self.evidence;
        if samples > SAMPLES {
            let text = format!("rule \"{name}\" has evidence.samples = {samples}; at most {SAMPLES} are drawn");
            found.error(("rule", index, "samples"), text);
        }
        if let Some([rows, columns]) = saliency
            && !(1..=CELLS).contains(&rows.saturating_mul(columns))
        {
            let text = format!(
                "rule \"{name}\" has evidence.saliency = [{rows}, {columns}]; write rows and columns of 1 to {CELLS} cells \
                 in all, as in [4, 4]"
            );
            found.error(("rule", index, "saliency"), text);
        }
    }
}

fn always() -> String {
    "true".to_owned()
}
