//! The parts of a generating model, and how images and a prompt go through them: seen, asked, begun, decoded.

use std::{borrow::Cow, sync::Arc, time::Duration};

use ort::value::{DynValue, Tensor};
use serde_json::Value;

use crate::{
    bundle::Bundle,
    cancel::Cancel,
    decoder::{Decoder, Decoding, Reading, Start},
    description::Description,
    embed::{Embed, Embedded},
    error::{Error, Result},
    family::{self, Family, Parts, Place},
    graph::{Feeds, Graph, GraphInfo, floats, integers, read_floats},
    layout::Role,
    logits::log_normalizer,
    model::SessionOptions,
    prepared::Prepared,
    runtime::Runtime,
    text::Text,
    vision::{Features, Vision},
};

/// The sessions of a generating model, its tokenizer and its family's adapter.
pub(crate) struct Engine {
    pub(crate) vision: Vision,
    /// The encoder of a language model that has one of its own.
    encoder: Option<Graph>,
    pub(crate) decoder: Decoder,
    pub(crate) family: Box<dyn Family>,
    pub(crate) text: Text,
    /// The decoder reads the vision graph's features through cross attention.
    crosses: bool,
}

/// A prompt in the ids of a model.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The text they are of.
    pub(crate) prompt: Option<String>,
    /// Ids of the prompt.
    pub(crate) input_ids: Vec<i64>,
    /// What the decoder's sequence begins with; what logits processors see of the prompt.
    pub(crate) decoder_ids: Vec<u32>,
    /// The text that was read before: by an encoder, or as the prompt.
    pub(crate) read: Vec<u32>,
    /// Length of the prompt up to its last token for an image.
    pub(crate) images_end: usize,
}

/// Sequences that are scored in one run at most.
const BATCH: usize = 8;

impl Asked {
    /// The prompt up to its last token for an image.
    pub(crate) fn head(&self) -> Self {
        let up_to = |ids: &[u32]| ids[..self.images_end.min(ids.len())].to_vec();
        let input_ids = self.input_ids[..self.images_end].to_vec();
        let (decoder_ids, read) = (up_to(&self.decoder_ids), up_to(&self.read));
        Self { prompt: None, input_ids, decoder_ids, read, images_end: self.images_end }
    }
}

impl Engine {
    /// Loads the graphs of a folder.
    ///
    /// # Errors
    /// As [`crate::Model::load`].
    pub(crate) fn load(
        bundle: &Bundle,
        description: &Description,
        runtime: &Runtime,
        options: &SessionOptions,
    ) -> Result<Self> {
        let text = Text::load(bundle)?;
        let load = |role: Role| -> Result<Option<Graph>> {
            let names = bundle.genai.as_ref().map(|genai| genai.names(role)).unwrap_or_default();
            bundle.graph(role).map(|path| Graph::load(&path, &names, runtime, options)).transpose()
        };
        let absent =
            |role: &str| Error::bundle(&bundle.folder, format!("no {role} graph; copy it from the model's source"));
        let (vision, encoder) = match load(Role::Vision)? {
            Some(vision) => (vision, load(Role::Encoder)?),
            // A folder without a vision graph of its own has it as the encoder.
            None => (load(Role::Encoder)?.ok_or_else(|| absent("vision"))?, None),
        };
        let vision = Vision::new(vision)?;
        let besides = vision.other_outputs();
        let embed = load(Role::Embed)?.map(|graph| Embed::new(graph, &besides)).transpose()?;
        let decoder = load(Role::Decoder)?.ok_or_else(|| absent("decoder"))?;
        let crosses = decoder.input("encoder_hidden_states").is_some() && encoder.is_none();
        let decoder = Decoder::new(decoder, embed, &besides)?;
        if let Some(vocabulary) = decoder.vocabulary() {
            text.check_vocabulary(vocabulary)?;
        }
        let parts = Parts { has_encoder: encoder.is_some(), crosses };
        let family = family::detect(description, &parts, &text)?;
        Ok(Self { vision, encoder, decoder, family, text, crosses })
    }

