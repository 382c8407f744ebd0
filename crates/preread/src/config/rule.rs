//! `[[rule]]`: which images go to which model, what is asked of it besides its text, and what its checks do.

use anyhow::{Result, bail};
use report::Policy;
use serde::{Deserialize, Serialize};

use super::{DestinationSection, ModelSection};
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
    #[serde(default)]
    mode: Mode,
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
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
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
    /// The rule, compiled. Errors name the rule, and what is not there.
    pub(super) fn rule(self, models: &[ModelSection], destinations: &[DestinationSection]) -> Result<Rule> {
        let name = &self.name;
        for model in std::iter::once(&self.model).chain(&self.second_model) {
            if !models.iter().any(|it| &it.name == model) {
                bail!("rule \"{name}\" names the model \"{model}\", and there is no [[model]] of that name");
            }
        }
        for destination in &self.destinations {
            if !destinations.iter().any(|it| &it.name == destination) {
                bail!(
                    "rule \"{name}\" names the destination \"{destination}\", and there is no [[destination]] of that name"
                );
            }
        }
        let EvidenceSection { samples, saliency, .. } = self.evidence;
        if samples > SAMPLES {
            bail!("rule \"{name}\" has evidence.samples = {samples}; at most {SAMPLES} are drawn");
        }
        if let Some([rows, columns]) = saliency
            && !(1..=CELLS).contains(&rows.saturating_mul(columns))
        {
            bail!(
                "rule \"{name}\" has evidence.saliency = [{rows}, {columns}]; write rows and columns of 1 to {CELLS} cells \
                 in all, as in [4, 4]"
            );
        }
        let settings = Settings {
            checks: self.checks,
            evidence: self.evidence,
            second_model: self.second_model,
            unstated: self.unstated,
        };
        let rule = Rule::new(self.name, &self.when, self.model, self.destinations, self.mode, self.priority)?;
        Ok(rule.with(settings))
    }
}

fn always() -> String {
    "true".to_owned()
}
