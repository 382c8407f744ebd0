//! LLaVA, and every model that is exported like it: an image is as many image tokens as its view has patches.

use super::{Family, Place, image_token};
use crate::{description::Description, error::Result, text::Text};

pub(super) struct Llava {
    token: (String, u32),
    tokens: Tokens,
}

/// How many tokens an image is.
enum Tokens {
    /// Patches of the view, with so many added and taken off.
    Patches { size: usize, added: usize, taken: usize },
    /// As the configuration says.
    Stated(usize),
    /// Nothing says: as many as the vision graph returns.
    Features,
}

impl Llava {
    pub(super) fn new(description: &Description, text: &Text) -> Result<Self> {
        let token = image_token(description, text, &["<image>", "<|image|>", "<image_soft_token>", "<|image_pad|>"])?;
        let stated = description
            .option_count("image_seq_length")
            .or_else(|| description.option_count("image_seq_len"))
            .or_else(|| description.count(&["/image_seq_length", "/mm_tokens_per_image"]));
        // Transformers counts patches only when the processor knows about them; older folders leave it to the model.
        let patches = description.option_count("patch_size").filter(|size| *size > 0);
        let tokens = match (patches, stated) {
            (Some(size), _) => {
                let strategy = description.option("vision_feature_select_strategy").and_then(|value| value.as_str());
                let taken = usize::from(strategy == Some("default"));
                match description.option_count("num_additional_image_tokens") {
                    Some(added) => Tokens::Patches { size, added, taken },
                    // A class token that nobody counted and that is taken off again.
                    None => Tokens::Patches { size, added: taken, taken },
                }
            }
            (None, Some(stated)) => Tokens::Stated(stated),
            (None, None) => Tokens::Features,
        };
        Ok(Self { token, tokens })
    }
}

impl Family for Llava {
    fn placeholder(&self) -> Option<&str> {
        Some(&self.token.0)
    }

    fn image_token(&self) -> Option<(&str, u32)> {
        Some((&self.token.0, self.token.1))
    }

    fn shows_expansion(&self) -> bool {
        false
    }

    fn expansion(&self, place: &Place) -> Result<String> {
        let count = match self.tokens {
            Tokens::Patches { size, added, taken } => {
                ((place.height / size) * (place.width / size) + added).saturating_sub(taken)
            }
            Tokens::Stated(count) => count,
            Tokens::Features => place.features,
        };
        Ok(self.token.0.repeat(count))
    }
}
