//! Storage commitment (PS3.4 annex J): what is asked, what is answered, and how the answer is brought to the peer.

use std::sync::Arc;

use dataset::Uid;
use tokio::sync::{mpsc, oneshot};

use crate::AssociationInfo;

/// An instance that a peer asks about (PS3.4 table J.3-1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceReference {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class_uid: Uid,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance_uid: Uid,
}

/// A peer's request for storage commitment (N-ACTION, PS3.4 J.3.2).
#[derive(Debug)]
pub struct CommitmentRequest {
    /// The association that it came on.
    pub association: Arc<AssociationInfo>,
    /// Transaction UID (0008,1195), by which the peer knows the result for its own.
    pub transaction_uid: Uid,
    /// What the peer asks about, in its order: at least one.
    pub instances: Vec<InstanceReference>,
    /// Brings a result over this very association, as long as it is open. The association is not ended for idleness
    /// while one of these is held.
    pub reporter: Reporter,
}

/// Which instances of a request are kept (PS3.4 J.3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentResult {
    /// That of the request.
    pub transaction_uid: Uid,
    /// What is kept, and will be.
    pub committed: Vec<InstanceReference>,
    /// What is not, and why.
    pub failed: Vec<(InstanceReference, FailureReason)>,
}

/// Why an instance is not committed: Failure Reason (0008,1197) (PS3.3 section C.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// Something is wrong with what is kept, or it could not be looked at.
    ProcessingFailure,
    /// The instance is not here.
    NoSuchObjectInstance,
    /// No room.
    ResourceLimitation,
    /// The SOP class is none that is kept here.
    ReferencedSopClassNotSupported,
    /// The instance is here, and of another SOP class.
    ClassInstanceConflict,
    /// The Transaction UID is that of another request.
    DuplicateTransactionUid,
}

impl FailureReason {
    const ALL: [Self; 6] = [
        Self::ProcessingFailure,
        Self::NoSuchObjectInstance,
        Self::ResourceLimitation,
        Self::ReferencedSopClassNotSupported,
        Self::ClassInstanceConflict,
        Self::DuplicateTransactionUid,
    ];

    /// The value of Failure Reason (0008,1197).
    pub fn code(self) -> u16 {
        match self {
            Self::ProcessingFailure => 0x0110,
            Self::NoSuchObjectInstance => 0x0112,
            Self::ResourceLimitation => 0x0213,
            Self::ReferencedSopClassNotSupported => 0x0122,
            Self::ClassInstanceConflict => 0x0119,
            Self::DuplicateTransactionUid => 0x0131,
        }
    }

    /// The reason of a value that [`Self::code`] gave.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// Brings results over the association that a request came on. Its clones are one.
#[derive(Debug, Clone)]
pub struct Reporter {
    reports: mpsc::Sender<Report>,
    /// The presentation context of the request.
    context: u8,
}

/// A result on its way to the task that serves the association.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) context: u8,
    pub(crate) result: CommitmentResult,
    pub(crate) reported: oneshot::Sender<Result<(), ReportError>>,
}

/// Why a result did not come over the association of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The association ended before the peer confirmed the result: bring it over another one.
    #[error("the association of the request is over")]
    Closed,
    /// The peer did not answer in time: bring it over another association.
    #[error("the peer did not answer the result in time")]
    TimedOut,
    /// The peer answered with a failure status (PS3.7 section 10.1.1.1.8).
    #[error("the peer answered the result with status {0:#06x}")]
    Refused(u16),
}

impl Reporter {
    /// Brings a result to the peer (N-EVENT-REPORT, PS3.4 J.3.3), and answers when the peer has confirmed it.
    pub async fn report(&self, result: CommitmentResult) -> Result<(), ReportError> {
        let (reported, outcome) = oneshot::channel();
        let report = Report { context: self.context, result, reported };
        self.reports.send(report).await.map_err(|_| ReportError::Closed)?;
        outcome.await.unwrap_or(Err(ReportError::Closed))
    }
}
