//! What a model says, with the evidence beside it.

use std::{collections::BTreeMap, ops::Range};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{evidence::Evidence, logits::log_normalizer};

/// One generated token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    /// Id in the model's vocabulary.
    pub id: u32,
    /// Bytes of [`Answer::text`] it accounts for. Empty for special tokens and for tokens whose character a later token
    /// completes. Ranges are in order and leave no gap after the prompt.
    pub text: Range<usize>,
    /// Natural logarithm of its probability, from the model's scores before any processing.
    pub logprob: f32,
}

/// Where the decoder looked in the encoder's grid. It shows what the model attended to, never where a finding is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attention {
    /// Rows of the grid, from the top of the preprocessed image.
    pub rows: usize,
    /// Columns of the grid.
    pub cols: usize,
    /// Decoder layer, counted from 0.
    pub layer: usize,
    /// For each of [`Answer::tokens`], `rows * cols` weights row by row: the mean over the layer's heads at the step that
    /// chose the token.
    pub per_token: Vec<Vec<f32>>,
}

/// Where an image of the request lies in what the vision graph saw, in plain numbers: for each axis, columns then rows,
/// seen = image * scale + offset. Both are counted in pixels from the upper left corner of the upper left one. A
/// processor that cuts an image into tiles has one of these for each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Placement {
    /// Index of the image in the request.
    pub image: usize,
    /// Pixels seen for each pixel of the image.
    pub scale: [f64; 2],
    /// Where the image's upper left corner is, negative where it was cut off.
    pub offset: [f64; 2],
    /// Columns of what was seen.
    pub width: u32,
    /// Rows of what was seen.
    pub height: u32,
}

/// A tensor in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Sum of all values.
    pub sum: f64,
    /// Sum of their magnitudes.
    pub abs_sum: f64,
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// The first 16 values, row-major.
    pub first: Vec<f32>,
}

impl Statistics {
    pub(crate) fn of(shape: &[usize], values: &[f32]) -> Self {
        Self {
            shape: shape.to_vec(),
            sum: values.iter().map(|value| f64::from(*value)).sum(),
            abs_sum: values.iter().map(|value| f64::from(value.abs())).sum(),
            min: values.iter().copied().fold(f32::INFINITY, f32::min),
            max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            first: values.iter().take(16).copied().collect(),
        }
    }
}

/// The scores of the first generated token, in short, before any processing.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Logits {
    /// Size of the vocabulary.
    pub n: usize,
    /// The first 16 scores.
    pub first: Vec<f32>,
    /// The ten best tokens and their scores, best first.
    pub top: Vec<(u32, f32)>,
    /// Sum of all scores.
    pub sum: f64,
    /// The best tokens and the natural logarithms of their probabilities, best first.
    #[serde(skip)]
    pub(crate) likeliest: Vec<(u32, f32)>,
}

/// Tokens kept of the first scores.
const BEST: usize = 100;

impl Logits {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "vocabularies are far below 2^32; single precision is reported"
    )]
    pub(crate) fn of(scores: &[f32]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let best = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        if order.len() > BEST {
            order.select_nth_unstable_by(BEST, best);
            order.truncate(BEST);
        }
        order.sort_by(best);
        let normalizer = log_normalizer(scores);
        let likeliest = order.iter().map(|id| (*id as u32, (f64::from(scores[*id]) - normalizer) as f32)).collect();
        Self {
            likeliest,
            n: scores.len(),
            first: scores.iter().take(16).copied().collect(),
            top: order.into_iter().take(10).map(|id| (id as u32, scores[id])).collect(),
            sum: scores.iter().map(|score| f64::from(*score)).sum(),
        }
    }
}

/// A small tensor an encoder returns beside its features, such as `finding_logits`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderOutput {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
    /// What the entries of the last dimension stand for: `id2label` of `config.json`, for outputs whose name ends in
    /// `logits` and whose length fits; else empty.
    pub labels: Vec<String>,
}

