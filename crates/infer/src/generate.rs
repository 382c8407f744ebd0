//! Choosing tokens: the loop around a decoder.

use std::time::{Duration, Instant};

use crate::{
    answer::{Logits, StoppedBy},
    decoder::Step,
    error::{Error, Result},
    generation::Generation,
    logits::{Processors, argmax, log_softmax},
};

/// A finished sequence.
pub(crate) struct Generated {
    /// Prompt and generated tokens.
    pub(crate) ids: Vec<u32>,
    /// Per generated token.
    pub(crate) logprobs: Vec<f32>,
    /// Per generated token, when the decoder returns it.
    pub(crate) attention: Vec<Vec<f32>>,
    pub(crate) first: Logits,
    pub(crate) stopped_by: StoppedBy,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

/// Greedy search: the best token at every step. `step` runs the decoder over tokens it has not seen.
pub(crate) fn greedy(
    options: &Generation,
    prompt: Vec<u32>,
    mut step: impl FnMut(&[u32]) -> Result<Step>,
) -> Result<Generated> {
    let limit = options.limit(prompt.len());
    if limit <= prompt.len() {
        return Err(Error::Request(format!(
            "max_length {limit} leaves no room after a prompt of {} tokens; raise it or set max_new_tokens",
            prompt.len()
        )));
    }
    let start = prompt.len();
    let processors = Processors::new(options, start, limit);
    let mut generated = Generated {
        ids: prompt,
        logprobs: Vec::new(),
        attention: Vec::new(),
        first: Logits::default(),
        stopped_by: StoppedBy::Length,
        prefill: Duration::ZERO,
        decode: Duration::ZERO,
    };
    let began = Instant::now();
    let mut seen = 0;
    while generated.ids.len() < limit {
        let Step { logits, attention } = step(&generated.ids[seen..])?;
        seen = generated.ids.len();
        if logits.iter().any(|score| score.is_nan()) {
            return Err(Error::graph("decoder", "the scores are not numbers; weights or precision are broken"));
        }
        if generated.logprobs.is_empty() {
            generated.first = Logits::of(&logits);
            generated.prefill = began.elapsed();
        }
        let mut scores = logits.clone();
        processors.apply(&generated.ids, &mut scores);
        let best = argmax(&scores);
        generated.logprobs.push(log_softmax(&logits, best));
        generated.attention.extend(attention);
        #[expect(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32")]
        let id = best as u32;
        generated.ids.push(id);
        // Only what was generated can end the text: in many models the start token is the end token.
        if options.eos_token_id.contains(&id) {
            generated.stopped_by = StoppedBy::EndOfText;
            break;
        }
    }
    generated.decode = began.elapsed().saturating_sub(generated.prefill);
    Ok(generated)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A decoder over five tokens that always prefers the successor of the last.
    fn count_up(tokens: &[u32]) -> Result<Step> {
        let last = tokens.last().copied().expect("something to read");
        let logits = (0..5).map(|id| if id == (last + 1) % 5 { 1.0 } else { 0.0 }).collect();
        Ok(Step { logits, attention: Some(vec![0.5]) })
    }

    fn run(options: Value, prompt: &[u32]) -> Result<Generated> {
        let Value::Object(mut map) = options else { panic!("an object") };
        map.insert("decoder_start_token_id".into(), 0.into());
        greedy(&Generation::new(&map, &Value::Null)?, prompt.to_vec(), count_up)
    }

    #[test]
    fn stops_where_transformers_stops() {
        let check = |options: Value, prompt: &[u32], ids: &[u32], stopped_by: StoppedBy| {
            let generated = run(options, prompt).expect("generates");
            assert_eq!((&generated.ids[..], generated.stopped_by), (ids, stopped_by));
            let new = ids.len() - prompt.len();
            assert_eq!((generated.logprobs.len(), generated.attention.len()), (new, new));
        };
        // The start token is an end token, and does not end anything.
        check(json!({"eos_token_id": [0, 3]}), &[0], &[0, 1, 2, 3], StoppedBy::EndOfText);
        check(json!({"eos_token_id": 3}), &[3], &[3, 4, 0, 1, 2, 3], StoppedBy::EndOfText);
        check(json!({"max_length": 3}), &[0], &[0, 1, 2], StoppedBy::Length);
        check(json!({"max_length": 3, "max_new_tokens": 1}), &[0, 1, 2], &[0, 1, 2, 3], StoppedBy::Length);
        check(json!({"eos_token_id": 2, "min_length": 3}), &[0, 1], &[0, 1, 0, 1, 2], StoppedBy::EndOfText);
    }

    #[test]
    fn refuses_a_prompt_without_room() {
        let error = run(json!({"max_length": 2}), &[0, 1]).map(|_| ()).expect_err("no room").to_string();
        assert!(error.contains("max_length 2") && error.contains("2 tokens"), "{error}");
    }

    #[test]
    fn refuses_scores_that_are_not_numbers() {
        let map = json!({"decoder_start_token_id": 0});
        let options = Generation::new(map.as_object().expect("object"), &Value::Null).expect("valid");
        let nan = |_: &[u32]| Ok(Step { logits: vec![0.0, f32::NAN], attention: None });
        assert!(matches!(greedy(&options, vec![0], nan), Err(Error::Graph { .. })));
    }
}
