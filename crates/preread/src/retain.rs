//! Removes what is no longer to be kept, so that a full spool has room again by itself.

use std::time::Duration;

use spool::{Retention, Spool};
use tokio_util::sync::CancellationToken;

use crate::clock;

const EVERY: Duration = Duration::from_secs(60);

/// Runs until told to stop. What fails is tried again the next time.
pub(crate) async fn run(spool: Spool, retention: Retention, stop: CancellationToken) {
    if retention == Retention::default() {
        return stop.cancelled().await;
    }
    loop {
        match spool.retain(&retention, clock::now()).await {
            Ok(removed) if removed.files == 0 => {}
            Ok(removed) => {
                tracing::info!(removed.studies, removed.files, removed.bytes, "instances removed by [retention]");
            }
            Err(error) => tracing::error!(%error, "instances could not be removed by [retention]"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