    /// The graphs, as their files state them.
    pub(crate) fn graphs(&self) -> Vec<&GraphInfo> {
        let encoder = self.encoder.as_ref().map(|encoder| encoder.info());
        let infos = [Some(self.vision.info()), self.decoder.embed_info(), encoder, Some(self.decoder.info())];
        infos.into_iter().flatten().map(|info| &**info).collect()
    }

    /// How long ONNX Runtime has run the graphs so far.
    pub(crate) fn ran(&self) -> Duration {
        self.vision.ran() + self.decoder.ran() + self.encoder.as_ref().map_or(Duration::ZERO, Graph::ran)
    }

    /// Whether the decoder's sequence is a text of its own, beside the prompt's.
    pub(crate) fn has_own_sequence(&self) -> bool {
        self.crosses || self.encoder.is_some()
    }

    /// Whether the decoder reads images through cross attention, and its sequence may begin with nothing.
    pub(crate) fn crosses(&self) -> bool {
        self.crosses
    }

    /// Images of a request at most, where the model's decoder reads only so many.
    pub(crate) fn most_images(&self) -> Option<usize> {
        self.has_own_sequence().then_some(1)
    }

    /// Refuses a number of images that the model does not read.
    pub(crate) fn check_images(&self, images: usize) -> Result<()> {
        if self.has_own_sequence() && images != 1 {
            return Err(Error::Request(format!("{images} images; this model reads exactly one")));
        }
        Ok(())
    }

    /// Runs the vision graph over prepared images and arranges what it returns as the family reads it.
    pub(crate) fn see(&mut self, prepared: &Prepared, cancel: &Cancel) -> Result<Features> {
        let features = self.vision.see(prepared, cancel)?;
        let mut features = self.family.arrange(features, &prepared.images, &self.vision)?;
        if !self.has_own_sequence() {
            features.shape = vec![features.count(), features.width];
        }
        Ok(features)
    }

