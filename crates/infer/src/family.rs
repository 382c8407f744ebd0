//! What differs between model families: how images are spoken of in a prompt, where tokens are, and what is read from an
//! answer. Everything else is the engine's.
//!
//! The defaults are LLaVA's: an image is as many image tokens as it has features, and they take each other's place.

mod any_resolution;
mod florence2;
mod gemma3;
mod idefics3;
mod llava;
mod paligemma;
mod phi3_v;
mod qwen2_vl;
mod vision_encoder_decoder;

use serde_json::{Value, json};

use crate::{
    answer::Region,
    description::Description,
    error::{Error, Result},
    positions::Positions,
    prepared::Arrangement,
    text::Text,
    vision::{Features, Vision},
};

/// An image of a request after the vision graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) arrangement: Arrangement,
    /// Rows and columns of a view, in pixels; 0 where views have no such size.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Features the image has.
    pub(crate) features: usize,
}

/// The adapter of one model family.
pub(crate) trait Family: Send {
    /// What stands for one image in a prompt; none where prompts do not speak of images.
    fn placeholder(&self) -> Option<&str> {
        None
    }

    /// The token that a feature takes the place of, and its id.
    fn image_token(&self) -> Option<(&str, u32)> {
        None
    }

    /// The text of a prompt that no chat template is for, with a place for each image.
    ///
    /// # Errors
    /// [`Error::Request`] for a prompt the family does not know.
    fn plain(&self, prompt: &str, images: usize) -> Result<String> {
        Ok(match self.placeholder() {
            Some(placeholder) if !prompt.contains(placeholder) => {
                format!("{}{prompt}", format!("{placeholder}\n").repeat(images))
            }
            _ => prompt.to_owned(),
        })
    }

    /// What takes the place of an image's placeholder.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the image was prepared in a way the family does not know.
    fn expansion(&self, place: &Place) -> Result<String> {
        let token = self.image_token().map(|(token, _)| token).or(self.placeholder()).unwrap_or_default();
        Ok(token.repeat(place.features))
    }

    /// Token ids of a prompt in which every placeholder is expanded.
    ///
    /// # Errors
    /// [`Error::Request`] when it cannot be tokenized.
    fn encode(&self, prompt: &str, _places: &[Place], text: &Text) -> Result<Vec<i64>> {
        Ok(text.encode_prompt(prompt)?.into_iter().map(i64::from).collect())
    }

    /// Whether an answer shows the prompt with its images expanded; it does where that says more than how many tokens they
    /// are, and where Transformers' processor shows it.
    fn shows_expansion(&self) -> bool {
        true
    }

    /// Whether [`Family::encode`] expands placeholders itself.
    fn encodes_placeholders(&self) -> bool {
        false
    }

    /// Arranges the features of views as the language model reads them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when they cannot be.
    fn arrange(&self, features: Features, _arrangements: &[Arrangement], _vision: &Vision) -> Result<Features> {
        Ok(features)
    }

    /// Where the tokens of a prompt are.
    fn positions(&self, _ids: &[i64], _places: &[Place]) -> Positions {
        Positions::Linear { base: 0 }
    }

    /// Regions that an answer speaks of. `text` has its special tokens, `size` is the first image's width and height.
    fn regions(&self, _text: &str, _size: [u32; 2]) -> Vec<Region> {
        Vec::new()
    }

    /// Ids that the decoder of an encoder-decoder model starts from, given its start token.
    ///
    /// # Errors
    /// [`Error::Request`] when the prompt cannot be tokenized.
    fn decoder_prompt(&self, _prompt: Option<&str>, start: u32, _text: &Text) -> Result<Vec<u32>> {
        Ok(vec![start])
    }
}

/// Content of a user's message that asks `prompt` about `images` images.
pub(crate) fn parts(prompt: &str, images: usize) -> Value {
    let mut parts = vec![json!({"type": "image"}); images];
    parts.push(json!({"type": "text", "text": prompt}));
    parts.into()
}

