//! The gate, the header and the character sets: over the DICOM test set where it is there, over data sets made up here
//! and over what fuzzing found worth keeping.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the failure message, in its helpers too")]

#[path = "../../fuzz/bodies.rs"]
mod bodies;
mod corpus;
mod encode;
mod gate;
mod header;
mod object;
mod peers;
mod random;
mod test_set;