    /// Puts a prompt into ids: in place of each image what the family writes for it.
    ///
    /// # Errors
    /// [`Error::Request`] when the prompt speaks of other images than there are, [`Error::Unsupported`] when the tokens
    /// for images are not as many as their features.
    pub(crate) fn ask(&self, prompt: Option<&str>, places: &[Place], start: u32) -> Result<Asked> {
        if self.crosses {
            let decoder_ids = self.family.decoder_prompt(prompt, start, &self.text)?;
            let input_ids = decoder_ids.iter().map(|id| i64::from(*id)).collect();
            return Ok(Asked {
                prompt: prompt.map(str::to_owned),
                input_ids,
                decoder_ids,
                read: Vec::new(),
                images_end: 0,
            });
        }
        let prompt = prompt.unwrap_or_default();
        let expanded = match self.family.encodes_placeholders() {
            true => prompt.to_owned(),
            false => family::expand(&*self.family, prompt, places)?,
        };
        let input_ids = self.family.encode(&expanded, places, &self.text)?;
        if input_ids.is_empty() {
            return Err(Error::Request("the prompt is empty; ask something".to_owned()));
        }
        self.check_ids(&input_ids, places)?;
        // What is no id of the vocabulary is none for a logits processor either.
        let read: Vec<u32> = input_ids.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)).collect();
        let decoder_ids = if self.encoder.is_some() { vec![start] } else { read.clone() };
        let shown = if self.family.shows_expansion() { expanded } else { prompt.to_owned() };
        let images_end = self.marks(&input_ids).iter().rposition(|mark| *mark).map_or(0, |last| last + 1);
        Ok(Asked { prompt: Some(shown), input_ids, decoder_ids, read, images_end })
    }

    /// As many image tokens as features, and no id that the model does not have.
    fn check_ids(&self, ids: &[i64], places: &[Place]) -> Result<()> {
        let image = self.family.image_token().map(|(_, id)| i64::from(id));
        if self.encoder.is_none() {
            let features: usize = places.iter().map(|place| place.features).sum();
            let tokens = ids.iter().filter(|id| **id < 0 || Some(**id) == image).count();
            if tokens != features {
                return Err(Error::unsupported(
                    format!("{tokens} image tokens in the prompt and {features} features of the vision graph"),
                    "as many of one as of the other",
                    "processor_config.json (patch_size, num_additional_image_tokens, image_seq_length) or the prompt is not \
                     this model's; copy it from the model's source",
                ));
            }
        }
        let vocabulary = self.decoder.vocabulary().and_then(|size| i64::try_from(size).ok()).unwrap_or(i64::MAX);
        match ids.iter().find(|id| **id >= vocabulary && Some(**id) != image) {
            Some(id) => Err(Error::bundle(
                "tokenizer.json",
                format!("the prompt has token {id}, and the model's vocabulary is {vocabulary}: it is another model's"),
            )),
            None => Ok(()),
        }
    }

    /// Which tokens of a prompt stand for images.
    fn marks(&self, ids: &[i64]) -> Vec<bool> {
        let image = self.family.image_token().map(|(_, id)| i64::from(id));
        ids.iter().map(|id| *id < 0 || Some(*id) == image).collect()
    }

    /// Goes on with a prompt after its beginning.
    pub(crate) fn go_on(&self, decoding: &mut Decoding, asked: &Asked, places: &[Place]) {
        decoding.asking(self.family.positions(&asked.input_ids, places), self.marks(&asked.input_ids));
    }

    /// Makes what a decoder's sequence begins with. `forced` are tokens after the prompt that are known already.
    pub(crate) fn start(
        &mut self,
        asked: &Asked,
        forced: &[u32],
        features: Option<&Features>,
        places: &[Place],
        cancel: &Cancel,
    ) -> Result<Start> {
        let positions = self.family.positions(&asked.input_ids, places);
        let marks = self.marks(&asked.input_ids);
        let mut start = Start { rows: 1, embeddings: None, encoded: None, positions, marks, others: Vec::new() };
        if self.crosses {
            let features = features.ok_or_else(|| Error::Request("no image; this model reads one".to_owned()))?;
            let input = self.decoder.input("encoder_hidden_states");
            start.encoded = input
                .map(|input| floats(input, &[1, features.count(), features.width], features.values.clone()))
                .transpose()?;
            return Ok(start);
        }
        if self.encoder.is_some() {
            start.encoded = Some(self.encode(asked, features, cancel)?);
            return Ok(start);
        }
        let mut ids = asked.input_ids.clone();
        ids.extend(forced.iter().map(|id| i64::from(*id)));
        let vocabulary = self.decoder.vocabulary();
        let Some(embed) = self.decoder.embed() else { return Ok(start) };
        if embed.merges() {
            let Embedded { embeddings, others } = embed.run(ids, 1, features, cancel)?;
            (start.embeddings, start.others) = (Some(embeddings), others);
            return Ok(start);
        }
        // The image token of some models is beyond their embeddings; what it would be is replaced anyway.
        let beyond = vocabulary.and_then(|size| i64::try_from(size).ok()).unwrap_or(i64::MAX);
        let plain = ids.iter().map(|id| if *id >= beyond { 0 } else { *id }).collect();
        let Embedded { embeddings, others } = embed.run(plain, 1, None, cancel)?;
        start.others = others;
        let Some(features) = features else {
            start.embeddings = Some(embeddings);
            return Ok(start);
        };
        let (shape, embeddings) = read_floats("inputs_embeds", &embeddings)?;
        let mut embeddings = embeddings.into_owned();
        scatter(&mut embeddings, &shape, &start.marks, features)?;
        start.embeddings =
            self.decoder.input("inputs_embeds").map(|input| floats(input, &shape, embeddings)).transpose()?;
        self.pass_on(&mut start, features, ids.len())?;
        Ok(start)
    }

    /// What the vision graph returns beside its features and the decoder takes by the same name, such as Qwen3-VL's
    /// features of deeper layers: as they are, or one for each token where the decoder wants it so.
    fn pass_on(&self, start: &mut Start, features: &Features, length: usize) -> Result<()> {
        for other in &features.others {
            let Some(input) = self.decoder.input(&other.name) else { continue };
            let rank = input.shape.len();
            let by_token = other.shape.len() + 1 == rank
                || rank == 3 && input.fixed(0).is_none() && other.shape.first() == Some(&1);
            let width = other.shape.last().copied().unwrap_or(0);
            let value = if by_token && other.values.len() == features.count() * width {
                let mut spread = vec![0.0; length * width];
                let seen = Features {
                    values: other.values.clone(),
                    width,
                    of_image: vec![features.count()],
                    shape: Vec::new(),
                    others: Vec::new(),
                };
                scatter(&mut spread, &[1, length, width], &start.marks, &seen)?;
                floats(input, &[1, length, width], spread)?
            } else {
                floats(input, &other.shape, other.values.clone())?
            };
            start.others.push((other.name.clone(), value));
        }
        Ok(())
    }

    /// Features and prompt through the language model's encoder.
    fn encode(&mut self, asked: &Asked, features: Option<&Features>, cancel: &Cancel) -> Result<DynValue> {
        let missing = |what: &str| {
            Error::unsupported(
                format!("an encoder without {what}"),
                "an encoder that takes inputs_embeds",
                "export the model again",
            )
        };
        let Some(embed) = self.decoder.embed() else { return Err(missing("an embedding graph")) };
        let Embedded { embeddings, .. } = embed.run(asked.input_ids.clone(), 1, None, cancel)?;
        let (shape, embeddings) = read_floats("inputs_embeds", &embeddings)?;
        let [1, length, width] = shape[..] else {
            return Err(Error::graph(
                "embed_tokens",
                format!("inputs_embeds has shape {shape:?}; expected [1, length, width]"),
            ));
        };
        let mut values = features.map(|features| features.values.clone()).unwrap_or_default();
        let seen = features.map_or(0, Features::count);
        if values.len() != seen * width {
            return Err(mismatch(features.map_or(0, |features| features.width), width));
        }
        values.extend_from_slice(&embeddings);
        let Some(encoder) = &mut self.encoder else { return Err(missing("a graph")) };
        let info = Arc::clone(encoder.info());
        let mut feeds: Feeds<'_> = Vec::with_capacity(2);
        let total = seen + length;
        let mut values = Some(values);
        for input in &info.inputs {
            let value = match input.role.as_str() {
                "inputs_embeds" => floats(input, &[1, total, width], values.take().unwrap_or_default())?,
                "attention_mask" => integers(input, &[1, total], vec![1; total])?,
                other => return Err(missing(&format!("another input than {other}"))),
            };
            feeds.push((Cow::Borrowed(input.name.as_str()), value.into()));
        }
        let hidden = encoder.output("last_hidden_state").unwrap_or(0);
        let mut outputs = encoder.run(feeds, cancel)?;
        Ok(outputs.swap_remove(hidden))
    }

    /// Begins a sequence.
    pub(crate) fn begin(
        &mut self,
        asked: &Asked,
        features: Option<&Features>,
        places: &[Place],
        cancel: &Cancel,
    ) -> Result<Decoding> {
        let start = self.start(asked, &[], features, places, cancel)?;
        self.decoder.begin(start)
    }

    /// Log-probabilities of `generated` after the prompt, had the images been those of each of `features`: one pass for
    /// every few of them.
    pub(crate) fn score(
        &mut self,
        asked: &Asked,
        generated: &[u32],
        features: &[&Features],
        places: &[Place],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f32>>> {
        let Some((_, forced)) = generated.split_last() else { return Ok(vec![Vec::new(); features.len()]) };
        let sequence: Vec<u32> = asked.decoder_ids.iter().chain(forced).copied().collect();
        let batch = if self.decoder.takes_rows() { BATCH } else { 1 };
        let mut scored = Vec::with_capacity(features.len());
        for some in features.chunks(batch) {
            let starts = some.iter().map(|features| self.start(asked, forced, Some(features), places, cancel));
            let starts = starts.collect::<Result<Vec<_>>>()?;
            let groups =
                if starts.iter().all(|start| start.others.is_empty()) { vec![self.stacked(starts)?] } else { starts };
            for start in groups {
                let rows = start.rows;
                let mut decoding = self.decoder.begin(start)?;
                let reading = Reading { positions: generated.len(), layer: None };
                let steps = self.decoder.step(&mut decoding, &vec![&sequence[..]; rows], reading, cancel)?;
                scored.extend(steps.iter().map(|step| logprobs(&step.logits, generated)));
            }
        }
        Ok(scored)
    }

    /// Several beginnings of the same prompt as one, side by side.
    fn stacked(&self, starts: Vec<Start>) -> Result<Start> {
        let rows = starts.len();
        let mut starts = starts.into_iter();
        let Some(first) = starts.next() else { return Err(Error::Request("nothing to score".to_owned())) };
        if rows == 1 {
            return Ok(first);
        }
        let rest: Vec<Start> = starts.collect();
        let stack = |pick: fn(&Start) -> Option<&DynValue>| -> Result<Option<DynValue>> {
            let Some(value) = pick(&first) else { return Ok(None) };
            let (mut shape, values) = read_floats("rows", value)?;
            let mut values = values.into_owned();
            for start in &rest {
                if let Some(value) = pick(start) {
                    values.extend_from_slice(&read_floats("rows", value)?.1);
                }
            }
            if let Some(size) = shape.first_mut() {
                *size = rows;
            }
            let made = Tensor::from_array((shape, values)).map_err(|error| Error::graph("decoder", error))?;
            Ok(Some(made.into_dyn()))
        };
        let (embeddings, encoded) = (stack(|start| start.embeddings.as_ref())?, stack(|start| start.encoded.as_ref())?);
        Ok(Start { rows, embeddings, encoded, ..first })
    }

    /// A user's message as its chat template takes it: in parts, or as one text in which images have their place.
    ///
    /// # Errors
    /// [`Error::Request`] for a prompt the family does not know.
    pub(crate) fn message(&self, prompt: &str, images: usize, in_parts: bool) -> Result<Value> {
        let content = match in_parts {
            true => family::parts(prompt, images),
            false => self.family.plain(prompt, images)?.into(),
        };
        Ok(serde_json::json!([{"role": "user", "content": content}]))
    }
}

