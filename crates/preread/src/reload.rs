//! Certificates are renewed while associations go on: SIGHUP reads them again.

use std::time::Duration;

use anyhow::{Context, Result};
use dimse::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// How often what will expire is spoken of.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a signal makes be read again.
pub(crate) struct Reload {
    hang_up: Signal,
    tls: Option<Tls>,
}

impl Reload {
    /// From now on SIGHUP does not end the process, also when there is nothing to read again.
    pub(crate) fn new(tls: Option<Tls>) -> Result<Self> {
        Ok(Self { hang_up: signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?, tls })
    }

    /// Reads again at each signal, and says once a day what a person should look at, until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.say_warnings();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(DAY) => {}
                Some(()) = self.hang_up.recv() => self.reload(),
            }
        }
    }

    fn reload(&self) {
        match self.tls.as_ref().map(|tls| tls.reload(clock::system_time())) {
            Some(Ok(())) => tracing::info!("certificates read again: connections from now on use them"),
            Some(Err(error)) => tracing::error!("certificates stay as they were: {error}"),
            None => tracing::info!("nothing to read again: there is no [tls], and the rest is read at start only"),
        }
    }

    fn say_warnings(&self) {
        for warning in self.tls.iter().flat_map(|tls| tls.warnings(clock::system_time())) {
            tracing::warn!("{warning}");
        }
    }
}
