//! From a model's own score to a probability: temperature scaling or isotonic regression, fitted on labelled sentences.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// One labelled sentence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// The model's score, from 0 to 1: the mean probability of the sentence's tokens.
    pub score: f64,
    /// Whether the sentence was true.
    pub correct: bool,
}

/// How a score becomes a probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Calibration {
    /// The log-odds divided by a temperature; above 1 the model was too sure.
    Temperature {
        /// The temperature, above 0.
        temperature: f64,
    },
    /// A step-free monotone curve through these points (score, probability), constant beyond its ends.
    Isotonic {
        /// The points, with rising scores.
        points: Vec<(f64, f64)>,
    },
}

/// How far the probabilities of labelled sentences are from their frequencies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// How many sentences.
    pub count: usize,
    /// Expected calibration error over ten bins of equal width, from 0 to 1.
    pub expected_error: f64,
    /// For each bin that has any: how many, their mean probability, the part of them that is true.
    pub bins: Vec<(usize, f64, f64)>,
}

/// Scores of 0 and 1 have no log-odds.
const EDGE: f64 = 1e-6;

fn logit(score: f64) -> f64 {
    let score = score.clamp(EDGE, 1.0 - EDGE);
    (score / (1.0 - score)).ln()
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

impl Calibration {
    /// The temperature of the least negative log-likelihood, from 0.05 to 20; nothing without both true and false sentences.
    pub fn fit_temperature(labelled: &[Labelled]) -> Option<Self> {
        both(labelled)?;
        let loss = |log_temperature: f64| -> f64 {
            let temperature = log_temperature.exp();
            let of = |it: &Labelled| {
                let probability = logistic(logit(it.score) / temperature).clamp(EDGE, 1.0 - EDGE);
                if it.correct { -probability.ln() } else { -(1.0 - probability).ln() }
            };
            labelled.iter().map(of).sum()
        };
        // The loss has one minimum in the inverse temperature: golden sections over the logarithm find it.
        let (mut low, mut high) = (0.05_f64.ln(), 20.0_f64.ln());
        let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
        for _ in 0..60 {
            let (a, b) = (high - golden * (high - low), low + golden * (high - low));
            if loss(a) < loss(b) { high = b } else { low = a }
        }
        Some(Self::Temperature { temperature: ((low + high) / 2.0).exp() })
    }

    /// The monotone curve of the least squared error (pool adjacent violators); nothing without both true and false sentences.
    pub fn fit_isotonic(labelled: &[Labelled]) -> Option<Self> {
        both(labelled)?;
        let mut sorted: Vec<&Labelled> = labelled.iter().filter(|it| it.score.is_finite()).collect();
        sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
        // Each block: the sum of its scores, how many are true, how many there are.
        let mut blocks: Vec<(f64, f64, f64)> = Vec::new();
        let mut before = f64::NAN;
        for it in sorted {
            let correct = f64::from(u8::from(it.correct));
            match blocks.last_mut() {
                // Equal scores cannot be told apart: one block from the start.
                Some(last) if it.score == before => *last = (last.0 + it.score, last.1 + correct, last.2 + 1.0),
                _ => blocks.push((it.score, correct, 1.0)),
            }
            before = it.score;
        }
        let singles = std::mem::take(&mut blocks);
        for block in singles {
            blocks.push(block);
            while let [.., a, b] = blocks.as_slice()
                && a.1 / a.2 >= b.1 / b.2
            {
                let merged = (a.0 + b.0, a.1 + b.1, a.2 + b.2);
                blocks.truncate(blocks.len() - 2);
                blocks.push(merged);
            }
        }
        Some(Self::Isotonic {
            points: blocks.iter().map(|(scores, correct, count)| (scores / count, correct / count)).collect(),
        })
    }

    /// Whether it is what its method is: a temperature above 0, or points from 0 to 1 that do not fall.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Temperature { temperature } => temperature.is_finite() && *temperature > 0.0,
            Self::Isotonic { points } => {
                let within = |value: &f64| (0.0..=1.0).contains(value);
                let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
                !points.is_empty() && points.iter().all(|(a, b)| within(a) && within(b)) && points.windows(2).all(rises)
            }
        }
    }

    /// The probability of a score. A score that is no number is no evidence: 0.
    pub fn apply(&self, score: f64) -> f64 {
        if !score.is_finite() {
            return 0.0;
        }
        match self {
            Self::Temperature { temperature } => logistic(logit(score) / temperature.max(EDGE)),
            Self::Isotonic { points } => {
                let after = points.partition_point(|(at, _)| *at < score);
                match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
                    (None, None) => score.clamp(0.0, 1.0),
                    (None, Some(first)) => first.1,
                    (Some(last), None) => last.1,
                    (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (score - a.0) / (b.0 - a.0).max(f64::MIN_POSITIVE),
                }
            }
        }
    }
}

fn both(labelled: &[Labelled]) -> Option<()> {
    (labelled.iter().any(|it| it.correct) && labelled.iter().any(|it| !it.correct)).then_some(())
}

/// A count as a number; exact far beyond any count here.
#[expect(clippy::cast_precision_loss, reason = "counts of sentences")]
fn number(count: usize) -> f64 {
    count as f64
}

const BINS: usize = 10;

