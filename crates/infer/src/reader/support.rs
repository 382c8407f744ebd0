//! Evidence of a generating model: more runs of the same graphs over the same prompt.

use std::sync::Arc;

use super::{Reader, Sight, Wanted, reading};
use crate::{
    answer::Answer,
    cancel::Cancel,
    error::{Error, Result},
    evidence::{Alternative, Evidence, MAX_CELLS, MAX_SAMPLES, Saliency, agreement, covered, of_sentences, tokens_of},
    generate::{Choose, Generated},
    generation::Generation,
    image::Image,
    model::Request,
    processor::Processor,
    sampler::Sampler,
    seen::Seen,
    vision::Features,
};

/// A request that has been answered.
pub(super) struct Answered<'a> {
    pub(super) request: &'a Request,
    pub(super) processor: &'a Processor,
    pub(super) wanted: Wanted<'a>,
    pub(super) answer: &'a Answer,
    pub(super) sight: &'a Sight,
}

impl Reader {
    /// Gathers what the request wants beside the text.
    pub(super) fn evidence(&mut self, answered: &Answered<'_>, cancel: &Cancel) -> Result<Evidence> {
        let (wanted, answer) = (&answered.request.evidence, answered.answer);
        let mut evidence = Evidence::default();
        if wanted.sentences {
            evidence.sentences = of_sentences(&answer.text, &answer.tokens);
        }
        for (id, logprob) in answer.logits_step1.likeliest.iter().take(wanted.alternatives) {
            let text = self.engine.text.decode_with_special(&[*id])?;
            evidence.alternatives.push(Alternative { id: *id, text, logprob: *logprob });
        }
        if wanted.samples > 0 {
            evidence.samples = self.samples(answered, cancel)?;
            for sentence in &mut evidence.sentences {
                sentence.agreement = agreement(&answer.text, &sentence.text, &evidence.samples);
            }
        }
        if wanted.image_dependence && answered.sight.is_some() {
            evidence.image_dependence = self.image_dependence(answered, cancel)?;
            for sentence in &mut evidence.sentences {
                let tokens = tokens_of(&answer.tokens, &sentence.text);
                sentence.image_dependence =
                    Some(tokens.into_iter().map(|token| evidence.image_dependence[token]).sum());
            }
        }
        if let Some(cells) = wanted.occlusion
            && answered.sight.is_some()
        {
            evidence.saliency = self.occlusion(answered, cells, cancel)?;
        }
        Ok(evidence)
    }

