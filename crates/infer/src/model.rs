//! A loaded model, and one request through it.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    answer::{Answer, Timings},
    bundle::Bundle,
    cancel::Cancel,
    description::Description,
    engine::Engine,
    error::{Error, Result},
    evidence::EvidenceOptions,
    generation::{self, Generation},
    graph::{Graph, GraphInfo},
    image::Image,
    layout::{Layout, Role},
    processor::Processor,
    provider::Provider,
    reader::Reader,
    runtime::Runtime,
    text::Text,
    vision::Vision,
    zero_shot::Scorer,
};

/// How sessions use this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that share one operator, at least 1.
    pub threads: usize,
    /// What runs the graphs.
    pub provider: Provider,
}

impl Default for SessionOptions {
    /// The processor, with as many threads as this process may use at once.
    fn default() -> Self {
        Self { threads: thread::available_parallelism().map_or(1, NonZero::get), provider: Provider::default() }
    }
}

/// One question to a model.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The images, in the order the prompt speaks of them.
    pub images: Vec<Image>,
    /// The prompt; the manifest's when absent. A model with a chat template gets it as a user's message about the images,
    /// unless it has special tokens in it: then it is the whole text as it is. In encoder-decoder models it is the
    /// beginning of the decoder's sequence; for zero-shot models the sentence that labels go into, with `{}`.
    pub prompt: Option<String>,
    /// Messages for the chat template, in place of a prompt, as Transformers takes them: a list of objects with `role`
    /// and `content`; `null` for none.
    pub messages: Value,
    /// Labels to score, for zero-shot models.
    pub labels: Vec<String>,
    /// Generation options by their Hugging Face names, over those of the model; `null` for none.
    pub generation: Value,
    /// Image processor options by their Hugging Face names, over those of the model; `null` for none.
    pub processor: Value,
    /// Arguments of the chat template by their Hugging Face names; `null` for none.
    pub template: Value,
    /// Which evidence to give beside the text.
    pub evidence: EvidenceOptions,
}

/// A model, ready to answer. Between runs it keeps only features of images it has seen.
pub struct Model {
    identity: Identity,
    kind: Kind,
    processor: Map<String, Value>,
    load: Duration,
}

/// What every answer says of the model.
pub(crate) struct Identity {
    pub(crate) family: String,
    pub(crate) digest: String,
    pub(crate) prompt: Option<String>,
}

enum Kind {
    Reads(Box<Reader>),
    Scores(Box<Scorer>),
}

impl Model {
    /// Loads the graphs, the tokenizer and the configuration of a folder.
    ///
    /// # Errors
    /// [`Error::Bundle`] for missing or malformed files, [`Error::Unsupported`] for a model this engine cannot run,
    /// [`Error::Graph`] when ONNX Runtime refuses a graph.
    pub fn load(bundle: &Bundle, runtime: &Runtime, options: &SessionOptions) -> Result<Self> {
        let began = Instant::now();
        bundle.check()?;
        let description = Description::read(bundle)?;
        let mut processor = description.image_processor.clone();
        processor.extend(bundle.manifest.processor.clone());
        of_the_folder(bundle, Processor::new(&processor, &Value::Null).err())?;
        let kind = match bundle.layout {
            Layout::ZeroShot => {
                let path = bundle.graph(Role::Scorer);
                let path = path.ok_or_else(|| {
                    Error::bundle(&bundle.folder, "model.onnx is missing; copy it from the model's source")
                })?;
                let graph = Graph::load(&path, &crate::graph::Names::default(), runtime, options)?;
                Kind::Scores(Box::new(Scorer::new(graph, &description, Text::load(bundle)?)?))
            }
            _ => {
                let engine = Engine::load(bundle, &description, runtime, options)?;
                let mut generation = generation::read_options(bundle)?;
                if let Some(genai) = &bundle.genai {
                    for (key, value) in genai.generation() {
                        generation.entry(key).or_insert(value);
                    }
                }
                generation.extend(bundle.manifest.generation.clone());
                of_the_folder(bundle, Generation::new(&generation, &Value::Null).err())?;
                Kind::Reads(Box::new(Reader::new(engine, bundle, generation)?))
            }
        };
        let identity = Identity {
            family: bundle.family.clone(),
            digest: bundle.digest.clone(),
            prompt: bundle.manifest.prompt.clone(),
        };
        Ok(Self { identity, kind, processor, load: began.elapsed() })
    }

