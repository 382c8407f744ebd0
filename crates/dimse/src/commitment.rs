//! Storage commitment (PS3.4 annex J): what is asked, what is answered, and how the answer is brought to the peer.

use std::sync::Arc;

use dataset::{Limits, TransferSyntax, Uid, parse_data_set, tags};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, value::DataSetSequence};
use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use dicom_ul::pdu::{RequestorRoles, UserVariableItem};
use tokio::sync::{mpsc, oneshot};

use crate::{
    AssociationInfo, Destination, Error,
    client::Association,
    command::{CommandSet, element, field, status},
    negotiation::role_selections,
    wire::{Value, Wire, WireError},
};

/// The SOP class of storage commitment (PS3.4 J.3.1).
pub(crate) const PUSH_MODEL_CLASS: &str = uids::STORAGE_COMMITMENT_PUSH_MODEL;
/// Its one instance (PS3.4 J.3.5).
pub(crate) const PUSH_MODEL_INSTANCE: &str = uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE;
/// Action Type ID (0000,1008) of a request (PS3.4 table J.3-1).
pub(crate) const REQUEST_COMMITMENT: u16 = 1;
/// Event Type ID (0000,1002) when everything is committed (PS3.4 table J.3-2).
const ALL_COMMITTED: u16 = 1;
/// Event Type ID (0000,1002) when something is not.
const FAILURES_EXIST: u16 = 2;

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
    pub(crate) fn new(reports: mpsc::Sender<Report>, context: u8) -> Self {
        Self { reports, context }
    }

    /// Whether the association is still open.
    pub fn is_open(&self) -> bool {
        !self.reports.is_closed()
    }

    /// Brings a result to the peer (N-EVENT-REPORT, PS3.4 J.3.3), and answers when the peer has confirmed it.
    pub async fn report(&self, result: CommitmentResult) -> Result<(), ReportError> {
        let (reported, outcome) = oneshot::channel();
        let report = Report { context: self.context, result, reported };
        self.reports.send(report).await.map_err(|_| ReportError::Closed)?;
        outcome.await.unwrap_or(Err(ReportError::Closed))
    }
}

/// Brings a result to a peer over a new association (PS3.4 J.3.3.1.2), and answers when the peer has confirmed it.
///
/// Errors as [`crate::echo`] does; with [`Error::NotOffered`] also where the peer does not want us as provider.
pub async fn report_commitment(destination: &Destination, result: &CommitmentResult) -> Result<(), Error> {
    const SERVICE: &str = "results of storage commitment (N-EVENT-REPORT)";
    let proposed = [TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN]
        .map(|syntax| (PUSH_MODEL_CLASS.to_owned(), syntax));
    // Who requests an association is user unless it says otherwise (PS3.7 D.3.3.4).
    let provider = RequestorRoles { scu: false, scp: true };
    let role = UserVariableItem::ScuScpRoleSelectionSubItem(PUSH_MODEL_CLASS.to_owned(), provider);
    let mut association = Association::request_with(destination, &proposed, vec![role]).await?;
    // A peer that says nothing of roles and takes the context all the same can have no other use for it.
    let refused = role_selections(&association.answered).get(PUSH_MODEL_CLASS).is_some_and(|roles| !roles.scp);
    let context = association.contexts.iter().next().map(|(id, context)| (*id, context.transfer_syntax));
    let Some((context, syntax)) = context.filter(|_| !refused) else {
        association.release().await;
        return Err(Error::NotOffered { destination: destination.to_string(), service: SERVICE });
    };
    let reported = async {
        let request = send(&mut association.wire, context, syntax, 1, result).await?;
        association.response(context, &request, field::N_EVENT_REPORT_RSP).await
    };
    match reported.await {
        Ok(response) => {
            association.release().await;
            confirmed(&response).map_err(|error| Error::Status {
                destination: destination.to_string(),
                service: SERVICE,
                status: match error {
                    ReportError::Refused(status) => status,
                    ReportError::Closed | ReportError::TimedOut => status::PROCESSING_FAILURE,
                },
            })
        }
        Err(error) => {
            association.abort().await;
            Err(Error::wire(destination, &error))
        }
    }
}

/// Sends a result (PS3.4 J.3.3), and answers what command it was.
pub(crate) async fn send(
    wire: &mut Wire,
    context: u8,
    syntax: TransferSyntax,
    message_id: u16,
    result: &CommitmentResult,
) -> Result<CommandSet, WireError> {
    let event = if result.failed.is_empty() { ALL_COMMITTED } else { FAILURES_EXIST };
    let request = CommandSet::new(field::N_EVENT_REPORT_RQ)
        .with_number(element::MESSAGE_ID, message_id)
        .with_uid(element::AFFECTED_SOP_CLASS_UID, PUSH_MODEL_CLASS)
        .with_uid(element::AFFECTED_SOP_INSTANCE_UID, PUSH_MODEL_INSTANCE)
        .with_number(element::EVENT_TYPE_ID, event)
        .followed_by_data_set();
    let data_set = result.to_bytes(syntax).ok_or(WireError::Message("a result cannot be encoded"))?;
    wire.send_command(context, &request).await?;
    let mut fragments = data_set.chunks(wire.fragment_size()).peekable();
    while let Some(data) = fragments.next() {
        let last = fragments.peek().is_none();
        wire.send_value(&Value { context, command: false, last, data }).await?;
    }
    Ok(request)
}

