//! A generating model: a request's images and prompt in, an answer with its evidence out.

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use serde_json::{Map, Value, json};

use self::support::Answered;
use crate::{
    answer::{Answer, EncoderOutput, Statistics, Timings, Token},
    attention,
    bounds::Bounds,
    bundle::Bundle,
    cancel::Cancel,
    constraint::Constraint,
    decoder::{Decoding, Reading, Step},
    engine::{Asked, Engine},
    error::{Error, Result},
    family::Place,
    generate::{Choose, Generated, Next, Prompt, generate, greedy, side_by_side},
    generation::Generation,
    graph::GraphInfo,
    image::Image,
    manifest::AttentionManifest,
    model::{Request, SessionOptions, milliseconds},
    prefix::{Parts, Prefix},
    prepared::Prepared,
    processor::Processor,
    sampler::Sampler,
    seen::{self, Memory, Seen},
    template::Template,
    text,
    vision::{Features, Named, Vision},
};

/// A generating model with everything a request needs.
pub(crate) struct Reader {
    engine: Engine,
    template: Option<Template>,
    generation: Map<String, Value>,
    attention: AttentionManifest,
    attention_layer: Option<usize>,
    labels: Vec<String>,
    bounds: Bounds,
    memory: Memory,
    prefix: Prefix,
}

/// Encoder outputs with more values than this are features, not findings, and are left out of an answer.
const MAX_OUTPUT_VALUES: usize = 16_384;

/// What is to be generated: the prompt in ids, and what bounds the text after it.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    asked: &'a Asked,
    grammar: Option<&'a Constraint>,
}

/// A sequence at its beginning.
struct Begun {
    decoding: Decoding,
    /// Tokens of the prompt that were read already.
    read: usize,
    /// What came after the prompt, where all of it was read.
    first: Option<Vec<Step>>,
    /// Tokens of the prompt that were read for another one.
    reused: usize,
}

/// Features of a request's images, if it has any.
type Sight = Option<Arc<Seen>>;

impl Reader {
    /// Puts a model together.
    ///
    /// # Errors
    /// [`Error::Bundle`] for a chat template, output grammar or manifest that does not fit.
    pub(crate) fn new(
        engine: Engine,
        bundle: &Bundle,
        generation: Map<String, Value>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let attention_layer = attention::layer(bundle, engine.decoder.attention_layers())?;
        let ends = Generation::new(&generation, &Value::Null).map(|options| options.eos_token_id).unwrap_or_default();
        Ok(Self {
            prefix: Prefix::new(&bundle.family, &engine.decoder, options.reuse_prompts),
            bounds: Bounds::new(bundle, &engine.text, engine.decoder.vocabulary(), &ends)?,
            engine,
            template: Template::load(bundle)?,
            generation,
            attention: bundle.manifest.attention.clone(),
            attention_layer,
            labels: bundle.labels()?,
            memory: Memory::default(),
        })
    }

    pub(crate) fn graphs(&self) -> Vec<&GraphInfo> {
        self.engine.graphs()
    }

    pub(crate) fn most_images(&self) -> Option<usize> {
        self.engine.most_images()
    }

    /// Whether it cannot answer without a prompt.
    pub(crate) fn needs_prompt(&self) -> bool {
        !self.engine.crosses()
    }

