//! What supports an answer, beside its text. What costs more than the answer itself has to be asked for.

use std::ops::Range;

use serde::Serialize;

use crate::{answer::Token, image::Image};

/// Which evidence a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceOptions {
    /// The least and the mean log-probability of each sentence. Costs nothing.
    pub sentences: bool,
    /// So many of the likeliest first tokens. Costs nothing.
    pub alternatives: usize,
    /// So many answers drawn at random, and for each sentence the share of them that says it too. Costs one decoding of
    /// all of them side by side; the images are seen once.
    pub samples: usize,
    /// Where the draws begin: the same seed draws the same answers.
    pub seed: u64,
    /// How much likelier each token is with the images than with black ones. Costs the vision graph once more (it is kept
    /// for images of the same size) and one pass over the answer.
    pub image_dependence: bool,
    /// Rows and columns of cells that are covered one after the other, to see which the answer hangs on. Costs the vision
    /// graph and one pass over the answer for each cell.
    pub occlusion: Option<[usize; 2]>,
}

impl Default for EvidenceOptions {
    /// What costs nothing.
    fn default() -> Self {
        Self { sentences: true, alternatives: 5, samples: 0, seed: 0, image_dependence: false, occlusion: None }
    }
}

/// Most samples drawn for a request.
pub(crate) const MAX_SAMPLES: usize = 32;

/// Most cells covered for a request.
pub(crate) const MAX_CELLS: usize = 1024;

/// What supports an answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Evidence {
    /// The answer's sentences, in order.
    pub sentences: Vec<Sentence>,
    /// The likeliest first tokens, best first, before any processing of their scores.
    pub alternatives: Vec<Alternative>,
    /// Texts of answers drawn at random.
    pub samples: Vec<String>,
    /// For each token of the answer: its log-probability with the images, less that with black ones. Near 0 where the
    /// text does not depend on the images; it does not say whether the text is right.
    pub image_dependence: Vec<f32>,
    /// What covering parts of each image does to each sentence.
    pub saliency: Vec<Saliency>,
}

/// A sentence of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sentence {
    /// Its bytes in the text.
    pub text: Range<usize>,
    /// Log-probability of its least likely token.
    pub min_logprob: f32,
    /// Mean log-probability of its tokens.
    pub mean_logprob: f32,
    /// Sum of [`Evidence::image_dependence`] over its tokens, when that was asked for.
    pub image_dependence: Option<f32>,
    /// Share of the samples that have the same sentence, when there are any.
    pub agreement: Option<f32>,
}

/// A token the answer could have begun with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// Id in the vocabulary.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What covering parts of an image does to an answer. It shows what the answer hangs on, never where a finding is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saliency {
    /// Index of the image in the request.
    pub image: usize,
    /// Rows of cells, which divide the image evenly.
    pub rows: usize,
    /// Columns of cells.
    pub cols: usize,
    /// For each sentence, row by row, by how much covering a cell lowers its log-probability.
    pub per_sentence: Vec<Vec<f32>>,
}

/// Bytes of each sentence of a text: up to a full stop, question mark, exclamation mark or line break. Spaces around it
/// are no part of it.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut begin = 0;
    let mut push = |from: usize, to: usize| {
        let piece = &text[from..to];
        let trimmed = piece.trim();
        if trimmed.chars().any(char::is_alphanumeric) {
            let start = from + (piece.len() - piece.trim_start().len());
            found.push(start..start + trimmed.len());
        }
    };
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let after = at + character.len_utf8();
        let next = characters.peek().map(|(_, next)| *next);
        // A full stop within a number or an abbreviation ends nothing.
        let ends = match character {
            '\n' => true,
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
            _ => false,
        };
        if ends {
            push(begin, after);
            begin = after;
        }
    }
    push(begin, text.len());
    found
}

/// Which tokens make a piece of the text.
pub(crate) fn tokens_of(tokens: &[Token], text: &Range<usize>) -> Vec<usize> {
    let overlaps = |token: &Token| token.text.start < text.end && text.start < token.text.end;
    tokens.iter().enumerate().filter(|(_, token)| overlaps(token)).map(|(index, _)| index).collect()
}

