use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use spool::{Spool, Verification};

use crate::{
    cli::Doctor,
    clock,
    config::{Config, TlsSection},
};

mod engine;
mod machine;
mod unit;

/// What was looked at and what was found.
#[derive(Serialize)]
struct Finding {
    what: String,
    found: Found,
    /// What is there or what is wrong, and then what to do.
    message: String,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Found {
    Ok,
    Warning,
    Problem,
}

/// Looks at configuration, models, certificates, spool, clock, peers and destinations. Exit code 1 for any problem.
pub(crate) fn run(arguments: &Doctor) -> Result<ExitCode> {
    let mut findings = Vec::new();
    let path = &arguments.config.config;
    if let Some(name) = &arguments.try_model {
        return engine::try_model(&super::load_config(path)?, name);
    }
    match super::load_config(path) {
        Ok(config) => {
            findings.push(ok("configuration", format!("{} is valid", path.display())));
            findings.extend(config.warnings.iter().map(|text| warning("configuration", text.clone())));
            let running = Spool::is_in_use(&config.spool.dir);
            findings.push(machine::daemon(running));
            findings.extend(machine::ports(&config, running));
            let unit = unit::Unit::installed();
            findings.extend(machine::rights(path, &config, unit.as_ref()));
            findings.extend(unit::findings(&config, unit.as_ref()));
            findings.extend(engine::models(&config, path, running));
            findings.extend(peers(&config));
            findings.extend(certificates(&config));
            findings.extend(destinations(&config)?);
            findings.extend(spool(&config, arguments)?);
        }
        Err(error) => findings.push(problem("configuration", crate::told::told(&error))),
    }
    if arguments.json {
        super::print_json(&findings)?;
    } else {
        for Finding { what, found, message } in &findings {
            let found = match found {
                Found::Ok => "ok",
                Found::Warning => "WARNING",
                Found::Problem => "PROBLEM",
            };
            println!("{found:8} {what}: {message}");
        }
    }
    let healthy = findings.iter().all(|finding| finding.found != Found::Problem);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn finding(what: impl Into<String>, found: Found, message: impl Into<String>) -> Finding {
    Finding { what: what.into(), found, message: message.into() }
}

fn ok(what: impl Into<String>, message: impl Into<String>) -> Finding {
    finding(what, Found::Ok, message)
}

fn warning(what: impl Into<String>, message: impl Into<String>) -> Finding {
    finding(what, Found::Warning, message)
}

fn problem(what: impl Into<String>, message: impl Into<String>) -> Finding {
    finding(what, Found::Problem, message)
}

fn peers(config: &Config) -> Vec<Finding> {
    match config.peers.len() {
        0 => vec![warning("peers", "no [[peer]] is configured: only this machine may send; add the PACS")],
        count => vec![ok("peers", format!("{count} may send"))],
    }
}

fn certificates(config: &Config) -> Vec<Finding> {
    let Some(section) = &config.tls else { return Vec::new() };
    match TlsSection::load(section) {
        Ok(tls) => {
            let warnings: Vec<Finding> =
                tls.warnings(clock::system_time()).into_iter().map(|text| warning("certificates", text)).collect();
            if warnings.is_empty() { vec![ok("certificates", "valid")] } else { warnings }
        }
        Err(error) => vec![problem("certificates", crate::told::told(&error))],
    }
}

/// Each destination is asked whether it is there (C-ECHO).
fn destinations(config: &Config) -> Result<Vec<Finding>> {
    // What is wrong with the certificates is said already.
    let tls = config.tls.as_ref().and_then(|section| section.load().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = |section: &crate::config::DestinationSection| {
        let what = format!("destination {}", section.name);
        let destination = section.destination(&config.listen, tls.as_ref());
        match runtime.block_on(dimse::echo(&destination)) {
            Ok(()) => ok(what, "answers"),
            Err(error) => problem(what, error.to_string()),
        }
    };
    Ok(config.destinations.iter().map(ask).collect())
}

fn spool(config: &Config, arguments: &Doctor) -> Result<Vec<Finding>> {
    let spool = match Spool::open_beside(&config.spool.dir) {
        Ok(spool) => spool,
        Err(error @ spool::Error::Absent(_)) => return Ok(vec![warning("spool", error.to_string())]),
        Err(error) => return Ok(vec![problem("spool", error.to_string())]),
    };
    if arguments.confirm_loss {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let confirmed = runtime.block_on(spool.confirm_losses(clock::now()))?;
        eprintln!("{confirmed} losses are confirmed");
    }
    let look = || {
        spool.check(CHECKED)?;
        Ok([room(config, &spool)?, studies(&spool)?, clock(&spool)?, losses(&spool)?])
    };
    let mut findings = match look() {
        Ok(findings) => findings.into_iter().flatten().collect(),
        Err(error) => {
            let error: spool::Error = error;
            return Ok(vec![problem("spool", error.to_string())]);
        }
    };
    if arguments.scrub {
        scrubbed(&spool, &mut findings);
    }
    Ok(findings)
}

/// How long the state database is looked at.
const CHECKED: Duration = Duration::from_secs(60);

/// What was acknowledged and is gone.
fn losses(spool: &Spool) -> Result<Vec<Finding>, spool::Error> {
    let lost = spool.losses()?;
    let mut findings: Vec<Finding> = lost
        .iter()
        .map(|lost| {
            let name = |uid: &Option<String>| uid.clone().unwrap_or_else(|| "of an unknown name".to_owned());
            let (study, instance) = (name(&lost.study_instance_uid), name(&lost.sop_instance_uid));
            problem("lost", format!("instance {instance}, study {study}: {}", lost.what))
        })
        .collect();
    if !findings.is_empty() {
        let text = "have what is named sent again; what came is no problem any more. Once it is known what is gone, \
                    `preread doctor --confirm-loss` ends this";
        findings.push(problem("lost", text));
    }
    Ok(findings)
}

fn room(config: &Config, spool: &Spool) -> Result<Vec<Finding>, spool::Error> {
    let options = config.spool.options(config.study.patience());
    let room = spool.room()?;
    let files = room.free_files.map_or(u64::MAX, |(free, _)| free);
    let reserve_files = room.reserve_files(&options);
    let mut said =
        format!("{} of instances, {} free", spool::in_words(room.used_bytes), spool::in_words(room.free_bytes));
    if let Some((free, _)) = room.free_files {
        said += &format!(", {free} files (inodes) free");
    }
    let dir = config.spool.dir.display();
    Ok(vec![if room.free_bytes < options.reserve_bytes {
        problem("space", format!("{said}, below spool.reserve: nothing is received; free space in {dir}"))
    } else if files < reserve_files {
        let text = format!(
            "{said}, below the reserve of {reserve_files} (spool.reserve_files): nothing is received; remove files from the \
             file system of {dir}, or make it with more inodes"
        );
        problem("space", text)
    } else if room.used_bytes > options.quota_bytes {
        problem("space", format!("{said}, above spool.quota: nothing is received; raise it, or see [retention]"))
    } else if room.free_bytes / 2 < options.reserve_bytes
        || files / 2 < reserve_files
        || room.used_bytes > options.quota_bytes / 10 * 9
    {
        let text = format!("{said}: nearly full; see spool.quota, spool.reserve, spool.reserve_files and [retention]");
        warning("space", text)
    } else {
        ok("space", said)
    }])
}

fn studies(spool: &Spool) -> Result<Vec<Finding>, spool::Error> {
    let studies = spool.studies()?;
    let held = studies.iter().filter(|study| study.state == "held").count();
    let conflicts: i64 = studies.iter().map(|study| study.conflicts).sum();
    let mut findings = vec![match held {
        0 => ok("studies", format!("{} in the spool, none held", studies.len())),
        _ => warning("studies", format!("{held} of {} are held; see `preread queue ls`", studies.len())),
    }];
    if conflicts > 0 {
        let text = format!(
            "{conflicts} instances came under a SOP Instance UID that another one has; see `preread queue show`"
        );
        findings.push(warning("quarantine", text));
    }
    Ok(findings)
}

/// A clock that went back makes studies wait: their quiet period ends in what is now the future.
fn clock(spool: &Spool) -> Result<Vec<Finding>, spool::Error> {
    let newest = spool.studies()?.iter().map(|study| study.received_at).max().unwrap_or(0);
    let ahead = newest - clock::now();
    Ok(vec![if ahead > 60_000 {
        let text =
            format!("{} behind the last instance that came; see to the time service", clock::span_in_words(ahead));
        problem("clock", text)
    } else {
        ok("clock", "not behind what was received")
    }])
}

fn scrubbed(spool: &Spool, findings: &mut Vec<Finding>) {
    let style = ProgressStyle::with_template("{spinner} {bytes} read, {bytes_per_sec}");
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = style {
        progress.set_style(style);
    }
    let (mut instances, mut damaged) = (0_u64, Vec::new());
    let scrubbed = spool.scrub(|instance| {
        instances += 1;
        progress.inc(instance.bytes);
        if instance.found != Verification::Intact {
            damaged.push(instance.path.clone());
        }
    });
    progress.finish_and_clear();
    if let Err(error) = scrubbed {
        findings.push(problem("scrub", error.to_string()));
    }
    for path in &damaged {
        let text = format!(
            "{} is gone or does not hold what was received; see to the disk, and have the study sent again",
            path.display()
        );
        findings.push(problem("scrub", text));
    }
    if damaged.is_empty() {
        findings.push(ok("scrub", format!("{instances} instances hold what was received")));
    }
}
