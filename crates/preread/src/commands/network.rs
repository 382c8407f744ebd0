use std::process::ExitCode;

use anyhow::Result;
use dimse::{Destination, StoreStatus};

use crate::cli::Send;

/// C-ECHO.
pub(crate) fn echo(to: &str, calling: &str) -> Result<ExitCode> {
    let destination = destination(to, calling)?;
    runtime()?.block_on(dimse::echo(&destination))?;
    println!("{to} answers");
    Ok(ExitCode::SUCCESS)
}

/// C-STORE of files, one line each.
pub(crate) fn send(arguments: &Send) -> Result<ExitCode> {
    let destination = destination(&arguments.to, &arguments.calling)?;
    let files = super::files_of(&arguments.paths)?;
    let outcomes = runtime()?.block_on(dimse::store(&destination, &files))?;
    let mut all_stored = true;
    for outcome in outcomes {
        let line = format!("{}: {}", outcome.path.display(), outcome.status);
        if matches!(outcome.status, StoreStatus::Success | StoreStatus::Warning(_)) {
            println!("{line}");
        } else {
            all_stored = false;
            eprintln!("{line}");
        }
    }
    Ok(if all_stored { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn destination(to: &str, calling: &str) -> Result<Destination> {
    let mut destination: Destination = to.parse().map_err(super::usage)?;
    destination.calling_ae_title =
        calling.parse().map_err(|error| super::usage(format!("--calling {calling:?}: {error}")))?;
    Ok(destination)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