    /// The graphs with names, element types and shapes of their inputs and outputs.
    pub fn graphs(&self) -> Vec<&GraphInfo> {
        match &self.kind {
            Kind::Reads(reader) => reader.graphs(),
            Kind::Scores(scorer) => vec![scorer.info()],
        }
    }

    /// Runs every graph once on a black image, with the model's own options, so that the first request is not the
    /// slowest and a model that cannot answer is found out early.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn warm_up(&mut self) -> Result<Timings> {
        let image = Image::new(64, 64, vec![0; 64 * 64 * 3])?;
        let mut request =
            Request { images: vec![image], generation: json!({"max_new_tokens": 2}), ..Request::default() };
        match &self.kind {
            Kind::Scores(_) => request.labels = vec!["black".to_owned()],
            Kind::Reads(reader) if reader.needs_prompt() && self.identity.prompt.is_none() => {
                request.prompt = Some("Describe this image.".to_owned());
            }
            Kind::Reads(_) => {}
        }
        Ok(self.run(&request, &Cancel::new())?.timings_ms)
    }

    /// Answers one request.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::Unsupported`] for what the request asks, [`Error::Graph`] when a graph fails,
    /// [`Error::Cancelled`] and [`Error::DeadlineExceeded`] as `cancel` says.
    pub fn run(&mut self, request: &Request, cancel: &Cancel) -> Result<Answer> {
        cancel.check()?;
        let processor = Processor::new(&self.processor, &request.processor)?;
        let mut answer = match &mut self.kind {
            Kind::Reads(reader) => reader.answer(request, &processor, self.identity.prompt.as_deref(), cancel)?,
            Kind::Scores(scorer) => score(scorer, request, &processor, self.identity.prompt.as_deref(), cancel)?,
        };
        answer.family.clone_from(&self.identity.family);
        answer.model_digest.clone_from(&self.identity.digest);
        answer.timings_ms.load = milliseconds(self.load);
        Ok(answer)
    }
}

/// What is wrong in the folder is the folder's fault, not a request's. An option that is only not supported may still be
/// overridden by a request.
fn of_the_folder(bundle: &Bundle, error: Option<Error>) -> Result<()> {
    match error {
        Some(Error::Request(problem)) => return Err(Error::bundle(&bundle.folder, problem)),
        Some(error) => tracing::warn!(model = %bundle.name(), %error, "the model's own configuration"),
        None => {}
    }
    Ok(())
}

/// One request to a zero-shot model.
fn score(
    scorer: &mut Scorer,
    request: &Request,
    processor: &Processor,
    prompt: Option<&str>,
    cancel: &Cancel,
) -> Result<Answer> {
    if request.images.is_empty() {
        return Err(Error::Request("0 images; a zero-shot model scores one or more".to_owned()));
    }
    let sentence = Scorer::sentence(request.prompt.as_deref().or(prompt), &request.template)?;
    let began = Instant::now();
    let prepared = processor.prepare(&request.images, scorer.channels().unwrap_or(3))?;
    let preprocess = began.elapsed();
    let ran = scorer.ran();
    let scores = scorer.score(&prepared, &request.labels, &sentence, cancel)?;
    let vision = began.elapsed().saturating_sub(preprocess);
    Ok(Answer {
        prompt: Some(sentence),
        pixel_values: Some(Vision::statistics(&prepared)),
        placements: prepared.placements,
        zero_shot: Some(scores),
        timings_ms: Timings {
            preprocess: milliseconds(preprocess),
            vision: milliseconds(vision),
            graphs: milliseconds(scorer.ran().saturating_sub(ran)),
            ..Timings::default()
        },
        ..Answer::empty()
    })
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("family", &self.identity.family).field("graphs", &self.graphs()).finish()
    }
}
