//! Generation options by their Hugging Face names: the model's own, overridden by a request's.

use serde_json::{Map, Value};

use crate::{
    bundle::{Bundle, read_json, read_optional_json},
    error::{Error, Result},
};

/// Options that shape an answer, in Transformers' meaning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generation {
    pub(crate) decoder_start_token_id: u32,
    pub(crate) eos_token_id: Vec<u32>,
    /// Counts the prompt.
    pub(crate) max_length: usize,
    /// Does not count the prompt; wins over `max_length`.
    pub(crate) max_new_tokens: Option<usize>,
    pub(crate) min_length: usize,
    pub(crate) min_new_tokens: usize,
    pub(crate) repetition_penalty: f32,
    pub(crate) no_repeat_ngram_size: usize,
    pub(crate) bad_words_ids: Vec<Vec<u32>>,
    pub(crate) suppress_tokens: Vec<u32>,
    pub(crate) begin_suppress_tokens: Vec<u32>,
    pub(crate) forced_bos_token_id: Option<u32>,
    pub(crate) forced_eos_token_id: Vec<u32>,
    /// 1 is greedy search.
    pub(crate) num_beams: usize,
    pub(crate) length_penalty: f32,
    pub(crate) early_stopping: EarlyStopping,
}

/// When beam search ends, by `early_stopping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlyStopping {
    /// `true`: as soon as there are as many finished sequences as beams.
    Always,
    /// `false`: when an estimate says that running sequences cannot win any more.
    Estimate,
    /// `"never"`: when they cannot win at any length.
    Never,
}

/// Each beam holds a whole key/value cache.
const MAX_BEAMS: usize = 32;

/// Options this engine applies.
const APPLIED: [&str; 16] = [
    "decoder_start_token_id",
    "eos_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "num_beams",
    "length_penalty",
    "early_stopping",
];

/// Options that would change an answer and are not implemented, with the values at which they do nothing.
fn neutral(key: &str) -> Option<&'static [&'static str]> {
    Some(match key {
        "do_sample"
        | "constraints"
        | "force_words_ids"
        | "stop_strings"
        | "sequence_bias"
        | "penalty_alpha"
        | "exponential_decay_length_penalty"
        | "prompt_lookup_num_tokens"
        | "watermarking_config"
        | "dola_layers"
        | "token_healing"
        | "max_time"
        | "remove_invalid_values"
        | "renormalize_logits" => &["false", "[]", "{}"],
        "num_beam_groups" | "num_return_sequences" => &["1"],
        "diversity_penalty" | "encoder_no_repeat_ngram_size" => &["0", "0.0"],
        "guidance_scale" | "encoder_repetition_penalty" => &["1", "1.0"],
        _ => return None,
    })
}

/// Options that do nothing without sampling, and bookkeeping.
const WITHOUT_EFFECT: [&str; 18] = [
    "bos_token_id",
    "pad_token_id",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "use_cache",
    "cache_implementation",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "transformers_version",
    "_from_model_config",
];

/// The folder's options: `generation_config.json` or, in older exports, what `config.json` says in its place. The end
/// tokens of both count.
pub(crate) fn read_options(bundle: &Bundle) -> Result<Map<String, Value>> {
    let config = read_json(&bundle.folder.join("config.json"))?;
    let path = bundle.folder.join("generation_config.json");
    let mut options = match read_optional_json(&path)? {
        Some(Value::Object(options)) => options,
        Some(_) => return Err(Error::bundle(path, "it is not a JSON object")),
        None => legacy(&config),
    };
    let mut ends: Vec<Value> = Vec::new();
    for source in [options.get("eos_token_id"), config.get("eos_token_id")] {
        let listed = match source {
            Some(Value::Array(ids)) => ids.clone(),
            Some(Value::Null) | None => Vec::new(),
            Some(id) => vec![id.clone()],
        };
        ends.extend(listed.into_iter().filter(|id| !ends.contains(id)).collect::<Vec<_>>());
    }
    options.insert("eos_token_id".to_owned(), Value::Array(ends));
    if options.get("decoder_start_token_id").is_none_or(Value::is_null) {
        let start = config.get("decoder_start_token_id").or_else(|| options.get("bos_token_id"));
        if let Some(start) = start.cloned() {
            options.insert("decoder_start_token_id".to_owned(), start);
        }
    }
    Ok(options)
}

