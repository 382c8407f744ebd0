//! What a person asks of the models in place of what their manifests ask, and what a reading had made by the time it ended.

use infer::Cancel;
use report::{Draft, Objection};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hex;

/// What `preread read` may ask of a model in place of its manifest; the daemon asks nothing else.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    /// The prompt.
    pub(crate) prompt: Option<String>,
    /// The labels of a zero-shot model.
    pub(crate) labels: Vec<String>,
    /// Generation options by their Hugging Face names, over the model's; `null` for none.
    pub(crate) generation: Value,
}

impl Asked {
    /// The request that it amounts to, without images.
    pub(super) fn request(&self) -> infer::Request {
        infer::Request {
            prompt: self.prompt.clone(),
            labels: self.labels.clone(),
            generation: self.generation.clone(),
            ..infer::Request::default()
        }
    }

    /// The digest of a rule's settings together with what is asked: other questions make another report.
    pub(crate) fn settings_digest(&self, of_rule: Option<String>) -> Option<String> {
        if *self == Self::default() {
            return of_rule;
        }
        let all = json!([of_rule, self.prompt, self.labels, self.generation]);
        Some(hex(Sha256::digest(all.to_string())))
    }

    /// How the text is decoded, in words.
    pub(super) fn decoding(&self) -> String {
        if self.generation.is_null() { "greedy".to_owned() } else { format!("generation options {}", self.generation) }
    }
}

/// What a reading has made so far, for those who want to see it even if it ends without a report.
#[derive(Default)]
pub(crate) struct Made {
    /// What the model wrote.
    pub(crate) model_text: Option<String>,
    /// What was read in it.
    pub(crate) draft: Option<Draft>,
    /// What speaks against it.
    pub(crate) objections: Vec<Objection>,
    /// Gets the handle that cancels the model's run.
    pub(crate) running: Option<Box<dyn FnMut(Cancel)>>,
}
