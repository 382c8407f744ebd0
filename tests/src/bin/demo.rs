//! The demonstration: sample studies go to a running daemon over the network, their reports come back.
//!
//! Started by `cargo xtask demo`, which sees to everything it needs.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{self, AE_TITLE, Daemon, Setup},
    instance::Instance,
    orthanc::{ORTHANC, Orthanc},
    place,
    samples::{self, Sample},
    scp::Scp,
    sr::Report,
    wait,
};

/// For one study, quiet period and model together.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [] => own_destination(),
        [option] if option == "--orthanc" => orthanc(),
        _ => Err(anyhow::anyhow!("usage: demo [--orthanc]")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn out() -> PathBuf {
    place::root().join("target/demo")
}

/// Daemon and destination are ours: nothing needs to be installed.
fn own_destination() -> Result<()> {
    let samples = samples::all()?;
    let pacs = Scp::start("PACS")?;
    say("start", &format!("a storage SCP of the demo's own as the PACS: PACS@{}", pacs.address()));
    let daemon = start_daemon(&Setup::to(pacs.ae_title(), &pacs.address()))?;
    let mut sent = Vec::new();
    for sample in &samples {
        let began = Instant::now();
        send(&daemon, sample)?;
        say("send", &format!("{}: preread send, {:.2} s", sample.name, began.elapsed().as_secs_f64()));
        sent.push(Instant::now());
    }
    let mut tally = Tally::default();
    for (sample, sent) in samples.iter().zip(sent) {
        let study = &sample.instance.study_instance_uid;
        let received = pacs.text_report(study, PATIENCE).with_context(|| why(&daemon, study))?;
        tally.add(&daemon, sample, &received.instance, received.at.saturating_duration_since(sent))?;
    }
    tally.end(&daemon)
}

/// Orthanc is the PACS: it routes what it gets, and keeps the report in the same study.
fn orthanc() -> Result<()> {
    let samples = samples::all()?;
    let ready = Orthanc::prepare()?;
    let daemon = start_daemon(&Setup::to(ORTHANC, &ready.address()))?;
    let orthanc = ready.route_to(daemon.port())?;
    say("start", &format!("Orthanc as the PACS: {ORTHANC}@{}; it routes whatever it stores", orthanc.address()));
    let mut sent = Vec::new();
    for sample in &samples {
        orthanc.upload(&sample.file)?;
        say("send", &format!("{}: uploaded to Orthanc, which routes it", sample.name));
        sent.push(Instant::now());
    }
    let mut tally = Tally::default();
    for (sample, sent) in samples.iter().zip(sent) {
        let study = &sample.instance.study_instance_uid;
        let series = wait::until("the report in Orthanc", PATIENCE, || {
            Ok(Some(orthanc.sr_series(study)?).filter(|series| !series.is_empty()))
        });
        let took = sent.elapsed();
        let series = series.with_context(|| why(&daemon, study))?;
        let (_, id) = series.first().and_then(|series| series.first()).context("an SR series without a document")?;
        let report = Instance::from_part10(&orthanc.file(id)?)?;
        tally.add(&daemon, sample, &report, took)?;
    }
    tally.end(&daemon)
}

fn start_daemon(setup: &Setup) -> Result<Daemon> {
    let start = Instant::now();
    let daemon = Daemon::start_keeping(setup, &out())?;
    let took = start.elapsed().as_secs_f64();
    let (address, quiet) = (daemon.address(), &setup.quiet_period);
    say("start", &format!("preread serve: {AE_TITLE}@{address}, quiet period {quiet}, ready after {took:.1} s"));
    Ok(daemon)
}

fn send(daemon: &Daemon, sample: &Sample) -> Result<()> {
    let to = format!("{AE_TITLE}@{}", daemon.address());
    let sent = daemon::command(&["send", &sample.file.to_string_lossy(), "--to", &to])?;
    ensure!(sent.status.success(), "preread send: {}", String::from_utf8_lossy(&sent.stderr));
    Ok(())
}

/// What the daemon says of a study whose report did not come.
fn why(daemon: &Daemon, study: &str) -> String {
    let entry = daemon.study(study).ok().flatten().unwrap_or_default();
    format!("preread says {entry}; its log: {}", daemon.dir().join("preread.log").display())
}

fn say(what: &str, text: &str) {
    println!("{what:>8}  {text}");
}

#[derive(Default)]
struct Tally {
    studies: usize,
    agree: usize,
    seconds: Vec<f64>,
}

impl Tally {
    /// Writes the files of one study, prints its report, and compares it with the truth.
    fn add(&mut self, daemon: &Daemon, sample: &Sample, report: &Instance, took: Duration) -> Result<()> {
        let dir = out().join(&sample.name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("report.dcm"), report.to_part10()?)?;
        let heat_map = daemon.kept_beside_report(&sample.instance.study_instance_uid, "heatmap-png")?;
        fs::write(dir.join("heatmap.png"), heat_map)?;
        let document = Report::of(report)?;
        let seconds = took.as_secs_f64();
        println!("\n── {} ── the report was back {seconds:.1} s after the image was sent ──", sample.name);
        print!("{}", document.to_text());
        self.studies += 1;
        self.seconds.push(seconds);
        if document.sentences() == sample.truth() {
            self.agree += 1;
            println!("This is the truth about the image.");
        } else {
            println!("THE TRUTH ABOUT THE IMAGE IS ANOTHER: {}", sample.json["report"].as_str().unwrap_or_default());
        }
        Ok(())
    }

    fn end(mut self, daemon: &Daemon) -> Result<()> {
        self.seconds.sort_by(f64::total_cmp);
        let median = self.seconds.get(self.seconds.len() / 2).copied().unwrap_or_default();
        println!();
        say("result", &format!("{} of {} reports agree with the truth", self.agree, self.studies));
        say("time", &format!("{median:.2} s in the median from image to report, 2 s of it the quiet period"));
        let out = out();
        let out = out.strip_prefix(place::root()).unwrap_or(&out).display().to_string();
        say("files", &format!("{out}/<sample>/report.dcm and heatmap.png; the daemon's log: {out}/preread.log"));
        say("next", &format!("look at a heat map: {out}/02-nodule-small/heatmap.png"));
        say("next", &format!("dsrdump {out}/02-nodule-small/report.dcm shows the report as DCMTK sees it"));
        say("next", "cargo xtask demo --orthanc does the same with Orthanc as the PACS");
        say("next", "your own: target/debug/preread config example > preread.toml, then edit it");
        say("next", "and start it: target/debug/preread serve --config preread.toml");
        ensure!(daemon.queue()?.len() == self.studies, "the daemon's list has another number of studies");
        ensure!(self.agree + 1 >= self.studies, "more than one report is not true");
        Ok(())
    }
}
