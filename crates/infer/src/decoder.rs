//! The decoder of a language model: which inputs it has, and its key/value cache.

use std::{borrow::Cow, sync::Arc, time::Duration};

use ort::value::DynValue;

use crate::{
    cancel::Cancel,
    embed::{Embed, Embedded},
    error::{Error, Result},
    graph::{
        Dimension, Feeds, Graph, GraphInfo, TensorInfo, blank, empty_cache, floats, has_element_of, integers,
        read_floats, scalar, switch, switches,
    },
    positions::Positions,
};

/// A decoder graph, the graph that embeds its tokens, and where its parts are.
pub(crate) struct Decoder {
    graph: Graph,
    embed: Option<Embed>,
    logits: usize,
    cache: Vec<CacheSlot>,
    /// Outputs `cross_attentions.N`, by layer.
    cross_attentions: Vec<usize>,
}

/// A cache input and the output that continues it.
struct CacheSlot {
    /// Name in the graph.
    input: String,
    /// Name here.
    role: String,
    output: usize,
    /// Keys and values of the encoder's features: computed in the first step, placeholders afterwards.
    of_encoder: bool,
}

/// What a sequence begins with.
pub(crate) struct Start {
    /// Sequences side by side.
    pub(crate) rows: usize,
    /// Embeddings of the prompt, [rows, length, width], in place of its ids.
    pub(crate) embeddings: Option<DynValue>,
    /// What an encoder made of images (and prompt), [rows, length, width].
    pub(crate) encoded: Option<DynValue>,
    pub(crate) positions: Positions,
    /// Which tokens of the prompt stand for images.
    pub(crate) marks: Vec<bool>,
    /// What else the decoder takes together with the prompt, by name.
    pub(crate) others: Vec<(String, DynValue)>,
}

/// Sequences being decoded.
pub(crate) struct Decoding {
    start: Start,
    encoded_length: usize,
    cache: Vec<DynValue>,
    /// Tokens in the cache.
    past: usize,
    /// The next step keeps the cache that it starts from.
    retains: bool,
    retained: Vec<DynValue>,
}

impl Decoding {
    /// Keeps the cache as it is now beside what comes after it.
    pub(crate) fn retain(&mut self) {
        self.retains = true;
    }

    /// The cache that was kept, and its size in bytes; none when nothing came after it.
    pub(crate) fn retained(self) -> Option<(Vec<DynValue>, usize)> {
        let values = |value: &DynValue| value.shape().iter().map(|size| usize::try_from(*size).unwrap_or(0)).product();
        let bytes = self.retained.iter().map(values).map(|count: usize| count * size_of::<f32>()).sum();
        (!self.retained.is_empty()).then_some((self.retained, bytes))
    }

    /// Goes on with a prompt whose tokens are at these places, and which of them stand for images.
    pub(crate) fn asking(&mut self, positions: Positions, marks: Vec<bool>) {
        (self.start.positions, self.start.marks) = (positions, marks);
    }
}

/// One step of a decoder, for one sequence.
pub(crate) struct Step {
    /// Scores over the vocabulary: of the token after each position asked for, the last one last.
    pub(crate) logits: Vec<Vec<f32>>,
    /// Attention of the last position over the encoder's features, the mean over heads of the layer asked for.
    pub(crate) attention: Option<Vec<f32>>,
}

/// What to read from a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Scores of how many positions, counted from the last.
    pub(crate) positions: usize,
    /// Layer of cross attention.
    pub(crate) layer: Option<usize>,
}

/// Prefixes of a cache's inputs, and those of the outputs that continue them.
const CACHES: [(&str, &str); 4] = [
    ("past_key_values.", "present."),
    ("past_conv", "present_conv"),
    ("past_ssm", "present_ssm"),
    ("past_recurrent", "present_recurrent"),
];

/// Inputs this engine fills, besides caches.
const INPUTS: [&str; 12] = [
    "input_ids",
    "inputs_embeds",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "attention_mask",
    "position_ids",
    "cache_position",
    "num_logits_to_keep",
    "use_cache_branch",
    "token_type_ids",
    "mm_token_type_ids",
    "visual_pos_masks",
];

