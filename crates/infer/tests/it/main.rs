//! The engine against reference models, and its queue against a scripted backend.

mod bundles;
mod deeper;
mod dispatcher;
mod encoder_decoder;
mod onnx;
mod output;
mod phantom;
mod prefix;
mod references;
mod requests;
mod runtimes;
mod support;
mod toy;