/// What a family is told apart by, besides its configuration.
pub(crate) struct Parts {
    /// The language model has an encoder of its own.
    pub(crate) has_encoder: bool,
    /// The decoder reads the vision graph's features through cross attention.
    pub(crate) crosses: bool,
}

/// The adapter for a model of a kind that is known ([`crate::known`]): by its parts, else by its family.
///
/// # Errors
/// [`Error::Bundle`] when its configuration lacks what the family needs.
pub(crate) fn detect(description: &Description, parts: &Parts, text: &Text) -> Result<Box<dyn Family>> {
    if parts.crosses {
        return Ok(Box::new(vision_encoder_decoder::VisionEncoderDecoder::new(description)));
    }
    if parts.has_encoder {
        return Ok(Box::new(florence2::Florence2::new(description)));
    }
    Ok(match description.family.as_str() {
        "gemma3" | "gemma3_text" => Box::new(gemma3::Gemma3::new(description, text)?),
        "paligemma" => Box::new(paligemma::PaliGemma::new(description, text)?),
        "idefics3" | "smolvlm" => Box::new(idefics3::Idefics3::new(description, text)?),
        "llava_onevision" | "llava_next" => Box::new(any_resolution::AnyResolution::new(description, text)?),
        "phi3_v" | "phi3v" => Box::new(phi3_v::Phi3V),
        "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl" => Box::new(qwen2_vl::Qwen2Vl::new(description, text)?),
        _ => Box::new(llava::Llava::new(description, text)?),
    })
}

/// Whether the language model of a family, by its `model_type`, reads from left to right, images included. PaliGemma
/// reads its whole prompt both ways; of a family that is not known here nobody knows.
pub(crate) fn reads_left_to_right(family: &str) -> bool {
    matches!(
        family,
        "gemma3"
            | "idefics3"
            | "llava"
            | "llava_next"
            | "llava_onevision"
            | "phi3_v"
            | "phi3v"
            | "qwen2_5_vl"
            | "qwen2_vl"
            | "qwen3_vl"
            | "smolvlm"
    )
}

/// The image token of a model: by its id in the configuration, else by the tokenizer's name for it, else `usual`.
fn image_token(description: &Description, text: &Text, usual: &[&str]) -> Result<(String, u32)> {
    let by_id = description.token(&["image_token_id", "image_token_index"]);
    if let Some((token, id)) = by_id.and_then(|id| Some((text.token(id)?, id))) {
        return Ok((token, id));
    }
    let named = text.named("image_token");
    let known = named.iter().map(String::as_str).chain(usual.iter().copied());
    let found = known.into_iter().find_map(|token| Some((token.to_owned(), text.id(token)?)));
    found.ok_or_else(|| match by_id {
        Some(id) => Error::bundle(
            "tokenizer.json",
            format!("it has no token {id}, which the configuration says stands for images; it is another model's"),
        ),
        None => Error::bundle(
            "config.json",
            "neither image_token_id nor the tokenizer says which token stands for an image; add image_token_id",
        ),
    })
}

/// Puts what stands for each image in place of its placeholder. A prompt that already has a token for every feature is
/// left as it is.
///
/// # Errors
/// [`Error::Request`] when the prompt speaks of more or fewer images than there are.
pub(crate) fn expand(family: &dyn Family, prompt: &str, places: &[Place]) -> Result<String> {
    let Some(placeholder) = family.placeholder() else { return Ok(prompt.to_owned()) };
    let features: usize = places.iter().map(|place| place.features).sum();
    if let Some((token, _)) = family.image_token()
        && (token != placeholder || features != places.len())
        && features > 0
        && prompt.matches(token).count() == features
    {
        return Ok(prompt.to_owned());
    }
    let found = prompt.matches(placeholder).count();
    if found != places.len() {
        return Err(Error::Request(format!(
            "the prompt has {found} places for images (`{placeholder}`), but {} images came with it; make them equal",
            places.len()
        )));
    }
    let mut parts = prompt.split(placeholder);
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for (part, place) in parts.zip(places) {
        expanded.push_str(&family.expansion(place)?);
        expanded.push_str(part);
    }
    Ok(expanded)
}
