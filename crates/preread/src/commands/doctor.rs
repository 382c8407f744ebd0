use std::process::ExitCode;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use spool::{Spool, Verification};

use crate::{
    cli::Doctor,
    clock,
    config::{Config, TlsSection},
    models::Models,
};

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
    match super::load_config(path) {
        Ok(config) => {
            findings.push(ok("configuration", format!("{} is valid", path.display())));
            findings.extend(models(&config));
            findings.extend(peers(&config));
            findings.extend(certificates(&config));
            findings.extend(destinations(&config)?);
            findings.extend(spool(&config, arguments.scrub));
        }
        Err(error) => findings.push(problem("configuration", format!("{error:#}"))),
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

fn models(config: &Config) -> Vec<Finding> {
    if config.models.is_empty() {
        return vec![warning("models", "none is configured, so that no study is read; add a [[model]] and a [[rule]]")];
    }
    let look = |section: &crate::config::ModelSection| {
        let what = format!("model {}", section.name);
        match Models::open(std::slice::from_ref(section), &config.runtime) {
            Ok(_) => ok(what, format!("{} is complete", section.path.display())),
            Err(error) => problem(what, format!("{error:#}")),
        }
    };
    config.models.iter().map(look).collect()
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
        Err(error) => vec![problem("certificates", format!("{error:#}"))],
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

fn spool(config: &Config, scrub: bool) -> Vec<Finding> {
    let spool = match Spool::open_beside(&config.spool.dir) {
        Ok(spool) => spool,
        Err(error @ spool::Error::Absent(_)) => return vec![warning("spool", error.to_string())],
        Err(error) => return vec![problem("spool", error.to_string())],
    };
    let findings = room(config, &spool).and_then(|room| Ok([room, studies(&spool)?, clock(&spool)?]));
    let mut findings = match findings {
        Ok(findings) => findings.into_iter().flatten().collect(),
        Err(error) => return vec![problem("spool", error.to_string())],
    };
    if scrub {
        scrubbed(&spool, &mut findings);
    }
    findings
}

fn room(config: &Config, spool: &Spool) -> Result<Vec<Finding>, spool::Error> {
    let options = config.spool.options();
    let room = spool.room()?;
    let said = format!("{} bytes of instances, {} bytes free", room.used_bytes, room.free_bytes);
    let dir = config.spool.dir.display();
    Ok(vec![if room.free_bytes < options.reserve_bytes {
        problem("space", format!("{said}, below spool.reserve: nothing is received; free space in {dir}"))
    } else if room.used_bytes > options.quota_bytes {
        problem("space", format!("{said}, above spool.quota: nothing is received; raise it, or see [retention]"))
    } else if room.free_bytes / 2 < options.reserve_bytes || room.used_bytes > options.quota_bytes / 10 * 9 {
        warning("space", format!("{said}: nearly full; see spool.quota, spool.reserve and [retention]"))
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
        let text = format!("{} s behind the last instance that came; see to the time service", ahead / 1000);
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
