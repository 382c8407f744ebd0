//! The text decoder of an encoder-decoder model: which inputs it has, and its key/value cache.

use std::{borrow::Cow, sync::Arc};

use ort::value::DynValue;

use crate::{
    cancel::Cancel,
    error::{Error, Result},
    graph::{Feeds, Graph, GraphInfo, empty_cache, floats, has_element_of, integers, read_floats, switch},
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
        Ok(Decoding { features, encoder_length, cache, past: 0 })
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

    /// Feeds tokens (the prompt first, then one at a time) and returns the scores of the next. `layer` picks the cross
    /// attention to read.
    pub(crate) fn step(
        &mut self,
        state: &mut Decoding,
        tokens: &[u32],
        layer: Option<usize>,
        cancel: &Cancel,
    ) -> Result<Step> {
        let first = state.past == 0;
        let info = &Arc::clone(self.graph.info());
        let feeds = feeds(info, &self.cache, state, tokens)?;
        let mut outputs: Vec<Option<DynValue>> = self.graph.run(feeds, cancel)?.into_iter().map(Some).collect();
        let logits = last_row(info, "logits", outputs[self.logits].as_ref())?;
        let attention = match layer.and_then(|layer| self.cross_attentions.get(layer)) {
            Some(output) => Some(mean_over_heads(info, outputs[*output].as_ref())?),
            None => None,
        };
        for (slot, value) in self.cache.iter().zip(&mut state.cache) {
            if (first || !slot.of_encoder)
                && let Some(present) = outputs[slot.output].take()
            {
                *value = present;
            }
        }
        state.past += tokens.len();
        Ok(Step { logits, attention })
    }
}

fn feeds<'a>(info: &'a GraphInfo, slots: &'a [CacheSlot], state: &'a Decoding, tokens: &[u32]) -> Result<Feeds<'a>> {
    let mut feeds: Feeds<'a> = Vec::with_capacity(slots.len() + 5);
    for input in &info.inputs {
        let ones = |length: usize| integers(input, &[1, length], vec![1; length]);
        let value = match input.name.as_str() {
            "input_ids" => integers(input, &[1, tokens.len()], tokens.iter().map(|id| i64::from(*id)).collect())?,
            "encoder_attention_mask" => ones(state.encoder_length)?,
            "attention_mask" => ones(state.past + tokens.len())?,
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

/// The last row of [1, sequence, width].
fn last_row(info: &GraphInfo, name: &str, value: Option<&DynValue>) -> Result<Vec<f32>> {
    let value = value.ok_or_else(|| missing_output(info, name))?;
    let (shape, values) = read_floats(name, value)?;
    match shape[..] {
        [1, length, width] if length > 0 && width > 0 => Ok(values[(length - 1) * width..].to_vec()),
        _ => Err(Error::graph(&info.file, format!("{name} has shape {shape:?}; expected [1, sequence, width]"))),
    }
}

/// The last query row of [1, heads, sequence, encoder length], averaged over heads.
fn mean_over_heads(info: &GraphInfo, value: Option<&DynValue>) -> Result<Vec<f32>> {
    let name = "cross_attentions";
    let value = value.ok_or_else(|| missing_output(info, name))?;
    let (shape, values) = read_floats(name, value)?;
    let [1, heads, length, width] = shape[..] else {
        return Err(Error::graph(
            &info.file,
            format!("{name} has shape {shape:?}; expected [1, heads, sequence, features]"),
        ));
    };
    let mut mean = vec![0.0; width];
    for head in 0..heads {
        let row = (head * length + length).saturating_sub(1) * width;
        for (sum, weight) in mean.iter_mut().zip(&values[row..]) {
            *sum += *weight;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of heads")]
    mean.iter_mut().for_each(|sum| *sum /= heads.max(1) as f32);
    Ok(mean)
}
