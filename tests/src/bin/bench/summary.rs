//! What was measured as tables, and beside what is to be reached.

use std::{fmt::Write, path::Path};

use anyhow::Result;

use crate::{
    load::{CT, LARGE, Load},
    machine,
    receive::{Cell, Options, Outcome, Outcomes, Sender},
    servers::Server,
    table,
};

/// One cell: a row for each receiver, and what went wrong.
pub(crate) fn table_of(cell: &Cell, outcomes: &Outcomes) -> String {
    let full: usize = cell.load.shares(cell.senders).iter().sum();
    let mut failures = String::new();
    let mut rows = Vec::new();
    for (server, outcome) in outcomes {
        for failure in &outcome.failures {
            let _ = writeln!(failures, "\n{} failed: {failure}", server.name());
        }
        let rates = || outcome.rounds.iter().map(|figures| figures.per_second);
        let (least, most) = (rates().fold(f64::NAN, f64::min), rates().fold(f64::NAN, f64::max));
        let sent = outcome.rounds.iter().map(|figures| figures.images).min().unwrap_or_default();
        rows.push(vec![
            server.name().to_owned(),
            table::number(outcome.per_second()),
            format!("{} to {}", table::number(least), table::number(most)),
            table::number(outcome.median(|figures| figures.megabytes_per_second)),
            table::number(outcome.median(|figures| figures.p50)),
            table::number(outcome.median(|figures| figures.p99)),
            table::number(outcome.median(|figures| figures.processor_ms)),
            table::number(outcome.median(|figures| figures.peak_mebibytes)),
            if sent < full { sent.to_string() } else { String::new() },
        ]);
    }
    let head =
        ["receiver", "instances/s", "least to most", "MB/s", "p50 ms", "p99 ms", "CPU ms", "peak MiB", "sent only"];
    table::render(&head, &rows) + &failures
}

/// A figure that is to be reached.
struct Goal {
    what: String,
    wanted: String,
    reached: f64,
    holds: bool,
}

fn goals(all: &[(Cell, Outcomes)]) -> Vec<Goal> {
    let find = |load: &Load, sender, senders, server: Server| {
        let (_, outcomes) = all.iter().find(|(cell, _)| cell.is(load, sender, senders))?;
        let (_, outcome) = outcomes.iter().find(|(other, _)| *other == server)?;
        Some(outcome)
    };
    let rate = |sender, senders, server| find(&CT, sender, senders, server).map(Outcome::per_second);
    let mut goals = Vec::new();
    let mut times = |sender, senders, other: Server, wanted: f64| {
        let by = if sender == Sender::Light { "" } else { ", plain storescu" };
        let one = |server| rate(sender, senders, server);
        let Some((ours, theirs)) = one(Server::Preread).zip(one(other)) else { return };
        let reached = ours / theirs;
        goals.push(Goal {
            what: format!("durable, {senders} senders{by}: times {}", other.name()),
            wanted: format!("at least {wanted:.1}"),
            reached,
            holds: reached >= wanted,
        });
    };
    times(Sender::Light, 4, Server::DcmtkTuned, 1.0);
    times(Sender::Light, 4, Server::OrthancTuned, 3.0);
    times(Sender::Light, 4, Server::OrthancShipped, 3.0);
    times(Sender::Light, 4, Server::DicomRs, 2.0);
    times(Sender::Storescu, 4, Server::DcmtkTuned, 2.0);
    if let Some((floor, ours)) = rate(Sender::Light, 16, Server::Floor).zip(rate(Sender::Light, 16, Server::Preread)) {
        let reached = floor / ours;
        goals.push(Goal {
            what: "durable, 16 senders: the floor is faster by".into(),
            wanted: "at most 1.5".into(),
            reached,
            holds: reached <= 1.5,
        });
    }
    if let Some(outcome) = find(&LARGE, Sender::Light, 16, Server::Preread) {
        let reached = outcome.rounds.iter().map(|figures| figures.peak_mebibytes).fold(f64::NAN, f64::max);
        goals.push(Goal {
            what: "durable, 16 senders of 60 MB: peak memory, MiB".into(),
            wanted: "at most 64".into(),
            reached,
            holds: reached <= 64.0,
        });
    }
    goals
}