/// A region that an answer speaks of, in pixels of the request's first image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Region {
    /// What the model calls it; empty when it does not say.
    pub label: String,
    /// Left, top, right and bottom.
    pub bounds: [f64; 4],
    /// Corners as x and y, where it is not just a box.
    pub outline: Vec<[f64; 2]>,
}

/// What a zero-shot model says of images and labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZeroShot {
    /// The labels of the request.
    pub labels: Vec<String>,
    /// For each image, a score for each label.
    pub logits_per_image: Vec<Vec<f32>>,
    /// The same as probabilities: of one label against the others (softmax, CLIP) or of each on its own (sigmoid, SigLIP).
    pub probs: Vec<Vec<f32>>,
    /// Token ids of each label in its sentence.
    pub input_ids: Vec<Vec<i64>>,
    /// The images' embeddings in short, when the graph returns them.
    pub image_embeds: Option<Statistics>,
}

/// Milliseconds of wall time per stage.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Timings {
    /// Loading the model, once.
    pub load: f64,
    /// Resizing and normalising the images.
    pub preprocess: f64,
    /// The vision encoder.
    pub vision: f64,
    /// The decoder over the prompt, which yields the first token.
    pub prefill: f64,
    /// The decoder for all further tokens.
    pub decode: f64,
    /// Of all these but loading: what ONNX Runtime itself took to run graphs. The rest is ours.
    pub graphs: f64,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// The model ended its text.
    EndOfText,
    /// `max_length` or `max_new_tokens`: the text may be cut short.
    Length,
}

/// A model's answer. Serialises with the field names of Transformers and of ONNX Runtime tooling: `logprobs` is a list
/// beside `generated_ids`.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// `model_type` of the model's configuration.
    pub family: String,
    /// The prompt as the model saw it, with everything a template and images put into it; none when it saw none.
    pub prompt: Option<String>,
    /// Ids of the prompt. In encoder-decoder models whose prompt is the decoder's, ids the decoder started from; where
    /// images have negative ids (Phi-3.5-vision), those.
    pub input_ids: Vec<i64>,
    /// What was generated; in encoder-decoder models the whole decoder sequence.
    pub generated_ids: Vec<u32>,
    /// Text of `generated_ids` without special tokens. Model output: untrusted.
    pub text: String,
    /// The generated tokens, without `input_ids`.
    pub tokens: Vec<Token>,
    /// Where the decoder looked, when the graphs tell and the grid is known.
    pub attention: Option<Attention>,
    /// Scores of the first generated token.
    pub logits_step1: Logits,
    /// What the encoder returns beside its features, by name.
    pub encoder_outputs: BTreeMap<String, EncoderOutput>,
    /// The preprocessed image, in short.
    pub pixel_values: Option<Statistics>,
    /// Where the request's images lie in it; none when the backend does not say.
    pub placements: Vec<Placement>,
    /// The images' features, in short.
    pub image_features: Option<Statistics>,
    /// Regions the text speaks of, where the model's vocabulary has positions (Florence-2, PaliGemma).
    pub regions: Vec<Region>,
    /// Scores of labels, from a zero-shot model; such an answer has no text.
    pub zero_shot: Option<ZeroShot>,
    /// What the request asked for beside the text.
    pub evidence: Evidence,
    /// [`crate::Bundle::digest`] of the model that answered: its graphs, tokenizer and configuration.
    pub model_digest: String,
    /// Wall time per stage.
    pub timings_ms: Timings,
    /// Tokens generated per second of prefill and decode.
    pub tokens_per_second: f64,
    /// Why generation ended.
    pub stopped_by: StoppedBy,
    /// Whether what was generated is all that its grammar asks for; false where `max_new_tokens` cut it. None for free text.
    pub complete: Option<bool>,
    /// Tokens at the beginning of the prompt that were not read again: the last request had them, about the same images.
    pub reused_prompt_tokens: usize,
}

