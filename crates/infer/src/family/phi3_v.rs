//! Phi-3-vision and Phi-3.5-vision: images are numbered in the prompt, and their tokens are negative ids that the
//! embedding graph replaces.

use super::{Family, Place};
use crate::{
    error::{Error, Result},
    text::Text,
};

pub(super) struct Phi3V;

/// The number of an image tag at the beginning of a text, and what follows it.
fn number(text: &str) -> Option<(usize, &str)> {
    let rest = text.strip_prefix("<|image_")?;
    let (digits, after) = rest.split_once("|>")?;
    Some((digits.parse().ok()?, after))
}

/// The pieces of text around image tags, and the images' numbers.
fn split(prompt: &str) -> (Vec<&str>, Vec<usize>) {
    let (mut pieces, mut numbers) = (Vec::new(), Vec::new());
    let (mut begin, mut at) = (0, 0);
    while let Some(found) = prompt[at..].find("<|image_") {
        let tag = at + found;
        match number(&prompt[tag..]) {
            Some((image, after)) => {
                pieces.push(&prompt[begin..tag]);
                numbers.push(image);
                begin = prompt.len() - after.len();
                at = begin;
            }
            None => at = tag + 1,
        }
    }
    pieces.push(&prompt[begin..]);
    (pieces, numbers)
}

impl Family for Phi3V {
    fn plain(&self, prompt: &str, images: usize) -> Result<String> {
        if !split(prompt).1.is_empty() {
            return Ok(prompt.to_owned());
        }
        let tags: String = (1..=images).map(|image| format!("<|image_{image}|>\n")).collect();
        Ok(format!("{tags}{prompt}"))
    }

    fn encodes_placeholders(&self) -> bool {
        true
    }

    /// The pieces between images are tokenized each on its own, as the model's own processor does.
    fn encode(&self, prompt: &str, places: &[Place], text: &Text) -> Result<Vec<i64>> {
        let (pieces, numbers) = split(prompt);
        let mut named = numbers.clone();
        named.sort_unstable();
        named.dedup();
        if !named.iter().copied().eq(1..=places.len()) {
            return Err(Error::Request(format!(
                "the prompt names the images {named:?} (`<|image_1|>` is the first), but {} came with it; number them from 1",
                places.len()
            )));
        }
        let mut ids = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let begun =
                index == 0 && text.named("bos_token").is_some_and(|bos| !bos.is_empty() && piece.starts_with(&bos));
            ids.extend(text.encode(piece, !begun)?.into_iter().map(i64::from));
            if let Some(image) = numbers.get(index) {
                let token = -i64::try_from(*image).unwrap_or(1);
                ids.extend(std::iter::repeat_n(token, places[image - 1].features));
            }
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_numbered_images() {
        let check = |prompt: &str, pieces: &[&str], numbers: &[usize]| {
            assert_eq!(split(prompt), (pieces.to_vec(), numbers.to_vec()), "{prompt}");
        };
        check("no image", &["no image"], &[]);
        check("<|user|>\n<|image_1|>\nwhat", &["<|user|>\n", "\nwhat"], &[1]);
        check("<|image_2|><|image_10|>", &["", "", ""], &[2, 10]);
        check("<|image_x|> <|image_1", &["<|image_x|> <|image_1"], &[]);
        assert_eq!(Phi3V.plain("what", 2).expect("plain"), "<|image_1|>\n<|image_2|>\nwhat");
        assert_eq!(Phi3V.plain("what <|image_1|>", 1).expect("plain"), "what <|image_1|>");
    }
}
