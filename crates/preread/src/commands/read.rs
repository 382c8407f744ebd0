//! Reads files as the daemon reads a study, and writes what it would have sent: a folder for each study.

mod folder;
mod record;
mod run;
pub(crate) mod setup;
mod table;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};
use dataset::{Header, Limits, Uid, tags};
use serde_json::{Value, json};

use crate::{cli::Read, output::shown};
use folder::{Existing, Out};
use record::Files;

/// How many files that are no instances are named on a terminal.
const NAMED: usize = 20;

/// Reads what is named, and says for each study how it ended. 3 when a study was held and nothing failed.
pub(crate) fn run(arguments: &Read) -> Result<ExitCode> {
    arguments.table.as_deref().map(table::require_form).transpose()?;
    let (files, passed_over) = super::files_and_links(&arguments.paths)?;
    let (studies, unreadable) = studies(&files);
    say_unreadable(arguments, &unreadable, &passed_over);
    if studies.is_empty() {
        bail!("no DICOM instance among the {} files", unreadable.len());
    }
    let pipeline = setup::pipeline(arguments)?;
    let run = setup::run(&pipeline);
    let existing = match (arguments.resume, arguments.replace) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Replace,
        _ => Existing::Refuse,
    };
    let out = Out::open(&arguments.out, existing, &run)?;
    let ended = run::all(arguments, &pipeline, &run, &out, &studies)?;
    if arguments.json && !ended.interrupted {
        let list = |list: &[(PathBuf, String)]| -> Vec<Value> {
            list.iter().map(|(path, error)| json!({ "path": path.to_string_lossy(), "error": error })).collect()
        };
        let (unreadable, passed_over) = (list(&unreadable), list(&passed_over));
        super::print_json(&json!({ "studies": ended.records, "unreadable": unreadable, "passed_over": passed_over }))?;
    }
    let named_unreadable = unreadable.iter().any(|(path, _)| arguments.paths.contains(path));
    Ok(if ended.unread {
        // As the shell says of a command that SIGPIPE ended.
        ExitCode::from(141)
    } else if ended.interrupted {
        ExitCode::from(130)
    } else if named_unreadable || ended.failed > 0 {
        ExitCode::FAILURE
    } else if ended.held > 0 {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

/// Names what is no instance, and what was not looked into.
fn say_unreadable(arguments: &Read, unreadable: &[(PathBuf, String)], passed_over: &[(PathBuf, String)]) {
    let (named, found): (Vec<_>, Vec<_>) = unreadable.iter().partition(|(path, _)| arguments.paths.contains(path));
    for (path, error) in &named {
        eprintln!("{}: {error}", shown(path));
    }
    if !found.is_empty() {
        eprintln!("{} files in the folders are no DICOM instances:", found.len());
        for (path, error) in found.iter().take(NAMED) {
            eprintln!("  {}: {error}", shown(path));
        }
        if found.len() > NAMED {
            eprintln!("  and {} more; --json lists them all", found.len() - NAMED);
        }
    }
    for (path, why) in passed_over {
        eprintln!("{}: {why}", shown(path));
    }
}

/// The files of each study, in the order of their UIDs, and those that are no instances. A Study Instance UID that is none
/// makes a study too, in a folder of another name.
fn studies(files: &[PathBuf]) -> (Vec<Files>, super::Remarks) {
    let (mut studies, mut unreadable) = (BTreeMap::<String, (Option<Uid>, Files)>::new(), Vec::new());
    for path in files {
        let header = match Header::open(path, &Limits::default()) {
            Ok(header) => header,
            Err(error) => {
                unreadable.push((path.clone(), why_unreadable(path, &error.to_string())));
                continue;
            }
        };
        let stated = header.raw(tags::STUDY_INSTANCE_UID).unwrap_or_default();
        let valid = Uid::from_value(stated).ok();
        let uid = valid.as_ref().map_or_else(|| record::text(&header, tags::STUDY_INSTANCE_UID), Uid::to_string);
        match header.require_identity() {
            // The study is held, with the reason, where everybody looks.
            Err(_) if valid.is_none() && !uid.is_empty() && header.has_pixel_data() => {}
            Err(error) => {
                unreadable.push((path.clone(), error.to_string()));
                continue;
            }
            Ok(()) => {}
        }
        let study = || (valid.clone(), Files::of(uid.clone(), uid.clone()));
        studies.entry(uid.clone()).or_insert_with(study).1.add(path, &header);
    }
    let named = |(number, (valid, mut files)): (usize, (Option<Uid>, Files))| {
        if valid.is_none() {
            files.name = format!("study-{number}");
        }
        files
    };
    ((1..).zip(studies.into_values()).map(named).collect(), unreadable)
}

/// Why a file is no instance; of an archive, what to do.
fn why_unreadable(path: &Path, error: &str) -> String {
    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    match (read, &start) {
        (Ok(()), b"PK\x03\x04") => "a ZIP archive is not looked into: unpack it, and name the folder".to_owned(),
        (Ok(()), [0x1f, 0x8b, ..]) => "a gzip archive is not looked into: unpack it, and name the folder".to_owned(),
        _ => error.to_owned(),
    }
}

/// The files of each study, and those that are no instances.
pub(super) fn by_study(files: &[PathBuf]) -> (BTreeMap<Uid, Vec<PathBuf>>, super::Remarks) {
    let (mut studies, mut unreadable) = (BTreeMap::<Uid, Vec<PathBuf>>::new(), Vec::new());
    for path in files {
        let header = Header::open(path, &Limits::default());
        match header.and_then(|header| header.require_identity().map(|()| header)) {
            Ok(header) => studies.entry(header.study_instance_uid).or_default().push(path.clone()),
            Err(error) => unreadable.push((path.clone(), error.to_string())),
        }
    }
    (studies, unreadable)
}
