//! The gate, the header and the character sets: over the DICOM test set where it is there, over data sets made up here
//! and over what fuzzing found worth keeping.

#[path = "../../fuzz/bodies.rs"]
mod bodies;
mod corpus;
mod encode;
mod gate;
mod header;
mod random;
mod test_set;