impl Decoder {
    /// Finds the parts of a decoder by name. `others` are names of values that come with the prompt from elsewhere.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an input this engine cannot fill or an output it cannot do without.
    pub(crate) fn new(graph: Graph, embed: Option<Embed>, others: &[String]) -> Result<Self> {
        let info = graph.info();
        let embedded = embed.as_ref().map(Embed::other_outputs).unwrap_or_default();
        let known = |role: &str| {
            INPUTS.contains(&role)
                || CACHES.iter().any(|(past, _)| role.starts_with(past))
                || others.iter().chain(&embedded).any(|other| other == role)
        };
        let strange: Vec<&str> =
            info.inputs.iter().filter(|input| !known(&input.role)).map(|input| input.name.as_str()).collect();
        let takes_tokens = match graph.input("inputs_embeds") {
            Some(_) => embed.is_some(),
            None => graph.input("input_ids").is_some(),
        };
        // Images come among the embeddings, or from an encoder.
        let takes_images = graph.input("encoder_hidden_states").is_some() || embed.is_some();
        if !strange.is_empty() || !takes_tokens || !takes_images {
            return Err(Error::unsupported(
                format!("{} with inputs {}", info.file, info.input_names()),
                format!(
                    "a decoder with input_ids and encoder_hidden_states, or with inputs_embeds and a graph that makes them, \
                     and besides only {} and past_key_values.*",
                    INPUTS[3..].join(", ")
                ),
                "export the model again, or choose another",
            ));
        }
        let cache = cache_slots(&graph)?;
        let logits = graph.output("logits").ok_or_else(|| missing_output(info, "logits"))?;
        let cross_attentions = (0..).map_while(|layer| graph.output(&format!("cross_attentions.{layer}"))).collect();
        Ok(Self { graph, embed, logits, cache, cross_attentions })
    }

    pub(crate) fn info(&self) -> &Arc<GraphInfo> {
        self.graph.info()
    }

    /// How long ONNX Runtime has run it and the graph that embeds its tokens so far.
    pub(crate) fn ran(&self) -> Duration {
        self.graph.ran() + self.embed.as_ref().map_or(Duration::ZERO, Embed::ran)
    }

    pub(crate) fn embed(&mut self) -> Option<&mut Embed> {
        self.embed.as_mut()
    }

    pub(crate) fn embed_info(&self) -> Option<&Arc<GraphInfo>> {
        self.embed.as_ref().map(Embed::info)
    }

    /// Number of layers whose cross attention the graph returns.
    pub(crate) fn attention_layers(&self) -> usize {
        self.cross_attentions.len()
    }

    /// Size of the vocabulary, where the graph fixes it.
    pub(crate) fn vocabulary(&self) -> Option<usize> {
        let logits = &self.graph.info().outputs[self.logits];
        usize::try_from(logits.fixed(logits.shape.len().checked_sub(1)?)?).ok()
    }

    /// The input that a value from another graph goes into.
    pub(crate) fn input(&self, role: &str) -> Option<&TensorInfo> {
        self.graph.input(role)
    }

    /// Whether several sequences may be fed at once.
    pub(crate) fn takes_rows(&self) -> bool {
        self.graph
            .info()
            .inputs
            .iter()
            .filter(|input| CACHES.iter().any(|(past, _)| input.role.starts_with(past)))
            .all(|input| input.fixed(0).is_none())
    }

    /// Whether a prompt can be read in two parts, and the second be another one: all there is between runs are keys and
    /// values of this sequence alone, [sequences, heads, tokens, width] each, in a graph that has one way for the prompt and
    /// for what comes after it.
    pub(crate) fn reads_in_parts(&self) -> bool {
        let of_tokens = |slot: &CacheSlot| {
            let is_kv = slot.role.starts_with("past_key_values.") && !slot.of_encoder;
            is_kv
                && self.graph.input(&slot.role).is_some_and(|input| input.shape.len() == 4 && input.fixed(2).is_none())
        };
        let once = ["encoder_hidden_states", "use_cache_branch"].iter().all(|role| self.graph.input(role).is_none());
        once && self.cache.iter().all(of_tokens)
    }

    /// One sequence that goes on from a cache of its first `past` tokens, which it gives back with [`Decoding::retained`].
    pub(crate) fn resume(&self, cache: Vec<DynValue>, past: usize) -> Decoding {
        let positions = Positions::Linear { base: 0 };
        let start =
            Start { rows: 1, embeddings: None, encoded: None, positions, marks: Vec::new(), others: Vec::new() };
        Decoding { start, encoded_length: 0, cache, past, retains: true, retained: Vec::new() }
    }

