//! The house's shape as DESIGN draws it: who knows whom, and who touches the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use e2e::place;
use serde_json::Value;

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(place::root())
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn crates_know_each_other_as_drawn() -> Result<()> {
    let allowed: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("preread", vec!["dataset", "dimse", "infer", "pixel", "report", "spool"]),
        ("dimse", vec!["dataset"]),
        ("spool", vec!["dataset"]),
        ("pixel", vec!["dataset"]),
        ("report", vec!["dataset"]),
        ("infer", vec![]),
        ("dataset", vec![]),
        ("xtask", vec![]),
        ("e2e", vec![]),
    ]);
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect::<BTreeSet<_>>());
    for package in packages {
        let name = package["name"].as_str().context("no name")?;
        let mut known: Vec<&str> = Vec::new();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            known.extend(dependency["name"].as_str().filter(|name| ours.contains(name)));
        }
        known.sort_unstable();
        known.dedup();
        assert_eq!(known, allowed[name], "what {name} knows");
        assert_eq!(package["version"], "0.0.0", "{name}");
        assert_eq!(package["publish"], serde_json::json!([]), "{name} may be published");
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{name}");
        let manifest = Path::new(package["manifest_path"].as_str().context("no path")?);
        let folder = manifest.parent().and_then(Path::file_name).context("no folder")?;
        assert_eq!(folder.to_string_lossy(), if name == "e2e" { "tests" } else { name }, "folder name = crate name");
        let lints = fs::read_to_string(manifest)?;
        assert!(lints.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
    }
    Ok(())
}

#[test]
fn the_engine_knows_no_dicom() -> Result<()> {
    let metadata = metadata()?;
    let infer = metadata["packages"].as_array().into_iter().flatten().find(|package| package["name"] == "infer");
    let dependencies = infer.context("no infer")?["dependencies"].as_array().cloned().unwrap_or_default();
    let dicom: Vec<_> = dependencies.iter().filter(|one| one["name"].to_string().contains("dicom")).collect();
    assert!(dicom.is_empty(), "{dicom:#?}");
    Ok(())
}

/// Where the daemon's crate may touch the file system itself, and why.
const TOUCHES_DISK: &[(&str, &str)] = &[
    ("preread/src/commands", "commands that a person runs on files of their own"),
    (
        "preread/src/text_file.rs",
        "texts that a person names: the configuration, once, before anything is received, and files of commands",
    ),
    ("preread/src/trust.rs", "a model folder's calibration is read once, when the model itself is looked at"),
    ("dimse/src/tls.rs", "certificates and keys are read at start and when an operator says that they are new"),
    ("dimse/src/store.rs", "a sender streams the file that it is given, so that it need not be held in memory"),
];

/// `spool` is the only part of the daemon that stores anything; `infer` opens models, `dataset` and the others get bytes.
#[test]
fn nothing_but_the_spool_touches_the_disk() -> Result<()> {
    let crates = place::root().join("crates");
    let mut found = Vec::new();
    for name in ["preread", "dimse", "pixel", "report"] {
        for file in rust_files(&crates.join(name).join("src"))? {
            let relative = file.strip_prefix(&crates)?.to_string_lossy().into_owned();
            if TOUCHES_DISK.iter().any(|(allowed, _)| relative.starts_with(allowed)) {
                continue;
            }
            for (number, line) in without_tests(&fs::read_to_string(&file)?).lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let calls = ["fs::", "File::", "OpenOptions", "std::fs", "use std::{fs"];
                if calls.iter().any(|call| code.contains(call)) {
                    found.push(format!("{relative}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    for (allowed, _) in TOUCHES_DISK {
        assert!(crates.join(allowed).exists(), "{allowed} is allowed and not there");
    }
    Ok(())
}

/// The source up to its unit tests, which stand at the end of a file.
fn without_tests(source: &str) -> &str {
    source.split("#[cfg(test)]").next().unwrap_or_default()
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[test]
fn shipped_configurations_are_valid() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let here = dir.path().join("preread.toml");
    let mut checked = 0;
    for folder in ["deploy", "docs"] {
        for file in files_named(&place::root().join(folder), ".toml")? {
            fs::write(&here, place::with_model_of_checkout(&fs::read_to_string(&file)?))?;
            let output = e2e::daemon::command(&["config", "check", "--config", &here.to_string_lossy()])?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}", file.display());
            checked += 1;
        }
    }
    assert!(checked > 0, "no configuration is shipped");
    Ok(())
}

fn files_named(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_named(&path, end)?);
        } else if path.to_string_lossy().ends_with(end) {
            files.push(path);
        }
    }
    Ok(files)
}