/// Log-probabilities of tokens, from the scores of the positions before each.
#[expect(clippy::cast_possible_truncation, reason = "log-probabilities are reported in single precision")]
fn logprobs(scores: &[Vec<f32>], tokens: &[u32]) -> Vec<f32> {
    let logprob = |(scores, token): (&Vec<f32>, &u32)| {
        let score = scores.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (f64::from(score) - log_normalizer(scores)) as f32
    };
    scores.iter().zip(tokens).map(logprob).collect()
}

/// Puts features in the places of image tokens.
fn scatter(embeddings: &mut [f32], shape: &[usize], marks: &[bool], features: &Features) -> Result<()> {
    let width = shape.last().copied().unwrap_or(0);
    if width != features.width {
        return Err(mismatch(features.width, width));
    }
    let places = embeddings.chunks_exact_mut(width).zip(marks).filter(|(_, marked)| **marked).map(|(place, _)| place);
    places.zip(features.values.chunks_exact(width)).for_each(|(place, feature)| place.copy_from_slice(feature));
    Ok(())
}

fn mismatch(features: usize, embeddings: usize) -> Error {
    Error::unsupported(
        format!("image features of {features} values and token embeddings of {embeddings}"),
        "graphs that fit together",
        "vision_encoder and embed_tokens are of different models; copy both from the same source",
    )
}
