//! `genai_config.json` of onnxruntime-genai: which file plays which part, what each input and output is called, and the
//! options that other layouts keep in `generation_config.json` and `preprocessor_config.json`.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use crate::{
    bundle::read_json,
    error::{Error, Result},
    graph::Names,
    layout::Role,
};

/// The parts of a model, as its `genai_config.json` names them.
#[derive(Debug, Clone)]
pub(crate) struct GenAi {
    /// `model.type`.
    pub(crate) family: String,
    config: Value,
    parts: BTreeMap<Role, Part>,
}

#[derive(Debug, Clone)]
struct Part {
    file: String,
    names: Names,
}

impl GenAi {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Bundle`] when it is malformed, [`Error::Unsupported`] for a model without vision or in stages.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let config = read_json(path)?;
        let fail = |problem: &str| Error::bundle(path, problem);
        let model = config.get("model").ok_or_else(|| fail("it has no `model`"))?;
        let family =
            model.get("type").and_then(Value::as_str).ok_or_else(|| fail("`model.type` is missing"))?.to_owned();
        let mut parts = BTreeMap::new();
        for (role, key) in [(Role::Vision, "vision"), (Role::Embed, "embedding"), (Role::Decoder, "decoder")] {
            let section = model.get(key).filter(|section| section.is_object());
            let Some(section) = section else {
                return Err(Error::unsupported(
                    format!("{}: type `{family}` without `model.{key}`", path.display()),
                    "vision language models with `vision`, `embedding` and `decoder` graphs",
                    "choose a model that reads images",
                ));
            };
            if section.get("pipeline").and_then(Value::as_array).is_some_and(|stages| !stages.is_empty()) {
                return Err(Error::unsupported(
                    format!("{}: `model.{key}.pipeline`, a part in several graphs", path.display()),
                    "one graph for each part",
                    "build the model for CPU or CUDA, which keeps each part in one graph",
                ));
            }
            let file = section.get("filename").and_then(Value::as_str);
            let file = file.ok_or_else(|| fail(&format!("`model.{key}.filename` is missing")))?.to_owned();
            parts.insert(role, Part { file, names: names(role, section) });
        }
        Ok(Self { family, config, parts })
    }

    /// The files that play the parts.
    ///
    /// # Errors
    /// [`Error::Bundle`] naming the file that is missing.
    pub(crate) fn graphs(&self, dir: &Path, names: &[String]) -> Result<BTreeMap<Role, String>> {
        let find = |(role, part): (&Role, &Part)| match names.iter().find(|name| **name == part.file) {
            Some(name) => Ok((*role, name.clone())),
            None => {
                let problem =
                    format!("{} is missing, genai_config.json names it; copy it from the model's source", part.file);
                Err(Error::bundle(dir, problem))
            }
        };
        self.parts.iter().map(find).collect()
    }

    /// What a part's inputs and outputs are called.
    pub(crate) fn names(&self, role: Role) -> Names {
        self.parts.get(&role).map(|part| part.names.clone()).unwrap_or_default()
    }

    /// The options of `search` and the tokens of `model`, by their Hugging Face names.
    pub(crate) fn generation(&self) -> Map<String, Value> {
        const SEARCH: [&str; 11] = [
            "do_sample",
            "early_stopping",
            "length_penalty",
            "max_length",
            "min_length",
            "no_repeat_ngram_size",
            "num_beams",
            "repetition_penalty",
            "temperature",
            "top_k",
            "top_p",
        ];
        const TOKENS: [&str; 4] = ["bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"];
        let copy = |section: &str, keys: &[&str], into: &mut Map<String, Value>| {
            for key in keys {
                if let Some(value) = self.config.get(section).and_then(|section| section.get(key)) {
                    into.insert((*key).to_owned(), value.clone());
                }
            }
        };
        let mut options = Map::new();
        copy("search", &SEARCH, &mut options);
        copy("model", &TOKENS, &mut options);
        options
    }
}

/// From what the file says to what the engine calls inputs and outputs.
fn names(role: Role, section: &Value) -> Names {
    // The builder's graphs do not say how long a head of their cache is.
    let mut names = Names::new(section.get("head_size").and_then(Value::as_i64));
    let stated = ["inputs", "outputs"].into_iter().filter_map(|key| section.get(key)?.as_object()).flatten();
    for (key, name) in stated {
        let Some(name) = name.as_str() else { continue };
        let ours = match (role, key.as_str()) {
            (Role::Vision, "attention_mask") => "pixel_attention_mask",
            (_, "past_key_names") => "past_key_values.%d.key",
            (_, "past_value_names") => "past_key_values.%d.value",
            (_, "present_key_names") => "present.%d.key",
            (_, "present_value_names") => "present.%d.value",
            (_, key) => key,
        };
        names.insert(name, ours);
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<GenAi> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), config.to_string()).expect("written");
        GenAi::read(file.path())
    }

    fn whole() -> Value {
        json!({"model": {"type": "phi3v", "eos_token_id": [7, 8], "image_token_id": 5,
            "vision": {"filename": "v.onnx", "config_filename": "processor_config.json",
                "inputs": {"pixel_values": "pixels", "attention_mask": "mask"}, "outputs": {"image_features": "features"}},
            "embedding": {"filename": "e.onnx", "inputs": {"input_ids": "ids", "image_features": "features"},
                "outputs": {"inputs_embeds": "embeds"}},
            "decoder": {"filename": "d.onnx", "head_size": 128,
                "inputs": {"inputs_embeds": "embeds", "deepstack_names": "deep.%d", "past_key_names": "past.%d.k",
                    "past_value_names": "past.%d.v"},
                "outputs": {"logits": "scores", "present_key_names": "now.%d.k", "present_value_names": "now.%d.v"}}},
            "search": {"max_length": 99, "top_k": 1, "past_present_share_buffer": true}})
    }

    #[test]
    fn names_come_from_the_file() {
        let genai = read(&whole()).expect("valid");
        let check = |role: Role, theirs: &str, ours: &str| assert_eq!(genai.names(role).ours(theirs), ours);
        check(Role::Vision, "mask", "pixel_attention_mask");
        check(Role::Vision, "features", "image_features");
        check(Role::Embed, "ids", "input_ids");
        check(Role::Decoder, "past.12.v", "past_key_values.12.value");
        check(Role::Decoder, "now.0.k", "present.0.key");
        check(Role::Decoder, "scores", "logits");
        check(Role::Decoder, "deep.2", "deep.2");
        check(Role::Decoder, "position_ids", "position_ids");
        assert_eq!(Value::Object(genai.generation()), json!({"max_length": 99, "top_k": 1, "eos_token_id": [7, 8]}));
        assert_eq!(genai.names(Role::Decoder).head_size, Some(128));
        assert_eq!(genai.family, "phi3v");
    }

    #[test]
    fn refuses_what_it_cannot_run() {
        let check = |path: &str, value: Value, part: &str| {
            let mut config = whole();
            *config.pointer_mut(path).expect("there") = value;
            let error = read(&config).expect_err(part).to_string();
            assert!(error.contains(part), "{part:?} not in {error:?}");
        };
        check("/model/vision", Value::Null, "without `model.vision`");
        check("/model/vision", json!({"filename": "v", "pipeline": [{}]}), "pipeline");
        check("/model/decoder/filename", Value::Null, "model.decoder.filename");
        check("/model", Value::Null, "model.type");
    }
}