    /// Answers one request; `prompt` is what it or the manifest says, unless it brings messages.
    pub(crate) fn answer(
        &mut self,
        request: &Request,
        processor: &Processor,
        prompt: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Answer> {
        let options = Generation::new(&self.generation, &request.generation)?;
        let grammar = self.bounds.constraint(&request.output, &self.engine.text, &options.eos_token_id)?;
        let ran = self.engine.ran();
        self.engine.check_images(request.images.len())?;
        let sight = match request.images.is_empty() {
            true => None,
            false => Some(self.see(&request.images, processor, &request.processor, cancel)?),
        };
        let (sight, fresh) = sight.map_or((None, false), |(seen, fresh)| (Some(seen), fresh));
        let rendered = self.rendered(request, prompt)?;
        let start = if self.engine.has_own_sequence() { options.start()? } else { 0 };
        let places = sight.as_ref().map_or(&[][..], |seen| &seen.places);
        let asked = self.engine.ask(rendered.as_deref(), places, start)?;
        let choose = match &options.sampling {
            Some(sampling) => {
                let mut sampler = Sampler::new(sampling, 0);
                Box::new(move |scores: &mut [f32]| Ok(sampler.draw(scores))) as Choose<'_>
            }
            None => greedy(),
        };
        let wanted = Wanted { asked: &asked, grammar: grammar.as_ref() };
        let generated = self.generate(&options, wanted, &sight, vec![choose], cancel)?;
        let Some(generated) = generated.into_iter().next() else {
            return Err(Error::graph("decoder", "no sequence came back"));
        };
        let mut answer = self.told(&asked, generated, request)?;
        if let Some(seen) = &sight {
            answer.encoder_outputs.clone_from(&seen.others);
            answer.pixel_values = Some(seen.pixel_values.clone());
            answer.image_features = Some(seen.image_features.clone());
            answer.placements.clone_from(&seen.placements);
            if fresh {
                answer.timings_ms.preprocess = milliseconds(seen.preprocess);
                answer.timings_ms.vision = milliseconds(seen.vision);
            }
        }
        let answered = Answered { request, processor, wanted, answer: &answer, sight: &sight };
        answer.evidence = self.evidence(&answered, cancel)?;
        answer.timings_ms.graphs = milliseconds(self.engine.ran().saturating_sub(ran));
        Ok(answer)
    }

    /// The prompt as text: what the request says, through the chat template where there is one for it.
    fn rendered(&self, request: &Request, prompt: Option<&str>) -> Result<Option<String>> {
        let images = request.images.len();
        let family = &self.engine.family;
        if !request.messages.is_null() {
            if let Some(template) = &self.template {
                return template.render(&request.messages, &arguments(request)).map(Some);
            }
            return Ok(Some(family.plain(&words(&request.messages)?, images)?));
        }
        let Some(prompt) = prompt else {
            return match self.engine.crosses() {
                true => Ok(None),
                false => Err(Error::Request("no prompt; this model needs one".to_owned())),
            };
        };
        match &self.template {
            Some(template) if !self.engine.text.is_rendered(prompt) && !self.engine.has_own_sequence() => {
                let messages = self.engine.message(prompt, images, template.takes_parts())?;
                template.render(&messages, &arguments(request)).map(Some)
            }
            _ if self.engine.crosses() => Ok(Some(prompt.to_owned())),
            _ => family.plain(prompt, images).map(Some),
        }
    }

    /// Images through processor and vision graph, unless they were just now; and whether they were.
    fn see(
        &mut self,
        images: &[Image],
        processor: &Processor,
        options: &Value,
        cancel: &Cancel,
    ) -> Result<(Arc<Seen>, bool)> {
        let key = seen::key(images, options);
        if let Some(seen) = self.memory.recall(&key) {
            return Ok((seen, false));
        }
        let seen = Arc::new(self.look(images, processor, cancel)?);
        self.memory.keep(key, &seen);
        Ok((seen, true))
    }

    fn look(&mut self, images: &[Image], processor: &Processor, cancel: &Cancel) -> Result<Seen> {
        let began = Instant::now();
        let channels = self.engine.vision.channels().unwrap_or(3);
        let prepared = processor.prepare(images, channels)?;
        let preprocess = began.elapsed();
        let features = self.engine.see(&prepared, cancel)?;
        let vision = began.elapsed().saturating_sub(preprocess);
        let others = self.findings(&features.others);
        Ok(Seen {
            places: places(&prepared, &features),
            others,
            pixel_values: Vision::statistics(&prepared),
            image_features: Statistics::of(&features.shape, &features.values),
            placements: prepared.placements,
            features,
            preprocess,
            vision,
        })
    }

    /// Small outputs of the vision graph beside its features.
    fn findings(&self, others: &[Named]) -> BTreeMap<String, EncoderOutput> {
        let small = others.iter().filter(|other| other.values.len() <= MAX_OUTPUT_VALUES);
        small
            .map(|other| {
                let labelled = other.name.ends_with("logits") && other.shape.last() == Some(&self.labels.len());
                let labels = if labelled { self.labels.clone() } else { Vec::new() };
                let (shape, values) = (other.shape.clone(), other.values.clone());
                (other.name.clone(), EncoderOutput { shape, values, labels })
            })
            .collect()
    }

    /// Decodes, with as many sequences as there are ways to choose.
    fn generate(
        &mut self,
        options: &Generation,
        Wanted { asked, grammar }: Wanted<'_>,
        sight: &Sight,
        mut choices: Vec<Choose<'_>>,
        cancel: &Cancel,
    ) -> Result<Vec<Generated>> {
        let began = Instant::now();
        let reading = Reading { positions: 1, layer: self.attention_layer };
        let mut begun = self.begin(asked, sight, reading, cancel)?;
        let (embedding, reused) = (began.elapsed(), begun.reused);
        let decoder = &mut self.engine.decoder;
        let step = &mut |rows: &[usize], tokens: &[&[u32]]| -> Result<Vec<Next>> {
            let read = std::mem::take(&mut begun.read);
            let steps = match begun.first.take() {
                Some(steps) => steps,
                None => {
                    decoder.select(&mut begun.decoding, rows)?;
                    let unread: Vec<&[u32]> = tokens.iter().map(|ids| ids.get(read..).unwrap_or_default()).collect();
                    decoder.step(&mut begun.decoding, &unread, reading, cancel)?
                }
            };
            let next = steps
                .into_iter()
                .map(|mut step| Next { logits: step.logits.pop().unwrap_or_default(), attention: step.attention });
            Ok(next.collect())
        };
        let text = &self.engine.text;
        let stops = |ids: &[u32]| -> Result<bool> {
            let before = text.decode(&ids[..ids.len().saturating_sub(1)])?.len();
            Ok(options.stops(&text.decode(ids)?, before))
        };
        let prompt = Prompt { ids: &asked.decoder_ids, read: &asked.read, stops: &stops, grammar };
        let mut generated = match (choices.len(), choices.pop()) {
            (1, Some(choose)) => vec![generate(options, prompt, choose, step)?],
            (_, last) => {
                choices.extend(last);
                side_by_side(options, prompt, choices, step)?
            }
        };
        for sequence in &mut generated {
            sequence.prefill += embedding;
            sequence.reused = reused;
        }
        self.prefix.keep(asked, sight.as_ref(), begun.decoding);
        Ok(generated)
    }

    /// Begins to decode: the whole prompt is still to be read, or what comes after its images.
    fn begin(&mut self, asked: &Asked, sight: &Sight, reading: Reading, cancel: &Cancel) -> Result<Begun> {
        let parts = self.prefix.parts(asked);
        let Some(seen) = sight.as_ref().filter(|_| parts != Parts::One) else {
            let (features, places) = match sight {
                Some(seen) => (Some(&seen.features), &seen.places[..]),
                None => (None, &[][..]),
            };
            let decoding = self.engine.begin(asked, features, places, cancel)?;
            return Ok(Begun { decoding, read: 0, first: None, reused: 0 });
        };
        if parts == Parts::Two {
            return self.begin_in_parts(asked, seen, reading, cancel);
        }
        let mut whole = self.engine.begin(asked, Some(&seen.features), &seen.places, cancel)?;
        let of_whole = self.engine.decoder.step(&mut whole, &[&asked.decoder_ids], reading, cancel)?;
        let in_parts = self.begin_in_parts(asked, seen, reading, cancel).and_then(|mut begun| {
            let rest = &asked.decoder_ids[begun.read..];
            let steps = self.engine.decoder.step(&mut begun.decoding, &[rest], reading, cancel)?;
            Ok((begun.decoding, steps))
        });
        let scores = |steps: &[Step]| -> Vec<f32> {
            steps.first().and_then(|step| step.logits.last()).cloned().unwrap_or_default()
        };
        let (two, in_parts) = match in_parts {
            Ok((decoding, steps)) => (Ok(scores(&steps)), Some((decoding, steps))),
            Err(error) => (Err(error), None),
        };
        let chosen = self.prefix.try_out(two, &scores(&of_whole))?;
        let (decoding, steps) = in_parts.filter(|_| chosen == Parts::Two).unwrap_or((whole, of_whole));
        Ok(Begun { decoding, read: 0, first: Some(steps), reused: 0 })
    }

    /// Begins to decode after a prompt's images: from what is kept of the last prompt, else from the start.
    fn begin_in_parts(&mut self, asked: &Asked, seen: &Arc<Seen>, reading: Reading, cancel: &Cancel) -> Result<Begun> {
        let recalled = self.prefix.recall(&self.engine.decoder, asked, seen);
        let reused = if recalled.is_some() { asked.images_end } else { 0 };
        let mut decoding = match recalled {
            Some(decoding) => decoding,
            None => {
                let head = asked.head();
                let mut decoding = self.engine.begin(&head, Some(&seen.features), &seen.places, cancel)?;
                self.engine.decoder.step(&mut decoding, &[&head.decoder_ids], reading, cancel)?;
                decoding.retain();
                decoding
            }
        };
        self.engine.go_on(&mut decoding, asked, &seen.places);
        Ok(Begun { decoding, read: asked.images_end, first: None, reused })
    }

    /// A sequence as an answer.
    fn told(&self, asked: &Asked, generated: Generated, request: &Request) -> Result<Answer> {
        let prompt = asked.decoder_ids.len();
        // Where the sequence is the prompt's, what was generated is a text of its own.
        let (ids, start) = match self.engine.has_own_sequence() {
            true => (generated.ids, prompt),
            false => (generated.ids[prompt..].to_vec(), 0),
        };
        let reading = reading(generated.complete.is_some());
        let (text, pieces) = self.engine.text.decode_pieces(&ids, start, reading)?;
        let tokens: Vec<Token> = ids[start..]
            .iter()
            .zip(pieces)
            .zip(&generated.logprobs)
            .map(|((id, text), logprob)| Token { id: *id, text, logprob: *logprob })
            .collect();
        let attention = match self.attention_layer {
            Some(layer) => attention::map(&self.attention, layer, generated.attention)?,
            None => None,
        };
        let regions = match request.images.first() {
            Some(image) => {
                let raw = self.engine.text.decode_with_special(&ids[start..])?;
                self.engine.family.regions(&raw, [image.width, image.height])
            }
            None => Vec::new(),
        };
        let seconds = (generated.prefill + generated.decode).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
        let tokens_per_second = if seconds > 0.0 { tokens.len() as f64 / seconds } else { 0.0 };
        Ok(Answer {
            prompt: asked.prompt.clone(),
            input_ids: asked.input_ids.clone(),
            generated_ids: ids,
            text,
            tokens,
            attention,
            logits_step1: generated.first,
            regions,
            timings_ms: Timings {
                prefill: milliseconds(generated.prefill),
                decode: milliseconds(generated.decode),
                ..Timings::default()
            },
            tokens_per_second,
            stopped_by: generated.stopped_by,
            complete: generated.complete,
            reused_prompt_tokens: generated.reused,
            ..Answer::empty()
        })
    }
}

/// How a text is decoded.
fn reading(bound: bool) -> text::Reading {
    if bound { text::Reading::AsWritten } else { text::Reading::CleanedUp }
}

/// Arguments of the chat template: an answer is wanted, unless the request says otherwise.
fn arguments(request: &Request) -> Value {
    let mut arguments = json!({"add_generation_prompt": true});
    match (arguments.as_object_mut(), &request.template) {
        (Some(arguments), Value::Object(given)) => arguments.extend(given.clone()),
        (_, Value::Null) => {}
        (_, given) => return given.clone(),
    }
    arguments
}

/// What became of each image.
fn places(prepared: &Prepared, features: &Features) -> Vec<Place> {
    let shape = &prepared.pixel_values.shape;
    let (height, width) = match shape[..] {
        [.., height, width] if shape.len() > 2 => (height, width),
        _ => (0, 0),
    };
    let of_each = prepared.images.iter().zip(&features.of_image);
    of_each
        .map(|(arrangement, features)| Place { arrangement: *arrangement, height, width, features: *features })
        .collect()
}

/// The words of messages, for a model that has no chat template.
fn words(messages: &Value) -> Result<String> {
    let wrong = || Error::Request("messages must be a list of objects with `role` and `content`".to_owned());
    let mut words = Vec::new();
    for message in messages.as_array().ok_or_else(wrong)? {
        match message.get("content") {
            Some(Value::String(text)) => words.push(text.clone()),
            Some(Value::Array(parts)) => {
                words.extend(parts.iter().filter_map(|part| part.get("text")?.as_str().map(str::to_owned)));
            }
            _ => return Err(wrong()),
        }
    }
    Ok(words.join("\n"))
}