/// Before generation_config.json existed, `config.json` held these options, or its `decoder` did.
fn legacy(config: &Value) -> Map<String, Value> {
    let places = [Some(config), config.get("decoder")];
    let find = |key: &str| places.iter().flatten().find_map(|place| place.get(key).filter(|value| !value.is_null()));
    APPLIED
        .iter()
        .copied()
        .chain(["bos_token_id", "do_sample"])
        .filter_map(|key| Some((key.to_owned(), find(key)?.clone())))
        .collect()
}

impl Generation {
    /// Combines the folder's options with those of a request, which win; `null` takes an option away.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown name or a wrong value, [`Error::Unsupported`] for an option that would change
    /// the answer and is not implemented.
    pub(crate) fn new(folder: &Map<String, Value>, overrides: &Value) -> Result<Self> {
        let mut options = folder.clone();
        match overrides {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    let known = APPLIED.contains(&key.as_str()) || WITHOUT_EFFECT.contains(&key.as_str());
                    if !known && neutral(key).is_none() {
                        return Err(Error::Request(format!(
                            "generation option `{key}` is unknown; applied: {}",
                            APPLIED.join(", ")
                        )));
                    }
                    options.insert(key.clone(), value.clone());
                }
            }
            _ => return Err(Error::Request("generation options must be a JSON object".to_owned())),
        }
        options.retain(|_, value| !value.is_null());
        for (key, value) in &options {
            let applied = neutral(key).is_some_and(|neutral| !neutral.contains(&value.to_string().as_str()));
            if applied {
                return Err(Error::unsupported(
                    format!("generation option `{key}` = {value}"),
                    format!("greedy and beam search with {}", APPLIED.join(", ")),
                    format!("set `{key}` to {} in the request", neutral(key).map_or("null", |neutral| neutral[0])),
                ));
            }
        }
        Self::parse(&Options(&options))
    }

    fn parse(options: &Options<'_>) -> Result<Self> {
        let start = options.ids("decoder_start_token_id")?;
        let [decoder_start_token_id] = start[..] else {
            return Err(options.wrong("decoder_start_token_id", "one token id (config.json of the model states it)"));
        };
        let forced_bos = options.ids("forced_bos_token_id")?;
        let repetition_penalty = options.number("repetition_penalty", 1.0)?;
        if repetition_penalty <= 0.0 {
            return Err(options.wrong("repetition_penalty", "a number above 0"));
        }
        let num_beams = options.count("num_beams")?.unwrap_or(1);
        if !(1..=MAX_BEAMS).contains(&num_beams) {
            return Err(options.wrong("num_beams", &format!("a number from 1 to {MAX_BEAMS}")));
        }
        Ok(Self {
            decoder_start_token_id,
            eos_token_id: options.ids("eos_token_id")?,
            // Transformers' own default.
            max_length: options.count("max_length")?.unwrap_or(20),
            max_new_tokens: options.count("max_new_tokens")?,
            min_length: options.count("min_length")?.unwrap_or(0),
            min_new_tokens: options.count("min_new_tokens")?.unwrap_or(0),
            repetition_penalty,
            no_repeat_ngram_size: options.count("no_repeat_ngram_size")?.unwrap_or(0),
            bad_words_ids: options.sequences("bad_words_ids")?,
            suppress_tokens: options.ids("suppress_tokens")?,
            begin_suppress_tokens: options.ids("begin_suppress_tokens")?,
            forced_bos_token_id: forced_bos.first().copied(),
            forced_eos_token_id: options.ids("forced_eos_token_id")?,
            num_beams,
            length_penalty: options.number("length_penalty", 1.0)?,
            early_stopping: options.early_stopping()?,
        })
    }

    /// Longest sequence, prompt included, for a prompt of `prompt` tokens.
    pub(crate) fn limit(&self, prompt: usize) -> usize {
        self.max_new_tokens.map_or(self.max_length, |new| prompt.saturating_add(new))
    }
}

