//! A loaded model: its sessions, its tokenizer, its configuration, and one run through them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use ort::value::DynValue;
use serde_json::{Map, Value, json};

use crate::{
    answer::{Answer, EncoderOutput, Statistics, Timings, Token},
    attention,
    bundle::Bundle,
    cancel::Cancel,
    decoder::Decoder,
    error::{Error, Result},
    family::{self, Family},
    generate::generate,
    generation::{self, Generation},
    graph::{Graph, GraphInfo, floats, read_floats},
    image::Image,
    manifest::Manifest,
    prepared::{Pixels, Prepared},
    processor::{self, Processor},
    runtime::Runtime,
    text::Text,
};

/// How sessions use this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that share one operator, at least 1.
    pub threads: usize,
}

impl Default for SessionOptions {
    /// As many threads as this process may use at once.
    fn default() -> Self {
        Self { threads: thread::available_parallelism().map_or(1, NonZero::get) }
    }
}

/// One question to a model.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The images, in the order the prompt speaks of them.
    pub images: Vec<Image>,
    /// The prompt; the manifest's when absent. In encoder-decoder models it is the beginning of the decoder's sequence.
    pub prompt: Option<String>,
    /// Generation options by their Hugging Face names, over those of the model; `null` for none.
    pub generation: Value,
    /// Image processor options by their Hugging Face names, over those of the model; `null` for none.
    pub processor: Value,
}

/// A model, ready to answer. It holds no state between runs.
pub struct Model {
    family_name: String,
    manifest: Manifest,
    family: Box<dyn Family>,
    encoder: Graph,
    features: usize,
    decoder: Decoder,
    attention_layer: Option<usize>,
    text: Text,
    processor: Map<String, Value>,
    generation: Map<String, Value>,
    labels: Vec<String>,
    load: Duration,
}

/// What the vision encoder made of an image.
struct Seen {
    features: DynValue,
    others: BTreeMap<String, EncoderOutput>,
    pixel_values: Statistics,
    image_features: Statistics,
    vision: Duration,
}

/// Encoder outputs with more values than this are features, not findings, and are left out of an answer.
const MAX_OUTPUT_VALUES: usize = 16_384;

impl Model {
    /// Loads the graphs, the tokenizer and the configuration of a folder.
    ///
    /// # Errors
    /// [`Error::Bundle`] for missing or malformed files, [`Error::Unsupported`] for a model this engine cannot run,
    /// [`Error::Graph`] when ONNX Runtime refuses a graph.
    pub fn load(bundle: &Bundle, runtime: &Runtime, options: &SessionOptions) -> Result<Self> {
        let began = Instant::now();
        if !bundle.missing.is_empty() {
            let missing = bundle.missing.join(", ");
            return Err(Error::bundle(&bundle.folder, format!("{missing} missing; copy from the model's source")));
        }
        let processor = processor::read_keys(bundle)?;
        let generation = generation::read_options(bundle)?;
        // What is wrong in the folder is the folder's fault, not a request's. An option that is only not supported may
        // still be overridden by a request.
        for checked in
            [Processor::new(&processor, &Value::Null).err(), Generation::new(&generation, &Value::Null).err()]
        {
            match checked {
                Some(Error::Request(problem)) => return Err(Error::bundle(&bundle.folder, problem)),
                Some(error) => tracing::warn!(model = %bundle.name(), %error, "the model's own configuration"),
                None => {}
            }
        }
        let text = Text::load(bundle)?;
        let encoder = Graph::load(&bundle.encoder, runtime, options)?;
        let features = encoder.output("last_hidden_state").ok_or_else(|| {
            let outputs: Vec<&str> = encoder.info().outputs.iter().map(|output| output.name.as_str()).collect();
            Error::unsupported(
                format!("{} with outputs {}", encoder.info().file, outputs.join(", ")),
                "an encoder that returns last_hidden_state",
                "export the model again with optimum, or choose another",
            )
        })?;
        let family = family::detect(bundle, encoder.info())?;
        let decoder = Decoder::new(Graph::load(&bundle.decoder, runtime, options)?)?;
        let attention_layer = attention::layer(bundle, decoder.attention_layers())?;
        Ok(Self {
            family_name: bundle.family.clone(),
            manifest: bundle.manifest.clone(),
            family,
            encoder,
            features,
            decoder,
            attention_layer,
            text,
            processor,
            generation,
            labels: bundle.labels()?,
            load: began.elapsed(),
        })
    }

    /// The graphs with names, element types and shapes of their inputs and outputs.
    pub fn graphs(&self) -> [&GraphInfo; 2] {
        [self.encoder.info(), self.decoder.info()]
    }

