//! Reports leave: every due delivery, destination by destination, until each is where it belongs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dimse::{Destination, Outcome, StoreStatus};
use spool::{Delivery, Spool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Deliveries in one association: bounds how much one answer that does not come costs.
const BATCH: usize = 64;
/// A destination that is away is tried again after this, doubled each time, up to the most.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const MOST_WAIT: Duration = Duration::from_secs(300);
/// A refusal that a retry is unlikely to change is tried this often before a person must look.
const REFUSALS: i64 = 4;
/// How long at the most until the outbox is looked at again, for what another process put there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sends what is due until told to stop. While the disk is full, what happened to a delivery cannot be kept: it waits.
pub(crate) async fn run(
    spool: Spool,
    destinations: HashMap<String, Destination>,
    written: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(), spool::Error> {
    let destinations = Arc::new(destinations);
    while !stop.is_cancelled() {
        let wait = match send_due(&spool, &destinations).await {
            Ok(0) => until_next(&spool)?,
            Ok(_) => continue,
            Err(error) if error.is_full_disk() => {
                tracing::error!(%error, "reports are not delivered while the disk is full");
                LOOK_AGAIN
            }
            Err(error) => return Err(error),
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = written.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

/// Tries every delivery that is due once; answers how many.
async fn send_due(spool: &Spool, destinations: &Arc<HashMap<String, Destination>>) -> Result<usize, spool::Error> {
    let mut by_destination: HashMap<String, Vec<Delivery>> = HashMap::new();
    let due = spool.due_deliveries(clock::now(), BATCH)?;
    let count = due.len();
    for delivery in due {
        by_destination.entry(delivery.destination.clone()).or_default().push(delivery);
    }
    // Each destination on its own, so that one that hangs keeps no other waiting for longer than its deadline.
    let mut tasks = tokio::task::JoinSet::new();
    for (name, deliveries) in by_destination {
        let (spool, destinations) = (spool.clone(), Arc::clone(destinations));
        tasks.spawn(async move { send(&spool, destinations.get(&name), deliveries).await });
    }
    let mut outcome = Ok(count);
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome = Err(error),
            Err(error) => tracing::error!(%error, "a delivery task ended early; it is tried again"),
        }
    }
    outcome
}

fn until_next(spool: &Spool) -> Result<Duration, spool::Error> {
    let now = clock::now();
    let next = spool.next_due(now)?.map_or(i64::MAX, |due| due.saturating_sub(now));
    Ok(Duration::from_millis(u64::try_from(next.max(1)).unwrap_or(1)).min(LOOK_AGAIN))
}

async fn send(spool: &Spool, destination: Option<&Destination>, deliveries: Vec<Delivery>) -> Result<(), spool::Error> {
    let Some(destination) = destination else {
        for delivery in &deliveries {
            let error =
                format!("there is no [[destination]] \"{}\" in the configuration any more", delivery.destination);
            failed(spool, delivery, error, Retry::Refused).await?;
        }
        return Ok(());
    };
    let files: Vec<_> = deliveries.iter().map(|delivery| delivery.path.clone()).collect();
    match dimse::store(destination, &files).await {
        Ok(outcomes) => {
            for (delivery, outcome) in deliveries.iter().zip(outcomes) {
                settle(spool, delivery, outcome).await?;
            }
        }
        Err(error) => {
            for delivery in &deliveries {
                failed(spool, delivery, error.to_string(), Retry::Away).await?;
            }
        }
    }
    Ok(())
}

async fn settle(spool: &Spool, delivery: &Delivery, outcome: Outcome) -> Result<(), spool::Error> {
    let retry = match outcome.status {
        StoreStatus::Success => {
            tracing::info!(study = delivery.study, destination = delivery.destination, "report delivered");
            return spool.delivered(delivery, clock::now()).await;
        }
        StoreStatus::Warning(code) => {
            tracing::warn!(
                study = delivery.study,
                destination = delivery.destination,
                status = format!("{code:#06x}"),
                "report delivered, with a warning"
            );
            return spool.delivered(delivery, clock::now()).await;
        }
        StoreStatus::Failure { code, .. } if code & 0xff00 == 0xa700 => Retry::Away,
        StoreStatus::Unanswered(_) | StoreStatus::NotSent(_) => Retry::Away,
        StoreStatus::Failure { .. } | StoreStatus::NotAccepted { .. } | StoreStatus::Unreadable(_) => Retry::Refused,
    };
    failed(spool, delivery, outcome.status.to_string(), retry).await
}

enum Retry {
    /// The destination may be back later: for ever, ever more slowly.
    Away,
    /// It answered, and did not want it: a few times.
    Refused,
}

async fn failed(spool: &Spool, delivery: &Delivery, error: String, retry: Retry) -> Result<(), spool::Error> {
    let doublings = u32::try_from(delivery.attempts.clamp(0, 16)).unwrap_or(16);
    let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(MOST_WAIT);
    // Spread, so that what failed together does not come back together; the delivery's number is as good as chance.
    let spread = wait.mul_f64(1.0 + f64::from(u8::try_from(delivery.id.rem_euclid(32)).unwrap_or(0)) / 128.0);
    let given_up = matches!(retry, Retry::Refused) && delivery.attempts + 1 >= REFUSALS;
    let next_at =
        (!given_up).then(|| clock::now().saturating_add(i64::try_from(spread.as_millis()).unwrap_or(i64::MAX)));
    tracing::warn!(
        study = delivery.study,
        destination = delivery.destination,
        attempts = delivery.attempts + 1,
        given_up,
        error,
        "report not delivered"
    );
    spool.delivery_failed(delivery, error, next_at).await
}
