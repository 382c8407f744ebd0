//! Zero-shot models (CLIP, SigLIP): how well each of some labels describes an image.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    answer::{Statistics, ZeroShot},
    cancel::Cancel,
    description::Description,
    error::{Error, Result},
    graph::{Feeds, Graph, GraphInfo, floats, integers, read_floats},
    prepared::Prepared,
    text::Text,
};

/// Transformers' sentence for a label.
const SENTENCE: &str = "This is a photo of {}.";

/// A graph that scores images against texts.
pub(crate) struct Scorer {
    graph: Graph,
    text: Text,
    logits: usize,
    embeddings: Option<usize>,
    /// Each label on its own, not against the others.
    sigmoid: bool,
    /// Longest sentence, in tokens.
    longest: usize,
    /// All sentences are as long as the longest allowed, as SigLIP was trained.
    always_longest: bool,
    padding: i64,
}

/// Labels in the ids of a model: rows of equal length.
struct Sentences {
    ids: Vec<Vec<i64>>,
    mask: Vec<i64>,
    length: usize,
}

impl Scorer {
    /// Finds the parts of the graph.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a graph that does not score images against texts.
    pub(crate) fn new(graph: Graph, description: &Description, text: Text) -> Result<Self> {
        let info = graph.info();
        let known = |role: &str| ["input_ids", "attention_mask", "position_ids", "pixel_values"].contains(&role);
        let complete = ["input_ids", "pixel_values"].iter().all(|role| graph.input(role).is_some());
        let logits = graph.output("logits_per_image");
        let Some(logits) = logits.filter(|_| complete && info.inputs.iter().all(|input| known(&input.role))) else {
            let outputs: Vec<&str> = info.outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(Error::unsupported(
                format!("{} from {} to {}", info.file, info.input_names(), outputs.join(", ")),
                "one graph from input_ids and pixel_values to logits_per_image",
                "export the model with optimum (task zero-shot-image-classification), or choose another",
            ));
        };
        let sigmoid = description.family.starts_with("siglip");
        let positions = description.count(&["/text_config/max_position_embeddings", "/max_position_embeddings"]);
        let longest = [text.longest(), positions].into_iter().flatten().min().unwrap_or(if sigmoid { 64 } else { 77 });
        let padding = text.named("pad_token").and_then(|token| text.id(&token));
        let stated = description.count(&["/text_config/pad_token_id"]).and_then(|id| u32::try_from(id).ok());
        Ok(Self {
            embeddings: graph.output("image_embeds"),
            logits,
            sigmoid,
            longest,
            always_longest: sigmoid,
            padding: i64::from(padding.or(stated).unwrap_or(0)),
            graph,
            text,
        })
    }

    /// How long ONNX Runtime has run it so far.
    pub(crate) fn ran(&self) -> Duration {
        self.graph.ran()
    }

    pub(crate) fn info(&self) -> &Arc<GraphInfo> {
        self.graph.info()
    }

    /// Channels that the graph takes, where it fixes them.
    pub(crate) fn channels(&self) -> Option<usize> {
        let channels = self.graph.input("pixel_values")?.fixed(1)?;
        usize::try_from(channels).ok()
    }

    /// The sentence that a label is put into: what is asked for, else Transformers' own.
    ///
    /// # Errors
    /// [`Error::Request`] when it has no place for the label.
    pub(crate) fn sentence(prompt: Option<&str>, template: &Value) -> Result<String> {
        let sentence = template.get("hypothesis_template").and_then(Value::as_str).or(prompt).unwrap_or(SENTENCE);
        if sentence.contains("{}") {
            return Ok(sentence.to_owned());
        }
        Err(Error::Request(format!(
            "the sentence for labels has no place for one: write {{}} where the label goes, as in {SENTENCE:?}"
        )))
    }

