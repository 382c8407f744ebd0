//! What each command does. Results go to standard output, everything else to standard error.

mod accept;
pub(crate) mod calibrate;
pub(crate) mod config;
mod deliveries;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod pixels;
pub(crate) mod private;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod route;
mod withdraw;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{config::Config, output};

/// A mistake in the arguments or the configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(String);

pub(crate) fn usage(error: impl std::fmt::Display) -> anyhow::Error {
    UsageError(error.to_string()).into()
}

pub(crate) fn load_config(path: &Path) -> Result<Config> {
    Config::load(path).map_err(|error| usage(crate::told::told(&error)))
}

/// One JSON document on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    output::document(&(output::json(&serde_json::to_string_pretty(value)?) + "\n"))
}

/// The files named, and every file below the folders named, in order of their paths.
pub(crate) fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (files, passed_over) = files_and_links(paths)?;
    for (path, why) in &passed_over {
        eprintln!("{}: {why}", output::shown(path));
    }
    Ok(files)
}

/// Paths, each with what is to be said of it.
pub(crate) type Remarks = Vec<(PathBuf, String)>;

/// The same, and the links to folders, pipes and devices that were passed over.
pub(crate) fn files_and_links(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Remarks)> {
    let (mut files, mut passed_over) = (Vec::new(), Vec::new());
    for path in paths {
        let mut folders = Vec::new();
        if path.is_dir() {
            folders.push(path.clone());
        } else if path.exists() && !path.is_file() {
            // Reading from a pipe or a device may never end.
            return Err(usage(format!("{}: it is neither a file nor a folder", path.display())));
        } else {
            files.push(path.clone());
        }
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| output::shown(&folder))? {
                let path = entry?.path();
                if path.is_dir() && path.is_symlink() {
                    // It may lead round in a circle.
                    let why = "a link to a folder is not followed: name the folder itself".to_owned();
                    passed_over.push((path, why));
                } else if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() || !path.exists() {
                    // What a link leads to and is not there is told as what cannot be read.
                    found.push(path);
                } else {
                    passed_over.push((path, "it is neither a file nor a folder".to_owned()));
                }
            }
        }
        found.sort();
        files.extend(found);
    }
    passed_over.sort();
    let mut seen = std::collections::HashSet::new();
    files.retain(|path| seen.insert(path.clone()));
    Ok((files, passed_over))
}
