//! The provider and the user against DCMTK, against each other and against what is no DICOM at all. Everything on
//! 127.0.0.1 and ports that were free.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the failure message, in its helpers too")]

#[path = "../../fuzz/bodies.rs"]
mod bodies;
mod commitment;
mod corpus;
mod hostile;
mod provider;
mod slow;
mod strange_items;
mod support;
mod tls;
mod user;
