//! Qwen2-VL, Qwen2.5-VL, Qwen3-VL and models exported like them: an image is a grid of tokens, and positions follow it.

use super::{Family, Place, image_token};
use crate::{
    description::Description,
    error::{Error, Result},
    positions::{Grid, Positions, spatial},
    prepared::Arrangement,
    text::Text,
};

pub(super) struct Qwen2Vl {
    token: (String, u32),
}

impl Qwen2Vl {
    pub(super) fn new(description: &Description, text: &Text) -> Result<Self> {
        Ok(Self { token: image_token(description, text, &["<|image_pad|>", "<|IMAGE|>"])? })
    }
}

/// Frames, rows and columns of tokens.
fn grid(arrangement: Arrangement) -> Option<[usize; 3]> {
    match arrangement {
        Arrangement::Grid { frames, rows, columns, merge } if merge > 0 => {
            Some([frames, rows / merge, columns / merge])
        }
        _ => None,
    }
}

impl Family for Qwen2Vl {
    fn placeholder(&self) -> Option<&str> {
        Some(&self.token.0)
    }

    fn image_token(&self) -> Option<(&str, u32)> {
        Some((&self.token.0, self.token.1))
    }

    fn plain(&self, prompt: &str, images: usize) -> Result<String> {
        let token = &self.token.0;
        Ok(match prompt.contains(token.as_str()) {
            true => prompt.to_owned(),
            false => format!("{}{prompt}", format!("<|vision_start|>{token}<|vision_end|>").repeat(images)),
        })
    }

    fn expansion(&self, place: &Place) -> Result<String> {
        let grid = grid(place.arrangement).ok_or_else(|| {
            Error::unsupported(
                "a vision graph that asks for image_grid_thw, and an image processor that makes none",
                "image_processor_type Qwen2VLImageProcessor",
                "copy preprocessor_config.json from the model's source",
            )
        })?;
        Ok(self.token.0.repeat(grid.iter().product()))
    }

    fn positions(&self, ids: &[i64], places: &[Place]) -> Positions {
        let mut grids: Vec<Grid> = Vec::with_capacity(places.len());
        let mut from = 0;
        for grid in places.iter().filter_map(|place| grid(place.arrangement)) {
            let Some(at) = ids[from..].iter().position(|id| *id == i64::from(self.token.1)) else { break };
            grids.push((from + at, grid));
            from = (from + at + grid.iter().product::<usize>()).min(ids.len());
        }
        spatial(ids.len(), &grids)
    }
}
