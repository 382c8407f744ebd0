//! The beginning of the last prompt, up to and with its images, kept as keys and values: another question about the same
//! images goes on from there.
//!
//! Only for decoders that read from left to right: then what was computed of a token depends on nothing after it. A model
//! that does this reads every prompt in the same two parts, whether or not the first is kept, so that an answer is the same
//! bit for bit whatever was asked before. Whether reading in parts gives what reading the whole gives is tried once, with
//! the first prompt: graphs that quantise their activations, and some in half precision, compute something else, and
//! always read the whole.

use std::sync::Arc;

use ort::value::DynValue;

use crate::{
    decoder::{Decoder, Decoding},
    engine::Asked,
    error::{Error, Result},
    family,
    logits::log_softmax,
    seen::Seen,
};

/// Most bytes of keys and values kept between requests.
const MOST: usize = 512 << 20;

/// How far a log-probability may be from the whole prompt's.
const TOLERANCE: f32 = 1e-4;

/// Below this log-probability single precision does not resolve the tolerance, and nothing is chosen.
const NEGLIGIBLE: f32 = -20.0;

/// The keys and values of a prompt's beginning.
struct Kept {
    seen: Arc<Seen>,
    ids: Vec<i64>,
    cache: Vec<DynValue>,
}

/// How a model reads its prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Both ways have to be tried.
    Untried,
    /// Up to the last image, then the rest.
    Two,
    /// At once: the other is another computation, or none at all; or nobody asked for it.
    One,
}

/// The last prompt of a model.
pub(crate) struct Prefix {
    parts: Parts,
    kept: Option<Kept>,
}

impl Prefix {
    /// For a model of a family; nothing is ever kept where `wanted` is false or the decoder is not made for it.
    pub(crate) fn new(family: &str, decoder: &Decoder, wanted: bool) -> Self {
        let fits = wanted && family::reads_left_to_right(family) && decoder.reads_in_parts();
        Self { parts: if fits { Parts::Untried } else { Parts::One }, kept: None }
    }

    /// How to read a prompt. One without images, and one that ends with them, is read at once.
    pub(crate) fn parts(&self, asked: &Asked) -> Parts {
        let divides = asked.images_end > 0 && asked.images_end < asked.input_ids.len();
        if divides { self.parts } else { Parts::One }
    }

    /// What is kept of a prompt that begins as this one does, with the same images. What does not fit is forgotten.
    pub(crate) fn recall(&mut self, decoder: &Decoder, asked: &Asked, seen: &Arc<Seen>) -> Option<Decoding> {
        let kept = self.kept.take()?;
        let fits = Arc::ptr_eq(seen, &kept.seen) && asked.input_ids[..asked.images_end] == kept.ids;
        fits.then(|| decoder.resume(kept.cache, asked.images_end))
    }

    /// Keeps what was computed of the beginning of a prompt.
    pub(crate) fn keep(&mut self, asked: &Asked, seen: Option<&Arc<Seen>>, decoding: Decoding) {
        if let Some(seen) = seen
            && let Some((cache, bytes)) = decoding.retained()
            && bytes <= MOST
        {
            let ids = asked.input_ids[..asked.images_end].to_vec();
            self.kept = Some(Kept { seen: Arc::clone(seen), ids, cache });
        }
    }

    /// Compares the scores after a prompt that was read in two parts with those after it was read at once, and says which
    /// way it is from now on.
    ///
    /// # Errors
    /// What stopped the trial, where that says nothing of the graph.
    pub(crate) fn try_out(&mut self, two: Result<Vec<f32>>, whole: &[f32]) -> Result<Parts> {
        let equal = match two {
            Ok(two) => same(&two, whole),
            Err(stopped @ (Error::Cancelled | Error::DeadlineExceeded | Error::OutOfMemory(_))) => return Err(stopped),
            Err(_) => false,
        };
        self.parts = if equal { Parts::Two } else { Parts::One };
        tracing::info!(equal, "prompts about the same images can go on from one another");
        Ok(self.parts)
    }
}

fn same(two: &[f32], whole: &[f32]) -> bool {
    let (two, whole) = (log_softmax(two), log_softmax(whole));
    let mut pairs = two.iter().zip(&whole);
    two.len() == whole.len()
        && pairs.all(|(two, whole)| (two - whole).abs() <= TOLERANCE || two.max(*whole) < NEGLIGIBLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_same_within_the_tolerance() {
        let check = |two: &[f32], whole: &[f32], expected: bool| assert_eq!(same(two, whole), expected, "{two:?}");
        check(&[1.0, 2.0], &[1.0, 2.0], true);
        check(&[1.0, 2.0], &[1.000_05, 2.0], true);
        check(&[1.0, 2.0], &[1.001, 2.0], false);
        check(&[0.0, -50.0], &[0.0, -51.0], true);
        check(&[1.0], &[1.0, 2.0], false);
        check(&[f32::NAN, 1.0], &[1.0, 1.0], false);
    }
}
