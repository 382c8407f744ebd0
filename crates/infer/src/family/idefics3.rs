//! Idefics3 and SmolVLM: each tile of an image is introduced by its row and column, and the whole image comes last.

use std::fmt::Write;

use super::{Family, Place, image_token};
use crate::{description::Description, error::Result, prepared::Arrangement, text::Text};

pub(super) struct Idefics3 {
    token: (String, u32),
    fake: String,
    global: String,
    length: usize,
}

impl Idefics3 {
    pub(super) fn new(description: &Description, text: &Text) -> Result<Self> {
        let computed = || {
            let side = description.count(&["/vision_config/image_size"])?
                / description.count(&["/vision_config/patch_size"])?;
            let scale = description.count(&["/scale_factor"])?;
            (side * side).checked_div(scale * scale)
        };
        let length = description.option_count("image_seq_len").or_else(computed).unwrap_or(169);
        let named = |role: &str, usual: &str| text.named(role).unwrap_or_else(|| usual.to_owned());
        Ok(Self {
            token: image_token(description, text, &["<image>"])?,
            fake: named("fake_image_token", "<fake_token_around_image>"),
            global: named("global_image_token", "<global-img>"),
            length,
        })
    }
}

impl Family for Idefics3 {
    fn placeholder(&self) -> Option<&str> {
        Some(&self.token.0)
    }

    fn image_token(&self) -> Option<(&str, u32)> {
        Some((&self.token.0, self.token.1))
    }

    fn expansion(&self, place: &Place) -> Result<String> {
        let Self { fake, global, .. } = self;
        let view = self.token.0.repeat(self.length);
        let mut text = String::new();
        if let Arrangement::Tiles { rows, columns } = place.arrangement
            && rows * columns > 0
        {
            for row in 1..=rows {
                for column in 1..=columns {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{fake}<row_{row}_col_{column}>{view}");
                }
                text.push('\n');
            }
            text.push('\n');
        }
        let _ = write!(text, "{fake}{global}{view}{fake}");
        Ok(text)
    }
}
