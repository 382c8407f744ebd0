//! How fast instances are taken, beside other receivers and beside what the machine itself allows.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::place;

use crate::{
    figures::{float, mebibytes, median, milliseconds, percentile},
    light::{self, Sent},
    load::{CT, LARGE, Load, SMALL, Template},
    machine,
    process::{self, Watch},
    servers::{Running, Server},
    storescu::Files,
    table,
};

/// What the command line asks for.
pub(crate) struct Options {
    /// The CT load only, the light sender, few receivers: for tuning.
    pub(crate) quick: bool,
    /// How often each figure is taken; its median counts.
    pub(crate) rounds: Option<usize>,
    /// Write `docs/BENCHMARKS.md`.
    pub(crate) write: bool,
}

/// A light sender stops here; of a slower receiver fewer images are counted.
const LIMIT: Duration = Duration::from_secs(4);
/// What work a server has left when the last answer is out belongs to its cost.
const AFTERWARDS: Duration = Duration::from_millis(150);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Light,
    Storescu,
}

/// A load from so many senders.
struct Cell {
    load: &'static Load,
    sender: Sender,
    senders: usize,
}

impl Cell {
    fn name(&self) -> String {
        let by = match self.sender {
            Sender::Light => "light sender",
            Sender::Storescu => "storescu",
        };
        format!("{}, {} x {by}", self.load.name, self.senders)
    }

    fn is(&self, load: &Load, sender: Sender, senders: usize) -> bool {
        *self.load == *load && self.sender == sender && self.senders == senders
    }
}

/// One measurement.
struct Figures {
    images: usize,
    per_second: f64,
    megabytes_per_second: f64,
    p50: f64,
    p99: f64,
    processor_ms: f64,
    peak_mebibytes: f64,
}

/// What became of one receiver in one cell.
#[derive(Default)]
struct Outcome {
    rounds: Vec<Figures>,
    failures: Vec<String>,
    /// How many images each sender sends, once that is known.
    shares: Option<Vec<usize>>,
}

impl Outcome {
    /// How many of its `full` share each sender is to send; a trial decides it once.
    fn affordable(&mut self, run: &Run<'_>, full: &[usize]) -> Result<Vec<usize>> {
        if let Some(shares) = &self.shares {
            return Ok(shares.clone());
        }
        let shares = run.affordable(full)?;
        self.shares = Some(shares.clone());
        Ok(shares)
    }

    fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(figure))
    }

    fn per_second(&self) -> f64 {
        self.median(|figures| figures.per_second)
    }
}

type Outcomes = Vec<(Server, Outcome)>;

/// Measures, prints, and compares with what is to be reached.
///
/// # Errors
/// When something cannot be measured at all, or a figure misses what it is held to.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = place::root().join("target/bench");
    fs::create_dir_all(&dir)?;
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 5 });
    let servers: &[Server] = if options.quick { &Server::QUICK } else { &Server::ALL };
    let mut report = preface(options, servers, rounds, &dir)?;
    if !options.quick {
        println!("{report}");
    }
    let begin = Instant::now();
    let mut all = Vec::new();
    for cell in cells(options.quick) {
        let outcomes = measure_cell(&cell, servers, rounds, &dir)?;
        let part = format!("## {}\n\n{}", cell.name(), table_of(&cell, &outcomes));
        println!("{part}");
        report += &format!("{part}\n");
        all.push((cell, outcomes));
    }
    let (verdict, missed) = verdict(&all);
    println!("## To reach\n\n{verdict}");
    println!("{:.0} s; load average at the end {}", begin.elapsed().as_secs_f64(), machine::load_average()?);
    if options.write {
        let _ = write!(report, "## To reach\n\n{verdict}");
        fs::write(place::root().join("docs/BENCHMARKS.md"), report)?;
    }
    ensure!(missed == 0, "{missed} figures miss what they are held to");
    Ok(())
}

fn cells(quick: bool) -> Vec<Cell> {
    if quick {
        return [1, 4].map(|senders| Cell { load: &CT, sender: Sender::Light, senders }).into();
    }
    let mut cells = Vec::new();
    for sender in [Sender::Light, Sender::Storescu] {
        for load in [&CT, &SMALL, &LARGE] {
            cells.extend([1, 4, 16].map(|senders| Cell { load, sender, senders }));
        }
    }
    cells
}

/// Every receiver in turn, as often as there are rounds, so that what else the machine does meets all of them.
fn measure_cell(cell: &Cell, servers: &[Server], rounds: usize, dir: &Path) -> Result<Outcomes> {
    let template = Template::of(cell.load)?;
    let full = cell.load.shares(cell.senders);
    let files = match cell.sender {
        Sender::Light => None,
        Sender::Storescu => Some(Files::write(&dir.join("files"), &template, &full)?),
    };
    let has_part = |server: &&Server| **server != Server::Floor || cell.sender == Sender::Light;
    let mut outcomes: Outcomes = servers.iter().filter(has_part).map(|server| (*server, Outcome::default())).collect();
    for round in 0..rounds {
        let count = outcomes.len();
        for place in 0..count {
            // Nobody is always the first, or always after the same one.
            let place = (place + round) % count;
            let (server, outcome) = &mut outcomes[place];
            let run = Run { server: *server, template: &template, files: files.as_ref(), dir };
            if !outcome.failures.is_empty() {
                continue;
            }
            let measured = outcome.affordable(&run, &full).and_then(|shares| run.measure(&shares));
            match measured {
                Ok(figures) => outcome.rounds.push(figures),
                Err(error) => outcome.failures.push(format!("{error:#}")),
            }
        }
    }
    Ok(outcomes)
}

