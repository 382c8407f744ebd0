//! Images as a model has seen them, kept for the next question about the same ones.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    answer::{EncoderOutput, Placement, Statistics},
    family::Place,
    image::Image,
    vision::Features,
};

/// A request's images after the vision graph.
pub(crate) struct Seen {
    pub(crate) features: Features,
    pub(crate) places: Vec<Place>,
    pub(crate) placements: Vec<Placement>,
    pub(crate) others: BTreeMap<String, EncoderOutput>,
    pub(crate) pixel_values: Statistics,
    pub(crate) image_features: Statistics,
    pub(crate) preprocess: Duration,
    pub(crate) vision: Duration,
}

/// What tells images and how they were prepared apart.
pub(crate) type Key = [u8; 32];

/// The digest of images and of the options they are prepared with.
pub(crate) fn key(images: &[Image], options: &Value) -> Key {
    let mut hasher = Sha256::new();
    for image in images {
        hasher.update(image.width.to_le_bytes());
        hasher.update(image.height.to_le_bytes());
        hasher.update(&image.rgb);
    }
    hasher.update(options.to_string().as_bytes());
    hasher.finalize().into()
}

/// Most bytes of features kept.
const MOST: usize = 256 << 20;

/// The images seen last.
#[derive(Default)]
pub(crate) struct Memory(VecDeque<(Key, Arc<Seen>)>);

impl Memory {
    /// What was made of these images, if they are still known.
    pub(crate) fn recall(&self, key: &Key) -> Option<Arc<Seen>> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, seen)| Arc::clone(seen))
    }

    /// Keeps what was made of images, and forgets the oldest where they become too many.
    pub(crate) fn keep(&mut self, key: Key, seen: &Arc<Seen>) {
        self.0.push_front((key, Arc::clone(seen)));
        let mut bytes = 0;
        self.0.retain(|(_, seen)| {
            bytes += size(&seen.features);
            bytes <= MOST
        });
    }
}

fn size(features: &Features) -> usize {
    let others: usize = features.others.iter().map(|other| other.values.len()).sum();
    // So that many small ones are bounded too.
    (features.values.len() + others) * size_of::<f32>() + (1 << 20)
}
