//! Reports leave: a task for each destination, until each report is where it belongs. One that is slow, hangs or is away
//! delays no other.

mod breaker;
mod verdict;
mod worker;

use std::{collections::HashMap, sync::Arc, time::Duration};

use dimse::Destination;
use spool::{Delivery, Failure, ObjectKind, Spool};
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{pipeline::Pipeline, withdraw};
use worker::Worker;

/// How long at the most until the outbox is looked at again, for what another process put there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Objects looked at in one go that no destination is configured for.
const ORPHANS: usize = 64;

/// Sends what is due until told to stop. While the disk is full, what happened to a delivery cannot be kept: it waits.
pub(crate) async fn run(
    spool: Spool,
    destinations: HashMap<String, Destination>,
    pipeline: Arc<Pipeline>,
    written: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(), spool::Error> {
    let known: Vec<String> = destinations.keys().cloned().collect();
    let mut lanes = Lanes::default();
    for destination in destinations.into_values() {
        lanes.start(Worker::new(spool.clone(), destination), &stop);
    }
    while !stop.is_cancelled() {
        match housekeeping(&spool, &known, &pipeline).await {
            Err(error) if error.is_full_disk() => tracing::error!(%error, "the state of a delivery could not be kept"),
            kept => kept?,
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = written.notified() => lanes.wake(),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            ended = lanes.ended() => {
                ended?;
                tokio::time::sleep(LOOK_AGAIN).await;
                lanes.start_ended(&spool, &stop);
            }
        }
    }
    lanes.finish().await
}

/// What a person must do where a rejection note does not arrive.
fn by_hand(spool: &Spool, note: &Delivery) -> Result<String, spool::Error> {
    let named = spool.withdrawn_at(note.study, &note.destination)?;
    Ok(format!(
        "what was withdrawn is still there: delete it there by hand ({}), then `preread queue drop {}`",
        named.join(", "),
        note.study
    ))
}

/// The tasks, one for each destination.
#[derive(Default)]
struct Lanes {
    tasks: JoinSet<Result<(), spool::Error>>,
    running: HashMap<Id, (Destination, Arc<Notify>)>,
    broken: Vec<Destination>,
}

impl Lanes {
    fn start(&mut self, worker: Worker, stop: &CancellationToken) {
        let known = (worker.destination().clone(), worker.wake());
        let task = self.tasks.spawn(worker.run(stop.clone()));
        self.running.insert(task.id(), known);
    }

    fn wake(&self) {
        self.running.values().for_each(|(_, wake)| wake.notify_one());
    }

    /// Waits for a task that ends by itself, which is a defect or an error of the spool.
    async fn ended(&mut self) -> Result<(), spool::Error> {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, outcome))) => {
                self.broken.extend(self.running.remove(&id).map(|(destination, _)| destination));
                outcome
            }
            Some(Err(error)) => {
                let destination = self.running.remove(&error.id()).map(|(destination, _)| destination);
                let name = destination.as_ref().map(|it| it.name.as_str()).unwrap_or_default();
                tracing::error!(destination = name, "a defect ended the task of this destination; it starts again");
                self.broken.extend(destination);
                Ok(())
            }
        }
    }

    fn start_ended(&mut self, spool: &Spool, stop: &CancellationToken) {
        for destination in std::mem::take(&mut self.broken) {
            self.start(Worker::new(spool.clone(), destination), stop);
        }
    }

    async fn finish(mut self) -> Result<(), spool::Error> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                outcome = Err(error);
            }
        }
        outcome
    }
}

async fn housekeeping(spool: &Spool, known: &[String], pipeline: &Pipeline) -> Result<(), spool::Error> {
    withdraw::note_open(spool, &pipeline.device).await?;
    give_up_orphans(spool, known).await
}

/// What waits for destinations that are not configured any more is left to a person: no repetition changes that.
async fn give_up_orphans(spool: &Spool, known: &[String]) -> Result<(), spool::Error> {
    for delivery in spool.deliveries_to_others(known, ORPHANS)? {
        let mut error = format!(
            "there is no [[destination]] of this name in the configuration any more: add it again and `preread queue \
             retry {study}`, or end the study with `preread queue drop {study}`",
            study = delivery.study
        );
        if delivery.kind == ObjectKind::RejectionNote {
            error = format!("{error}; {}", by_hand(spool, &delivery)?);
        }
        tracing::warn!(
            study = delivery.study,
            destination = delivery.destination,
            "report not delivered: the destination is not configured any more"
        );
        let failure = Failure { error, comment: None, next_at: None, is_refusal: true, may_be_there: delivery.begun };
        spool.delivery_failed(&delivery, failure).await?;
    }
    Ok(())
}
