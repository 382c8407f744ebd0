use std::process::ExitCode;

use anyhow::Result;
use dimse::{Destination, DestinationTls, StoreStatus};

use crate::{
    cli::{Echo, How, Send},
    config::TlsSection,
    output::shown,
};

/// C-ECHO.
pub(crate) fn echo(arguments: &Echo) -> Result<ExitCode> {
    let destination = destination(&arguments.to, &arguments.how)?;
    runtime()?.block_on(dimse::echo(&destination))?;
    println!("{} answers", arguments.to);
    Ok(ExitCode::SUCCESS)
}

/// C-STORE of files, one line each.
pub(crate) fn send(arguments: &Send) -> Result<ExitCode> {
    let destination = destination(&arguments.to, &arguments.how)?;
    let files = super::files_of(&arguments.paths)?;
    let outcomes = runtime()?.block_on(dimse::store(&destination, &files))?;
    let mut all_stored = true;
    for outcome in outcomes {
        // Who sends by hand may read what the destination says of it in its own words.
        let said = match &outcome.status {
            StoreStatus::Failure { comment: Some(comment), .. } => format!("; it says: {}", comment.expose()),
            _ => String::new(),
        };
        let line = format!("{}: {}{said}", shown(&outcome.path), outcome.status);
        if matches!(outcome.status, StoreStatus::Success | StoreStatus::Warning(_)) {
            println!("{line}");
        } else {
            all_stored = false;
            eprintln!("{line}");
        }
    }
    Ok(if all_stored { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `AE@host:port` or the name of a configured destination stands for.
fn destination(to: &str, how: &How) -> Result<Destination> {
    let by_name = !to.contains('@');
    let mut destination = if by_name {
        configured(to, how)?
    } else {
        let mut destination: Destination = to.parse().map_err(super::usage)?;
        destination.tls = how.tls.then(|| tls(how)).transpose()?;
        destination
    };
    if let Some(calling) = &how.calling {
        destination.calling_ae_title =
            calling.parse().map_err(|error| super::usage(format!("--calling {calling:?}: {error}")))?;
    }
    Ok(destination)
}

fn configured(name: &str, how: &How) -> Result<Destination> {
    if how.tls {
        return Err(super::usage(
            "--tls is for AE@host:port; a [[destination]] says itself whether it is called over TLS",
        ));
    }
    let wrong =
        |what: String| super::usage(format!("{name:?} is neither a destination like PACS@10.1.2.3:104 nor {what}"));
    let config = super::load_config(&how.config.config)
        .map_err(|error| wrong(format!("known by name: {}", crate::told::told(&error))))?;
    let section = config.destinations.iter().find(|section| section.name == name);
    let section = section.ok_or_else(|| wrong(format!("a [[destination]] of {}", how.config.config.display())))?;
    let tls = config.tls.as_ref().map(TlsSection::load).transpose()?;
    Ok(section.destination(&config.listen, tls.as_ref()))
}

fn tls(how: &How) -> Result<DestinationTls> {
    let config = super::load_config(&how.config.config)?;
    let section = config.tls.as_ref();
    let section = section.ok_or_else(|| super::usage("--tls needs a [tls] section in the configuration"))?;
    Ok(DestinationTls { tls: section.load()?, server_name: None })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
