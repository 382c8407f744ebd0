//! Tests over files and over the public interface.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the failure message, in its helpers too")]

#[path = "../../fuzz/bodies.rs"]
mod bodies;
mod choose;
mod corpus;
mod input;
mod mapping;
mod native;
mod policy;
mod references;
mod samples;
mod series;
mod spacing;
mod support;
mod views;
mod written;
