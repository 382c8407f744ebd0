//! DICOM on the wire, both directions: who may talk, C-ECHO and C-STORE as provider and as user, storage commitment as
//! provider.
//!
//! [`Server`] receives: it decides who may associate ([`Peer`]), speaks the upper layer (PS3.8) and DIMSE (PS3.7), and
//! streams each data set into a [`Sink`] as it comes, never holding one whole. [`echo`] and [`store`] send to a
//! [`Destination`]. What is received is not looked into here: that a data set is what its command says is the sink's to
//! find out, because only the sink has it all.
//!
//! PDUs are coded by dicom-ul, with two exceptions. The A-ASSOCIATE ones are read here, because what is not known of them
//! has to be skipped. The values of a P-DATA-TF are handed on from the receive buffer without a copy, and written with the
//! data set's last byte marked last and no other (dropping dicom-ul's own writer marks a cut data set as complete).

mod associate;
mod bounds;
mod certificate;
mod client;
mod command;
mod commitment;
mod doorway;
mod error;
mod meaning;
mod negotiation;
mod peer;
mod scp;
mod server;
mod sink;
mod store;
mod tls;
mod wire;

pub use certificate::{Attribute, CertificatePattern, CertificatePatternError};
pub use client::{Destination, DestinationTls, Timeouts, echo};
pub use commitment::{
    CommitmentRequest, CommitmentResult, FailureReason, InstanceReference, ReportError, Reporter, report_commitment,
};
pub use error::Error;
pub use negotiation::{SopClassPattern, SopClassPatternError, is_storage_class};
pub use peer::{AeTitle, AeTitleError, Peer};
pub use server::{Deadlines, Server, ServerConfig, TlsListener};
pub use sink::{AssociationId, AssociationInfo, IncomingInstance, InstanceInfo, Refusal, Sink};
pub use store::{Outcome, StoreStatus, store, store_in_order};
pub use tls::{Tls, TlsFiles, TlsProfile};
