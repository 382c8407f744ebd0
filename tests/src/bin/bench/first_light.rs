//! From the last image's arrival to the report's, against the time the model alone takes; memory at rest.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{self, AE_TITLE, Daemon, Setup},
    place,
    samples::{self, Sample},
    scp::Scp,
    scu::Scu,
};
use serde_json::Value;

use crate::figures::{mebibytes, median};

/// What the daemon is configured with, and what is taken off each measured time.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// The time around the model may add a quarter to the model's own.
const MOST_TIMES_MODEL: f64 = 1.25;
const MOST_MEBIBYTES_AT_REST: f64 = 40.0;

/// From the last C-STORE response to the report's arrival, minus the quiet period, against the model's own time.
///
/// # Errors
/// When something cannot be measured, or a figure misses what it is held to.
pub(crate) fn run() -> Result<()> {
    let samples = samples::all()?;
    let at_rest = {
        let daemon = Daemon::start(&Setup::default())?;
        thread::sleep(Duration::from_secs(1));
        mebibytes(daemon.resident_memory()?)
    };
    println!("quiet period of {} s, which is taken off:", QUIET_PERIOD.as_secs());
    let usual = pass(&samples, QUIET_PERIOD)?;
    println!("\nno quiet period, so that nothing can be done in it:");
    let none = pass(&samples, Duration::ZERO)?;
    let engine: Vec<f64> = samples.iter().skip(1).map(engine_alone).collect::<Result<_>>()?;

    println!("\nmedians of {} studies", usual.rows.len());
    for (what, pass) in [("quiet period taken off", &usual), ("no quiet period", &none)] {
        println!(
            "  {what}: report {:.1} ms after the last C-STORE response, model alone {:.1} ms: {:.2} times",
            median(pass.rows.iter().map(|row| row.whole)),
            median(pass.rows.iter().map(|row| row.model)),
            pass.times(),
        );
    }
    println!("  held to: at most {MOST_TIMES_MODEL} times the model, quiet period taken off");
    println!(
        "  `preread model run`, a process for each image, first run after loading: {:.1} ms",
        median(engine.into_iter())
    );
    println!("memory at rest, no model loaded: {at_rest:.1} MiB (at most {MOST_MEBIBYTES_AT_REST})");
    println!("memory after {} studies, model loaded: {:.1} MiB", samples.len(), usual.memory);
    ensure!(usual.times() <= MOST_TIMES_MODEL, "the way around the model takes too long");
    ensure!(at_rest <= MOST_MEBIBYTES_AT_REST, "too much memory at rest");
    Ok(())
}

/// One daemon, all samples, one after the other. The first also loads the model: it is shown, and not counted.
struct Pass {
    rows: Vec<Row>,
    /// Mebibytes.
    memory: f64,
}

impl Pass {
    fn times(&self) -> f64 {
        median(self.rows.iter().map(|row| row.whole / row.model))
    }
}

fn pass(samples: &[Sample], quiet_period: Duration) -> Result<Pass> {
    let pacs = Scp::start("PACS")?;
    let setup = Setup { quiet_period: format!("{}ms", quiet_period.as_millis()), ..Setup::to("PACS", &pacs.address()) };
    let daemon = Daemon::start(&setup)?;
    let mut rows = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        let whole = store_and_await(&daemon, &pacs, sample, quiet_period)?;
        let row = Row { whole, model: model_alone(&daemon, sample)? };
        let note = if number == 0 { "   (loads the model; not counted)" } else { "" };
        let times = row.whole / row.model;
        println!(
            "  {:<22} whole {:>7.1} ms   model {:>6.1} ms   {times:>6.2} times{note}",
            sample.name, row.whole, row.model
        );
        if number > 0 {
            rows.push(row);
        }
    }
    Ok(Pass { rows, memory: mebibytes(daemon.resident_memory()?) })
}

/// Milliseconds.
struct Row {
    whole: f64,
    model: f64,
}

fn store_and_await(daemon: &Daemon, pacs: &Scp, sample: &Sample, quiet_period: Duration) -> Result<f64> {
    let instance = std::slice::from_ref(&sample.instance);
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, instance)?;
    let status = scu.store(&sample.instance)?;
    let answered = Instant::now();
    ensure!(status == 0, "status {status:04x}");
    // A study does not settle while one of its associations is open.
    scu.release()?;
    let report = pacs.text_report(&sample.instance.study_instance_uid, Duration::from_secs(90))?;
    // The quiet period begins when the instance is kept, a moment before its response is here.
    Ok((report.at.saturating_duration_since(answered).as_secs_f64() - quiet_period.as_secs_f64()) * 1000.0)
}

/// What the engine itself took for this study in the daemon, as the report's own record says: in the same process and
/// the same state of its caches as what it is compared to.
fn model_alone(daemon: &Daemon, sample: &Sample) -> Result<f64> {
    let record = daemon.kept_beside_report(&sample.instance.study_instance_uid, "report-json")?;
    let record: Value = serde_json::from_slice(&record)?;
    record["timings_ms"]["model"].as_f64().with_context(|| format!("no timings_ms.model in {record}"))
}

/// The engine on the same file in a process of its own, by its own clock, for comparison.
fn engine_alone(sample: &Sample) -> Result<f64> {
    let model = place::model();
    let [model, file] = [&model, &sample.file].map(|path| path.to_string_lossy().into_owned());
    let run = daemon::json(&daemon::command(&["model", "run", &model, "--image", &file, "--json"])?)?;
    ["preprocess", "vision", "prefill", "decode"].iter().try_fold(0.0, |sum, part| {
        let time = run["timings_ms"][part].as_f64().with_context(|| format!("no timings_ms.{part} in {run}"))?;
        Ok(sum + time)
    })
}
