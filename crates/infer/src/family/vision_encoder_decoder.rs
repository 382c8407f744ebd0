//! VisionEncoderDecoder and models exported like it (ViT, Swin, DeiT … with GPT-2, BERT, TrOCR, mBART …): one image,
//! read through cross attention; the prompt is the decoder's.

use serde_json::Value;

use super::Family;
use crate::{
    bundle::{Bundle, read_json},
    error::{Error, Result},
    generation::Generation,
    graph::GraphInfo,
    image::Image,
    prepared::Prepared,
    processor::Processor,
    text::Text,
};

pub(super) struct VisionEncoderDecoder {
    channels: usize,
    /// Height and width, where the graph fixes them.
    size: [Option<i64>; 2],
    /// Donut's task prompts take the place of the start token; other prompts follow it.
    prompt_is_whole: bool,
}

impl VisionEncoderDecoder {
    pub(super) fn new(bundle: &Bundle, vision: &GraphInfo) -> Result<Self> {
        let [pixel_values] = &vision.inputs[..] else { return Err(refuse(vision)) };
        if pixel_values.name != "pixel_values" || pixel_values.shape.len() != 4 {
            return Err(refuse(vision));
        }
        let config = read_json(&bundle.folder.join("config.json"))?;
        let encoder = config.get("encoder");
        let encoder_type = encoder.and_then(|encoder| encoder.get("model_type")).and_then(Value::as_str);
        let stated =
            [encoder, Some(&config)].into_iter().flatten().find_map(|place| place.get("num_channels")?.as_u64());
        let channels = pixel_values.fixed(1).and_then(|channels| u64::try_from(channels).ok()).or(stated).unwrap_or(3);
        Ok(Self {
            channels: usize::try_from(channels).unwrap_or(3),
            size: [pixel_values.fixed(2), pixel_values.fixed(3)],
            prompt_is_whole: encoder_type.is_some_and(|name| name.contains("donut")),
        })
    }
}

fn refuse(vision: &GraphInfo) -> Error {
    let inputs: Vec<String> =
        vision.inputs.iter().map(|input| format!("{} (rank {})", input.name, input.shape.len())).collect();
    Error::unsupported(
        format!("{} with inputs {}", vision.file, inputs.join(", ")),
        "an encoder whose only input is pixel_values [batch, channels, height, width]",
        "choose another model",
    )
}

impl Family for VisionEncoderDecoder {
    fn prepare(&self, images: &[Image], processor: &Processor) -> Result<Prepared> {
        let [image] = images else {
            return Err(Error::Request(format!("{} images; this model reads exactly one", images.len())));
        };
        let prepared = processor.prepare(std::slice::from_ref(image), self.channels)?;
        let shape = &prepared.pixel_values.shape;
        let [_, _, height, width] = shape[..] else {
            return Err(Error::unsupported(
                format!("an image processor that makes pixel_values of {} dimensions", shape.len()),
                "one that makes [batch, channels, height, width]",
                "correct image_processor_type in preprocessor_config.json",
            ));
        };
        for (fixed, found) in self.size.iter().zip([height, width]) {
            if fixed.is_some_and(|fixed| usize::try_from(fixed) != Ok(found)) {
                let [fixed_height, fixed_width] =
                    self.size.map(|size| size.map_or("any".to_owned(), |size| size.to_string()));
                return Err(Error::Request(format!(
                    "the image is {} x {} pixels after preprocessing, the graph takes height {fixed_height} and width \
                     {fixed_width}; correct `size` of the image processor",
                    width, height
                )));
            }
        }
        Ok(prepared)
    }

    fn prompt(&self, prompt: Option<&str>, text: &Text, generation: &Generation) -> Result<Vec<u32>> {
        let mut ids = match prompt {
            Some(prompt) => text.encode(prompt)?,
            None => Vec::new(),
        };
        let start = generation.start()?;
        if ids.is_empty() || (ids[0] != start && !self.prompt_is_whole) {
            ids.insert(0, start);
        }
        Ok(ids)
    }
}
