//! The text decoder of an encoder-decoder model: which inputs it has, and its key/value cache.

use std::{borrow::Cow, sync::Arc};

use ort::value::DynValue;

use crate::{
    cancel::Cancel,
    error::{Error, Result},
    graph::{Feeds, Graph, GraphInfo, TensorInfo, empty_cache, floats, has_element_of, integers, read_floats, switch},
};

/// A decoder graph and where its parts are.
pub(crate) struct Decoder {
    graph: Graph,
    logits: usize,
    cache: Vec<CacheSlot>,
    /// Outputs `cross_attentions.N`, by layer.
    cross_attentions: Vec<usize>,
}

/// A cache input and the output that continues it.
struct CacheSlot {
    input: String,
    output: usize,
    /// Keys and values of the encoder's features: computed in the first step, placeholders afterwards.
    of_encoder: bool,
}

/// A sequence being decoded.
pub(crate) struct Decoding {
    features: DynValue,
    encoder_length: usize,
    cache: Vec<DynValue>,
    /// Tokens in the cache.
    past: usize,
    /// Sequences side by side.
    rows: usize,
}

/// One step of a decoder.
pub(crate) struct Step {
    /// Scores of the next token, over the vocabulary.
    pub(crate) logits: Vec<f32>,
    /// Attention of the last position over the encoder's features, the mean over heads of the layer asked for.
    pub(crate) attention: Option<Vec<f32>>,
}

impl Decoder {
    /// Finds the parts of a decoder by name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an input this engine cannot fill or an output it cannot do without.
    pub(crate) fn new(graph: Graph) -> Result<Self> {
        let info = graph.info();
        let known =
            ["input_ids", "encoder_hidden_states", "encoder_attention_mask", "attention_mask", "use_cache_branch"];
        let strange: Vec<&str> = info
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .filter(|name| !known.contains(name) && !name.starts_with("past_key_values."))
            .collect();
        if !strange.is_empty() || graph.input("input_ids").is_none() || graph.input("encoder_hidden_states").is_none() {
            let names: Vec<&str> = info.inputs.iter().map(|input| input.name.as_str()).collect();
            return Err(Error::unsupported(
                format!("{} with inputs {}", info.file, names.join(", ")),
                format!(
                    "a decoder with input_ids and encoder_hidden_states, and besides only {} and past_key_values.*",
                    known[2..].join(", ")
                ),
                "export the model again with optimum, or choose another",
            ));
        }
        let cache = cache_slots(&graph)?;
        let logits = graph.output("logits").ok_or_else(|| missing_output(info, "logits"))?;
        let cross_attentions = (0..).map_while(|layer| graph.output(&format!("cross_attentions.{layer}"))).collect();
        Ok(Self { graph, logits, cache, cross_attentions })
    }

    pub(crate) fn info(&self) -> &GraphInfo {
        self.graph.info()
    }

    /// Number of layers whose cross attention the graph returns.
    pub(crate) fn attention_layers(&self) -> usize {
        self.cross_attentions.len()
    }

    /// Starts a sequence over the encoder's features, [1, length, hidden].
    pub(crate) fn begin(&self, features: DynValue) -> Result<Decoding> {
        let features = self.in_decoder_precision(features)?;
        let encoder_length = features.shape().get(1).and_then(|length| usize::try_from(*length).ok()).unwrap_or(0);
        let empty = |slot: &CacheSlot| match self.graph.input(&slot.input) {
            Some(input) => empty_cache(input, 1),
            None => Err(Error::graph(&self.info().file, format!("input {} vanished", slot.input))),
        };
        let cache = self.cache.iter().map(empty).collect::<Result<Vec<_>>>()?;
        Ok(Decoding { features, encoder_length, cache, past: 0, rows: 1 })
    }

    /// Encoder and decoder may come in different precisions.
    fn in_decoder_precision(&self, features: DynValue) -> Result<DynValue> {
        match self.graph.input("encoder_hidden_states") {
            Some(input) if !has_element_of(input, &features) => {
                let (shape, values) = read_floats("encoder_hidden_states", &features)?;
                floats(input, &shape, values.into_owned())
            }
            _ => Ok(features),
        }
    }

