//! The studies of a run, several side by side, each of which ends in one record.

use std::{
    io::{IsTerminal, stderr},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use dataset::Digest;
use indicatif::{ProgressBar, ProgressStyle};
use infer::Cancel;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    folder::{Out, Run},
    record::{self, Files, State},
    table,
};
use crate::{
    cli::Read,
    clock,
    output::{Closed, document, harmless, json, shown},
    pipeline::{Decisions, End, Made, Pipeline, Reading, Study, StudyInstance, hex},
};

/// How a run ended.
pub(super) struct Ended {
    /// Of each study that ended, in the order of the studies.
    pub(super) records: Vec<Value>,
    pub(super) held: usize,
    pub(super) failed: usize,
    /// Somebody stopped it.
    pub(super) interrupted: bool,
    /// Whoever read standard output went before the last study.
    pub(super) unread: bool,
}

/// What the threads of a run share.
struct Shared<'a> {
    arguments: &'a Read,
    pipeline: &'a Pipeline,
    run: &'a Run,
    out: &'a Out,
    studies: &'a [Files],
    next: AtomicUsize,
    stop: Arc<Stop>,
    told: Mutex<Told>,
}

/// What came of the studies so far.
struct Told {
    records: Vec<(usize, Value)>,
    held: usize,
    failed: usize,
    progress: ProgressBar,
    /// What ends the whole run: a disk that is full, a reader that has gone.
    ended_by: Option<anyhow::Error>,
}

/// How a run is stopped in its middle.
#[derive(Default)]
struct Stop {
    asked: AtomicBool,
    running: Mutex<Vec<Cancel>>,
}

impl Stop {
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    fn now(&self) {
        self.asked.store(true, Ordering::SeqCst);
        lock(&self.running).drain(..).for_each(|cancel| cancel.cancel());
    }