/// One receiver in one cell.
struct Run<'a> {
    server: Server,
    template: &'a Template,
    files: Option<&'a Files>,
    dir: &'a Path,
}

impl Run<'_> {
    /// How many images each sender is to send so that it ends near [`LIMIT`]. The light sender stops by itself;
    /// `storescu` has to be told, after a trial.
    fn affordable(&self, full: &[usize]) -> Result<Vec<usize>> {
        if self.files.is_none() {
            return Ok(full.to_vec());
        }
        let trial: Vec<usize> = full.iter().map(|share| share.div_ceil(20)).collect();
        let rate = self.measure(&trial)?.per_second;
        let time = float(full.iter().sum::<usize>() as u64) / rate;
        let part = (LIMIT.as_secs_f64() / time).min(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a small number")]
        let share = |full: &usize| ((float(*full as u64) * part) as usize).max(1);
        Ok(full.iter().map(share).collect())
    }

    fn measure(&self, shares: &[usize]) -> Result<Figures> {
        let dir: PathBuf = self.dir.join("server");
        // What others have written is not to be flushed at this one's cost.
        machine::settle(self.dir)?;
        let running = self.server.start(&dir)?;
        let figures = self.measure_running(&running, shares).with_context(|| format!("it printed: {}", running.log()));
        running.end()?;
        figures
    }

    fn measure_running(&self, running: &Running, shares: &[usize]) -> Result<Figures> {
        let id = running.id();
        let watch = Watch::start(id, self.server.forks());
        let (sent, before) = match self.files {
            Some(files) => {
                let before = process::processor_time(id)?;
                (files.send(running.port(), running.ae_title(), shares)?, before)
            }
            None => {
                let lines = running.lines(shares.len(), self.template)?;
                let mut before = Duration::ZERO;
                let sent = light::send(lines, self.template, shares, LIMIT, || {
                    before = process::processor_time(id)?;
                    Ok(())
                })?;
                (sent, before)
            }
        };
        thread::sleep(AFTERWARDS);
        let processor = process::processor_time(id)?.saturating_sub(before);
        let peak = watch.end();
        // A receiver that answers and keeps nothing would be the fastest of all.
        let (stored, least) = (running.stored_bytes()?, self.template.pixel_bytes() * sent.images as u64);
        ensure!(stored >= least, "it answered for {least} bytes of pixels, and {stored} bytes are in its folder");
        Ok(self.figures(&sent, processor, peak))
    }

    fn figures(&self, sent: &Sent, processor: Duration, peak: u64) -> Figures {
        let images = float(sent.images as u64);
        let per_second = images / sent.time.as_secs_f64();
        let answers = || sent.answers.iter().copied().map(milliseconds);
        Figures {
            images: sent.images,
            per_second,
            megabytes_per_second: per_second * float(self.template.bytes()) / 1e6,
            p50: percentile(answers(), 50),
            p99: percentile(answers(), 99),
            processor_ms: milliseconds(processor) / images,
            peak_mebibytes: mebibytes(peak),
        }
    }
}

fn table_of(cell: &Cell, outcomes: &Outcomes) -> String {
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
    for senders in [1, 4, 16] {
        times(Sender::Storescu, senders, Server::DcmtkTuned, 2.0);
    }
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

/// The table of goals, and how many are missed.
fn verdict(all: &[(Cell, Outcomes)]) -> (String, usize) {
    let goals = goals(all);
    let row = |goal: &Goal| {
        let verdict = if goal.holds { "reached" } else { "missed" };
        vec![goal.what.clone(), goal.wanted.clone(), table::number(goal.reached), verdict.to_owned()]
    };
    let rows: Vec<_> = goals.iter().map(row).collect();
    let missed = goals.iter().filter(|goal| !goal.holds).count();
    (table::render(&["with 300 x 512 KB CT, where nothing else is said", "wanted", "measured", ""], &rows), missed)
}

/// What was measured, how, and on what.
fn preface(options: &Options, servers: &[Server], rounds: usize, dir: &Path) -> Result<String> {
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
receiver's folder is found to hold as many bytes as it answered for.

The *light sender* has the PDUs ready before the clock starts and waits for each response before the next image
(TCP_NODELAY; PDUs of at most 128 KiB). Its clock runs from the first byte to the last response, and p50 and p99 are the
time from an image's last byte to its response. *storescu* is DCMTK's, a process for each sender, with the default
environment; its clock runs from the start of the first process to the end of the last. Every sender has a study of its
own. A receiver that would take longer than 4 s gets fewer images, as \"sent only\" says.

CPU is per instance, of the receiver with all its processes and what it still does 150 ms later; where it forks, children
that are gone are in the parent's account. Peak memory is `VmHWM`; where the receiver forks, the largest sum of it over
the processes alive at one time, which counts what they share more than once.

Only preread with its default, Orthanc and the floor flush an instance before they answer for it.

";
