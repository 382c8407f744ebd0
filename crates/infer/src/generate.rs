//! Choosing tokens: the loop around a decoder.

use std::time::{Duration, Instant};

use crate::{
    answer::{Logits, StoppedBy},
    beam::beam_search,
    decoder::Step,
    error::{Error, Result},
    generation::Generation,
    logits::{Processors, argmax, log_softmax},
    sampler::Sampler,
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

/// Runs the decoder for several sequences at once: which row of the previous call each continues, and its new tokens
/// (as many for each).
pub(crate) type StepFn<'a> = dyn FnMut(&[usize], &[&[u32]]) -> Result<Vec<Step>> + 'a;

/// Chooses tokens as the options say.
pub(crate) fn generate(options: &Generation, prompt: Vec<u32>, step: &mut StepFn<'_>) -> Result<Generated> {
    if options.num_beams > 1 { beam_search(options, prompt, step) } else { greedy(options, prompt, step) }
}

/// Longest sequence allowed, when it leaves room after the prompt.
pub(crate) fn room(options: &Generation, prompt: &[u32]) -> Result<usize> {
    let (limit, prompt) = (options.limit(prompt.len()), prompt.len());
    if limit > prompt {
        return Ok(limit);
    }
    Err(Error::Request(format!(
        "max_length {limit} leaves no room after a prompt of {prompt} tokens; raise it or set max_new_tokens"
    )))
}

/// Broken weights or an overflow in reduced precision show as scores that are not numbers; nothing chosen from them
/// means anything.
pub(crate) fn check_scores(logits: &[f32]) -> Result<()> {
    if logits.is_empty() || logits.iter().any(|score| score.is_nan()) {
        return Err(Error::graph("decoder", "the scores are not numbers; weights or precision are broken"));
    }
    Ok(())
}

/// The best token at every step, or one drawn.
fn greedy(options: &Generation, prompt: Vec<u32>, step: &mut StepFn<'_>) -> Result<Generated> {
    let limit = room(options, &prompt)?;
    let processors = Processors::new(options, prompt.len(), limit);
    let mut sampler = options.sampling.as_ref().map(|sampling| Sampler::new(sampling, 0));
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
        let Some(Step { logits, attention }) = step(&[0], &[&generated.ids[seen..]])?.pop() else {
            return Err(Error::graph("decoder", "no scores came back"));
        };
        seen = generated.ids.len();
        check_scores(&logits)?;
        if generated.logprobs.is_empty() {
            generated.first = Logits::of(&logits);
            generated.prefill = began.elapsed();
        }
        let logprobs = log_softmax(&logits);
        let mut scores = logits;
        processors.apply(&generated.ids, &mut scores);
        let best = match &mut sampler {
            Some(sampler) => sampler.draw(&mut scores),
            None => argmax(&scores),
        };
        generated.logprobs.push(logprobs[best]);
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
    fn count_up(_: &[usize], rows: &[&[u32]]) -> Result<Vec<Step>> {
        let step = |tokens: &&[u32]| {
            let last = tokens.last().copied().expect("something to read");
            let logits = (0..5).map(|id| if id == (last + 1) % 5 { 1.0 } else { 0.0 }).collect();
            Step { logits, attention: Some(vec![0.5]) }
        };
        Ok(rows.iter().map(step).collect())
    }

    fn run(options: Value, prompt: &[u32]) -> Result<Generated> {
        let Value::Object(mut map) = options else { panic!("an object") };
        map.insert("decoder_start_token_id".into(), 0.into());
        generate(&Generation::new(&map, &Value::Null)?, prompt.to_vec(), &mut count_up)
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
        let mut nan = |_: &[usize], _: &[&[u32]]| Ok(vec![Step { logits: vec![0.0, f32::NAN], attention: None }]);
        assert!(matches!(generate(&options, vec![0], &mut nan), Err(Error::Graph { .. })));
    }
}