    /// Scores every image against every label.
    pub(crate) fn score(
        &mut self,
        prepared: &Prepared,
        labels: &[String],
        sentence: &str,
        cancel: &Cancel,
    ) -> Result<ZeroShot> {
        let sentences = self.sentences(labels, sentence)?;
        let info = Arc::clone(self.graph.info());
        let pixels = &prepared.pixel_values;
        let mut feeds: Feeds<'_> = Vec::with_capacity(info.inputs.len());
        let shape = [labels.len(), sentences.length];
        for input in &info.inputs {
            let value = match input.role.as_str() {
                "pixel_values" => floats(input, &pixels.shape, pixels.values.clone())?,
                "attention_mask" => integers(input, &shape, sentences.mask.clone())?,
                "position_ids" => {
                    let row = 0..i64::try_from(sentences.length).unwrap_or(0);
                    integers(input, &shape, labels.iter().flat_map(|_| row.clone()).collect())?
                }
                _ => integers(input, &shape, sentences.ids.concat())?,
            };
            feeds.push((Cow::Borrowed(input.name.as_str()), value.into()));
        }
        let outputs = self.graph.run(feeds, cancel)?;
        let (found, logits) = read_floats("logits_per_image", &outputs[self.logits])?;
        let images = prepared.images.len();
        if found != [images, labels.len()] {
            let expected = format!("[{images}, {}]", labels.len());
            return Err(Error::graph(&info.file, format!("logits_per_image has shape {found:?}; expected {expected}")));
        }
        let rows: Vec<Vec<f32>> = logits.chunks_exact(labels.len()).map(<[f32]>::to_vec).collect();
        let probs = rows.iter().map(|row| if self.sigmoid { sigmoid(row) } else { softmax(row) }).collect();
        let embeddings = match self.embeddings {
            Some(output) => {
                let (shape, values) = read_floats("image_embeds", &outputs[output])?;
                Some(Statistics::of(&shape, &values))
            }
            None => None,
        };
        Ok(ZeroShot {
            labels: labels.to_vec(),
            logits_per_image: rows,
            probs,
            input_ids: sentences.ids,
            image_embeds: embeddings,
        })
    }

    fn sentences(&self, labels: &[String], sentence: &str) -> Result<Sentences> {
        if labels.is_empty() {
            return Err(Error::Request(
                "no labels; a zero-shot model scores images against labels (--labels a,b)".to_owned(),
            ));
        }
        let encode = |label: &String| self.cut(&sentence.replace("{}", label));
        let encoded = labels.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let length = if self.always_longest { self.longest } else { encoded.iter().map(Vec::len).max().unwrap_or(0) };
        let mask = encoded.iter().flat_map(|ids| (0..length).map(|index| i64::from(index < ids.len())));
        let mask = mask.collect();
        let padded = encoded.into_iter().map(|mut ids| {
            ids.resize(length, self.padding);
            ids
        });
        Ok(Sentences { ids: padded.collect(), mask, length })
    }

    /// Token ids of a sentence; what is too long loses its end, and keeps the special tokens around it.
    fn cut(&self, sentence: &str) -> Result<Vec<i64>> {
        let whole = self.text.encode(sentence, true)?;
        if whole.len() <= self.longest {
            return Ok(whole.into_iter().map(i64::from).collect());
        }
        let bare = self.text.encode(sentence, false)?;
        let around = whole.len().saturating_sub(bare.len());
        let before = whole.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
        let kept = self.longest.saturating_sub(around);
        let (begin, end) = (&whole[..before], &whole[before + bare.len()..]);
        Ok([begin, &bare[..kept.min(bare.len())], end].concat().into_iter().map(i64::from).collect())
    }
}

fn sigmoid(scores: &[f32]) -> Vec<f32> {
    scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect()
}

fn softmax(scores: &[f32]) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_go_into_a_sentence() {
        let check = |prompt: Option<&str>, template: Value, expected: &str| {
            assert_eq!(Scorer::sentence(prompt, &template).expect("a place"), expected);
        };
        check(None, Value::Null, "This is a photo of {}.");
        check(Some("a radiograph with {}"), Value::Null, "a radiograph with {}");
        check(None, json!({"hypothesis_template": "{}"}), "{}");
        assert!(Scorer::sentence(Some("no place"), &Value::Null).is_err());
    }

    #[test]
    fn probabilities() {
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(sigmoid(&[0.0, -1000.0]), [0.5, 0.0]);
    }
}