    /// Starts sequences.
    pub(crate) fn begin(&self, mut start: Start) -> Result<Decoding> {
        if let Some(encoded) = start.encoded.take() {
            start.encoded = Some(in_precision_of(self.graph.input("encoder_hidden_states"), encoded)?);
        }
        if let Some(embeddings) = start.embeddings.take() {
            start.embeddings = Some(in_precision_of(self.graph.input("inputs_embeds"), embeddings)?);
        }
        let encoded_length = start.encoded.as_ref().and_then(|encoded| usize::try_from(*encoded.shape().get(1)?).ok());
        let empty = |slot: &CacheSlot| match self.graph.input(&slot.role) {
            Some(input) => empty_cache(input, start.rows),
            None => Err(Error::graph(&self.info().file, format!("input {} vanished", slot.input))),
        };
        let cache = self.cache.iter().map(empty).collect::<Result<Vec<_>>>()?;
        let encoded_length = encoded_length.unwrap_or(0);
        Ok(Decoding { start, encoded_length, cache, past: 0, retains: false, retained: Vec::new() })
    }

    /// Feeds tokens (the prompt first, then one at a time, as many for each sequence) and returns the scores of the next.
    /// Where the sequences began with embeddings, the ids of the prompt only count.
    pub(crate) fn step(
        &mut self,
        state: &mut Decoding,
        tokens: &[&[u32]],
        reading: Reading,
        cancel: &Cancel,
    ) -> Result<Vec<Step>> {
        let first = state.past == 0;
        let info = &Arc::clone(self.graph.info());
        let length = tokens.first().map_or(0, |tokens| tokens.len());
        let embedded = self.embedded(state, tokens, cancel)?;
        let feeds = feeds(info, &self.cache, state, tokens, &embedded, reading.positions)?;
        let mut outputs: Vec<Option<DynValue>> = self.graph.run(feeds, cancel)?.into_iter().map(Some).collect();
        let rows = state.start.rows;
        let logits = last_rows(info, "logits", outputs[self.logits].as_ref(), rows, reading.positions)?;
        let mut attention = match reading.layer.and_then(|layer| self.cross_attentions.get(layer)) {
            Some(output) => mean_over_heads(info, outputs[*output].as_ref(), rows)?,
            None => Vec::new(),
        }
        .into_iter();
        for (slot, value) in self.cache.iter().zip(&mut state.cache) {
            if (first || !slot.of_encoder)
                && let Some(present) = outputs[slot.output].take()
            {
                let before = std::mem::replace(value, present);
                if state.retains {
                    state.retained.push(before);
                }
            }
        }
        state.retains = false;
        state.past += length;
        state.start.embeddings = None;
        state.start.others.clear();
        Ok(logits.into_iter().map(|logits| Step { logits, attention: attention.next() }).collect())
    }

    /// Embeddings of the tokens, where the decoder takes them in place of ids.
    fn embedded(&mut self, state: &Decoding, tokens: &[&[u32]], cancel: &Cancel) -> Result<Option<Embedded>> {
        let Some(input) = self.graph.input("inputs_embeds") else { return Ok(None) };
        if state.start.embeddings.is_some() {
            return Ok(None);
        }
        let ids = tokens.iter().flat_map(|tokens| tokens.iter().map(|id| i64::from(*id))).collect();
        let Some(embed) = &mut self.embed else { return Ok(None) };
        let Embedded { embeddings, others } = embed.run(ids, tokens.len(), None, cancel)?;
        Ok(Some(Embedded { embeddings: in_precision_of(Some(input), embeddings)?, others }))
    }

    /// Continues with the sequences at `rows`, which may repeat. Copies the cache unless nothing changes.
    pub(crate) fn select(&self, state: &mut Decoding, rows: &[usize]) -> Result<()> {
        if rows.iter().copied().eq(0..state.start.rows) {
            return Ok(());
        }
        let resized = rows.len() != state.start.rows;
        for (slot, value) in self.cache.iter().zip(&mut state.cache) {
            // Sequences of one request read the same image: what was encoded differs only in number.
            if resized || !slot.of_encoder {
                *value = select_rows(self.graph.input(&slot.role), value, rows)?;
            }
        }
        if let Some(encoded) = state.start.encoded.take() {
            state.start.encoded = Some(match resized {
                true => select_rows(self.graph.input("encoder_hidden_states"), &encoded, rows)?,
                false => encoded,
            });
        }
        state.start.rows = rows.len();
        Ok(())
    }
}

