//! Storage commitment: what peers ask about is read from the disk again, and what was found is reported to them (PS3.4
//! annex J).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use dataset::Limits;
use dimse::{
    CommitmentRequest, CommitmentResult, Destination, FailureReason, InstanceReference, Refusal, ReportError, Reporter,
    SopClassPattern, Tls, is_storage_class, report_commitment,
};
use spool::{Commitment, CommitmentId, CommitmentOrder, Spool, Timestamp, Verification};
use tokio::{
    sync::{Notify, Semaphore},
    task::{self, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{clock, config::Config, pipeline::compare};

/// Results on their way at a time.
const AT_ONCE: usize = 32;
/// Requests whose instances are read at a time: more would only compete for the disk with what is being received.
const READ_AT_ONCE: usize = 2;
/// A result that does not reach its peer is tried again after this, doubled each time, up to the most.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const MOST_WAIT: Duration = Duration::from_secs(10 * 60);
/// How long a result is kept for a peer: over a weekend. Who does not come for it asks again, or keeps its instances.
const KEPT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long at the most until it is looked again what is due: the clock may have gone back.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often requests that ended so long ago are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);

/// What peers ask about, and the ways to them.
pub(crate) struct Commitments {
    spool: Spool,
    /// Where peers take results on a new association, by the peer's name. Their AE title is that of each request.
    destinations: HashMap<String, Destination>,
    private_sop_classes: Vec<SopClassPattern>,
    ways: Mutex<Vec<Way>>,
    taken: Notify,
    reading: Semaphore,
}

/// An association that a request came on, as long as its result is not reported.
struct Way {
    transaction_uid: String,
    peer: String,
    ae_title: String,
    address: String,
    reporter: Reporter,
}

impl Way {
    fn leads_to(&self, order: &CommitmentOrder) -> bool {
        self.peer == order.peer && self.ae_title == order.ae_title && self.address == order.address
    }
}

/// The open associations that a result may go over.
struct Ways {
    /// That of its request.
    own: Option<Reporter>,
    /// That of a later request of the same peer.
    other: Option<Reporter>,
}

impl Commitments {
    pub(crate) fn new(spool: Spool, config: &Config, tls: Option<&Tls>) -> Self {
        let destinations = config
            .peers
            .iter()
            .filter_map(|peer| Some((peer.name.clone(), peer.commitment_destination(&config.listen, tls)?)));
        Self {
            spool,
            destinations: destinations.collect(),
            private_sop_classes: config.listen.private_sop_classes.clone(),
            ways: Mutex::default(),
            taken: Notify::new(),
            reading: Semaphore::new(READ_AT_ONCE),
        }
    }

    /// Takes a request; it would survive a power cut when this answers.
    pub(crate) async fn take(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        let CommitmentRequest { association, transaction_uid, instances, reporter } = request;
        // What was acknowledged on this association and not flushed yet is not found before it is.
        self.spool.flush_association(association.id.0).await.map_err(refusal)?;
        let reference = |instance: InstanceReference| {
            (instance.sop_class_uid.as_str().to_owned(), instance.sop_instance_uid.as_str().to_owned())
        };
        let order = CommitmentOrder {
            transaction_uid: transaction_uid.as_str().to_owned(),
            peer: association.peer_name.clone(),
            ae_title: association.calling_ae_title.clone(),
            address: association.address.ip().to_canonical().to_string(),
            instances: instances.into_iter().map(reference).collect(),
        };
        self.remember(&order, reporter);
        let duplicate = FailureReason::DuplicateTransactionUid.code();
        match self.spool.take_commitment(order.clone(), duplicate, clock::now()).await {
            Ok(Some(_)) => {
                self.taken.notify_one();
                Ok(())
            }
            Ok(None) => {
                self.ways(&order);
                tracing::warn!(
                    "storage commitment refused: this peer does not take the results of its earlier requests"
                );
                Err(Refusal::OutOfResources)
            }
            Err(error) => {
                self.ways(&order);
                Err(refusal(error))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, order: &CommitmentOrder, reporter: Reporter) {
        let mut ways = self.lock();
        ways.retain(|way| way.reporter.is_open());
        ways.push(Way {
            transaction_uid: order.transaction_uid.clone(),
            peer: order.peer.clone(),
            ae_title: order.ae_title.clone(),
            address: order.address.clone(),
            reporter,
        });
    }

    /// The ways for a result; that of its request is not needed any more afterwards.
    fn ways(&self, order: &CommitmentOrder) -> Ways {
        let mut ways = self.lock();
        let is_own = |way: &Way| way.leads_to(order) && way.transaction_uid == order.transaction_uid;
        let own = ways.iter().position(is_own).map(|at| ways.remove(at).reporter);
        let other = ways.iter().find(|way| way.leads_to(order) && way.reporter.is_open());
        Ways { own, other: other.map(|way| way.reporter.clone()) }
    }

    /// Looks at what was asked about and reports it, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), spool::Error> {
        let mut tasks = JoinSet::new();
        let mut busy: HashMap<task::Id, CommitmentId> = HashMap::new();
        let mut forget_at = clock::now();
        while !stop.is_cancelled() {
            let now = clock::now();
            if now >= forget_at {
                self.spool.forget_commitments(before(now, KEPT)).await.map(drop).or_else(later)?;
                forget_at = after(now, FORGET_EVERY);
            }
            let at_work: Vec<CommitmentId> = busy.values().copied().collect();
            for commitment in self.spool.due_commitments(&at_work, now, AT_ONCE - tasks.len())? {
                let ways = self.ways(&commitment.order);
                let (this, id) = (Arc::clone(&self), commitment.id);
                busy.insert(tasks.spawn(async move { this.settle(&commitment, ways).await }).id(), id);
            }
            let next = self.spool.next_commitment_due(now)?.unwrap_or(i64::MAX).min(forget_at);
            let wait =
                Duration::from_millis(u64::try_from(next.saturating_sub(clock::now())).unwrap_or(0)).min(LOOK_AGAIN);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.taken.notified() => {}
                Some(ended) = tasks.join_next_with_id() => match ended {
                    Ok((task, result)) => {
                        busy.remove(&task);
                        if let Err(error) = result {
                            later(error)?;
                            // It is due still, and nothing else has changed.
                            tokio::time::sleep(FIRST_WAIT).await;
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "a storage commitment ended early; it is tried again");
                        if let Some(id) = busy.remove(&error.id()) {
                            let next_at = Some(after(clock::now(), MOST_WAIT));
                            let failed = self.spool.commitment_failed(id, "ended early".into(), next_at, now).await;
                            failed.or_else(later)?;
                        }
                    }
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Brings one request to its end, or to its next attempt.
    async fn settle(&self, commitment: &Commitment, ways: Ways) -> Result<(), spool::Error> {
        let order = &commitment.order;
        let outcomes = match &commitment.outcomes {
            Some(outcomes) => outcomes.clone(),
            None => self.verify(commitment).await?,
        };
        let (transaction, peer) = (&order.transaction_uid, &order.peer);
        let result = match result(order, &outcomes) {
            Ok(result) => result,
            Err(error) => return self.failed(commitment, &format!("{error:#}"), Retry::Never).await,
        };
        let (committed, failed) = (result.committed.len(), result.failed.len());
        match self.report(order, &result, ways).await {
            Ok(over) => {
                tracing::info!(transaction, peer, committed, failed, "storage commitment reported over {over}");
                self.spool.commitment_reported(commitment.id, clock::now()).await
            }
            Err(why) => self.failed(commitment, &why, Retry::Later).await,
        }
    }

    /// Reads every instance of a request from the disk again.
    async fn verify(&self, commitment: &Commitment) -> Result<Vec<u16>, spool::Error> {
        let _turn = self.reading.acquire().await.map_err(|_| spool::Error::Stopped)?;
        let instances = &commitment.order.instances;
        // Each is read once, however often it is named.
        let mut seen: HashMap<&(String, String), u16> = HashMap::new();
        for reference @ (class, instance) in instances {
            if !seen.contains_key(reference) {
                let failure = self.failure(class, instance).await?;
                seen.insert(reference, failure.map_or(0, FailureReason::code));
            }
        }
        if seen.values().any(|code| *code == FailureReason::ProcessingFailure.code()) {
            tracing::error!(
                transaction = commitment.order.transaction_uid,
                "not committed: an instance is damaged on the disk, or two versions of it came; see `preread doctor \
                 --scrub` and `preread queue`"
            );
        }
        let outcomes: Vec<u16> = instances.iter().filter_map(|reference| seen.get(reference).copied()).collect();
        self.spool.commitment_verified(commitment.id, outcomes.clone()).await?;
        Ok(outcomes)
    }

    /// Why an instance cannot be committed, if it cannot.
    async fn failure(&self, class: &str, instance: &str) -> Result<Option<FailureReason>, spool::Error> {
        // The same instance in two encodings is one, which may not be known yet.
        compare::those_under(&self.spool, instance, &Limits::default()).await?;
        Ok(match self.spool.verify_instance(class, instance).await {
            // Which of the two versions the peer means, nobody can say, and it is to keep its own.
            Ok(Verification::Intact) if self.spool.is_in_conflict(instance)? => Some(FailureReason::ProcessingFailure),
            Ok(Verification::Intact) => None,
            Ok(Verification::Damaged) => Some(FailureReason::ProcessingFailure),
            Ok(Verification::OtherClass) => Some(FailureReason::ClassInstanceConflict),
            Ok(Verification::Absent) if is_storage_class(class, &self.private_sop_classes) => {
                Some(FailureReason::NoSuchObjectInstance)
            }
            Ok(Verification::Absent) => Some(FailureReason::ReferencedSopClassNotSupported),
            Err(error @ spool::Error::Io { .. }) => {
                tracing::error!(%error, "an instance could not be read");
                Some(FailureReason::ProcessingFailure)
            }
            Err(error) => return Err(error),
        })
    }

    /// Brings a result to its peer: over the association of the request, else over a new one, else over that of a later
    /// request. Answers over which, or why over none.
    async fn report(
        &self,
        order: &CommitmentOrder,
        result: &CommitmentResult,
        ways: Ways,
    ) -> Result<&'static str, String> {
        let mut why = ReportError::Closed.to_string();
        if let Some(reporter) = ways.own {
            match reporter.report(result.clone()).await {
                Ok(()) => return Ok("the association of its request"),
                Err(error) => why = error.to_string(),
            }
        }
        match self.destinations.get(&order.peer).cloned().zip(order.ae_title.parse().ok()) {
            Some((destination, ae_title)) => {
                match report_commitment(&Destination { ae_title, ..destination }, result).await {
                    Ok(()) => return Ok("a new association"),
                    Err(error) => why = error.to_string(),
                }
            }
            None => {
                let (peer, title) = (&order.peer, &order.ae_title);
                why += &format!("; set commitment_address of [[peer]] \"{peer}\" to where {title} listens");
            }
        }
        if let Some(reporter) = ways.other
            && reporter.report(result.clone()).await.is_ok()
        {
            return Ok("the association of a later request");
        }
        Err(why)
    }

    async fn failed(&self, commitment: &Commitment, error: &str, retry: Retry) -> Result<(), spool::Error> {
        let now = clock::now();
        let order = &commitment.order;
        let (transaction, peer, attempts) = (&order.transaction_uid, &order.peer, commitment.attempts + 1);
        let given_up = matches!(retry, Retry::Never) || now >= after(commitment.requested_at, KEPT);
        // Once at the beginning, and once at the end.
        if given_up || commitment.attempts == 0 {
            tracing::warn!(transaction, peer, attempts, given_up, error, "storage commitment not reported");
        } else {
            tracing::debug!(transaction, peer, attempts, error, "storage commitment not reported");
        }
        let doublings = u32::try_from(commitment.attempts.clamp(0, 16)).unwrap_or(16);
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(MOST_WAIT);
        let next_at = (!given_up).then(|| after(now, wait));
        self.spool.commitment_failed(commitment.id, error.to_owned(), next_at, now).await
    }
}

enum Retry {
    Later,
    Never,
}

/// What is reported.
fn result(order: &CommitmentOrder, outcomes: &[u16]) -> anyhow::Result<CommitmentResult> {
    let mut result = CommitmentResult {
        transaction_uid: order.transaction_uid.parse().context("Transaction UID")?,
        committed: Vec::new(),
        failed: Vec::new(),
    };
    for ((class, instance), outcome) in order.instances.iter().zip(outcomes) {
        let sop_class_uid = class.parse().context("Referenced SOP Class UID")?;
        let reference = InstanceReference { sop_class_uid, sop_instance_uid: instance.parse()? };
        match outcome {
            0 => result.committed.push(reference),
            code => {
                let reason = FailureReason::from_code(*code).unwrap_or(FailureReason::ProcessingFailure);
                result.failed.push((reference, reason));
            }
        }
    }
    Ok(result)
}

/// A full disk has an end; everything else ends the daemon.
fn later(error: spool::Error) -> Result<(), spool::Error> {
    if !error.is_full_disk() {
        return Err(error);
    }
    tracing::error!(%error, "the state of a storage commitment could not be written; it is tried again");
    Ok(())
}

fn refusal(error: spool::Error) -> Refusal {
    tracing::error!(%error, "a request for storage commitment could not be taken");
    if error.is_full_disk() { Refusal::OutOfResources } else { Refusal::Failed }
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

fn before(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
