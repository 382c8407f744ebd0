//! The folder that a run writes into: one folder for each study, whole or not there, and a note of what made them.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    commands::{private, usage},
    config::ObjectName,
    output::shown,
};

/// The file that says what made the results, so that no two kinds of them are mixed.
const NOTE: &str = "preread-run.json";
const REPORT: &str = "report.json";
/// A study's folder until it is whole.
const UNFINISHED: &str = ".unfinished-";

/// What made the results of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) software_version: String,
    /// The digest of each model, by its name.
    pub(super) models: BTreeMap<String, String>,
    /// The digest of the rules and of what was asked.
    pub(super) settings_digest: String,
}

/// What to do with results that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Resume,
    Replace,
}

/// A folder that this run alone writes into.
pub(super) struct Out {
    dir: PathBuf,
    /// Locked as long as the run lasts.
    _note: File,
}

impl Out {
    /// Makes the folder, or takes one that is empty, or does with an earlier run's results as `existing` says. Errors with
    /// what to do.
    pub(super) fn open(dir: &Path, existing: Existing, run: &Run) -> Result<Self> {
        let context = || shown(dir);
        let used = match fs::read_dir(dir) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(usage(format!("{} is a file; --out wants a folder", shown(dir))));
            }
            Err(error) => return Err(error).with_context(context),
        };
        private::create_folder(dir).with_context(context)?;
        if used && existing == Existing::Refuse {
            return Err(usage(format!(
                "{} is not empty, and results of two runs are never mixed: name another folder with --out, go on with what \
                 is there with --resume, or remove what an earlier run wrote with --replace",
                shown(dir)
            )));
        }
        let earlier = if used { Some(earlier(dir)?) } else { None };
        let mut note = private().read(true).truncate(false).open(dir.join(NOTE)).with_context(context)?;
        if note.try_lock().is_err() {
            bail!("another run is writing into {}", shown(dir));
        }
        match (earlier, existing) {
            (Some(earlier), Existing::Resume) => require_same(dir, &earlier, run)?,
            (Some(_), _) => clear(dir)?,
            (None, _) => {}
        }
        for entry in fs::read_dir(dir).with_context(context)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).with_context(|| shown(&entry.path()))?;
            }
        }
        note.set_len(0)?;
        note.write_all(&serde_json::to_vec_pretty(run)?).with_context(context)?;
        Ok(Self { dir: dir.to_owned(), _note: note })
    }

    /// The folder of a study.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The report of a study that an earlier run finished, of the same inputs.
    pub(super) fn finished(&self, name: &str, inputs_digest: &str) -> Option<Value> {
        let report: Value = serde_json::from_slice(&fs::read(self.folder(name).join(REPORT)).ok()?).ok()?;
        (report["inputs_digest"] == inputs_digest).then_some(report)
    }

    /// Writes a study's folder, in place of an earlier one of other inputs: all of it or nothing.
    pub(super) fn write(&self, name: &str, report: &Value, files: &[(String, Vec<u8>)]) -> Result<()> {
        let unfinished = self.dir.join(format!("{UNFINISHED}{name}"));
        let context = || shown(&unfinished);
        DirBuilder::new().mode(0o700).create(&unfinished).with_context(context)?;
        let report = crate::output::json(&serde_json::to_string_pretty(report)?).into_bytes();
        for (name, bytes) in files.iter().chain([&(REPORT.to_owned(), report)]) {
            let path = unfinished.join(name);
            let file = private().create_new(true).open(&path);
            file.and_then(|mut file| file.write_all(bytes)).with_context(|| shown(&path))?;
        }
        let folder = self.folder(name);
        if folder.exists() {
            remove(&folder)?;
        }
        fs::rename(&unfinished, &folder).with_context(|| shown(&folder))
    }
}

/// For files that only their owner reads: there are patients in them.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// What made the results that are in a folder.
fn earlier(dir: &Path) -> Result<Run> {
    let note = dir.join(NOTE);
    let wrong = |why: String| {
        usage(format!(
            "{}: {why}; what is in this folder is not the work of `preread read`, and is left alone: name another folder \
             with --out",
            shown(&note)
        ))
    };
    let bytes = fs::read(&note).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}

/// Errors, with what differs, unless results of `run` may stand beside those of `earlier`.
fn require_same(dir: &Path, earlier: &Run, run: &Run) -> Result<()> {
    let mut differs = Vec::new();
    if earlier.software_version != run.software_version {
        differs.push(format!("preread {} then, {} now", earlier.software_version, run.software_version));
    }
    if earlier.models != run.models {
        differs.push("another model".to_owned());
    }
    if earlier.settings_digest != run.settings_digest {
        differs.push("other rules or settings".to_owned());
    }
    if differs.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "the results in {} were not made as this run would make them ({}): name another folder with --out, or begin again \
         with --replace",
        shown(dir),
        differs.join(", ")
    )))
}

/// Removes the results of earlier runs. Errors before anything is removed when there is something in a study's folder
/// that no run made.
fn clear(dir: &Path) -> Result<()> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| shown(dir))? {
        let path = entry?.path();
        if path.join(REPORT).is_file() {
            folders.push(path);
        }
    }
    for folder in &folders {
        for entry in fs::read_dir(folder).with_context(|| shown(folder))? {
            let entry = entry?;
            if !is_ours(&entry.file_name().to_string_lossy()) {
                return Err(usage(format!(
                    "{} was not written by `preread read`: take it away, or name another folder with --out",
                    shown(&entry.path())
                )));
            }
        }
    }
    folders.iter().try_for_each(|folder| remove(folder))
}

/// Removes what a run wrote for one study.
fn remove(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| shown(folder))? {
        let entry = entry?;
        if is_ours(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).with_context(|| shown(&entry.path()))?;
        }
    }
    fs::remove_dir(folder).with_context(|| shown(folder))
}

fn is_ours(name: &str) -> bool {
    let object = |name: &str| ObjectName::ONE_OF_EACH.iter().any(|object| object.as_str() == name);
    matches!(name, REPORT | "heatmap.png") || name.strip_suffix(".dcm").is_some_and(object)
}
