//! What is known of each sentence besides its words: calibration, repetition in other answers, dependence on the images.

use std::ops::Range;

use super::{Confidence, Draft, ModelText, parse_in};
use crate::{calibration::Calibration, structure::Statement};

impl Draft {
    /// Gives every sentence its probability by the model's calibration.
    pub fn calibrate(&mut self, calibration: &Calibration) {
        self.each_confidence(|_, confidence| {
            #[expect(clippy::cast_possible_truncation, reason = "a probability")]
            let probability = calibration.apply(f64::from(confidence.mean)) as f32;
            confidence.calibrated = Some(probability);
        });
    }

    /// Gives every sentence that states something the share of `samples`, other answers to the same images, that state all
    /// of it too: the same concepts, there or not, on the same side. Nothing without samples.
    pub fn count_repetitions(&mut self, samples: &[String]) {
        if samples.is_empty() {
            return;
        }
        let language = self.structure.language;
        let read = |text: &String| parse_in(&ModelText { text, tokens: Vec::new(), grid: None }, language);
        let samples: Vec<Draft> = samples.iter().map(read).collect();
        let says = |sample: &Draft, statement: &Statement| {
            let same = |it: &Statement| {
                it.concept == statement.concept && it.presence == statement.presence && it.side == statement.side
            };
            sample.structure.statements().any(|(_, it)| same(it))
        };
        let mut shares: Vec<(Range<usize>, f32)> = Vec::new();
        #[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
        let share = |says: &dyn Fn(&Draft) -> bool| {
            samples.iter().filter(|sample| says(sample)).count() as f32 / samples.len() as f32
        };
        if let Some(normal) = &self.normal {
            let same = |sample: &Draft| sample.normal.as_ref().is_some_and(|it| it.statement == normal.statement);
            shares.push((normal.range.clone(), share(&same)));
        }
        for sentence in self.structure.sentences.iter().filter(|it| !it.statements.is_empty()) {
            let repeats = |sample: &Draft| sentence.statements.iter().all(|statement| says(sample, statement));
            shares.push((sentence.range.clone(), share(&repeats)));
        }
        self.each_confidence(|range, confidence| {
            confidence.repeated = shares.iter().find(|(of, _)| of == range).map(|(_, share)| *share);
        });
    }

    /// Gives every sentence how much of its probability the images bring: the most of the pieces of the model's text that it
    /// meets, each its bytes and a number from 0 to 1.
    pub fn depend_on_images(&mut self, pieces: &[(Range<usize>, f64)]) {
        self.each_confidence(|range, confidence| {
            let meeting = pieces.iter().filter(|(of, _)| of.start < range.end && range.start < of.end);
            let most = meeting.map(|(_, value)| *value).reduce(f64::max);
            #[expect(clippy::cast_possible_truncation, reason = "a number from 0 to 1")]
            let most = most.map(|most| most as f32);
            confidence.image_dependence = most;
        });
    }

    /// Every confidence, with the bytes of the sentence that it is of.
    fn each_confidence(&mut self, mut with: impl FnMut(&Range<usize>, &mut Confidence)) {
        let mut each = |range: &Range<usize>, confidence: &mut Option<Confidence>| {
            if let Some(confidence) = confidence {
                with(range, confidence);
            }
        };
        self.findings.iter_mut().for_each(|it| each(&it.range, &mut it.confidence));
        self.structure.sentences.iter_mut().for_each(|it| each(&it.range, &mut it.confidence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::TokenEvidence;

    const TEXT: &str = "Left pneumothorax. No pleural effusion. Zorbulous.";

    fn draft() -> Draft {
        let tokens = vec![TokenEvidence { range: 0..TEXT.len(), logprob: -0.1, attention: None }];
        parse_in(&ModelText { text: TEXT, tokens, grid: None }, crate::Language::ENGLISH)
    }

    #[test]
    fn what_other_answers_say_too_is_counted_by_what_they_mean() {
        let check = |samples: &[&str], expected: &[Option<f32>]| {
            let mut draft = draft();
            draft.count_repetitions(&samples.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
            let shares = draft.structure.sentences.iter().map(|it| it.confidence.unwrap().repeated);
            assert_eq!(shares.collect::<Vec<_>>(), expected, "{samples:?}");
            let of_findings = draft.findings.iter().map(|it| it.confidence.unwrap().repeated);
            assert_eq!(of_findings.collect::<Vec<_>>(), expected[..2], "{samples:?}");
        };
        check(&[], &[None, None, None]);
        // Other words for the same count, another side does not.
        check(
            &["There is a pneumothorax on the left. No effusion.", "Right pneumothorax. Pleural effusion."],
            &[Some(0.5), Some(0.5), None],
        );
        check(&["", "Zorbulous."], &[Some(0.0), Some(0.0), None]);
    }

    #[test]
    fn a_sentence_depends_on_the_images_as_the_most_dependent_piece_of_it() {
        let mut draft = draft();
        draft.depend_on_images(&[(0..5, 0.25), (5..18, 0.5), (19..39, 0.125)]);
        let of = |number: usize| draft.structure.sentences[number].confidence.unwrap().image_dependence;
        assert_eq!([of(0), of(1), of(2)], [Some(0.5), Some(0.125), None]);
    }
}
