//! The machine in words: enough to judge the figures by, nothing that names it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

/// Cores, memory, kernel, and the file system that `folder` is on.
///
/// # Errors
/// When the system does not say.
pub(crate) fn words(folder: &Path) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = value(&processors, "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = value(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
    let kibibytes: u64 = memory.trim_end_matches(" kB").parse().context("unknown form of /proc/meminfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // What follows the version is a builder's name.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let file_system = file_system(folder)?;
    let gibibytes = kibibytes.div_ceil(1 << 20);
    Ok(format!("{cores} cores ({model}), {gibibytes} GiB of memory, Linux {kernel}, {file_system}"))
}

fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn file_system(folder: &Path) -> Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let of_folder = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (place, kind) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        folder.starts_with(&place).then_some((place.len(), kind))
    };
    let found = mounts.lines().filter_map(of_folder).max();
    Ok(found.context("the folder is on no file system")?.1)
}

/// How many processes wanted a core over the last minute.
///
/// # Errors
/// When the system does not say.
pub(crate) fn load_average() -> Result<String> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    Ok(averages.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Today's date, UTC.
///
/// # Errors
/// When `date` fails.
pub(crate) fn date() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Waits until the file system of `folder` has written what it holds back.
///
/// # Errors
/// When `sync` fails.
pub(crate) fn settle(folder: &Path) -> Result<()> {
    let status = Command::new("sync").arg("--file-system").arg(folder).status().context("cannot start sync")?;
    ensure!(status.success(), "sync ended with {status}");
    Ok(())
}