/// Typed access to the options; messages name the option and what it should hold.
struct Options<'a>(&'a Map<String, Value>);

impl Options<'_> {
    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.0.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        Error::Request(format!("generation option `{key}` is {found}; expected {expected}"))
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        self.0
            .get(key)
            .map(|value| count(value).ok_or_else(|| self.wrong(key, "a whole number, 0 or more")))
            .transpose()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in single precision")]
    fn number(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_f64().map(|number| number as f32).ok_or_else(|| self.wrong(key, "a number"))
    }

    fn early_stopping(&self) -> Result<EarlyStopping> {
        match self.0.get("early_stopping") {
            None | Some(Value::Bool(false)) => Ok(EarlyStopping::Estimate),
            Some(Value::Bool(true)) => Ok(EarlyStopping::Always),
            Some(Value::String(word)) if word == "never" => Ok(EarlyStopping::Never),
            Some(_) => Err(self.wrong("early_stopping", "true, false or \"never\"")),
        }
    }

    /// One token id, or a list of them.
    fn ids(&self, key: &str) -> Result<Vec<u32>> {
        match self.0.get(key) {
            None => Ok(Vec::new()),
            Some(value) => ids(value).ok_or_else(|| self.wrong(key, "a token id or a list of token ids")),
        }
    }

    fn sequences(&self, key: &str) -> Result<Vec<Vec<u32>>> {
        let parse = |value: &Value| {
            let sequences: Option<Vec<Vec<u32>>> = value.as_array()?.iter().map(ids).collect();
            sequences.filter(|sequences| sequences.iter().all(|sequence| !sequence.is_empty()))
        };
        match self.0.get(key) {
            None => Ok(Vec::new()),
            Some(value) => parse(value).ok_or_else(|| self.wrong(key, "a list of non-empty lists of token ids")),
        }
    }
}

fn ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().map(id).collect(),
        value => id(value).map(|id| vec![id]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn combined(folder: Value, overrides: Value) -> Result<Generation> {
        let Value::Object(folder) = folder else { panic!("an object") };
        Generation::new(&folder, &overrides)
    }

    #[test]
    fn a_request_wins_over_the_folder() {
        let folder = json!({"decoder_start_token_id": 0, "eos_token_id": [1, 2], "max_length": 24, "num_beams": 4});
        let generation =
            combined(folder, json!({"num_beams": 1, "max_new_tokens": 5, "eos_token_id": 7})).expect("valid");
        assert_eq!(generation.eos_token_id, [7]);
        assert_eq!((generation.limit(3), generation.max_length, generation.num_beams), (8, 24, 1));
    }

    #[test]
    fn refuses_with_name_and_advice() {
        let check = |overrides: Value, parts: &[&str]| {
            let error = combined(json!({"decoder_start_token_id": 0}), overrides).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} not in {error:?}");
            }
        };
        check(json!({"num_beam_groups": 4}), &["not supported", "`num_beam_groups` = 4", "set `num_beam_groups` to 1"]);
        check(json!({"num_beams": 0}), &["`num_beams` is 0", "1 to 32"]);
        check(json!({"early_stopping": "soon"}), &["early_stopping", "never"]);
        check(json!({"do_sample": true}), &["`do_sample` = true", "set `do_sample` to false"]);
        check(json!({"maxlength": 4}), &["`maxlength` is unknown", "max_length"]);
        check(json!({"max_length": -1}), &["`max_length` is -1", "whole number"]);
        check(json!({"bad_words_ids": [[]]}), &["bad_words_ids", "non-empty"]);
        check(json!({"repetition_penalty": 0}), &["repetition_penalty", "above 0"]);
        check(json!({"decoder_start_token_id": null}), &["decoder_start_token_id", "nothing"]);
        check(json!([1]), &["JSON object"]);
    }

    #[test]
    fn neutral_values_and_options_without_effect_pass() {
        let harmless = json!({"do_sample": false, "num_beams": 1, "guidance_scale": null, "temperature": 0.7});
        combined(json!({"decoder_start_token_id": 0}), harmless).expect("nothing to refuse");
    }
}
