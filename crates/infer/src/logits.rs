//! Logits processing in Transformers' order and meaning (`generation/logits_process.py`), for one sequence.

use crate::{generation::Generation, vectorized::vectorized};

/// The processors of one generation. Their state is the sequence itself, so one serves every step and every row.
pub(crate) struct Processors<'a> {
    options: &'a Generation,
    encoder: &'a [u32],
    prompt: usize,
    limit: usize,
}

impl<'a> Processors<'a> {
    /// For a prompt of `prompt` tokens and sequences of at most `limit`, prompt included.
    pub(crate) fn new(options: &'a Generation, prompt: usize, limit: usize) -> Self {
        Self { options, encoder: &[], prompt, limit }
    }

    /// With the ids an encoder read (in decoder-only models the prompt's), for the options that look at them. Without
    /// them, as for an encoder that reads pixels, these options do nothing.
    pub(crate) fn reading(self, encoder: &'a [u32]) -> Self {
        Self { encoder, ..self }
    }

    /// The token that an option makes the first of a sequence, when `ids` are still its start.
    pub(crate) fn forced_first(&self, ids: &[u32]) -> Option<u32> {
        self.options.forced_bos_token_id.filter(|_| ids.len() == 1)
    }

    /// Turns the scores of the token after `ids` (prompt and generated) into those to choose from.
    pub(crate) fn apply(&self, ids: &[u32], scores: &mut [f32]) {
        let options = self.options;
        if (options.encoder_repetition_penalty - 1.0).abs() > f32::EPSILON {
            repetition_penalty(1.0 / options.encoder_repetition_penalty, self.encoder, scores);
        }
        if (options.repetition_penalty - 1.0).abs() > f32::EPSILON {
            repetition_penalty(options.repetition_penalty, ids, scores);
        }
        if options.no_repeat_ngram_size > 0 {
            no_repeat_ngram(options.no_repeat_ngram_size, ids, ids, scores);
        }
        if options.encoder_no_repeat_ngram_size > 0 {
            no_repeat_ngram(options.encoder_no_repeat_ngram_size, self.encoder, ids, scores);
        }
        bad_words(&options.bad_words_ids, &options.eos_token_id, ids, scores);
        if ids.len() < options.min_length || ids.len() < self.prompt + options.min_new_tokens {
            ban(&options.eos_token_id, scores);
        }
        if let Some(bos) = self.forced_first(ids) {
            force(&[bos], scores);
        }
        if !options.forced_eos_token_id.is_empty() && ids.len() + 1 == self.limit {
            force(&options.forced_eos_token_id, scores);
        }
        ban(&options.suppress_tokens, scores);
        // The forced first token moves "begin" by one.
        let shift = usize::from(self.prompt == 1 && options.forced_bos_token_id.is_some());
        if ids.len() == self.prompt + shift {
            ban(&options.begin_suppress_tokens, scores);
        }
    }
}

