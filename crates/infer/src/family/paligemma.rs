//! PaliGemma: image tokens, then `<bos>`, the prompt and a line break. Positions count from 1; that the prompt is read in
//! both directions is in the graph.

use super::{Family, Place, image_token};
use crate::{answer::Region, description::Description, error::Result, positions::Positions, regions, text::Text};

pub(super) struct PaliGemma {
    token: (String, u32),
    bos: String,
    length: Option<usize>,
}

impl PaliGemma {
    pub(super) fn new(description: &Description, text: &Text) -> Result<Self> {
        let length = description.option_count("image_seq_length");
        let length =
            length.or_else(|| description.count(&["/text_config/num_image_tokens", "/vision_config/num_image_tokens"]));
        let bos = text.named("bos_token").unwrap_or_else(|| "<bos>".to_owned());
        Ok(Self { token: image_token(description, text, &["<image>"])?, bos, length })
    }
}

impl Family for PaliGemma {
    fn placeholder(&self) -> Option<&str> {
        Some(&self.token.0)
    }

    fn image_token(&self) -> Option<(&str, u32)> {
        Some((&self.token.0, self.token.1))
    }

    fn plain(&self, prompt: &str, images: usize) -> Result<String> {
        let (token, bos) = (&self.token.0, &self.bos);
        // With the beginning of the text in it, somebody has been through this before.
        if prompt.contains(bos.as_str()) {
            return Ok(prompt.to_owned());
        }
        Ok(match prompt.rfind(token.as_str()) {
            Some(at) => {
                let (images, text) = prompt.split_at(at + token.len());
                format!("{images}{bos}{text}\n")
            }
            None => format!("{}{bos}{prompt}\n", token.repeat(images)),
        })
    }

    fn expansion(&self, place: &Place) -> Result<String> {
        Ok(self.token.0.repeat(self.length.unwrap_or(place.features)))
    }

    fn encode(&self, prompt: &str, _places: &[Place], text: &Text) -> Result<Vec<i64>> {
        Ok(text.encode(prompt, false)?.into_iter().map(i64::from).collect())
    }

    fn positions(&self, _ids: &[i64], _places: &[Place]) -> Positions {
        Positions::Linear { base: 1 }
    }

    fn regions(&self, text: &str, size: [u32; 2]) -> Vec<Region> {
        regions::of_paligemma(text, size)
    }
}
