//! Images and text in; text, token probabilities and evidence out, for vision-language models exported to ONNX.
//!
//! A [`Bundle`] is a model folder looked at; a [`Model`] is a bundle loaded into a [`Runtime`]; a [`Dispatcher`] gives it
//! a thread and a queue. The engine reads names, element types and fixed dimensions from the graphs; preprocessing and
//! generation follow the model's own Hugging Face configuration. It runs the layouts of onnx-community, optimum and
//! onnxruntime-genai and zero-shot models in one graph, and refuses what it does not know in words that say what was found
//! and what to do.
//!
//! ```no_run
//! # fn main() -> Result<(), infer::Error> {
//! use infer::{Bundle, Cancel, Image, Model, Request, Runtime, SessionOptions};
//!
//! let runtime = Runtime::load("target/onnxruntime/libonnxruntime.so".as_ref())?;
//! let bundle = Bundle::open("models/phantom-cxr".as_ref())?;
//! let mut model = Model::load(&bundle, &runtime, &SessionOptions::default())?;
//! let image = Image::new(256, 256, vec![0; 256 * 256 * 3])?;
//! let answer = model.run(&Request { images: vec![image], ..Request::default() }, &Cancel::new())?;
//! println!("{}", answer.text);
//! # Ok(())
//! # }
//! ```

mod answer;
mod attention;
mod backend;
mod beam;
mod bounds;
mod bundle;
mod cancel;
mod constraint;
mod decoder;
mod description;
mod dispatcher;
mod embed;
mod engine;
mod error;
mod evidence;
mod family;
mod foreign;
mod genai;
mod generate;
mod generation;
mod graph;
mod growth;
mod image;
mod known;
mod layout;
mod logits;
mod manifest;
mod memory;
mod model;
mod onnx_file;
mod positions;
mod prefix;
mod prepared;
mod processor;
mod provider;
mod reader;
mod regions;
mod resample;
mod runtime;
mod sampler;
mod seen;
mod template;
mod text;
mod vectorized;
mod vision;
mod zero_shot;

pub use answer::{
    Answer, Attention, EncoderOutput, Logits, Placement, Region, Statistics, StoppedBy, Timings, Token, ZeroShot,
};
pub use backend::{Backend, Scripted};
pub use bundle::{Bundle, BundleFile};
pub use cancel::Cancel;
pub use constraint::Grammar;
pub use dispatcher::{Dispatcher, Ticket};
pub use error::{Error, Result};
pub use evidence::{Alternative, Evidence, EvidenceOptions, Saliency, Sentence};
pub use graph::{Dimension, GraphInfo, TensorInfo};
pub use image::{Image, MAX_PIXELS};
pub use layout::{Layout, Role};
pub use manifest::{
    Ages, AttentionManifest, AttentionSource, ImagesManifest, Manifest, OutputForm, OutputManifest, SchemaSource,
    ThresholdsManifest,
};
pub use memory::available_memory;
pub use model::{Model, Output, Request, SessionOptions};
pub use processor::preprocess;
pub use provider::Provider;
pub use runtime::{Runtime, TELEMETRY_OFF, WATCHED_VERSIONS, telemetry_is_off};
