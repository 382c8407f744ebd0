//! How fast instances are taken, beside other receivers and beside what the machine itself allows.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::place;

use crate::{
    document,
    figures::{float, mebibytes, median, milliseconds, percentile},
    light::{self, Sent},
    load::{CT, LARGE, LONG, Load, SMALL, Template},
    machine,
    process::{self, Watch},
    servers::{Running, Server},
    storescu::Files,
    summary,
};

/// What the command line asks for.
pub(crate) struct Options {
    /// The CT load only, the light sender, few receivers: for tuning.
    pub(crate) quick: bool,
    /// How often each figure is taken; its median counts.
    pub(crate) rounds: Option<usize>,
    /// Write its chapter of `docs/BENCHMARKS.md`.
    pub(crate) write: bool,
}

/// A light sender stops here; of a slower receiver fewer images are counted.
const LIMIT: Duration = Duration::from_secs(2);
/// So many images of each `storescu` tell how many there is time for.
const TRIAL: usize = 50;
/// What work a server has left when the last answer is out belongs to its cost.
const AFTERWARDS: Duration = Duration::from_millis(150);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Light,
    Storescu,
}

/// A load from so many senders.
pub(crate) struct Cell {
    pub(crate) load: &'static Load,
    pub(crate) sender: Sender,
    pub(crate) senders: usize,
}

impl Cell {
    pub(crate) fn name(&self) -> String {
        let by = match self.sender {
            Sender::Light => "light sender",
            Sender::Storescu => "storescu",
        };
        format!("{}, {} x {by}", self.load.name, self.senders)
    }

    /// The slow ones are not sent everything a second time by a slower sender, and each gets only what it takes.
    fn includes(&self, server: Server) -> bool {
        let takes = server.most_associations().is_none_or(|most| self.senders <= most);
        let has_time = self.sender == Sender::Light || *self.load == CT || !server.is_slow();
        let has_sense = match server {
            Server::Floor => self.sender == Sender::Light,
            Server::Discard => self.sender == Sender::Storescu && *self.load == CT,
            _ => true,
        };
        takes && has_time && has_sense
    }

    pub(crate) fn is(&self, load: &Load, sender: Sender, senders: usize) -> bool {
        *self.load == *load && self.sender == sender && self.senders == senders
    }
}

/// One measurement.
pub(crate) struct Figures {
    pub(crate) images: usize,
    pub(crate) per_second: f64,
    pub(crate) megabytes_per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) processor_ms: f64,
    pub(crate) peak_mebibytes: f64,
}

/// What became of one receiver in one cell.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) rounds: Vec<Figures>,
    pub(crate) failures: Vec<String>,
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

    pub(crate) fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(figure))
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.median(|figures| figures.per_second)
    }
}

pub(crate) type Outcomes = Vec<(Server, Outcome)>;

/// Measures, prints, and compares with what is to be reached.
///
/// # Errors
/// When something cannot be measured at all, or a figure misses what it is held to.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = Folder::make()?;
    let dir = dir.path.as_path();
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 5 });
    let servers: &[Server] = if options.quick { &Server::QUICK } else { &Server::ALL };
    let mut report = summary::preface(options, servers, rounds, dir)?;
    if !options.quick {
        println!("{report}");
    }
    let begin = Instant::now();
    let mut all = Vec::new();
    for cell in cells(options.quick) {
        let outcomes = measure_cell(&cell, servers, rounds, dir)?;
        let part = format!("## {}\n\n{}", cell.name(), summary::table_of(&cell, &outcomes));
        println!("{part}");
        report += &format!("{part}\n");
        all.push((cell, outcomes));
    }
    let (verdict, missed) = summary::verdict(&all);
    let ending = format!("## Ratios\n\n{}\n## To reach\n\n{verdict}", summary::ratios(&all));
    println!("{ending}");
    println!("{:.0} s; load average at the end {}", begin.elapsed().as_secs_f64(), machine::load_average()?);
    if options.write {
        report += &ending;
        document::write(&report)?;
    }
    ensure!(missed == 0, "{missed} figures miss what they are held to");
    Ok(())
}

/// Where the receivers keep what they get: a real file system, which a temporary folder need not be on.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> Result<Self> {
        let path = place::root().join("target/bench").join(std::process::id().to_string());
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Two benchmarks of one checkout take turns: each measurement has the machine for itself, as far as it is up to us.
fn take_turn(dir: &Path) -> Result<File> {
    let lock = File::create(dir.with_file_name("turn"))?;
    lock.lock()?;
    Ok(lock)
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
    cells.push(Cell { load: &LONG, sender: Sender::Light, senders: 4 });
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
    let has_part = |server: &&Server| cell.includes(**server);
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
        let trial: Vec<usize> = full.iter().map(|share| *share.min(&TRIAL)).collect();
        if self.files.is_none() || trial == full {
            return Ok(full.to_vec());
        }
        let per_image = 1.0 / self.measure(&trial)?.per_second;
        let time = per_image * float(full.iter().sum::<usize>() as u64);
        let part = (LIMIT.as_secs_f64() / time).min(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a small number")]
        let share = |full: &usize| ((float(*full as u64) * part) as usize).max(1);
        Ok(full.iter().map(share).collect())
    }

    fn measure(&self, shares: &[usize]) -> Result<Figures> {
        let dir = self.dir.join("server");
        let _turn = take_turn(self.dir)?;
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
        running.await_stored(self.template.pixel_bytes() * sent.images as u64)?;
        thread::sleep(AFTERWARDS);
        let processor = process::processor_time(id)?.saturating_sub(before);
        let peak = watch.end();
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