    /// Texts drawn at random by the model's own sampling options.
    fn samples(&mut self, answered: &Answered<'_>, cancel: &Cancel) -> Result<Vec<String>> {
        let wanted = &answered.request.evidence;
        if wanted.samples > MAX_SAMPLES {
            return Err(Error::Request(format!("{} samples; at most {MAX_SAMPLES} are drawn", wanted.samples)));
        }
        // The model's own temperature and cuts, whether or not it draws its answers.
        let mut overrides = answered.request.generation.as_object().cloned().unwrap_or_default();
        for (key, value) in [("do_sample", true.into()), ("num_beams", 1.into()), ("seed", wanted.seed.into())] {
            overrides.insert(key.to_owned(), value);
        }
        let options = Generation::new(&self.generation, &overrides.into())?;
        let Some(sampling) = &options.sampling else { return Ok(Vec::new()) };
        let choose = |sequence: usize| -> Choose<'_> {
            let mut sampler = Sampler::new(sampling, sequence as u64);
            Box::new(move |scores| Ok(sampler.draw(scores)))
        };
        let choices = (0..wanted.samples).map(choose).collect();
        let drawn = self.generate(&options, answered.wanted, answered.sight, choices, cancel)?;
        let start = if self.engine.has_own_sequence() { 0 } else { answered.wanted.asked.decoder_ids.len() };
        let read =
            |sequence: &Generated| self.engine.text.read(&sequence.ids[start..], reading(sequence.complete.is_some()));
        drawn.iter().map(read).collect()
    }

    /// By how much the images make each token likelier.
    fn image_dependence(&mut self, answered: &Answered<'_>, cancel: &Cancel) -> Result<Vec<f32>> {
        let black = |image: &Image| Image { width: image.width, height: image.height, rgb: vec![0; image.rgb.len()] };
        let images: Vec<Image> = answered.request.images.iter().map(black).collect();
        let (blank, _) = self.see(&images, answered.processor, &answered.request.processor, cancel)?;
        let without = self.scored(answered, &[&blank.features], cancel)?;
        let with = answered.answer.tokens.iter().map(|token| token.logprob);
        Ok(with.zip(without.into_iter().flatten()).map(|(with, without)| with - without).collect())
    }

    /// Log-probabilities of the answer's tokens, had the images been others of the same arrangement.
    fn scored(&mut self, answered: &Answered<'_>, features: &[&Features], cancel: &Cancel) -> Result<Vec<Vec<f32>>> {
        let Some(sight) = answered.sight else { return Ok(Vec::new()) };
        let generated: Vec<u32> = answered.answer.tokens.iter().map(|token| token.id).collect();
        self.engine.score(answered.wanted.asked, &generated, features, &sight.places, cancel)
    }

    /// What covering each cell of a grid does to each sentence, image by image.
    fn occlusion(
        &mut self,
        answered: &Answered<'_>,
        [rows, cols]: [usize; 2],
        cancel: &Cancel,
    ) -> Result<Vec<Saliency>> {
        let images = &answered.request.images;
        let cells = rows.saturating_mul(cols);
        let total = cells.saturating_mul(images.len());
        if cells == 0 || total > MAX_CELLS {
            return Err(Error::Request(format!(
                "occlusion of {rows} x {cols} cells in {} images; from 1 to {MAX_CELLS} cells in all are covered",
                images.len()
            )));
        }
        if let Some(small) = images.iter().find(|image| (image.width as usize) < cols || (image.height as usize) < rows)
        {
            return Err(Error::Request(format!(
                "occlusion of {rows} x {cols} cells in an image of {} x {} pixels; ask for fewer",
                small.width, small.height
            )));
        }
        let sentences: Vec<Vec<usize>> = of_sentences(&answered.answer.text, &answered.answer.tokens)
            .iter()
            .map(|sentence| tokens_of(&answered.answer.tokens, &sentence.text))
            .collect();
        let whole: Vec<f32> = answered.answer.tokens.iter().map(|token| token.logprob).collect();
        let sum = |logprobs: &[f32], tokens: &[usize]| tokens.iter().map(|token| logprobs[*token]).sum::<f32>();
        let mut found = Vec::with_capacity(images.len());
        for image in 0..images.len() {
            let mut per_sentence = vec![Vec::with_capacity(cells); sentences.len()];
            let cells: Vec<usize> = (0..cells).collect();
            for some in cells.chunks(AT_ONCE) {
                let seen = some.iter().map(|cell| self.without(answered, image, [rows, cols], *cell, cancel));
                let seen = seen.collect::<Result<Vec<Arc<Seen>>>>()?;
                let features: Vec<&Features> = seen.iter().map(|seen| &seen.features).collect();
                for logprobs in self.scored(answered, &features, cancel)? {
                    for (drops, tokens) in per_sentence.iter_mut().zip(&sentences) {
                        drops.push(sum(&whole, tokens) - sum(&logprobs, tokens));
                    }
                }
            }
            found.push(Saliency { image, rows, cols, per_sentence });
        }
        Ok(found)
    }

    /// The images with one cell of one of them covered, through the vision graph.
    fn without(
        &mut self,
        answered: &Answered<'_>,
        image: usize,
        grid: [usize; 2],
        cell: usize,
        cancel: &Cancel,
    ) -> Result<Arc<Seen>> {
        let mut images = answered.request.images.clone();
        images[image] = covered(&images[image], grid, cell);
        // Not kept: nobody asks about them again.
        Ok(Arc::new(self.look(&images, answered.processor, cancel)?))
    }
}

/// Covered images whose features are held at once.
const AT_ONCE: usize = 8;
