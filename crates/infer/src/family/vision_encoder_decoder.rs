//! VisionEncoderDecoder and models exported like it (ViT, Swin, DeiT … with GPT-2, BERT, TrOCR, mBART …): images are read
//! through cross attention; the prompt is the decoder's.

use serde_json::Value;

use super::Family;
use crate::{description::Description, error::Result, text::Text};

pub(super) struct VisionEncoderDecoder {
    /// Donut's task prompts take the place of the start token; other prompts follow it.
    prompt_is_whole: bool,
}

impl VisionEncoderDecoder {
    pub(super) fn new(description: &Description) -> Self {
        let encoder = description.config.pointer("/encoder/model_type").and_then(Value::as_str);
        Self { prompt_is_whole: encoder.is_some_and(|name| name.contains("donut")) }
    }
}

impl Family for VisionEncoderDecoder {
    fn decoder_prompt(&self, prompt: Option<&str>, start: u32, text: &Text) -> Result<Vec<u32>> {
        let mut ids = match prompt {
            Some(prompt) => text.encode(prompt, false)?,
            None => Vec::new(),
        };
        if ids.is_empty() || (ids[0] != start && !self.prompt_is_whole) {
            ids.insert(0, start);
        }
        Ok(ids)
    }
}
