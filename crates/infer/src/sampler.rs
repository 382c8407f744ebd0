//! Drawing tokens: Transformers' warpers in their order (`generation/logits_process.py`), then a draw from what is
//! left. The same seed draws the same tokens from the same scores, on every machine and in every version.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::generation::Sampling;

/// Draws tokens for one sequence.
pub(crate) struct Sampler<'a> {
    options: &'a Sampling,
    random: ChaCha8Rng,
}

impl<'a> Sampler<'a> {
    /// For the sequence of this number among those drawn side by side: each has random numbers of its own, so what one
    /// draws does not depend on how many others there are.
    pub(crate) fn new(options: &'a Sampling, sequence: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        random.set_stream(sequence);
        Self { options, random }
    }

    /// Draws a token by its scores, after logits processors and constraints; they are left as the draw saw them. Where
    /// nothing is allowed the first token comes back.
    pub(crate) fn draw(&mut self, scores: &mut [f32]) -> usize {
        self.options.warp(scores);
        let probabilities = softmax(scores);
        // 53 random bits: every number from 0 to below 1 that doubles hold evenly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let random = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = random * probabilities.iter().sum::<f64>();
        let mut drawn = 0;
        for (index, probability) in probabilities.iter().enumerate() {
            if *probability > 0.0 {
                drawn = index;
                left -= probability;
                if left < 0.0 {
                    break;
                }
            }
        }
        drawn
    }
}

impl Sampling {
    /// Temperature, then what each option takes away: the order and meaning of Transformers, one token kept at least.
    pub(crate) fn warp(&self, scores: &mut [f32]) {
        if scores.is_empty() {
            return;
        }
        if (self.temperature - 1.0).abs() > f32::EPSILON {
            scores.iter_mut().for_each(|score| *score /= self.temperature);
        }
        if self.top_k > 0 && self.top_k < scores.len() {
            let least = largest(scores, self.top_k);
            ban(scores, |_, score| score < least);
        }
        if self.top_p < 1.0 {
            top_p(self.top_p, scores);
        }
        if let Some(min_p) = self.min_p {
            let probabilities = softmax(scores);
            let least = min_p * probabilities.iter().copied().fold(0.0, f64::max);
            ban_but_the_best(scores, |index| probabilities[index] < least);
        }
        if self.typical_p < 1.0 {
            typical_p(self.typical_p, scores);
        }
        if self.epsilon_cutoff > 0.0 && self.epsilon_cutoff < 1.0 {
            let probabilities = softmax(scores);
            ban_but_the_best(scores, |index| probabilities[index] < self.epsilon_cutoff);
        }
        if self.eta_cutoff > 0.0 && self.eta_cutoff < 1.0 {
            let probabilities = softmax(scores);
            let least = self.eta_cutoff.min(self.eta_cutoff.sqrt() * (-entropy(&probabilities)).exp());
            ban_but_the_best(scores, |index| probabilities[index] < least);
        }
    }
}

/// The smallest of so many largest scores.
fn largest(scores: &[f32], count: usize) -> f32 {
    let mut sorted = scores.to_vec();
    *sorted.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
}

fn ban(scores: &mut [f32], is_banned: impl Fn(usize, f32) -> bool) {
    for (index, score) in scores.iter_mut().enumerate() {
        if is_banned(index, *score) {
            *score = f32::NEG_INFINITY;
        }
    }
}

fn ban_but_the_best(scores: &mut [f32], is_banned: impl Fn(usize) -> bool) {
    let best = largest(scores, 1);
    ban(scores, |index, score| score < best && is_banned(index));
}

/// Probabilities; all 0 where no token is allowed.
fn softmax(scores: &[f32]) -> Vec<f64> {
    let max = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    if max == f64::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let mut probabilities: Vec<f64> = scores.iter().map(|score| (f64::from(*score) - max).exp()).collect();
    let sum: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|probability| *probability /= sum);
    probabilities
}