/// The sentences of an answer and how sure the model was of them.
pub(crate) fn of_sentences(text: &str, tokens: &[Token]) -> Vec<Sentence> {
    let of_sentence = |range: Range<usize>| {
        let logprobs: Vec<f32> = tokens_of(tokens, &range).into_iter().map(|index| tokens[index].logprob).collect();
        #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
        let mean = logprobs.iter().sum::<f32>() / logprobs.len().max(1) as f32;
        let least = logprobs.iter().copied().fold(0.0, f32::min);
        Sentence { text: range, min_logprob: least, mean_logprob: mean, image_dependence: None, agreement: None }
    };
    sentences(text).into_iter().map(of_sentence).collect()
}

/// The share of samples that say a sentence of `text` too, whatever their spelling of spaces, case and full stops.
pub(crate) fn agreement(text: &str, sentence: &Range<usize>, samples: &[String]) -> Option<f32> {
    let said = plain(&text[sentence.clone()]);
    let says = |sample: &&String| sentences(sample).into_iter().any(|range| plain(&sample[range]) == said);
    #[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
    let share = |count: usize| count as f32 / samples.len() as f32;
    (!samples.is_empty()).then(|| share(samples.iter().filter(says).count()))
}

fn plain(sentence: &str) -> String {
    let words = sentence.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// An image with one cell of a grid covered by the mean colour of the whole.
pub(crate) fn covered(image: &Image, [rows, cols]: [usize; 2], cell: usize) -> Image {
    let (width, height) = (image.width as usize, image.height as usize);
    let bounds = |index: usize, parts: usize, length: usize| index * length / parts..(index + 1) * length / parts;
    let (down, across) = (bounds(cell / cols, rows, height), bounds(cell % cols, cols, width));
    let colour = mean_colour(&image.rgb);
    let mut rgb = image.rgb.clone();
    for row in down {
        for pixel in rgb[(row * width + across.start) * 3..(row * width + across.end) * 3].chunks_exact_mut(3) {
            pixel.copy_from_slice(&colour);
        }
    }
    Image { width: image.width, height: image.height, rgb }
}

fn mean_colour(rgb: &[u8]) -> [u8; 3] {
    let pixels = (rgb.len() / 3).max(1) as u64;
    let mut sums = [0_u64; 3];
    for pixel in rgb.chunks_exact(3) {
        sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
    }
    sums.map(|sum| u8::try_from(sum / pixels).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_at_full_stops_and_lines() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected);
        };
        check("", &[]);
        check(" . \n", &[]);
        check("Normal", &["Normal"]);
        check("No effusion.  Nodule of 1.5 cm! Why?", &["No effusion.", "Nodule of 1.5 cm!", "Why?"]);
        check("FINDINGS:\nClear lungs\n\nHerz groß.", &["FINDINGS:", "Clear lungs", "Herz groß."]);
    }

    #[test]
    fn a_sentence_has_the_tokens_that_overlap_it() {
        let token = |text: Range<usize>, logprob: f32| Token { id: 0, text, logprob };
        let tokens = [token(0..3, -1.0), token(3..4, -2.0), token(4..4, -9.0), token(4..9, -3.0)];
        let found = of_sentences("Yes. Noo.", &tokens);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].min_logprob, found[0].mean_logprob), (-2.0, -1.5));
        assert_eq!((found[1].min_logprob, found[1].text.clone()), (-3.0, 5..9));
    }

    #[test]
    fn samples_agree_in_words() {
        let samples = ["no  EFFUSION. Heart normal.", "Effusion.", "Heart normal. No effusion"].map(str::to_owned);
        let text = "No effusion.";
        assert_eq!(agreement(text, &(0..text.len()), &samples), Some(2.0 / 3.0));
        assert_eq!(agreement(text, &(0..text.len()), &[]), None);
    }

    #[test]
    fn cells_cover_the_image_once() {
        let image = Image { width: 5, height: 3, rgb: (0..45).collect() };
        let mut touched = [0; 15];
        for cell in 0..4 {
            let found = covered(&image, [2, 2], cell);
            for (pixel, (a, b)) in found.rgb.chunks_exact(3).zip(image.rgb.chunks_exact(3)).enumerate() {
                touched[pixel] += usize::from(a != b || a == [21, 22, 23]);
            }
        }
        // The pixel in the middle has the mean colour, so it looks covered always.
        assert!(
            touched.iter().enumerate().all(|(pixel, count)| *count == if pixel == 7 { 4 } else { 1 }),
            "{touched:?}"
        );
    }
}
