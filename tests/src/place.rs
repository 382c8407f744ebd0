//! Where things are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder of files that are not in the repository, beside the checkout. Where it is absent, a test over it says so
/// and is done: the project builds and passes without it.
pub fn shared() -> Option<PathBuf> {
    let folder = root().join("../shared");
    let found = folder.is_dir();
    if !found {
        eprintln!("skipped: there is no folder named shared beside the checkout");
    }
    found.then_some(folder)
}

/// The program under test.
///
/// # Errors
/// When it has not been built; the message names the command that does.
pub fn preread() -> Result<PathBuf> {
    let program = root().join("target/debug/preread");
    if !program.is_file() {
        bail!("{} is not there. Build it: cargo build --workspace --bins", program.display());
    }
    Ok(program)
}

/// Gives a program the environment that the systemd unit gives preread.
///
/// # Errors
/// When the unit cannot be read.
pub fn as_installed(mut program: Command) -> Result<Command> {
    let unit = fs::read_to_string(root().join("deploy/systemd/preread.service"))?;
    for line in unit.lines().filter_map(|line| line.strip_prefix("Environment=")) {
        let (name, value) = line.split_once('=').context("a line Environment= of the unit is not NAME=VALUE")?;
        program.env(name, value);
    }
    Ok(program)
}

/// The embedded model's folder.
pub fn model() -> PathBuf {
    root().join("models/phantom-cxr")
}

/// A copy of the embedded model in `folder` that was made for images of any kind, and for what `manifest` says in lines of
/// `model.toml`.
///
/// # Errors
/// When it cannot be copied.
pub fn model_made_for(folder: &Path, manifest: &str) -> Result<PathBuf> {
    let copy = folder.join("model");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(model())?.collect::<std::io::Result<Vec<_>>>()? {
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    let text = fs::read_to_string(model().join("model.toml"))?;
    let states =
        |line: &&str| ["modality", "body_part", "view"].iter().all(|key| !line.starts_with(&format!("{key} =")));
    let kept: Vec<&str> = text.lines().filter(states).collect();
    fs::write(copy.join("model.toml"), format!("{manifest}\n{}\n", kept.join("\n")))?;
    Ok(copy)
}

/// A configuration as it is shipped, with the model where it is in a checkout and not where a package would put it.
pub fn with_model_of_checkout(configuration: &str) -> String {
    configuration.replace("/usr/share/preread/models/phantom-cxr", &model().to_string_lossy())
}

/// Every DICOM file right under `folder`, by name.
///
/// # Errors
/// When the folder cannot be read or holds none.
pub fn dicom_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "dcm") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("no DICOM file in {}", folder.display());
    }
    files.sort();
    Ok(files)
}
