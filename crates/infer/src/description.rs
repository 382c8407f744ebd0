//! What the JSON files of a folder say that families and processors ask for.

use serde_json::{Map, Value};

use crate::{bundle::Bundle, error::Result, processor};

/// A folder's configuration, read once.
pub(crate) struct Description {
    /// `model_type`, or genai's `model.type`.
    pub(crate) family: String,
    /// `config.json`; `null` when there is none.
    pub(crate) config: Value,
    /// `processor_config.json`, where it holds Hugging Face options.
    processor: Value,
    /// Keys of the image processor.
    pub(crate) image_processor: Map<String, Value>,
    /// Numbers under genai's `model`.
    genai: Value,
}

impl Description {
    /// Reads the files.
    ///
    /// # Errors
    /// [`crate::Error::Bundle`] when one is malformed or the image processor's is missing.
    pub(crate) fn read(bundle: &Bundle) -> Result<Self> {
        let config = bundle.json("config.json")?;
        let stated = bundle.json("processor_config.json")?;
        let image_processor = processor::read_keys(bundle)?;
        let processor = if stated.get("processor").is_some() { Value::Null } else { stated };
        let genai = if bundle.genai.is_some() { bundle.json("genai_config.json")? } else { Value::Null };
        let genai = genai.get("model").cloned().unwrap_or_default();
        Ok(Self { family: bundle.family.clone(), config, processor, image_processor, genai })
    }

    /// The first number at these places of `config.json`, written as JSON pointers.
    pub(crate) fn count(&self, pointers: &[&str]) -> Option<usize> {
        pointers.iter().find_map(|pointer| usize::try_from(self.config.pointer(pointer)?.as_u64()?).ok())
    }

    /// The first token id under these keys of `config.json`, or of genai's `model`.
    pub(crate) fn token(&self, keys: &[&str]) -> Option<u32> {
        let places = [&self.config, &self.genai];
        places.iter().find_map(|place| keys.iter().find_map(|key| u32::try_from(place.get(key)?.as_u64()?).ok()))
    }

    /// An option of the processor: its own, or one that the image processor keeps for it.
    pub(crate) fn option(&self, key: &str) -> Option<&Value> {
        let stated = self.processor.get(key).or_else(|| self.image_processor.get(key));
        stated.filter(|value| !value.is_null())
    }

    /// A number among the processor's options.
    pub(crate) fn option_count(&self, key: &str) -> Option<usize> {
        usize::try_from(self.option(key)?.as_u64()?).ok()
    }
}