fn ban(ids: &[u32], scores: &mut [f32]) {
    for id in ids {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

fn force(ids: &[u32], scores: &mut [f32]) {
    scores.fill(f32::NEG_INFINITY);
    for id in ids {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score = 0.0;
        }
    }
}

fn repetition_penalty(penalty: f32, ids: &[u32], scores: &mut [f32]) {
    let mut seen = ids.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

/// Bans what would repeat `size` tokens of `seen`.
fn no_repeat_ngram(size: usize, seen: &[u32], ids: &[u32], scores: &mut [f32]) {
    if ids.len() + 1 < size {
        return;
    }
    let recent = &ids[ids.len() + 1 - size..];
    for ngram in seen.windows(size).filter(|ngram| ngram[..size - 1] == *recent) {
        ban(&ngram[size - 1..], scores);
    }
}

fn bad_words(words: &[Vec<u32>], eos: &[u32], ids: &[u32], scores: &mut [f32]) {
    for word in words {
        let Some((last, prefix)) = word.split_last() else { continue };
        let is_eos = prefix.is_empty() && eos.contains(last);
        if !is_eos && ids.ends_with(prefix) {
            ban(&[*last], scores);
        }
    }
}

/// The best token; the first of equals.
pub(crate) fn argmax(scores: &[f32]) -> usize {
    let most = vectorized(
        #[inline(always)]
        || highest(scores),
    );
    scores.iter().position(|score| *score >= most).unwrap_or(0)
}

/// Numbers that are worked on side by side.
const LANES: usize = 16;

/// The highest score.
#[inline(always)]
fn highest(scores: &[f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = most[lane].max(chunk[lane]);
        }
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Natural logarithms of the softmax probabilities.
#[expect(clippy::cast_possible_truncation, reason = "log-probabilities are reported in single precision")]
pub(crate) fn log_softmax(scores: &[f32]) -> Vec<f32> {
    let normalizer = log_normalizer(scores);
    scores.iter().map(|score| (f64::from(*score) - normalizer) as f32).collect()
}

/// What to subtract from a score to have the natural logarithm of its softmax probability, to single precision.
pub(crate) fn log_normalizer(scores: &[f32]) -> f64 {
    // Summed in lanes, of single precision no further than a block.
    const BLOCK: usize = 64 * LANES;
    vectorized(
        #[inline(always)]
        || {
            let max = highest(scores);
            let mut sum = 0.0;
            for block in scores.chunks(BLOCK) {
                let (chunks, rest) = block.as_chunks::<LANES>();
                let mut sums = [0.0f32; LANES];
                for chunk in chunks {
                    for lane in 0..LANES {
                        sums[lane] += exp(chunk[lane] - max);
                    }
                }
                sum += sums.into_iter().map(f64::from).sum::<f64>();
                sum += rest.iter().map(|score| f64::from(exp(score - max))).sum::<f64>();
            }
            f64::from(max) + sum.ln()
        },
    )
}

/// The exponential of a number that is not above 0, to single precision. The standard library's is a call, which keeps a
/// vocabulary from being worked on side by side.
#[inline(always)]
fn exp(x: f32) -> f32 {
    use std::f32::consts::LOG2_E;
    // What is less has no part in any sum.
    const LEAST: f32 = -87.0;
    // Added, it leaves a whole number, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const BIAS: u32 = 127;
    // ln 2 in two parts, the first with so few digits that its multiples are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.max(LEAST);
    let rounded = x * LOG2_E + ROUND;
    let doublings = rounded - ROUND;
    let rest = x - doublings * LN_2[0] - doublings * LN_2[1];
    // The first terms of the series: as a loop over them it would not be computed side by side.
    let sum = ((rest * (1.0 / 720.0) + 1.0 / 120.0) * rest + 1.0 / 24.0) * rest + 1.0 / 6.0;
    let sum = ((sum * rest + 0.5) * rest + 1.0) * rest + 1.0;
    sum * f32::from_bits(rounded.to_bits().wrapping_add(BIAS) << 23)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BANNED: f32 = f32::NEG_INFINITY;

    /// Scores 1, -1, 2, 3 after the processors; `limit` 6.
    fn processed(options: Value, prompt: usize, ids: &[u32]) -> Vec<f32> {
        let Value::Object(mut map) = options else { panic!("an object") };
        map.insert("decoder_start_token_id".into(), 0.into());
        let generation = Generation::new(&map, &Value::Null).expect("valid");
        let mut scores = vec![1.0, -1.0, 2.0, 3.0];
        Processors::new(&generation, prompt, 6).apply(ids, &mut scores);
        scores
    }

    #[test]
    fn processors_mean_what_transformers_means() {
        let check = |options: Value, prompt: usize, ids: &[u32], expected: [f32; 4]| {
            assert_eq!(processed(options.clone(), prompt, ids), expected, "{options} after {ids:?}");
        };
        let as_is = [1.0, -1.0, 2.0, 3.0];
        check(json!({}), 1, &[0], as_is);
        check(json!({"repetition_penalty": 2.0}), 1, &[0, 1, 1, 2], [0.5, -2.0, 1.0, 3.0]);

        check(json!({"no_repeat_ngram_size": 1}), 1, &[0, 3], [BANNED, -1.0, 2.0, BANNED]);
        check(json!({"no_repeat_ngram_size": 3}), 1, &[0, 3], as_is);
        check(json!({"no_repeat_ngram_size": 3}), 1, &[1, 2, 3, 1, 2], [1.0, -1.0, 2.0, BANNED]);

        check(json!({"bad_words_ids": [[3]], "eos_token_id": 1}), 1, &[0], [1.0, -1.0, 2.0, BANNED]);
        check(json!({"bad_words_ids": [[1]], "eos_token_id": 1}), 1, &[0], as_is);
        check(json!({"bad_words_ids": [[2, 3]]}), 1, &[0, 2], [1.0, -1.0, 2.0, BANNED]);
        check(json!({"bad_words_ids": [[2, 3]]}), 1, &[2, 0], as_is);

        check(json!({"min_length": 3, "eos_token_id": 0}), 1, &[0, 1], [BANNED, -1.0, 2.0, 3.0]);
        check(json!({"min_length": 3, "eos_token_id": 0}), 1, &[0, 1, 1], as_is);
        check(json!({"min_new_tokens": 2, "eos_token_id": 0}), 2, &[0, 1, 1], [BANNED, -1.0, 2.0, 3.0]);
        check(json!({"min_new_tokens": 0, "min_length": 9, "eos_token_id": 0}), 2, &[0, 1, 1], as_is);

        check(json!({"forced_bos_token_id": 1}), 1, &[0], [BANNED, 0.0, BANNED, BANNED]);
        check(json!({"forced_bos_token_id": 1}), 2, &[0, 1], as_is);
        check(json!({"forced_eos_token_id": [1]}), 1, &[0; 5], [BANNED, 0.0, BANNED, BANNED]);
        check(json!({"forced_eos_token_id": 1}), 1, &[0; 4], as_is);

        check(json!({"suppress_tokens": [0, 9]}), 1, &[0], [BANNED, -1.0, 2.0, 3.0]);
        check(json!({"begin_suppress_tokens": [2]}), 2, &[0, 1], [1.0, -1.0, BANNED, 3.0]);
        check(json!({"begin_suppress_tokens": [2]}), 2, &[0, 1, 1], as_is);
        let shifted = json!({"begin_suppress_tokens": [2], "forced_bos_token_id": 1});
        check(shifted.clone(), 1, &[0, 1], [1.0, -1.0, BANNED, 3.0]);
        check(shifted, 1, &[0], [BANNED, 0.0, BANNED, BANNED]);
    }

    #[test]
    fn all_processors_together_do_what_transformers_does() {
        let cases: Value = serde_json::from_str(include_str!("../tests/data/logits.json")).expect("valid JSON");
        for case in cases["processors"].as_array().expect("cases") {
            let count = |key: &str| usize::try_from(case[key].as_u64().expect("a number")).expect("small");
            let number = |value: &Value| serde_json::from_value(value.clone()).unwrap_or(BANNED);
            let numbers = |key: &str| case[key].as_array().expect("numbers").iter().map(number).collect::<Vec<f32>>();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
            let mut options = case["options"].as_object().expect("an object").clone();
            options.insert("eos_token_id".into(), json!([1, 4]));
            let generation = Generation::new(&options, &Value::Null).expect("valid");
            let mut scores = numbers("scores");
            let prompt = count("prompt");
            Processors::new(&generation, prompt, count("limit")).reading(&ids[..prompt]).apply(&ids, &mut scores);
            for (index, (found, expected)) in scores.iter().zip(numbers("expected")).enumerate() {
                let same = *found == expected || (found - expected).abs() < 1e-5;
                assert!(same, "{case}: score {index} is {found}, not {expected}");
            }
        }
    }

    #[test]
    fn what_the_encoder_read_counts() {
        let check = |options: Value, encoder: &[u32], ids: &[u32], expected: [f32; 4]| {
            let Value::Object(map) = &options else { panic!("an object") };
            let generation = Generation::new(map, &Value::Null).expect("valid");
            let mut scores = vec![1.0, -1.0, 2.0, 3.0];
            Processors::new(&generation, 1, 6).reading(encoder).apply(ids, &mut scores);
            assert_eq!(scores, expected, "{options} after {ids:?}");
        };
        check(json!({"encoder_repetition_penalty": 2.0}), &[0, 1, 1], &[3], [2.0, -0.5, 2.0, 3.0]);
        check(json!({"encoder_repetition_penalty": 2.0}), &[], &[3], [1.0, -1.0, 2.0, 3.0]);
        check(json!({"encoder_no_repeat_ngram_size": 2}), &[3, 2, 1], &[0, 2], [1.0, BANNED, 2.0, 3.0]);
        check(json!({"encoder_no_repeat_ngram_size": 2}), &[3, 2, 1], &[0, 1], [1.0, -1.0, 2.0, 3.0]);
    }

    #[test]
    fn log_softmax_is_stable() {
        assert_eq!(argmax(&[1.0, 5.0, 5.0]), 1);
        assert!((log_softmax(&[1000.0, 1000.0])[0] + std::f32::consts::LN_2).abs() < 1e-6);
        assert_eq!(log_softmax(&[0.0, f32::NEG_INFINITY]), [0.0, f32::NEG_INFINITY]);
        // As the standard library has it, of any length.
        for count in [1, 15, 16, 17, 1023, 1024, 1500, 5000] {
            let scores: Vec<f32> = (0..count).map(|index: u16| f32::from(index % 401 * 7) / 40.0 - 60.0).collect();
            let sum: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
            assert!((log_normalizer(&scores) - sum.ln()).abs() < 1e-6, "{count} scores");
        }
        for x in [0.0, -1e-6, -0.3, -0.35, -1.0, -17.5, -86.9] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 3e-7, "exp({x})");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }
}
