//! Generation options by their Hugging Face names: the model's own, overridden by a request's.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{
    bundle::{Bundle, read_json, read_optional_json},
    error::{Error, Result},
};

/// Options that shape an answer, in Transformers' meaning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generation {
    /// Encoder-decoder models only; [`Generation::start`] asks for it.
    pub(crate) decoder_start_token_id: Option<u32>,
    pub(crate) eos_token_id: Vec<u32>,
    /// Counts the prompt; without it and without `max_new_tokens`, 20 tokens after the prompt.
    pub(crate) max_length: Option<usize>,
    /// Does not count the prompt; wins over `max_length`.
    pub(crate) max_new_tokens: Option<usize>,
    pub(crate) min_length: usize,
    pub(crate) min_new_tokens: usize,
    pub(crate) repetition_penalty: f32,
    /// Above 1 makes what the encoder read (in decoder-only models the prompt) more likely.
    pub(crate) encoder_repetition_penalty: f32,
    pub(crate) no_repeat_ngram_size: usize,
    pub(crate) encoder_no_repeat_ngram_size: usize,
    pub(crate) bad_words_ids: Vec<Vec<u32>>,
    pub(crate) suppress_tokens: Vec<u32>,
    pub(crate) begin_suppress_tokens: Vec<u32>,
    pub(crate) forced_bos_token_id: Option<u32>,
    pub(crate) forced_eos_token_id: Vec<u32>,
    /// 1 is greedy search.
    pub(crate) num_beams: usize,
    pub(crate) length_penalty: f32,
    pub(crate) early_stopping: EarlyStopping,
    /// Texts that end generation as soon as one of them has been written.
    pub(crate) stop_strings: Vec<String>,
    /// None chooses the best token.
    pub(crate) sampling: Option<Sampling>,
}

/// How tokens are drawn when `do_sample` is on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    /// Our own option: the same seed draws the same tokens from the same scores. Transformers has it as `set_seed`.
    pub(crate) seed: u64,
    pub(crate) temperature: f32,
    /// 0 keeps all.
    pub(crate) top_k: usize,
    pub(crate) top_p: f64,
    pub(crate) min_p: Option<f64>,
    pub(crate) typical_p: f64,
    pub(crate) epsilon_cutoff: f64,
    pub(crate) eta_cutoff: f64,
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

/// Transformers' own, where neither a folder nor a request says how long.
const DEFAULT_NEW_TOKENS: usize = 20;

/// Each beam holds a whole key/value cache.
const MAX_BEAMS: usize = 32;

/// Options this engine applies.
const APPLIED: [&str; 28] = [
    "decoder_start_token_id",
    "eos_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "num_beams",
    "length_penalty",
    "early_stopping",
    "stop_strings",
    "do_sample",
    "seed",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
];

/// Options that would change an answer and are not implemented, with the values at which they do nothing.
fn neutral(key: &str) -> Option<&'static [&'static str]> {
    Some(match key {
        "constraints"
        | "force_words_ids"
        | "top_h"
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
        "diversity_penalty" => &["0", "0.0"],
        "guidance_scale" => &["1", "1.0"],
        _ => return None,
    })
}

