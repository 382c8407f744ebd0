use std::{
    collections::BTreeMap,
    env, fs,
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use dataset::{Digest, Header, Limits, Uid, part10::Meta};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    cli::Read,
    clock,
    config::{ModelSection, Runtime as RuntimeSection, Study as StudySection},
    models::Models,
    pipeline::{Decisions, DeviceIdentity, End, Pipeline, Reading, Study, StudyInstance, Wanted},
    route::Rule,
    trust::Trusts,
};

/// Reads files as the daemon reads a study, and writes what it would have sent.
pub(crate) fn run(arguments: &Read) -> Result<ExitCode> {
    let pipeline = pipeline(arguments)?;
    let (studies, unreadable) = by_study(&super::files_of(&arguments.paths)?);
    let (named, found): (Vec<_>, Vec<_>) = unreadable.iter().partition(|(path, _)| arguments.paths.contains(path));
    for (path, error) in &named {
        eprintln!("{}: {error}", path.display());
    }
    if !found.is_empty() {
        eprintln!("{} files in the folders are no DICOM instances", found.len());
    }
    if studies.is_empty() {
        bail!("no DICOM instance among the {} files", unreadable.len());
    }
    let progress = progress(studies.len() as u64);
    let several = studies.len() > 1;
    let (mut results, mut all_read) = (Vec::new(), named.is_empty());
    for (number, (uid, files)) in (1..).zip(&studies) {
        progress.set_message(format!("study {number}"));
        let folder = if several { arguments.out.join(format!("study-{number}")) } else { arguments.out.clone() };
        let study = study(files)?;
        match pipeline.read(&study) {
            Ok(reading) => {
                let written = write(&folder, &reading)?;
                if !arguments.json {
                    progress.suspend(|| println!("{}\nwritten to {}\n", reading.text, folder.display()));
                }
                let mut result = serde_json::to_value(&reading.json)?;
                result["state"] = json!("written");
                result["rule"] = json!(reading.rule.name);
                result["files"] = json!(written);
                results.push(result);
            }
            Err(end) => {
                all_read = false;
                let (state, reason) = said(&end);
                progress.suspend(|| eprintln!("study {number}: {state}: {reason}"));
                results.push(json!({ "study_instance_uid": uid, "state": state, "reason": reason }));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if arguments.json {
        let unreadable: Vec<Value> =
            unreadable.iter().map(|(path, error)| json!({ "path": path, "error": error })).collect();
        super::print_json(&json!({ "studies": results, "unreadable": unreadable }))?;
    }
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn said(end: &End) -> (&'static str, String) {
    match end {
        End::Held { reason, .. } => ("held", reason.clone()),
        End::Skipped { reason } => ("skipped", reason.clone()),
        End::Unchanged => ("unchanged", "its report stands".to_owned()),
        End::Stopped => ("stopped", "the reading was cancelled".to_owned()),
    }
}

fn pipeline(arguments: &Read) -> Result<Pipeline> {
    let device = |uid, serial_number, udi| DeviceIdentity { uid, serial_number, udi };
    let command_line = || Uid::derive(&[b"preread device", b"command line"]);
    if let Some(path) = &arguments.config {
        let config = super::load_config(path)?;
        let models = Models::open(&config.models, &config.runtime)?;
        return Ok(Pipeline {
            trusts: Trusts::of(&config.rules, &models)?,
            models,
            rules: config.rules,
            limits: Limits::default(),
            deadline: config.study.deadline,
            device: device(
                config.device.uid.unwrap_or_else(command_line),
                config.device.serial_number,
                config.device.udi,
            ),
            wanted: Wanted::Everything,
        });
    }
    let folder = match &arguments.model {
        Some(folder) => folder.clone(),
        None => demonstration_model()?,
    };
    const NAME: &str = "command line";
    let model = ModelSection { name: NAME.to_owned(), path: folder, preload: false, provider: None };
    let models = Models::open(&[model], &RuntimeSection::default())?;
    let rules = vec![Rule::everything(NAME.to_owned())?];
    Ok(Pipeline {
        trusts: Trusts::of(&rules, &models)?,
        models,
        rules,
        limits: Limits::default(),
        deadline: StudySection::default().deadline,
        device: device(command_line(), "1".to_owned(), None),
        wanted: Wanted::Everything,
    })
}

/// The model that comes with preread: of the package, or of the checkout that the binary was built in.
fn demonstration_model() -> Result<PathBuf> {
    const MODEL: &str = "models/phantom-cxr";
    let binary = env::current_exe().ok();
    let checkout = binary.as_deref().and_then(|binary| binary.ancestors().nth(3)).map(|root| root.join(MODEL));
    let places = [Some(PathBuf::from(MODEL)), checkout, Some(Path::new("/usr/share/preread").join(MODEL))];
    let found = places.into_iter().flatten().find(|place| place.is_dir());
    found.context("the demonstration model is not here; name a model folder with --model")
}

/// The files of each study.
pub(super) type Studies = BTreeMap<Uid, Vec<PathBuf>>;

/// The files of each study, and those that are no instances.
pub(super) fn by_study(files: &[PathBuf]) -> (Studies, Vec<(PathBuf, String)>) {
    let (mut studies, mut unreadable) = (Studies::new(), Vec::new());
    for path in files {
        let header = Header::open(path, &Limits::default());
        match header.and_then(|header| header.require_identity().map(|()| header)) {
            Ok(header) => studies.entry(header.study_instance_uid).or_default().push(path.clone()),
            Err(error) => unreadable.push((path.clone(), error.to_string())),
        }
    }
    (studies, unreadable)
}

fn study(files: &[PathBuf]) -> Result<Study> {
    let instance = |path: &PathBuf| -> Result<StudyInstance> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let (_, data_set_at) = Meta::parse(&bytes)?;
        let digest = Digest::of(&bytes[data_set_at..]).to_string();
        Ok(StudyInstance { path: path.clone(), source: "command line".to_owned(), digest })
    };
    Ok(Study {
        instances: files.iter().map(instance).collect::<Result<_>>()?,
        version: 1,
        reported_inputs: None,
        predecessors: Vec::new(),
        decisions: Decisions::default(),
        content_time: clock::content_time(clock::now()),
    })
}

fn write(folder: &Path, reading: &Reading<'_>) -> Result<Vec<PathBuf>> {
    super::private::create_folder(folder).with_context(|| folder.display().to_string())?;
    let json = serde_json::to_vec_pretty(&reading.json)?;
    let heatmap = reading.heatmap.png()?;
    let mut files = vec![
        ("report.json".to_owned(), json.as_slice()),
        ("text-sr.dcm".to_owned(), reading.text_sr.file.as_slice()),
        ("heatmap.png".to_owned(), heatmap.as_slice()),
    ];
    let objects = reading.objects.iter();
    files.extend(objects.map(|(name, document)| (format!("{}.dcm", name.as_str()), document.file.as_slice())));
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        super::private::write(&path, bytes).with_context(|| path.display().to_string())?;
        written.push(path);
    }
    Ok(written)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(studies: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}");
    ProgressBar::new(studies).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