impl Reliability {
    /// How reliable scores are as they stand, or after a calibration.
    pub fn of(labelled: &[Labelled], calibration: Option<&Calibration>) -> Self {
        let mut sums = [(0_usize, 0.0_f64, 0.0_f64); BINS];
        for it in labelled {
            let probability = calibration.map_or(it.score, |calibration| calibration.apply(it.score)).clamp(0.0, 1.0);
            // The bin of 1 is the last.
            let bin = (1..BINS).take_while(|edge| probability >= number(*edge) / number(BINS)).count();
            let (count, probabilities, correct) = &mut sums[bin];
            *count += 1;
            *probabilities += probability;
            *correct += f64::from(u8::from(it.correct));
        }
        let bin = |&(count, probabilities, correct): &(usize, f64, f64)| {
            (count, probabilities / number(count), correct / number(count))
        };
        let bins: Vec<(usize, f64, f64)> = sums.iter().filter(|(count, ..)| *count > 0).map(bin).collect();
        let total = number(labelled.len()).max(1.0);
        let expected_error = bins.iter().map(|(count, said, was)| number(*count) / total * (said - was).abs()).sum();
        Self { count: labelled.len(), expected_error, bins }
    }

    /// The reliability diagram of before and after as an SVG: what was said against what was true, the diagonal dashed.
    pub fn diagram(before: &Self, after: &Self) -> String {
        const SIDE: f64 = 320.0;
        const EDGE: f64 = 48.0;
        let (x, y) = (|value: f64| EDGE + SIDE * value, |value: f64| EDGE + SIDE * (1.0 - value));
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"416\" height=\"440\" viewBox=\"0 0 416 440\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"416\" height=\"440\" fill=\"white\"/>\n",
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{EDGE}\" y=\"{EDGE}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#444\"/>"
        );
        let (x0, y0, x1, y1) = (x(0.0), y(0.0), x(1.0), y(1.0));
        let _ = writeln!(
            svg,
            "<line x1=\"{x0}\" y1=\"{y0}\" x2=\"{x1}\" y2=\"{y1}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>"
        );
        for tick in 0..=4 {
            let value = number(tick) / 4.0;
            let (at, up) = (x(value), y(value));
            let _ = writeln!(svg, "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{value}</text>", y0 + 16.0);
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value}</text>", x0 - 6.0, up + 4.0);
        }
        for (reliability, colour) in [(before, "#c0392b"), (after, "#1f6fb2")] {
            let points: Vec<String> =
                reliability.bins.iter().map(|(_, said, was)| format!("{:.1},{:.1}", x(*said), y(*was))).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
            for (count, said, was) in &reliability.bins {
                let (at, up) = (x(*said), y(*was));
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"4\" fill=\"{colour}\"><title>{count}</title></circle>"
                );
            }
        }
        let words = |it: &Self| format!("ECE {:.3}, {} sentences", it.expected_error, it.count);
        let _ = writeln!(svg, "<text x=\"{EDGE}\" y=\"20\" fill=\"#c0392b\">before: {}</text>", words(before));
        let _ = writeln!(svg, "<text x=\"{EDGE}\" y=\"38\" fill=\"#1f6fb2\">after: {}</text>", words(after));
        let _ = writeln!(svg, "<text x=\"208\" y=\"406\" text-anchor=\"middle\">what the model says</text>");
        let _ = writeln!(
            svg,
            "<text x=\"14\" y=\"208\" text-anchor=\"middle\" transform=\"rotate(-90 14 208)\">what is true</text>"
        );
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that says 0.95 where it is right in three of four, and 0.6 where it is right in every second.
    fn too_sure() -> Vec<Labelled> {
        let of = |score: f64, every: usize, wrong: usize| {
            (0..200).map(move |at| Labelled { score, correct: at % every >= wrong })
        };
        of(0.95, 4, 1).chain(of(0.6, 2, 1)).collect()
    }

    #[test]
    fn calibration_brings_what_is_said_to_what_is_true() {
        let labelled = too_sure();
        let before = Reliability::of(&labelled, None);
        assert!((before.expected_error - 0.15).abs() < 1e-9, "{before:?}");
        let temperature = Calibration::fit_temperature(&labelled).unwrap();
        let Calibration::Temperature { temperature: value } = &temperature else { panic!() };
        assert!(*value > 1.5, "{value}");
        assert!(Reliability::of(&labelled, Some(&temperature)).expected_error < 0.06);
        let isotonic = Calibration::fit_isotonic(&labelled).unwrap();
        let after = Reliability::of(&labelled, Some(&isotonic));
        assert!(after.expected_error < 1e-9, "{after:?}");
        assert!((isotonic.apply(0.95) - 0.75).abs() < 1e-9 && (isotonic.apply(0.1) - 0.5).abs() < 1e-9);
        let rising = (0..=100).map(|at| isotonic.apply(f64::from(at) / 100.0)).collect::<Vec<_>>();
        assert!(rising.is_sorted());
        assert!(Reliability::diagram(&before, &after).contains("<polyline"));
    }

    #[test]
    fn what_cannot_be_calibrated_is_not() {
        assert_eq!(Calibration::fit_temperature(&[]), None);
        assert_eq!(Calibration::fit_isotonic(&[Labelled { score: 0.5, correct: true }]), None);
        let calibration = Calibration::Temperature { temperature: 1.0 };
        assert!((calibration.apply(0.3) - 0.3).abs() < 1e-9);
        assert!(calibration.apply(f64::NAN).abs() < 1e-9);
        assert!(calibration.is_sound() && Calibration::fit_isotonic(&too_sure()).unwrap().is_sound());
        let points = |points: &[(f64, f64)]| Calibration::Isotonic { points: points.to_vec() };
        for bad in [
            Calibration::Temperature { temperature: 0.0 },
            Calibration::Temperature { temperature: f64::NAN },
            points(&[]),
            points(&[(0.2, 0.5), (0.1, 0.6)]),
            points(&[(0.1, 0.5), (0.2, 0.4)]),
            points(&[(0.1, 1.5)]),
        ] {
            assert!(!bad.is_sound(), "{bad:?}");
        }
        let json = serde_json::to_string(&calibration).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&json).unwrap(), calibration);
    }
}