    /// Runs every graph once on a black image, with the model's own options, so that the first request is not the
    /// slowest and a model that cannot answer is found out early.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn warm_up(&mut self) -> Result<Timings> {
        let image = Image::new(64, 64, vec![0; 64 * 64 * 3])?;
        let request = Request { images: vec![image], generation: json!({"max_new_tokens": 2}), ..Request::default() };
        Ok(self.run(&request, &Cancel::new())?.timings_ms)
    }

    /// Answers one request.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::Unsupported`] for what the request asks, [`Error::Graph`] when a graph fails,
    /// [`Error::Cancelled`] and [`Error::DeadlineExceeded`] as `cancel` says.
    pub fn run(&mut self, request: &Request, cancel: &Cancel) -> Result<Answer> {
        cancel.check()?;
        let options = Generation::new(&self.generation, &request.generation)?;
        let processor = Processor::new(&self.processor, &request.processor)?;
        let prompt = request.prompt.clone().or_else(|| self.manifest.prompt.clone());
        let input_ids = self.family.prompt(prompt.as_deref(), &self.text, &options)?;

        let began = Instant::now();
        let Prepared { pixel_values, placements, .. } = self.family.prepare(&request.images, &processor)?;
        let preprocess = began.elapsed();
        let seen = self.see(pixel_values, cancel)?;

        let mut decoding = self.decoder.begin(seen.features)?;
        let layer = self.attention_layer;
        let decoder = &mut self.decoder;
        let generated = generate(&options, input_ids.clone(), &mut |rows, tokens| {
            decoder.select(&mut decoding, rows)?;
            decoder.step(&mut decoding, tokens, layer, cancel)
        })?;

        let (text, pieces) = self.text.decode_pieces(&generated.ids, input_ids.len())?;
        let ids = generated.ids[input_ids.len()..].iter();
        let tokens: Vec<Token> = ids
            .zip(pieces)
            .zip(&generated.logprobs)
            .map(|((id, text), logprob)| Token { id: *id, text, logprob: *logprob })
            .collect();
        let attention = match layer {
            Some(layer) => attention::map(&self.manifest.attention, layer, generated.attention)?,
            None => None,
        };
        let seconds = (generated.prefill + generated.decode).as_secs_f64();
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
        let tokens_per_second = if seconds > 0.0 { tokens.len() as f64 / seconds } else { 0.0 };
        Ok(Answer {
            family: self.family_name.clone(),
            prompt,
            input_ids,
            generated_ids: generated.ids,
            text,
            tokens,
            attention,
            logits_step1: generated.first,
            encoder_outputs: seen.others,
            pixel_values: Some(seen.pixel_values),
            placements,
            image_features: Some(seen.image_features),
            timings_ms: Timings {
                load: milliseconds(self.load),
                preprocess: milliseconds(preprocess),
                vision: milliseconds(seen.vision),
                prefill: milliseconds(generated.prefill),
                decode: milliseconds(generated.decode),
            },
            tokens_per_second,
            stopped_by: generated.stopped_by,
        })
    }

    /// Runs the vision encoder.
    fn see(&mut self, pixels: Pixels, cancel: &Cancel) -> Result<Seen> {
        let began = Instant::now();
        let pixel_values = Statistics::of(&pixels.shape, &pixels.values);
        let input = &self.encoder.info().inputs[0];
        let feed = (Cow::Owned(input.name.clone()), floats(input, &pixels.shape, pixels.values)?.into());
        let mut outputs = self.encoder.run(vec![feed], cancel)?;
        let vision = began.elapsed();
        let others = self.encoder_outputs(&outputs)?;
        let features = outputs.swap_remove(self.features);
        let (shape, values) = read_floats("last_hidden_state", &features)?;
        let image_features = Statistics::of(&shape, &values);
        drop(values);
        Ok(Seen { features, others, pixel_values, image_features, vision })
    }

    fn encoder_outputs(&self, values: &[DynValue]) -> Result<BTreeMap<String, EncoderOutput>> {
        let infos = self.encoder.info().outputs.iter().zip(values).enumerate();
        infos
            .filter(|(index, (info, value))| {
                let small = value.shape().num_elements() <= MAX_OUTPUT_VALUES;
                *index != self.features && small && info.is_float()
            })
            .map(|(_, (info, value))| {
                let (shape, values) = read_floats(&info.name, value)?;
                let labelled = info.name.ends_with("logits") && shape.last() == Some(&self.labels.len());
                let labels = if labelled { self.labels.clone() } else { Vec::new() };
                Ok((info.name.clone(), EncoderOutput { shape, values: values.into_owned(), labels }))
            })
            .collect()
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("family", &self.family_name).field("graphs", &self.graphs()).finish()
    }
}