/// Bookkeeping.
const WITHOUT_EFFECT: [&str; 11] = [
    "bos_token_id",
    "pad_token_id",
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
        .chain(["bos_token_id"])
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
                    format!("greedy search, beam search and sampling with {}", APPLIED.join(", ")),
                    format!("set `{key}` to {} in the request", neutral(key).map_or("null", |neutral| neutral[0])),
                ));
            }
        }
        Self::parse(&Options(&options))
    }

    fn parse(options: &Options<'_>) -> Result<Self> {
        let start = options.ids("decoder_start_token_id")?;
        if start.len() > 1 {
            return Err(options.wrong("decoder_start_token_id", "one token id"));
        }
        let min_new_tokens = options.count("min_new_tokens")?;
        let forced_bos = options.ids("forced_bos_token_id")?;
        let num_beams = options.count("num_beams")?.unwrap_or(1);
        if !(1..=MAX_BEAMS).contains(&num_beams) {
            return Err(options.wrong("num_beams", &format!("a number from 1 to {MAX_BEAMS}")));
        }
        let sampling = options.sampling()?;
        if sampling.is_some() && num_beams > 1 {
            return Err(Error::unsupported(
                format!("generation options `do_sample` = true and `num_beams` = {num_beams} together"),
                "sampling with one beam, beam search without sampling",
                "set `num_beams` to 1 or `do_sample` to false in the request",
            ));
        }
        Ok(Self {
            decoder_start_token_id: start.first().copied(),
            eos_token_id: options.ids("eos_token_id")?,
            max_length: options.count("max_length")?,
            max_new_tokens: options.count("max_new_tokens")?,
            // As in Transformers, the one takes the place of the other.
            min_length: options.count("min_length")?.filter(|_| min_new_tokens.is_none()).unwrap_or(0),
            min_new_tokens: min_new_tokens.unwrap_or(0),
            repetition_penalty: options.positive("repetition_penalty", 1.0)?,
            encoder_repetition_penalty: options.positive("encoder_repetition_penalty", 1.0)?,
            no_repeat_ngram_size: options.count("no_repeat_ngram_size")?.unwrap_or(0),
            encoder_no_repeat_ngram_size: options.count("encoder_no_repeat_ngram_size")?.unwrap_or(0),
            bad_words_ids: options.sequences("bad_words_ids")?,
            suppress_tokens: options.ids("suppress_tokens")?,
            begin_suppress_tokens: options.ids("begin_suppress_tokens")?,
            forced_bos_token_id: forced_bos.first().copied(),
            forced_eos_token_id: options.ids("forced_eos_token_id")?,
            num_beams,
            length_penalty: options.number("length_penalty", 1.0)?,
            early_stopping: options.early_stopping()?,
            stop_strings: options.strings("stop_strings")?,
            sampling,
        })
    }

    /// The token an encoder-decoder model starts from.
    ///
    /// # Errors
    /// [`Error::Request`] when neither the folder nor the request states it.
    pub(crate) fn start(&self) -> Result<u32> {
        self.decoder_start_token_id.ok_or_else(|| {
            let expected = "one token id (config.json of the model states it)";
            Error::Request(format!("generation option `decoder_start_token_id` is nothing; expected {expected}"))
        })
    }

    /// Whether a stop string ends within the last token. `text` is all that was written, `before` how many bytes of it
    /// stood before that token. What the token writes after the stop string stays, as in Transformers.
    pub(crate) fn stops(&self, text: &str, before: usize) -> bool {
        self.stop_strings.iter().any(|stop| {
            let from = (before + 1).saturating_sub(stop.len()).min(text.len());
            text.as_bytes()[from..].windows(stop.len()).any(|window| window == stop.as_bytes())
        })
    }

    /// Longest sequence, prompt included, for a prompt of `prompt` tokens.
    pub(crate) fn limit(&self, prompt: usize) -> usize {
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => prompt.saturating_add(new),
            (None, Some(length)) => length,
            (None, None) => prompt.saturating_add(DEFAULT_NEW_TOKENS),
        }
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

    fn positive(&self, key: &str, default: f32) -> Result<f32> {
        let number = self.number(key, default)?;
        if number > 0.0 { Ok(number) } else { Err(self.wrong(key, "a number above 0")) }
    }

    /// A number within a range.
    fn within(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value
            .as_f64()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.wrong(key, &format!("a number from {} to {}", range.start(), range.end())))
    }

    fn sampling(&self) -> Result<Option<Sampling>> {
        match self.0.get("do_sample") {
            None | Some(Value::Bool(false)) => return Ok(None),
            Some(Value::Bool(true)) => {}
            Some(_) => return Err(self.wrong("do_sample", "true or false")),
        }
        let seed = self.0.get("seed").map(|seed| seed.as_u64().ok_or_else(|| self.wrong("seed", "a whole number")));
        Ok(Some(Sampling {
            seed: seed.transpose()?.unwrap_or(0),
            temperature: self.positive("temperature", 1.0)?,
            // Transformers' own default.
            top_k: self.count("top_k")?.unwrap_or(50),
            top_p: self.within("top_p", 1.0, 0.0..=1.0)?,
            min_p: self.0.get("min_p").map(|_| self.within("min_p", 0.0, 0.0..=1.0)).transpose()?,
            typical_p: self.within("typical_p", 1.0, 0.0..=1.0)?,
            epsilon_cutoff: self.within("epsilon_cutoff", 0.0, 0.0..=1.0)?,
            eta_cutoff: self.within("eta_cutoff", 0.0, 0.0..=1.0)?,
        }))
    }

    /// One text, or a list of them.
    fn strings(&self, key: &str) -> Result<Vec<String>> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let texts = match self.0.get(key) {
            None => Some(Vec::new()),
            Some(Value::Array(texts)) => texts.iter().map(text).collect(),
            // Transformers writes `false` or nothing where there is none.
            Some(Value::Bool(false)) => Some(Vec::new()),
            Some(value) => text(value).map(|text| vec![text]),
        };
        texts.ok_or_else(|| self.wrong(key, "a text that is not empty, or a list of them"))
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
        assert_eq!((generation.limit(3), generation.max_length, generation.num_beams), (8, Some(24), 1));
        let unsaid = combined(json!({"decoder_start_token_id": 0}), Value::Null).expect("valid");
        assert_eq!(unsaid.limit(3), 23);
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
        check(json!({"do_sample": true, "num_beams": 2}), &["`do_sample` = true", "set `num_beams` to 1"]);
        check(json!({"do_sample": true, "temperature": 0}), &["`temperature` is 0", "above 0"]);
        check(json!({"do_sample": true, "top_p": 1.5}), &["`top_p` is 1.5", "0 to 1"]);
        check(json!({"do_sample": 1}), &["`do_sample` is 1", "true or false"]);
        check(json!({"do_sample": true, "seed": -1}), &["`seed` is -1", "whole number"]);
        check(json!({"stop_strings": [""]}), &["`stop_strings`", "not empty"]);
        check(json!({"maxlength": 4}), &["`maxlength` is unknown", "max_length"]);
        check(json!({"max_length": -1}), &["`max_length` is -1", "whole number"]);
        check(json!({"bad_words_ids": [[]]}), &["bad_words_ids", "non-empty"]);
        check(json!({"repetition_penalty": 0}), &["repetition_penalty", "above 0"]);
        check(json!({"decoder_start_token_id": [1, 2]}), &["decoder_start_token_id", "one token id"]);
        let without = combined(json!({}), Value::Null).expect("a decoder-only model has none");
        assert!(without.start().expect_err("none").to_string().contains("`decoder_start_token_id` is nothing"));
        check(json!([1]), &["JSON object"]);
    }

    #[test]
    fn a_stop_string_has_to_end_in_the_last_token() {
        let check = |tokens: &[&str], expected: bool| {
            let generation = combined(json!({"stop_strings": ["stop", "\u{e9}."]}), Value::Null).expect("valid");
            let text = tokens.concat();
            let last = tokens.last().map_or(0, |token| token.len());
            assert_eq!(generation.stops(&text, text.len() - last), expected, "{tokens:?}");
        };
        check(&["stop"], true);
        check(&["sto", "pper"], true);
        check(&["las", "topper"], true);
        check(&["s", "to", "pped"], true);
        check(&["stop", "at"], false);
        check(&["st", "op", "at"], false);
        check(&["caf\u{e9}", ". "], true);
        check(&[""], false);
    }

    #[test]
    fn neutral_values_and_options_without_effect_pass() {
        let harmless = json!({"do_sample": false, "num_beams": 1, "guidance_scale": null, "top_k": 3});
        combined(json!({"decoder_start_token_id": 0}), harmless).expect("nothing to refuse");
    }
}