/// A value in the element type of the input it goes into: graphs of a model may come in different precisions.
pub(crate) fn in_precision_of(input: Option<&TensorInfo>, value: DynValue) -> Result<DynValue> {
    match input {
        Some(input) if !has_element_of(input, &value) => {
            let (shape, values) = read_floats(&input.name, &value)?;
            floats(input, &shape, values.into_owned())
        }
        _ => Ok(value),
    }
}

fn feeds<'a>(
    info: &'a GraphInfo,
    slots: &'a [CacheSlot],
    state: &'a Decoding,
    tokens: &[&[u32]],
    embedded: &'a Option<Embedded>,
    positions: usize,
) -> Result<Feeds<'a>> {
    let length = tokens.first().map_or(0, |tokens| tokens.len());
    let (rows, past) = (state.start.rows, state.past);
    let mut feeds: Feeds<'a> = Vec::with_capacity(info.inputs.len());
    let embeddings = state.start.embeddings.as_ref().or(embedded.as_ref().map(|embedded| &embedded.embeddings));
    for input in &info.inputs {
        let ones = |length: usize| integers(input, &[rows, length], vec![1; rows * length]);
        let marks = || -> Vec<bool> {
            let mark = |index: usize| state.start.marks.get(index).copied().unwrap_or(false);
            (0..rows).flat_map(|_| (past..past + length).map(mark)).collect()
        };
        let owned = match input.role.as_str() {
            "input_ids" => {
                let ids = tokens.iter().flat_map(|tokens| tokens.iter().map(|id| i64::from(*id))).collect();
                integers(input, &[rows, length], ids)?
            }
            "encoder_attention_mask" => ones(state.encoded_length)?,
            "attention_mask" => ones(past + length)?,
            "position_ids" => state.start.positions.feed(input, past, length, rows)?,
            "cache_position" => {
                integers(input, &[length], (past..past + length).map(|at| i64::try_from(at).unwrap_or(0)).collect())?
            }
            "num_logits_to_keep" => scalar(input, i64::try_from(positions).unwrap_or(1))?,
            "use_cache_branch" => switch(past > 0)?,
            "token_type_ids" | "mm_token_type_ids" | "visual_pos_masks" => switches(input, &[rows, length], &marks())?,
            // Passed by reference: features and cache are never copied.
            role => {
                let referred = match role {
                    "inputs_embeds" => embeddings,
                    "encoder_hidden_states" => state.start.encoded.as_ref(),
                    _ => other(state, embedded.as_ref(), role)
                        .or_else(|| slots.iter().position(|slot| slot.role == role).map(|slot| &state.cache[slot])),
                };
                match referred {
                    Some(value) => {
                        feeds.push((Cow::Borrowed(input.name.as_str()), value.into()));
                        continue;
                    }
                    None => nothing(info, input, rows, length)?,
                }
            }
        };
        feeds.push((Cow::Borrowed(input.name.as_str()), owned.into()));
    }
    Ok(feeds)
}

/// What comes with images only, for tokens of none: zeros for each of them where there is one for each token, else no
/// values at all.
fn nothing(info: &GraphInfo, input: &TensorInfo, rows: usize, length: usize) -> Result<DynValue> {
    let embeddings = info.inputs.iter().find(|input| input.role == "inputs_embeds");
    let tokens = embeddings.and_then(|input| input.shape.get(1));
    match input.shape.as_slice() {
        [_, at @ Dimension::Symbolic(name), Dimension::Fixed(width)] if Some(at) == tokens && !name.is_empty() => {
            let width = usize::try_from(*width).unwrap_or(0);
            floats(input, &[rows, length, width], vec![0.0; rows * length * width])
        }
        _ => blank(input, rows),
    }
}

/// A value that came with the prompt, or from the embedding graph.
fn other<'a>(state: &'a Decoding, embedded: Option<&'a Embedded>, role: &str) -> Option<&'a DynValue> {
    let found = |others: &'a [(String, DynValue)]| others.iter().find(|(name, _)| name == role).map(|(_, value)| value);
    found(&state.start.others).or_else(|| embedded.and_then(|embedded| found(&embedded.others)))
}