impl Answer {
    /// An answer that says nothing.
    pub(crate) fn empty() -> Self {
        Self {
            family: String::new(),
            prompt: None,
            input_ids: Vec::new(),
            generated_ids: Vec::new(),
            text: String::new(),
            tokens: Vec::new(),
            attention: None,
            logits_step1: Logits::default(),
            encoder_outputs: BTreeMap::new(),
            pixel_values: None,
            placements: Vec::new(),
            image_features: None,
            regions: Vec::new(),
            zero_shot: None,
            evidence: Evidence::default(),
            model_digest: String::new(),
            timings_ms: Timings::default(),
            tokens_per_second: 0.0,
            stopped_by: StoppedBy::EndOfText,
            complete: None,
            reused_prompt_tokens: 0,
        }
    }

    /// An answer that says `text`, one token per word with log-probability -0.1: for tests of what comes after a model.
    pub fn scripted(text: &str) -> Self {
        let mut ends: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).filter(|at| *at > 0).collect();
        ends.extend((!text.is_empty()).then_some(text.len()));
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let ranges = starts.zip(ends.iter().copied()).map(|(start, end)| start..end);
        let tokens: Vec<Token> = (1..).zip(ranges).map(|(id, text)| Token { id, text, logprob: -0.1 }).collect();
        Self {
            family: "scripted".to_owned(),
            input_ids: vec![0],
            generated_ids: std::iter::once(0).chain(tokens.iter().map(|token| token.id)).collect(),
            text: text.to_owned(),
            tokens,
            ..Self::empty()
        }
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let logprobs: Vec<f32> = self.tokens.iter().map(|token| token.logprob).collect();
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("family", &self.family)?;
        out.serialize_entry("model_digest", &self.model_digest)?;
        out.serialize_entry("pixel_values", &self.pixel_values)?;
        out.serialize_entry("placements", &self.placements)?;
        out.serialize_entry("timings_ms", &self.timings_ms)?;
        if let Some(scores) = &self.zero_shot {
            out.serialize_entry("candidate_labels", &scores.labels)?;
            out.serialize_entry("prompt", &self.prompt)?;
            out.serialize_entry("input_ids", &scores.input_ids)?;
            // One image is the usual case, and then the list is that of its labels.
            match (&scores.logits_per_image[..], &scores.probs[..]) {
                ([logits], [probs]) => {
                    out.serialize_entry("logits_per_image", logits)?;
                    out.serialize_entry("probs", probs)?;
                }
                (logits, probs) => {
                    out.serialize_entry("logits_per_image", logits)?;
                    out.serialize_entry("probs", probs)?;
                }
            }
            out.serialize_entry("image_embeds", &scores.image_embeds)?;
            return out.end();
        }
        out.serialize_entry("prompt", &self.prompt)?;
        out.serialize_entry("input_ids", &self.input_ids)?;
        out.serialize_entry("generated_ids", &self.generated_ids)?;
        out.serialize_entry("text", &self.text)?;
        out.serialize_entry("logprobs", &logprobs)?;
        out.serialize_entry("tokens", &self.tokens)?;
        out.serialize_entry("attention", &self.attention)?;
        out.serialize_entry("logits_step1", &self.logits_step1)?;
        out.serialize_entry("encoder_outputs", &self.encoder_outputs)?;
        out.serialize_entry("image_features", &self.image_features)?;
        out.serialize_entry("regions", &self.regions)?;
        out.serialize_entry("evidence", &self.evidence)?;
        out.serialize_entry("tokens_per_second", &self.tokens_per_second)?;
        out.serialize_entry("stopped_by", &self.stopped_by)?;
        out.serialize_entry("complete", &self.complete)?;
        out.serialize_entry("reused_prompt_tokens", &self.reused_prompt_tokens)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripted_tokens_cover_the_text() {
        let check = |text: &str, words: usize| {
            let answer = Answer::scripted(text);
            let joined: String = answer.tokens.iter().map(|token| &text[token.text.clone()]).collect();
            assert_eq!((joined.as_str(), answer.tokens.len()), (text, words));
        };
        check("", 0);
        check("Normal.", 1);
        check("No effusion. Heart é normal.", 5);
        check(" a  b ", 4);
    }
}