/// Durable preread as a multiple of each of the others, for every load and sender.
pub(crate) fn ratios(all: &[(Cell, Outcomes)]) -> String {
    const OTHERS: [Server; 7] = [
        Server::PrereadNone,
        Server::DcmtkTuned,
        Server::DcmtkBitPreserving,
        Server::OrthancTuned,
        Server::DicomRs,
        Server::Floor,
        Server::Discard,
    ];
    let row = |(cell, outcomes): &(Cell, Outcomes)| {
        let rate =
            |wanted| outcomes.iter().find(|(server, _)| *server == wanted).map(|(_, outcome)| outcome.per_second());
        let ours = rate(Server::Preread).unwrap_or(f64::NAN);
        let ratios = OTHERS.map(|other| table::number(ours / rate(other).unwrap_or(f64::NAN)));
        [cell.name()].into_iter().chain(ratios).collect()
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let mut head = vec!["durable preread: times"];
    head.extend(OTHERS.map(Server::name));
    table::render(&head, &rows)
}

/// The table of goals, and how many are missed.
pub(crate) fn verdict(all: &[(Cell, Outcomes)]) -> (String, usize) {
    let goals = goals(all);
    let row = |goal: &Goal| {
        let verdict = if goal.holds { "reached" } else { "missed" };
        vec![goal.what.clone(), goal.wanted.clone(), table::number(goal.reached), verdict.to_owned()]
    };
    let rows: Vec<_> = goals.iter().map(row).collect();
    let missed = goals.iter().filter(|goal| !goal.holds).count();
    (table::render(&["with 300 x 512 KB CT, where nothing else is said", "wanted", "measured", ""], &rows), missed)
}

/// What is measured, how, and on what.
///
/// # Errors
/// When a receiver is not installed, or the system does not say what it is.
pub(crate) fn preface(options: &Options, servers: &[Server], rounds: usize, dir: &Path) -> Result<String> {
    let mut text = String::from("# Benchmarks: receiving\n\n");
    let quick = if options.quick { " --quick" } else { "" };
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench receive{quick} --rounds {rounds} --write` on {}, {}. Load average at the start: {}.\n",
        machine::date()?,
        machine::words(dir)?,
        machine::load_average()?
    );
    text += METHOD;
    for server in servers {
        let version = server.version()?;
        let version = if version.is_empty() { version } else { format!(" {version}") };
        let _ = writeln!(text, "- **{}**{version}: {}.", server.name(), server.words());
    }
    text.push('\n');
    Ok(text)
}

const METHOD: &str = "\
Every figure is the median of the rounds. In each round every receiver has its turn, started anew with an empty folder on
the same file system; `sync` runs before each, so that none pays for what another wrote. Before a figure counts, the
receiver's files are found to hold as many bytes as it answered for; preread's are its instances, not its journal.

The *light sender* has the PDUs ready before the clock starts and waits for each response before the next image
(TCP_NODELAY; PDUs of at most 128 KiB). Its clock runs from the first byte to the last response, and p50 and p99 are the
time from an image's last byte to its response. *storescu* is DCMTK's, a process for each sender, with the default
environment; its clock runs from the start of the first process to the end of the last. Every sender has a study of its
own. A receiver that would take longer than 2 s gets fewer images, as \"sent only\" says. The slow ones are measured with
storescu on the CT load only, and pynetdicom, which takes ten associations at most, not with 16 senders.

CPU is per instance, of the receiver with all its processes and what it still does until 150 ms after its files hold
everything; where it forks, children that are gone are in the parent's account. Peak memory is `VmHWM`; where the receiver forks, the largest sum of it over
the processes alive at one time, which counts what they share more than once.

Only preread with its default, Orthanc and the floor flush an instance before they answer for it.

";
