//! Reports leave: every due delivery, destination by destination, until each is where it belongs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dimse::{Destination, Outcome, StoreStatus};
use spool::{Delivery, ObjectKind, Spool};
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

/// The same document as an SOP class that more archives take: the text report is Basic Text SR everywhere, and a
/// measurement report has no coordinates in the patient, so that it is the same as Comprehensive SR.
fn in_another_class(kind: ObjectKind) -> Option<ObjectKind> {
    match kind {
        ObjectKind::EnhancedTextSr => Some(ObjectKind::TextSr),
        ObjectKind::MeasurementsSr => Some(ObjectKind::ComprehensiveMeasurementsSr),
        _ => None,
    }
}

/// Refused: SOP Class not supported (PS3.7 C.5.6).
const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;

/// A destination takes no instances of a document's class: it gets it in another one, or a person reads what to do.
async fn not_taken(spool: &Spool, delivery: &Delivery, said: String) -> Result<(), spool::Error> {
    let name = delivery.kind.as_str();
    if let Some(other) = in_another_class(delivery.kind) {
        let why = format!("{said}; it gets {} instead", other.as_str());
        if spool.deliver_instead(delivery, other, why, clock::now()).await? {
            tracing::info!(
                study = delivery.study,
                destination = delivery.destination,
                object = name,
                instead = other.as_str(),
                "an SOP class is not taken; the report goes as another one"
            );
            return Ok(());
        }
    }
    let advice = format!(
        "{said}; allow that SOP class there, or take \"{name}\" out of `objects` of [[destination]] \"{}\"",
        delivery.destination
    );
    failed(spool, delivery, advice, Retry::Refused).await
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
        StoreStatus::NotAccepted { .. } | StoreStatus::Failure { code: SOP_CLASS_NOT_SUPPORTED, .. } => {
            return not_taken(spool, delivery, outcome.status.to_string()).await;
        }
        StoreStatus::Failure { code, .. } if code & 0xff00 == 0xa700 => Retry::Away,
        StoreStatus::Unanswered(_) | StoreStatus::NotSent(_) => Retry::Away,
        StoreStatus::Failure { .. } | StoreStatus::Unreadable(_) => Retry::Refused,
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