    /// A model's run that is to be cancelled too.
    fn includes(&self, cancel: Cancel) {
        if self.is_asked() {
            cancel.cancel();
        }
        let mut running = lock(&self.running);
        // More than run side by side are over.
        if running.len() >= 256 {
            running.drain(..128);
        }
        running.push(cancel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads every study. What is told and written of one is told and written when it ends.
pub(super) fn all(arguments: &Read, pipeline: &Pipeline, run: &Run, out: &Out, studies: &[Files]) -> Result<Ended> {
    let stop = Arc::new(Stop::default());
    stop_at_interrupt(Arc::clone(&stop))?;
    let told =
        Told { records: Vec::new(), held: 0, failed: 0, progress: progress(studies.len() as u64), ended_by: None };
    let next = AtomicUsize::new(0);
    let shared = Shared { arguments, pipeline, run, out, studies, next, stop, told: Mutex::new(told) };
    thread::scope(|scope| {
        for _ in 0..usize::from(arguments.jobs).min(studies.len()) {
            scope.spawn(|| shared.work());
        }
    });
    let stopped = shared.stop.is_asked();
    let told = shared.told.into_inner().unwrap_or_else(PoisonError::into_inner);
    told.progress.finish_and_clear();
    let Told { mut records, held, failed, ended_by, .. } = told;
    records.sort_by_key(|(number, _)| *number);
    if let Some(path) = &arguments.table {
        table::write(path, &records.iter().map(|(_, record)| record).collect::<Vec<_>>())?;
    }
    let unread = ended_by.as_ref().is_some_and(|error| error.is::<Closed>()) && records.len() < studies.len();
    if let Some(error) = ended_by.filter(|error| !error.is::<Closed>()) {
        return Err(error);
    }
    let interrupted = stopped && records.len() < studies.len();
    if interrupted {
        eprintln!("stopped after {} of {} studies; --resume goes on", records.len(), studies.len());
    } else if studies.len() > 1 {
        let skipped = records.iter().filter(|(_, it)| State::of(it) == State::Skipped).count();
        let written = records.len() - held - failed - skipped;
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        eprintln!("{} studies: {written} written, {held} held, {skipped} skipped{failed}", studies.len());
    }
    Ok(Ended { records: records.into_iter().map(|(_, it)| it).collect(), held, failed, interrupted, unread })
}

/// Ctrl-C stops the models' runs, and the run after that; what is not finished is not there. Once more ends it at once.
fn stop_at_interrupt(stop: Arc<Stop>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = move || {
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if stop.is_asked() {
                #[expect(clippy::disallowed_methods, reason = "somebody asked twice, and nothing half is left behind")]
                std::process::exit(130);
            }
            stop.now();
        }
    };
    thread::Builder::new().name("interrupt".to_owned()).spawn(wait)?;
    Ok(())
}

/// What became of one study.
struct Outcome {
    state: State,
    failed: bool,
    record: Value,
    /// The report for a terminal.
    text: Option<String>,
    /// An earlier run ended it.
    earlier: bool,
}

impl Shared<'_> {
    fn work(&self) {
        while !self.stop.is_asked() {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(files) = self.studies.get(number) else { return };
            let outcome = self.study(files).transpose();
            let Some(outcome) = outcome else { return };
            let mut told = lock(&self.told);
            let done = outcome.and_then(|outcome| self.tell(number, files, outcome, &mut told));
            if let Err(error) = done {
                told.ended_by.get_or_insert(error);
                self.stop.now();
            }
            told.progress.inc(1);
        }
    }

    /// Reads a study and writes its folder; nothing when the run was stopped meanwhile.
    fn study(&self, files: &Files) -> Result<Option<Outcome>> {
        let (study, inputs_digest, failed) = match study(files) {
            Ok((study, digest)) => (study, digest, None),
            Err(error) => (nothing(), String::new(), Some(crate::told::told(&error))),
        };
        if failed.is_none()
            && self.arguments.resume
            && let Some(record) = self.out.finished(&files.name, &inputs_digest)
        {
            return Ok(Some(Outcome { state: State::of(&record), failed: false, record, text: None, earlier: true }));
        }
        let stop = Arc::clone(&self.stop);
        let mut made = Made { running: Some(Box::new(move |cancel| stop.includes(cancel))), ..Made::default() };
        let failing = failed.is_some();
        let held = |reason| End::Held { what: "not read", reason, rule: None };
        let read = match failed {
            Some(reason) => Err(held(reason)),
            None => catch_unwind(AssertUnwindSafe(|| self.pipeline.read_and_show(&study, &mut made)))
                .unwrap_or_else(|_| Err(held("a defect in preread stopped the reading; please report it".to_owned()))),
        };
        let folder = self.out.folder(&files.name);
        let of = (files, inputs_digest.as_str());
        let outcome = match read {
            _ if self.stop.is_asked() => return Ok(None),
            Ok(reading) => {
                let objects = objects(&reading)?;
                let paths = objects.iter().map(|(name, _)| folder.join(name)).chain([folder.join("report.json")]);
                let record = record::written(self.pipeline, self.run, of, &reading, paths.collect())?;
                self.out.write(&files.name, &record, &objects)?;
                Outcome { state: State::Written, failed: false, record, text: Some(reading.text), earlier: false }
            }
            Err(end) => {
                let report = folder.join("report.json");
                let (state, record) = record::unwritten(self.pipeline, self.run, of, &end, made, report);
                self.out.write(&files.name, &record, &[])?;
                Outcome { state, failed: failing, record, text: None, earlier: false }
            }
        };
        Ok(Some(outcome))
    }

    /// Says how a study ended, in the form that was asked for.
    fn tell(&self, number: usize, files: &Files, outcome: Outcome, told: &mut Told) -> Result<()> {
        let Outcome { state, failed, record, text, earlier } = outcome;
        let first = files.paths.first().map(|path| shown(path)).unwrap_or_default();
        let more = files.paths.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let uid = &files.study_instance_uid;
        let which = format!("study {} of {}, {uid} ({first}{more})", number + 1, self.studies.len());
        let to = shown(&self.out.folder(&files.name));
        let machine = self.arguments.json || self.arguments.jsonl;
        let mut done = Ok(());
        told.progress.suspend(|| match (state, text) {
            (State::Written, Some(text)) if !machine => {
                done = document(&harmless(&format!("{which}\n{text}\nwritten to {to}\n\n")));
            }
            (State::Written, _) if earlier && !machine => {
                done = document(&harmless(&format!(
                    "{which}: written already, to {to}

"
                )))
            }
            (State::Written, _) => {}
            (state, _) => eprintln!("{which}: {}: {}", state.as_str(), record["reason"].as_str().unwrap_or_default()),
        });
        if !machine {
            for note in record["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                told.progress.suspend(|| eprintln!("{which}: {note}"));
            }
        }
        if self.arguments.jsonl {
            done = done.and_then(|()| document(&(json(&record.to_string()) + "\n")));
        }
        match state {
            _ if failed => told.failed += 1,
            State::Held => told.held += 1,
            _ => {}
        }
        told.records.push((number, record));
        done
    }
}

/// The study as the pipeline wants it, and the digest of its instances, in whatever order they lie.
fn study(files: &Files) -> Result<(Study, String)> {
    let instance = |path: &PathBuf| -> Result<StudyInstance> {
        let digest = Digest::of_file(path).with_context(|| shown(path))?.to_string();
        Ok(StudyInstance { path: path.clone(), source: "command line".to_owned(), digest, kept_as: None })
    };
    let instances: Vec<StudyInstance> = files.paths.iter().map(instance).collect::<Result<_>>()?;
    let mut digests: Vec<&str> = instances.iter().map(|instance| instance.digest.as_str()).collect();
    digests.sort_unstable();
    let digest = hex(Sha256::digest(digests.join("\n")));
    Ok((Study { instances, ..nothing() }, digest))
}

fn nothing() -> Study {
    Study {
        instances: Vec::new(),
        version: 1,
        reported_inputs: None,
        predecessors: Vec::new(),
        decisions: Decisions::default(),
        content_time: clock::content_time(clock::now()),
    }
}

/// The files of a study's folder besides its report.json.
fn objects(reading: &Reading<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![
        ("text-sr.dcm".to_owned(), reading.text_sr.file.clone()),
        ("heatmap.png".to_owned(), reading.heatmap.png()?),
    ];
    let objects = reading.objects.iter();
    files.extend(objects.map(|(name, document)| (format!("{}.dcm", name.as_str()), document.file.clone())));
    Ok(files)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(studies: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} {msg}");
    ProgressBar::new(studies).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