    /// Feeds tokens (the prompt first, then one at a time, as many for each sequence) and returns the scores of the next.
    /// `layer` picks the cross attention to read.
    pub(crate) fn step(
        &mut self,
        state: &mut Decoding,
        tokens: &[&[u32]],
        layer: Option<usize>,
        cancel: &Cancel,
    ) -> Result<Vec<Step>> {
        let first = state.past == 0;
        let info = &Arc::clone(self.graph.info());
        let feeds = feeds(info, &self.cache, state, tokens)?;
        let mut outputs: Vec<Option<DynValue>> = self.graph.run(feeds, cancel)?.into_iter().map(Some).collect();
        let logits = last_rows(info, "logits", outputs[self.logits].as_ref(), state.rows)?;
        let mut attention = match layer.and_then(|layer| self.cross_attentions.get(layer)) {
            Some(output) => mean_over_heads(info, outputs[*output].as_ref(), state.rows)?,
            None => Vec::new(),
        }
        .into_iter();
        for (slot, value) in self.cache.iter().zip(&mut state.cache) {
            if (first || !slot.of_encoder)
                && let Some(present) = outputs[slot.output].take()
            {
                *value = present;
            }
        }
        state.past += tokens.first().map_or(0, |tokens| tokens.len());
        Ok(logits.into_iter().map(|logits| Step { logits, attention: attention.next() }).collect())
    }

    /// Continues with the sequences at `rows`, which may repeat. Copies the cache unless nothing changes.
    pub(crate) fn select(&self, state: &mut Decoding, rows: &[usize]) -> Result<()> {
        if rows.iter().copied().eq(0..state.rows) {
            return Ok(());
        }
        // All sequences read the same image: its features and their keys and values differ only in number.
        let resized = rows.len() != state.rows;
        for (slot, value) in self.cache.iter().zip(&mut state.cache) {
            if resized || !slot.of_encoder {
                *value = select_rows(self.graph.input(&slot.input), value, rows)?;
            }
        }
        if resized {
            state.features = select_rows(self.graph.input("encoder_hidden_states"), &state.features, rows)?;
        }
        state.rows = rows.len();
        Ok(())
    }
}

fn feeds<'a>(info: &'a GraphInfo, slots: &'a [CacheSlot], state: &'a Decoding, tokens: &[&[u32]]) -> Result<Feeds<'a>> {
    let length = tokens.first().map_or(0, |tokens| tokens.len());
    let mut feeds: Feeds<'a> = Vec::with_capacity(slots.len() + 5);
    for input in &info.inputs {
        let ones = |length: usize| integers(input, &[state.rows, length], vec![1; state.rows * length]);
        let value = match input.name.as_str() {
            "input_ids" => {
                let ids = tokens.iter().flat_map(|tokens| tokens.iter().map(|id| i64::from(*id))).collect();
                integers(input, &[state.rows, length], ids)?
            }
            "encoder_attention_mask" => ones(state.encoder_length)?,
            "attention_mask" => ones(state.past + length)?,
            "use_cache_branch" => switch(state.past > 0)?,
            // Passed by reference below: features and cache are never copied.
            _ => continue,
        };
        feeds.push((Cow::Borrowed(input.name.as_str()), value.into()));
    }
    feeds.push((Cow::Borrowed("encoder_hidden_states"), (&state.features).into()));
    for (slot, value) in slots.iter().zip(&state.cache) {
        feeds.push((Cow::Borrowed(slot.input.as_str()), value.into()));
    }
    Ok(feeds)
}

/// Pairs each `past_key_values.…` input with its `present.…` output.
fn cache_slots(graph: &Graph) -> Result<Vec<CacheSlot>> {
    let info = graph.info();
    let pasts = info.inputs.iter().filter_map(|input| Some((input, input.name.strip_prefix("past_key_values.")?)));
    let slots: Vec<CacheSlot> = pasts
        .map(|(input, rest)| {
            let name = format!("present.{rest}");
            let output = graph.output(&name).ok_or_else(|| missing_output(info, &name))?;
            Ok(CacheSlot { input: input.name.clone(), output, of_encoder: rest.contains(".encoder.") })
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
        "export the model again with optimum, or choose another",
    )
}

/// The last position of each sequence in [sequences, length, width].
fn last_rows(info: &GraphInfo, name: &str, value: Option<&DynValue>, rows: usize) -> Result<Vec<Vec<f32>>> {
    let value = value.ok_or_else(|| missing_output(info, name))?;
    let (shape, values) = read_floats(name, value)?;
    match shape[..] {
        [count, length, width] if count == rows && length > 0 && width > 0 => {
            Ok(values.chunks_exact(length * width).map(|row| row[(length - 1) * width..].to_vec()).collect())
        }
        _ => Err(Error::graph(&info.file, format!("{name} has shape {shape:?}; expected [{rows}, length, width]"))),
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