fn entropy(probabilities: &[f64]) -> f64 {
    probabilities
        .iter()
        .filter(|probability| **probability > 0.0)
        .map(|probability| -probability * probability.ln())
        .sum()
}

/// Keeps the likeliest tokens that together have this probability.
fn top_p(share: f64, scores: &mut [f32]) {
    let probabilities = softmax(scores);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order.pop();
    let mut sum = 0.0;
    for index in order {
        sum += probabilities[index];
        if sum > 1.0 - share {
            break;
        }
        scores[index] = f32::NEG_INFINITY;
    }
}

/// Keeps the tokens whose surprise is nearest to the expected one and that together have this probability.
fn typical_p(share: f64, scores: &mut [f32]) {
    let probabilities = softmax(scores);
    let expected = entropy(&probabilities);
    let distance: Vec<f64> = probabilities.iter().map(|probability| (-probability.ln() - expected).abs()).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| distance[*a].total_cmp(&distance[*b]));
    let mut sum = 0.0;
    let enough = order.iter().position(|index| {
        sum += probabilities[*index];
        sum >= share
    });
    let farthest = distance[order[enough.unwrap_or(order.len() - 1)]];
    let nearest = order[0];
    ban(scores, |index, _| index != nearest && distance[index] > farthest);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::generation::Generation;

    fn sampling(options: Value) -> Sampling {
        let Value::Object(mut map) = options else { panic!("an object") };
        map.insert("do_sample".into(), true.into());
        Generation::new(&map, &Value::Null).expect("valid").sampling.expect("samples")
    }

    #[test]
    fn warpers_do_what_transformers_does() {
        let cases: Value = serde_json::from_str(include_str!("../tests/data/logits.json")).expect("valid JSON");
        for case in cases["warpers"].as_array().expect("cases") {
            let number = |value: &Value| serde_json::from_value(value.clone()).unwrap_or(f32::NEG_INFINITY);
            let list = |key: &str| case[key].as_array().expect("numbers").iter().map(number).collect::<Vec<f32>>();
            let mut scores = list("scores");
            sampling(case["options"].clone()).warp(&mut scores);
            for (index, (found, expected)) in scores.iter().zip(list("expected")).enumerate() {
                let same = *found == expected || (found - expected).abs() < 1e-5;
                assert!(same, "{}: score {index} is {found}, not {expected}", case["options"]);
            }
        }
    }

    #[test]
    fn draws_by_probability_and_the_same_for_a_seed() {
        let options = sampling(json!({"seed": 7, "top_k": 0}));
        let scores = [0.2f32.ln(), f32::NEG_INFINITY, 0.5f32.ln(), 0.3f32.ln()];
        let draws = |sequence: u64| -> Vec<usize> {
            let mut sampler = Sampler::new(&options, sequence);
            (0..4000).map(|_| sampler.draw(&mut scores.clone())).collect()
        };
        let drawn = draws(0);
        let share = |token: usize| drawn.iter().filter(|drawn| **drawn == token).count() as f64 / 4000.0;
        for (token, expected) in [0.2, 0.0, 0.5, 0.3].into_iter().enumerate() {
            assert!((share(token) - expected).abs() < 0.03, "token {token}: {}", share(token));
        }
        assert_eq!(drawn, draws(0));
        assert_ne!(drawn, draws(1));
        // The stream of numbers is kept from version to version.
        assert_eq!(drawn[..12], FIRST);
    }

    /// What seed 7 draws first.
    const FIRST: [usize; 12] = [0, 0, 3, 3, 2, 2, 0, 3, 2, 3, 2, 2];

    #[test]
    fn nothing_allowed_is_no_panic() {
        let options = sampling(json!({"top_p": 0.5, "min_p": 0.1, "typical_p": 0.5, "eta_cutoff": 0.1}));
        let mut scores = vec![f32::NEG_INFINITY; 3];
        assert_eq!(Sampler::new(&options, 0).draw(&mut scores), 0);
    }
}