/// Pairs each cache input with the output that continues it.
fn cache_slots(graph: &Graph) -> Result<Vec<CacheSlot>> {
    let info = graph.info();
    let pasts = info.inputs.iter().filter_map(|input| {
        let (past, present) = CACHES.iter().find(|(past, _)| input.role.starts_with(past))?;
        Some((input, format!("{present}{}", &input.role[past.len()..])))
    });
    let slots: Vec<CacheSlot> = pasts
        .map(|(input, present)| {
            let output = graph.output(&present).ok_or_else(|| missing_output(info, &present))?;
            let of_encoder = present.contains(".encoder.");
            Ok(CacheSlot { input: input.name.clone(), role: input.role.clone(), output, of_encoder })
        })
        .collect::<Result<_>>()?;
    if slots.is_empty() {
        return Err(Error::unsupported(
            format!("{} without past_key_values inputs", info.file),
            "a decoder with a key/value cache",
            "export the model again with its cache (optimum: task image-to-text-with-past)",
        ));
    }
    Ok(slots)
}

fn missing_output(info: &GraphInfo, name: &str) -> Error {
    let names: Vec<&str> = info.outputs.iter().map(|output| output.name.as_str()).collect();
    Error::unsupported(
        format!("{} with outputs {}", info.file, names.join(", ")),
        format!("a decoder that returns {name}"),
        "export the model again, or choose another",
    )
}

/// The last `positions` of each sequence in [sequences, length, width].
fn last_rows(
    info: &GraphInfo,
    name: &str,
    value: Option<&DynValue>,
    rows: usize,
    positions: usize,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let value = value.ok_or_else(|| missing_output(info, name))?;
    let (shape, values) = read_floats(name, value)?;
    match shape[..] {
        [count, length, width] if count == rows && length >= positions && width > 0 => {
            let last = |sequence: &[f32]| {
                sequence[(length - positions) * width..].chunks_exact(width).map(<[f32]>::to_vec).collect()
            };
            Ok(values.chunks_exact(length * width).map(last).collect())
        }
        _ => {
            let expected = format!("[{rows}, {positions} or more, width]");
            Err(Error::graph(&info.file, format!("{name} has shape {shape:?}; expected {expected}")))
        }
    }
}

/// The last query position of each sequence in [sequences, heads, length, encoder length], averaged over heads.
fn mean_over_heads(info: &GraphInfo, value: Option<&DynValue>, rows: usize) -> Result<Vec<Vec<f32>>> {
    let name = "cross_attentions";
    let value = value.ok_or_else(|| missing_output(info, name))?;
    let (shape, values) = read_floats(name, value)?;
    let (heads, length, width) = match shape[..] {
        [count, heads, length, width] if count == rows && heads * length * width > 0 => (heads, length, width),
        _ => {
            let expected = format!("[{rows}, heads, length, features]");
            return Err(Error::graph(&info.file, format!("{name} has shape {shape:?}; expected {expected}")));
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "a handful of heads")]
    let share = 1.0 / heads as f32;
    let mean = |sequence: &[f32]| {
        let mut mean = vec![0.0; width];
        for head in sequence.chunks_exact(length * width) {
            for (sum, weight) in mean.iter_mut().zip(&head[(length - 1) * width..]) {
                *sum += *weight * share;
            }
        }
        mean
    };
    Ok(values.chunks_exact(heads * length * width).map(mean).collect())
}

/// A copy of the first dimension's entries at `rows`.
fn select_rows(input: Option<&TensorInfo>, value: &DynValue, rows: &[usize]) -> Result<DynValue> {
    let Some(input) = input else { return Err(Error::graph("decoder", "a cache input vanished")) };
    let (mut shape, values) = read_floats(&input.name, value)?;
    let stride: usize = shape.iter().skip(1).product();
    let mut selected = Vec::with_capacity(rows.len() * stride);
    for row in rows {
        let row = values.get(row * stride..(row + 1) * stride);
        selected
            .extend_from_slice(row.ok_or_else(|| Error::graph(&input.name, "it has fewer sequences than expected"))?);
    }
    if let Some(first) = shape.first_mut() {
        *first = rows.len();
    }
    floats(input, &shape, selected)
}
