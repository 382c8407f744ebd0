//! What differs between model families: how images become feeds and text becomes a prompt. Everything else is the
//! engine's.

mod vision_encoder_decoder;

use crate::{
    bundle::Bundle, error::Result, generation::Generation, graph::GraphInfo, image::Image, prepared::Prepared,
    processor::Processor, text::Text,
};

/// The adapter of one model family.
pub(crate) trait Family: Send {
    /// Images as the vision graph takes them.
    fn prepare(&self, images: &[Image], processor: &Processor) -> Result<Prepared>;

    /// The ids the decoder starts from.
    fn prompt(&self, prompt: Option<&str>, text: &Text, generation: &Generation) -> Result<Vec<u32>>;
}

/// The adapter for a bundle, from its configuration and the inputs of its vision graph.
///
/// # Errors
/// [`crate::Error::Unsupported`] when no adapter can fill those inputs.
pub(crate) fn detect(bundle: &Bundle, vision: &GraphInfo) -> Result<Box<dyn Family>> {
    // The only layout there is so far has one family, whatever `model_type` calls itself.
    Ok(Box::new(vision_encoder_decoder::VisionEncoderDecoder::new(bundle, vision)?))
}
