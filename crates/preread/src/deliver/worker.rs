//! The task of one destination.

use std::{sync::Arc, time::Duration};

use dimse::{Destination, Outcome, StoreStatus};
use spool::{Delivery, Failure, ObjectKind, Spool, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    LOOK_AGAIN,
    breaker::{Breaker, wait_after},
    by_hand,
    verdict::{self, Verdict},
};
use crate::clock;

/// Objects of a study sent in one association.
const BATCH: usize = 64;
/// A refusal that a repetition is unlikely to change is tried this often before a person must look.
const REFUSALS: i64 = 4;
/// How long an association may go on once the daemon stops: what is cut off is sent again after the next start.
const GRACE: Duration = Duration::from_secs(5);

/// Sends to one destination, one study after the other.
pub(super) struct Worker {
    spool: Spool,
    destination: Destination,
    wake: Arc<Notify>,
    breaker: Breaker,
}

impl Worker {
    pub(super) fn new(spool: Spool, destination: Destination) -> Self {
        Self { spool, destination, wake: Arc::default(), breaker: Breaker::default() }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Makes it look at once for what is due.
    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), spool::Error> {
        let mut full = false;
        while !stop.is_cancelled() {
            let wait = match self.step(&stop).await {
                Ok(wait) => {
                    full = false;
                    wait
                }
                Err(error) if error.is_full_disk() => {
                    if !std::mem::replace(&mut full, true) {
                        tracing::error!(%error, "reports are not delivered while the disk is full");
                    }
                    LOOK_AGAIN
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified(), if !wait.is_zero() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Sends what is due of one study; answers how long there is nothing to do.
    async fn step(&mut self, stop: &CancellationToken) -> Result<Duration, spool::Error> {
        let now = clock::now();
        let name = self.destination.name.clone();
        let (until, why) = self.breaker.closed_until();
        let is_away = now < until;
        let due = self.spool.due_deliveries(&name, if is_away { spool::AT_ONCE } else { now }, BATCH)?;
        if due.is_empty() {
            let mut next = self.spool.next_delivery(&name)?.unwrap_or(i64::MAX);
            if is_away && next <= now {
                // What was written meanwhile waits with the rest, and says why.
                self.spool.destination_away(&name, why, false, now, until).await?;
                next = until;
            }
            let wait = u64::try_from(next.saturating_sub(now).max(1)).unwrap_or(1);
            return Ok(Duration::from_millis(wait).min(LOOK_AGAIN));
        }
        // A newer version, or a withdrawal, may have come since.
        let allowed = self.spool.begin_deliveries(&due).await?;
        let due: Vec<Delivery> = due.into_iter().filter(|delivery| allowed.contains(&delivery.id)).collect();
        if due.is_empty() {
            return Ok(Duration::ZERO);
        }
        let files: Vec<_> = due.iter().map(|delivery| delivery.path.clone()).collect();
        let grace = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let sent = tokio::select! {
            sent = dimse::store_in_order(&self.destination, &files) => sent,
            () = grace => return Ok(LOOK_AGAIN),
        };
        match sent {
            Ok(outcomes) => self.settle(due, outcomes).await?,
            Err(error) => {
                self.spool.not_begun(&due.iter().collect::<Vec<_>>()).await?;
                self.away(&error.to_string(), true).await?;
            }
        }
        Ok(Duration::ZERO)
    }

    /// Writes down what became of the objects of one association.
    async fn settle(&mut self, due: Vec<Delivery>, outcomes: Vec<Outcome>) -> Result<(), spool::Error> {
        let (mut any_stored, mut trouble, mut not_tried) = (false, None, Vec::new());
        for (delivery, outcome) in due.iter().zip(&outcomes) {
            let study = delivery.study;
            let destination = delivery.destination.as_str();
            let object = delivery.kind.as_str();
            let verdict = verdict::of(&outcome.status);
            match verdict {
                Verdict::Delivered | Verdict::AlreadyThere | Verdict::WithWarning(_) => {
                    any_stored = true;
                    let remark = match verdict {
                        Verdict::AlreadyThere => {
                            Some("it has it already, by an earlier attempt (status 0x0111)".to_owned())
                        }
                        Verdict::WithWarning(code) => Some(format!("stored with warning {code:#06x}")),
                        _ => None,
                    };
                    match verdict {
                        Verdict::WithWarning(code) => {
                            let status = format!("{code:#06x}");
                            tracing::warn!(study, destination, object, status, "report delivered, with a warning");
                        }
                        _ => tracing::info!(study, destination, object, "report delivered"),
                    }
                    self.spool.delivered(delivery, remark, clock::now()).await?;
                }
                Verdict::ClassNotTaken => self.not_taken(delivery, &outcome.status).await?,
                Verdict::Refused => self.failed(delivery, &outcome.status, true).await?,
                Verdict::Later | Verdict::MayBeThere => {
                    trouble = Some(outcome.status.to_string());
                    self.failed(delivery, &outcome.status, false).await?;
                }
                Verdict::NotTried => not_tried.push(delivery),
            }
        }
        if !not_tried.is_empty() {
            self.spool.not_begun(&not_tried).await?;
        }
        let now = clock::now();
        if any_stored {
            if let Some(since) = self.breaker.works() {
                let minutes = now.saturating_sub(since) / 60_000;
                let destination = self.destination.name.as_str();
                tracing::info!(destination, minutes, "the destination takes reports again");
            }
        } else if let Some(error) = trouble
            && self.breaker.trouble(&self.destination.name, &error, now)
        {
            self.leave_alone(&error, false, now).await?;
        }
        Ok(())
    }

    async fn away(&mut self, error: &str, tried: bool) -> Result<(), spool::Error> {
        let now = clock::now();
        self.breaker.away(&self.destination.name, error, now);
        self.leave_alone(error, tried, now).await
    }

    /// Nothing is sent there for a while, and whatever is due says why.
    async fn leave_alone(&mut self, error: &str, tried: bool, now: Timestamp) -> Result<(), spool::Error> {
        let (until, _) = self.breaker.closed_until();
        let name = self.destination.name.as_str();
        self.spool.destination_away(name, error, tried, now, until).await?;
        if self.breaker.should_say(now) {
            tracing::warn!(
                destination = name,
                reason = error,
                "the destination takes no reports; it is tried again, ever more slowly, until it does"
            );
        } else {
            tracing::debug!(destination = name, reason = error, "the destination still takes no reports");
        }
        Ok(())
    }

    /// The destination takes no instances of a document's class: it gets it in another one, or a person reads what to do.
    async fn not_taken(&self, delivery: &Delivery, status: &StoreStatus) -> Result<(), spool::Error> {
        if let Some(other) = verdict::in_another_class(delivery.kind) {
            let why = format!("{status}; it gets {} instead", other.as_str());
            if self.spool.deliver_instead(delivery, other, why, clock::now()).await? {
                tracing::info!(
                    study = delivery.study,
                    destination = delivery.destination,
                    object = delivery.kind.as_str(),
                    instead = other.as_str(),
                    "an SOP class is not taken; the report goes as another one"
                );
                return Ok(());
            }
        }
        self.failed(delivery, status, true).await
    }

    /// An attempt failed; with `is_refusal` a few more are made, else as many as it takes.
    async fn failed(&self, delivery: &Delivery, status: &StoreStatus, is_refusal: bool) -> Result<(), spool::Error> {
        let attempts = delivery.attempts + 1;
        let given_up = is_refusal && delivery.refusals + 1 >= REFUSALS;
        let wait = i64::try_from(wait_after(attempts, &delivery.id).as_millis()).unwrap_or(i64::MAX);
        let next_at = (!given_up).then(|| clock::now().saturating_add(wait));
        let error = match status {
            _ if !is_refusal => status.to_string(),
            status if delivery.kind == ObjectKind::RejectionNote => {
                format!("the rejection note is not taken ({status}); {}", by_hand(&self.spool, delivery)?)
            }
            status => format!("{status}; {}", verdict::advice(status, delivery.kind, &delivery.destination)),
        };
        let (study, destination) = (delivery.study, delivery.destination.as_str());
        let (object, reason) = (delivery.kind.as_str(), error.as_str());
        // Said when it begins, changes or ends; the queue shows how it goes on.
        if given_up {
            tracing::warn!(study, destination, object, attempts, reason, "report not delivered, and given up");
        } else if delivery.last_error.as_ref() != Some(&error) && self.breaker.closed_until().0 == 0 {
            tracing::warn!(study, destination, object, reason, "report not delivered; it is tried again");
        } else {
            tracing::debug!(study, destination, object, attempts, reason, "report still not delivered");
        }
        let comment = match status {
            StoreStatus::Failure { comment, .. } => comment.as_ref().map(|text| text.expose().clone()),
            _ => None,
        };
        // What an attempt before this one may have left there may still be there.
        let refused = matches!(status, StoreStatus::Failure { .. } | StoreStatus::NotAccepted { .. });
        let unknown = matches!(status, StoreStatus::Unanswered(_));
        let may_be_there = unknown || (delivery.begun && !refused);
        let failure = Failure { error, comment, next_at, is_refusal, may_be_there };
        self.spool.delivery_failed(delivery, failure).await
    }
}
