use std::{fmt, net::SocketAddr, sync::Arc};

use dataset::{TransferSyntax, Uid};

use crate::CommitmentRequest;

/// Numbers the associations of one run of the server, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssociationId(pub u64);

impl fmt::Display for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An accepted association, from the acceptor's side (PS3.8 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationInfo {
    /// Which association of this run.
    pub id: AssociationId,
    /// The [`crate::Peer`] that the requestor was recognised as.
    pub peer_name: String,
    /// Where the connection came from.
    pub address: SocketAddr,
    /// The title by which the requestor called itself.
    pub calling_ae_title: String,
    /// The Implementation Version Name that the requestor gave (PS3.7 D.3.3.2.3): for finding out which product it is.
    pub implementation: Option<String>,
}

/// An instance that a peer is about to send, as its C-STORE command announces it (PS3.7 section 9.3.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// The association that it comes on.
    pub association: Arc<AssociationInfo>,
    /// Affected SOP Class UID (0000,0002).
    pub sop_class_uid: Uid,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance_uid: Uid,
    /// The transfer syntax of the presentation context, in which the data set is encoded.
    pub transfer_syntax: TransferSyntax,
}

/// Takes what is received.
pub trait Sink: Send + Sync + 'static {
    /// An instance while it comes.
    type Instance: IncomingInstance;

    /// An association was accepted. Called before its first instance.
    fn association_opened(&self, association: &Arc<AssociationInfo>);

    /// An association ended, in whatever way. Called after its last instance was committed or dropped, exactly once for
    /// each that was opened; a study must not settle while one of its associations is open.
    fn association_closed(&self, association: &Arc<AssociationInfo>);

    /// The peer asks to release the association. Awaited before it is told yes (A-RELEASE-RP, PS3.8 section 7.2), so that
    /// what was promised for the association as a whole holds by then; a refusal aborts the association instead.
    fn releasing(&self, association: &Arc<AssociationInfo>) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// How many studies the instances of an association belong to, as far as the sink knows: for the log.
    fn studies(&self, _association: &AssociationInfo) -> Option<usize> {
        None
    }

    /// An instance begins. A refusal here costs the peer the transfer, for DIMSE has no way to stop it, but not us.
    fn begin(&self, info: InstanceInfo) -> impl Future<Output = Result<Self::Instance, Refusal>> + Send;

    /// The peer asks whether instances are kept (PS3.4 annex J). Success is what the peer is told, and obliges to a
    /// [`crate::CommitmentResult`] later, so it must mean that the request would survive a restart.
    fn request_commitment(&self, request: CommitmentRequest) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Takes the data set of one instance. Dropped without [`Self::commit`], the instance is abandoned: the peer was told
/// nothing, or that it failed.
pub trait IncomingInstance: Send {
    /// Takes the next bytes of the data set, in the transfer syntax of its [`InstanceInfo`]. Slowness here slows the
    /// peer: there is no queue in between.
    fn write(&mut self, data: &[u8]) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// The data set is complete. Success is what the peer is told (PS3.4 B.2.3), so it must mean that the instance is
    /// kept.
    fn commit(self) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Why an instance was not taken: the failure statuses of the storage service (PS3.4 table B.2-1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No room now; the peer should try again later.
    #[error("out of resources")]
    OutOfResources,
    /// The data set's own SOP Class or Instance UID is not that of the command.
    #[error("data set does not match the SOP Class or Instance UID of the command")]
    DataSetMismatch,
    /// The data set is not one that can be kept, with what is wrong with it. The text goes to the peer and to the log:
    /// no patient's data in it.
    #[error("cannot understand: {0}")]
    CannotUnderstand(String),
    /// Something failed here that is not the instance's fault.
    #[error("failed to store")]
    Failed,
}
