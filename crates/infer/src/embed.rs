//! The embedding graph of a language model: token ids in, embeddings out; in some exports with the images merged in.

use std::{borrow::Cow, sync::Arc, time::Duration};

use ort::value::DynValue;

use crate::{
    cancel::Cancel,
    error::{Error, Result},
    graph::{Feeds, Graph, GraphInfo, blank, floats, integers},
    vision::Features,
};

/// An embedding graph.
pub(crate) struct Embed {
    graph: Graph,
    /// Index of the embeddings among its outputs.
    embeddings: usize,
    merges: bool,
}

/// What came out, in the graph's precision: the embeddings, [rows, length, width], and everything else by name.
pub(crate) struct Embedded {
    pub(crate) embeddings: DynValue,
    pub(crate) others: Vec<(String, DynValue)>,
}

impl Embed {
    /// Finds the parts of an embedding graph. `others` are names of what the vision graph returns beside its features.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for inputs other than token ids and what the vision graph returns, or when no output is
    /// embeddings.
    pub(crate) fn new(graph: Graph, others: &[String]) -> Result<Self> {
        let info = graph.info();
        let known = |role: &str| ["input_ids", "image_features"].contains(&role) || others.iter().any(|it| it == role);
        let sole = || info.outputs.iter().position(|output| output.is_float()).filter(|_| info.outputs.len() == 1);
        let embeddings = graph.output("inputs_embeds").or_else(sole);
        match embeddings {
            Some(embeddings)
                if graph.input("input_ids").is_some() && info.inputs.iter().all(|input| known(&input.role)) =>
            {
                let merges = graph.input("image_features").is_some();
                Ok(Self { graph, embeddings, merges })
            }
            _ => Err(Error::unsupported(
                format!("{} with inputs {}", info.file, info.input_names()),
                "an embedding graph from input_ids (and image_features) to inputs_embeds",
                "export the model again, or choose another",
            )),
        }
    }

    pub(crate) fn info(&self) -> &Arc<GraphInfo> {
        self.graph.info()
    }

    /// How long ONNX Runtime has run it so far.
    pub(crate) fn ran(&self) -> Duration {
        self.graph.ran()
    }

    /// Whether the graph itself puts the images among the tokens.
    pub(crate) fn merges(&self) -> bool {
        self.merges
    }

    /// Names of what it returns beside the embeddings.
    pub(crate) fn other_outputs(&self) -> Vec<String> {
        let outputs = self.graph.info().outputs.iter().enumerate();
        outputs.filter(|(index, _)| *index != self.embeddings).map(|(_, output)| output.role.clone()).collect()
    }

    /// Embeds `rows` sequences of `length` ids each. `features` are those of the images in the ids, if there are any.
    pub(crate) fn run(
        &mut self,
        ids: Vec<i64>,
        rows: usize,
        features: Option<&Features>,
        cancel: &Cancel,
    ) -> Result<Embedded> {
        let info = Arc::clone(self.graph.info());
        let length = ids.len() / rows.max(1);
        let mut ids = Some(ids);
        let mut feeds: Feeds<'_> = Vec::with_capacity(2);
        for input in &info.inputs {
            let value = match (input.role.as_str(), features) {
                ("input_ids", _) => integers(input, &[rows, length], ids.take().unwrap_or_default())?,
                ("image_features", Some(features)) => {
                    floats(input, &rank(features, input.shape.len()), features.values.clone())?
                }
                (name, _) => {
                    match features.and_then(|features| features.others.iter().find(|other| other.name == name)) {
                        Some(other) => {
                            // With as many dimensions as the graph wants: outer ones of 1.
                            let missing = input.shape.len().saturating_sub(other.shape.len());
                            let shape: Vec<usize> =
                                std::iter::repeat_n(1, missing).chain(other.shape.iter().copied()).collect();
                            floats(input, &shape, other.values.clone())?
                        }
                        None => blank(input, 1)?,
                    }
                }
            };
            feeds.push((Cow::Borrowed(input.name.as_str()), value.into()));
        }
        let outputs = self.graph.run(feeds, cancel)?;
        let (mut embeddings, mut others) = (None, Vec::new());
        for (index, (value, output)) in outputs.into_iter().zip(&info.outputs).enumerate() {
            match index == self.embeddings {
                true => embeddings = Some(value),
                false => others.push((output.role.clone(), value)),
            }
        }
        let embeddings = embeddings.ok_or_else(|| Error::graph(&info.file, "it returned no embeddings"))?;
        Ok(Embedded { embeddings, others })
    }
}

/// The features' dimensions in the rank an input has: as many images as there are when it wants three.
fn rank(features: &Features, rank: usize) -> Vec<usize> {
    if rank != 3 {
        return vec![features.count(), features.width];
    }
    if features.shape.len() == 3 {
        return features.shape.clone();
    }
    let images = features.of_image.len().max(1);
    let even = features.of_image.iter().all(|count| *count * images == features.count());
    let images = if even { images } else { 1 };
    vec![images, features.count() / images, features.width]
}
