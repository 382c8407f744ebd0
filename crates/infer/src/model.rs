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
    constraint::Grammar,
    description::Description,
    engine::Engine,
    error::{Error, Result},
    evidence::EvidenceOptions,
    generation::{self, Generation},
    graph::{Graph, GraphInfo},
    image::Image,
    layout::{Layout, Role},
    manifest::{Manifest, OutputManifest},
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
    /// Keep the cache of the last prompt up to its images (512 MiB at most), so that another question about the same ones
    /// does not read them again. Only models that read from left to right do. It costs the first request another reading
    /// of its prompt, and all others a second run for what comes after the images: worth it where several questions are
    /// asked, or samples are drawn. Log-probabilities stay within 1e-4.
    pub reuse_prompts: bool,
}

impl Default for SessionOptions {
    /// The processor, with as many threads as this process may use at once.
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        Self { threads, provider: Provider::default(), reuse_prompts: false }
    }
}

/// What a generated text has to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Output {
    /// What `[output]` of the manifest says.
    #[default]
    Manifest,
    /// Any text, whatever the manifest says.
    Free,
    /// What this grammar allows.
    Bound(Grammar),
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
    /// In place of a prompt, the name of one of the manifest's `[prompts]`.
    pub prompt_name: Option<String>,
    /// Messages for the chat template, in place of a prompt, as Transformers takes them: a list of objects with `role`
    /// and `content`; `null` for none.
    pub messages: Value,
    /// Labels to score, for zero-shot models; the manifest's when there are none.
    pub labels: Vec<String>,
    /// What the text has to be. Generation options give way to a grammar where they leave nothing that it allows, and a
    /// special token that they force at the start comes before the text. Log-probabilities are still the model's own.
    pub output: Output,
    /// Generation options by their Hugging Face names, over those of the model; `null` for none.
    pub generation: Value,
    /// Image processor options by their Hugging Face names, over those of the model; `null` for none.
    pub processor: Value,
    /// Arguments of the chat template by their Hugging Face names; `null` for none.
    pub template: Value,
    /// Which evidence to give beside the text.
    pub evidence: EvidenceOptions,
}

/// A model, ready to answer. Between runs it keeps features of images it has seen and the cache of the last prompt.
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
    pub(crate) manifest: Manifest,
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
                if bundle.manifest.output != OutputManifest::default() {
                    let problem = "[output] is for models that write; a zero-shot model scores labels: take it away";
                    return Err(Error::bundle(bundle.folder.join("model.toml"), problem));
                }
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
                Kind::Reads(Box::new(Reader::new(engine, bundle, generation, options)?))
            }
        };
        let identity = Identity {
            family: bundle.family.clone(),
            digest: bundle.digest.clone(),
            manifest: bundle.manifest.clone(),
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

    /// Images that a request may have at most, where the model takes only so many.
    pub fn most_images(&self) -> Option<usize> {
        match &self.kind {
            Kind::Reads(reader) => reader.most_images(),
            Kind::Scores(_) => None,
        }
    }

    /// Whether it cannot answer without a prompt.
    pub fn needs_prompt(&self) -> bool {
        match &self.kind {
            Kind::Reads(reader) => reader.needs_prompt(),
            Kind::Scores(_) => false,
        }
    }

    /// Runs every graph once on a black image, with the model's own options, so that the first request is not the
    /// slowest and a model that cannot answer is found out early.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn warm_up(&mut self) -> Result<Timings> {
        let request = self.warm_up_request()?;
        Ok(self.run(&request, &Cancel::new())?.timings_ms)
    }

    /// What [`Model::warm_up`] asks, for who runs it elsewhere, with a deadline.
    ///
    /// # Errors
    /// None that is expected: the picture is within every bound.
    pub fn warm_up_request(&self) -> Result<Request> {
        let image = Image::new(64, 64, vec![0; 64 * 64 * 3])?;
        let mut request =
            Request { images: vec![image], generation: json!({"max_new_tokens": 2}), ..Request::default() };
        match &self.kind {
            Kind::Scores(_) if self.identity.manifest.labels.is_empty() => request.labels = vec!["black".to_owned()],
            Kind::Scores(_) => {}
            Kind::Reads(reader) if reader.needs_prompt() && self.identity.manifest.prompt.is_none() => {
                request.prompt = Some("Describe this image.".to_owned());
            }
            Kind::Reads(_) => {}
        }
        Ok(request)
    }

    /// Answers one request.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::Unsupported`] for what the request asks, [`Error::Graph`] when a graph fails,
    /// [`Error::Cancelled`] and [`Error::DeadlineExceeded`] as `cancel` says.
    pub fn run(&mut self, request: &Request, cancel: &Cancel) -> Result<Answer> {
        cancel.check()?;
        let processor = Processor::new(&self.processor, &request.processor)?;
        let prompt = prompt(request, &self.identity.manifest)?;
        let mut answer = match &mut self.kind {
            Kind::Reads(reader) => reader.answer(request, &processor, prompt, cancel)?,
            Kind::Scores(scorer) => {
                let labels = if request.labels.is_empty() { &self.identity.manifest.labels } else { &request.labels };
                score(scorer, Labelled { request, labels, prompt }, &processor, cancel)?
            }
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

/// The prompt of a request: its own, the one it names, or the manifest's; none where it brings messages.
fn prompt<'a>(request: &'a Request, manifest: &'a Manifest) -> Result<Option<&'a str>> {
    let given = [request.prompt.is_some(), request.prompt_name.is_some(), !request.messages.is_null()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        let problem = "a prompt, the name of one, and messages exclude each other; give one of them";
        return Err(Error::Request(problem.to_owned()));
    }
    let Some(name) = &request.prompt_name else {
        let own = request.prompt.as_deref().or(manifest.prompt.as_deref());
        return Ok(own.filter(|_| request.messages.is_null()));
    };
    let known: Vec<&str> = manifest.prompts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let named = manifest.prompts.get(name).map(String::as_str);
    let unknown = || format!("there is no prompt {name:?}; [prompts] of model.toml has: {known}");
    named.map(Some).ok_or_else(|| Error::Request(unknown()))
}

/// A request to a zero-shot model, with what the manifest adds to it.
struct Labelled<'a> {
    request: &'a Request,
    labels: &'a [String],
    prompt: Option<&'a str>,
}

/// One request to a zero-shot model.
fn score(
    scorer: &mut Scorer,
    Labelled { request, labels, prompt }: Labelled<'_>,
    processor: &Processor,
    cancel: &Cancel,
) -> Result<Answer> {
    if matches!(request.output, Output::Bound(_)) {
        let problem = "output grammar: a zero-shot model scores labels and writes no text; ask without it";
        return Err(Error::Request(problem.to_owned()));
    }
    if request.images.is_empty() {
        return Err(Error::Request("0 images; a zero-shot model scores one or more".to_owned()));
    }
    let sentence = Scorer::sentence(prompt, &request.template)?;
    let began = Instant::now();
    let prepared = processor.prepare(&request.images, scorer.channels().unwrap_or(3))?;
    let preprocess = began.elapsed();
    let ran = scorer.ran();
    let scores = scorer.score(&prepared, labels, &sentence, cancel)?;
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
