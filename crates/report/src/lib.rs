//! From model text to a checked, coded report to DICOM objects.
//!
//! Model text is never trusted. [`parse`] reads it into a closed structure: findings out of one vocabulary, and sentences
//! that were not wholly understood, which are shown with a sign and never coded. [`check`](check()) says what contradicts itself.
//! [`sr`] writes the draft as a DICOM SR, [`validate`](validate()) is what every object must pass before it leaves,
//! [`heatmap`] draws what the model attended to, [`text`] and [`Report`] are the same report for a terminal and a program.
//!
//! Nothing here knows the file system, the network or the clock.

mod calibration;
mod check;
pub mod codes;
mod content;
mod copy;
mod document;
mod draft;
mod elements;
mod error;
#[cfg(test)]
mod fixture;
mod header;
pub mod heatmap;
mod json;
pub mod key_objects;
mod lexicon;
pub mod localized;
pub mod pdf;
pub mod presentation;
mod references;
pub mod rejection;
pub mod sr;
mod structure;
pub mod template;
pub mod text;
mod uids;
mod validate;
mod values;
mod vocabulary;

pub use calibration::{Calibration, Labelled, Reliability};
pub use check::{
    Action, Kind as ObjectionKind, Measured, Objection, Opinion, Policy, ReadingFacts, Severity, StudyFacts,
    Thresholds, Verdict, check, enforce,
};
pub use codes::Code;
pub use document::{Completion, ContentTime, Document, EvidenceItem, Provenance, Source};
pub use draft::{
    Confidence, Draft, Finding, Grid, ModelText, Normal, NormalStatement, Presence, Side, Size, TokenEvidence, Zone,
    parse, parse_in, parse_json,
};
pub use error::Error;
pub use header::require_readable;
pub use json::{Drafted, Report};
pub use lexicon::Language;
pub use localized::{CodedFindings, LocalizedFinding, Place2D, Region, Shape, StudyFinding, Trust};
pub use structure::{
    Category, Certainty, Change, Composition, Evidence, Measurement, Recommendation, SectionKind, Sentence, Statement,
    Status, Struck, Structure, Understood, schema,
};
pub use uids::{Derivation, Input, Kind};
pub use validate::{Violation, Weight, must_hold, validate, validate_all};
pub use vocabulary::{Concept, Sex, Site, Sort, Urgency};
