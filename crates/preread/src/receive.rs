//! What the network receives goes into the spool, past the gate.

use std::{sync::Arc, time::Duration};

use dataset::{Header, part10::Meta};
use dimse::{AssociationInfo, CommitmentRequest, IncomingInstance, InstanceInfo, Refusal, Sink};
use spool::{Arrival, Receiving, Spool};

use crate::{clock, commitment::Commitments, config::Priority, pipeline::Pipeline, route::Facts};

/// Takes instances for the spool.
pub(crate) struct Receiver {
    pub(crate) spool: Spool,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) commitments: Arc<Commitments>,
    /// Quiet period by peer name, where a peer has its own.
    pub(crate) quiet_of_peer: Vec<(String, Duration)>,
    pub(crate) quiet_period: Duration,
}

/// An instance on its way into the spool.
pub(crate) struct Incoming {
    receiving: Receiving,
    received: usize,
    info: InstanceInfo,
    pipeline: Arc<Pipeline>,
}

/// Bytes of an instance whose header is read without leaving the thread: they are in memory, and the gate steps over
/// pixels.
const READ_AT_ONCE: usize = 1 << 20;

impl Sink for Receiver {
    type Instance = Incoming;

    fn association_opened(&self, association: &Arc<AssociationInfo>) {
        self.spool.association_opened(association.id.0, &association.peer_name);
    }

    fn association_closed(&self, association: &Arc<AssociationInfo>) {
        self.spool.association_closed(association.id.0);
        self.spool.filed().notify_one();
    }

    async fn releasing(&self, association: &Arc<AssociationInfo>) -> Result<(), Refusal> {
        self.spool.flush_association(association.id.0).await.map_err(refusal)
    }

    fn studies(&self, association: &AssociationInfo) -> Option<usize> {
        Some(self.spool.studies_of_association(association.id.0))
    }

    async fn request_commitment(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        self.commitments.take(request).await
    }

    async fn begin(&self, info: InstanceInfo) -> Result<Incoming, Refusal> {
        let meta = Meta {
            sop_class_uid: Some(info.sop_class_uid.clone()),
            sop_instance_uid: Some(info.sop_instance_uid.clone()),
            transfer_syntax_uid: info.transfer_syntax.uid().parse().map_err(|_| Refusal::Failed)?,
            source_ae_title: Some(info.association.calling_ae_title.clone()),
        };
        let own_quiet = self.quiet_of_peer.iter().find(|(name, _)| *name == info.association.peer_name);
        let arrival = Arrival {
            association: Some(info.association.id.0),
            source: info.association.peer_name.clone(),
            quiet: own_quiet.map_or(self.quiet_period, |(_, quiet)| *quiet),
        };
        let receiving = self.spool.begin(arrival, &meta, clock::now()).map_err(refusal)?;
        let pipeline = Arc::clone(&self.pipeline);
        Ok(Incoming { receiving, received: 0, info, pipeline })
    }
}

impl IncomingInstance for Incoming {
    async fn write(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.received += data.len();
        if self.receiving.must_wait_for(data.len()) {
            // Others go on meanwhile.
            return tokio::task::block_in_place(|| self.receiving.write(data)).map_err(refusal);
        }
        self.receiving.write(data).map_err(refusal)
    }

    async fn commit(mut self) -> Result<(), Refusal> {
        let limits = self.pipeline.limits.clone();
        let header = if self.received <= READ_AT_ONCE && !self.info.transfer_syntax.deflated() {
            self.receiving.header(&limits)
        } else {
            let mut receiving = self.receiving;
            let read = tokio::task::spawn_blocking(move || (receiving.header(&limits), receiving)).await;
            let header;
            (header, self.receiving) = read.map_err(|_| Refusal::Failed)?;
            header
        };
        let header = header.map_err(refusal)?.and_then(|header| header.require_identity().map(|()| header));
        let header = header.map_err(|error| Refusal::CannotUnderstand(error.to_string()))?;
        if header.sop_class_uid != self.info.sop_class_uid || header.sop_instance_uid != self.info.sop_instance_uid {
            return Err(Refusal::DataSetMismatch);
        }
        let priority = self.pipeline.priority(&header, &self.info.association.peer_name);
        self.receiving.commit(header, priority, clock::now()).await.map_err(refusal)?;
        Ok(())
    }
}

impl Pipeline {
    /// How urgent an image is: that of the first rule that takes it. A rule that fails is found again, and said, when the
    /// study is read.
    fn priority(&self, header: &Header, source: &str) -> i64 {
        if self.rules.iter().all(|rule| rule.priority == Priority::Routine) {
            return 0;
        }
        let facts = Facts::of(header, source);
        let rule = self.rules.iter().find(|rule| rule.matches(&facts).unwrap_or(false));
        rule.map_or(0, |rule| i64::from(rule.priority == Priority::Stat))
    }
}

fn refusal(error: spool::Error) -> Refusal {
    match error {
        error if error.is_full_disk() => {
            tracing::error!(%error, "an instance was refused");
            Refusal::OutOfResources
        }
        error => {
            tracing::error!(%error, "an instance could not be stored");
            Refusal::Failed
        }
    }
}
