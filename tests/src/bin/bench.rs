//! Figures, each with what it is compared to. Started by `cargo xtask bench`.

use std::{
    fs,
    process::ExitCode,
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

/// What the daemon is configured with, and what is taken off each measured time.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// The time around the model may add a quarter to the model's own.
const MOST_TIMES_MODEL: f64 = 1.25;
const MOST_MEBIBYTES_AT_REST: f64 = 40.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [name] if name == "first-light" => first_light(),
        _ => Err(anyhow::anyhow!("usage: bench first-light")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// From the last C-STORE response to the report's arrival, minus the quiet period, against the model's own time.
fn first_light() -> Result<()> {
    let samples = samples::all()?;
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    thread::sleep(Duration::from_secs(1));
    let at_rest = mebibytes(daemon.resident_memory()?);

    // The first study also loads the model; it is shown, and left out of the medians.
    let mut rows = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        let whole = store_and_await(&daemon, &pacs, sample)?;
        let model = model_alone(&daemon, sample)?;
        let engine = engine_alone(sample)?;
        let row = Row { whole, model, engine };
        println!(
            "{:<22} whole {:>7.1} ms   model {:>7.1} ms   {:>5.2} times{}",
            sample.name,
            row.whole,
            row.model,
            row.whole / row.model,
            if number == 0 { "   (loads the model; not counted)" } else { "" }
        );
        if number > 0 {
            rows.push(row);
        }
    }
    let loaded = mebibytes(daemon.resident_memory()?);
    let whole = median(rows.iter().map(|row| row.whole));
    let model = median(rows.iter().map(|row| row.model));
    let engine = median(rows.iter().map(|row| row.engine));
    let times = median(rows.iter().map(|row| row.whole / row.model));
    println!("\nmedians of {} studies", rows.len());
    println!("  from the last C-STORE response to the report's arrival, without the quiet period: {whole:.1} ms");
    println!("  the model alone, in the daemon, for the same studies: {model:.1} ms");
    println!(
        "  the model alone, `preread model run` in a process of its own (first run after loading): {engine:.1} ms"
    );
    println!("  the first as a multiple of the second: {times:.2} (at most {MOST_TIMES_MODEL})");
    println!("memory at rest, no model loaded: {at_rest:.1} MiB (at most {MOST_MEBIBYTES_AT_REST})");
    println!("memory with the model loaded: {loaded:.1} MiB");
    ensure!(times <= MOST_TIMES_MODEL, "the way around the model takes too long");
    ensure!(at_rest <= MOST_MEBIBYTES_AT_REST, "too much memory at rest");
    Ok(())
}

/// Milliseconds.
struct Row {
    whole: f64,
    model: f64,
    engine: f64,
}

fn store_and_await(daemon: &Daemon, pacs: &Scp, sample: &Sample) -> Result<f64> {
    let instance = std::slice::from_ref(&sample.instance);
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, instance)?;
    let status = scu.store(&sample.instance)?;
    let answered = Instant::now();
    ensure!(status == 0, "status {status:04x}");
    // A study does not settle while one of its associations is open.
    scu.release()?;
    let report = pacs.text_report(&sample.instance.study_instance_uid, Duration::from_secs(90))?;
    let whole = report.at.saturating_duration_since(answered).checked_sub(QUIET_PERIOD);
    Ok(whole.context("the report came within the quiet period")?.as_secs_f64() * 1000.0)
}

/// What the engine itself took for this study in the daemon, as the report's own record says: in the same process and
/// the same state of its caches as what it is compared to.
fn model_alone(daemon: &Daemon, sample: &Sample) -> Result<f64> {
    let shown = daemon.show(&sample.instance.study_instance_uid)?;
    let reports = shown["reports"].as_array().context("no reports")?;
    let record = reports.iter().find(|report| report["kind"] == "report-json").context("no report-json")?;
    let record: Value = serde_json::from_slice(&fs::read(record["path"].as_str().context("no path")?)?)?;
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mebibytes(bytes: u64) -> f64 {
    // Exact up to 2^53 bytes.
    #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}
