//! Gemma 3 and MedGemma: each view of an image is a fixed number of soft tokens between markers; views of pan and scan
//! are introduced by fixed words.

use super::{Family, Place, image_token};
use crate::{
    description::Description,
    error::{Error, Result},
    prepared::Arrangement,
    text::Text,
};

pub(super) struct Gemma3 {
    token: (String, u32),
    begin: String,
    /// A whole view: markers and soft tokens.
    view: String,
}

impl Gemma3 {
    pub(super) fn new(description: &Description, text: &Text) -> Result<Self> {
        let token = image_token(description, text, &["<image_soft_token>"])?;
        let marker = |role: &str, key: &str, id_key: &str, usual: &str| {
            let by_id = || text.token(description.token(&[key, id_key])?);
            let named = text.named(role).or_else(by_id).unwrap_or_else(|| usual.to_owned());
            if text.id(&named).is_some() {
                return Ok(named);
            }
            Err(Error::bundle("tokenizer.json", format!("it has no token `{named}` ({role}); it is another model's")))
        };
        let begin = marker("boi_token", "boi_token_index", "boi_token_id", "<start_of_image>")?;
        let end = marker("eoi_token", "eoi_token_index", "eoi_token_id", "<end_of_image>")?;
        let length = description.option_count("image_seq_length");
        let length = length.or_else(|| description.count(&["/mm_tokens_per_image"])).unwrap_or(256);
        let view = format!("\n\n{begin}{}{end}\n\n", token.0.repeat(length));
        Ok(Self { token, begin, view })
    }
}

impl Family for Gemma3 {
    fn placeholder(&self) -> Option<&str> {
        Some(&self.begin)
    }

    fn image_token(&self) -> Option<(&str, u32)> {
        Some((&self.token.0, self.token.1))
    }

    fn expansion(&self, place: &Place) -> Result<String> {
        let view = self.view.as_str();
        Ok(match place.arrangement {
            Arrangement::Crops { count } if count > 0 => {
                let crops = vec![view; count].join(" ");
                format!("Here is the original image {view} and here are some crops to help you see better {crops}")
            }
            _ => view.to_owned(),
        })
    }
}
