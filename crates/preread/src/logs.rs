//! Logs: human on a terminal, journald under systemd, JSON elsewhere.

mod journal;

use std::{
    io::{IsTerminal, stderr},
    path::Path,
};

use anyhow::{Context, Result};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Libraries that narrate their work at a level at which we say what happened.
const QUIET: &str = "jpeg2k=warn,ort=warn,dicom_parser=error";

/// Starts logging for the daemon.
pub(crate) fn start(log: &Log) -> Result<()> {
    let directives = format!("{QUIET},{}", log.level);
    let filter = EnvFilter::try_new(directives).with_context(|| format!("log.level = \"{}\"", log.level))?;
    let format = match log.format {
        // systemd sets JOURNAL_STREAM for what it connects to the journal.
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journald,
        LogFormat::Auto if stderr().is_terminal() => LogFormat::Human,
        LogFormat::Auto => LogFormat::Json,
        named => named,
    };
    let layer = match format {
        LogFormat::Journald => {
            journal::Journal::connect(Path::new(journal::SOCKET)).context("journald cannot be reached")?.boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(stderr).boxed(),
        LogFormat::Human | LogFormat::Auto => {
            tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).boxed()
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

/// Starts logging for a command: warnings only, to a person.
pub(crate) fn start_for_command() {
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).without_time();
    tracing_subscriber::registry().with(layer.with_filter(EnvFilter::new(format!("{QUIET},warn")))).init();
}