/// Whether a response says that the peer has the result (PS3.7 section 10.1.1.1.8).
pub(crate) fn confirmed(response: &CommandSet) -> Result<(), ReportError> {
    match response.number(element::STATUS) {
        Some(status::SUCCESS) => Ok(()),
        other => Err(ReportError::Refused(other.unwrap_or(status::PROCESSING_FAILURE))),
    }
}

/// Why a request is refused: the status (PS3.7 section 10.1.4.1.10), and the Error Comment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestError {
    pub(crate) status: u16,
    pub(crate) what: String,
}

impl RequestError {
    pub(crate) fn new(status: u16, what: &str) -> Self {
        Self { status, what: what.to_owned() }
    }
}

/// Reads the data set of a request (PS3.4 table J.3-1).
pub(crate) fn read_request(
    bytes: &[u8],
    syntax: TransferSyntax,
) -> Result<(Uid, Vec<InstanceReference>), RequestError> {
    /// Two attributes and an item for each instance, and some of their own.
    const LIMITS: Limits = Limits {
        instance_bytes: 4 << 20,
        inflated_bytes: 4 << 20,
        depth: 8,
        elements: 150_000,
        filled_items: 150_000,
        header_value_bytes: 1 << 10,
        header_bytes: 64 << 10,
    };
    let invalid = |what: &str| RequestError::new(status::INVALID_ARGUMENT_VALUE, what);
    let information = parse_data_set(bytes, syntax, &LIMITS)
        .map_err(|error| RequestError { status: status::INVALID_ARGUMENT_VALUE, what: error.to_string() })?;
    let transaction_uid = uid(&information, tags::TRANSACTION_UID)
        .ok_or_else(|| invalid("Transaction UID (0008,1195) is missing or no UID"))?;
    let references = information.get(tags::REFERENCED_SOP_SEQUENCE).and_then(|sequence| sequence.items());
    let references = references
        .filter(|references| !references.is_empty())
        .ok_or_else(|| invalid("Referenced SOP Sequence (0008,1199) is missing or empty"))?;
    let instances = references.iter().map(|item| {
        Some(InstanceReference {
            sop_class_uid: uid(item, tags::REFERENCED_SOP_CLASS_UID)?,
            sop_instance_uid: uid(item, tags::REFERENCED_SOP_INSTANCE_UID)?,
        })
    });
    let instances: Option<Vec<_>> = instances.collect();
    instances
        .map(|instances| (transaction_uid, instances))
        .ok_or_else(|| invalid("a Referenced SOP Class or Instance UID is missing or no UID"))
}

fn uid(object: &InMemDicomObject, tag: Tag) -> Option<Uid> {
    Uid::from_value(object.get(tag)?.to_bytes().ok()?.as_ref()).ok()
}

impl CommitmentResult {
    /// The data set of a result (PS3.4 table J.3-2).
    fn to_bytes(&self, syntax: TransferSyntax) -> Option<Vec<u8>> {
        let uid = |tag, uid: &Uid| DataElement::new(tag, VR::UI, PrimitiveValue::from(uid.as_str()));
        let item = |instance: &InstanceReference| {
            InMemDicomObject::from_element_iter([
                uid(tags::REFERENCED_SOP_CLASS_UID, &instance.sop_class_uid),
                uid(tags::REFERENCED_SOP_INSTANCE_UID, &instance.sop_instance_uid),
            ])
        };
        let failed = self.failed.iter().map(|(instance, reason)| {
            let mut item = item(instance);
            item.put(DataElement::new(tags::FAILURE_REASON, VR::US, PrimitiveValue::from(reason.code())));
            item
        });
        let mut object = InMemDicomObject::from_element_iter([uid(tags::TRANSACTION_UID, &self.transaction_uid)]);
        let sequences = [
            (tags::FAILED_SOP_SEQUENCE, failed.collect::<Vec<_>>()),
            (tags::REFERENCED_SOP_SEQUENCE, self.committed.iter().map(item).collect()),
        ];
        for (tag, items) in sequences.into_iter().filter(|(_, items)| !items.is_empty()) {
            object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
        }
        let mut bytes = Vec::new();
        object.write_dataset_with_ts(&mut bytes, TransferSyntaxRegistry.get(syntax.uid())?).ok()?;
        Some(bytes)
    }
}
