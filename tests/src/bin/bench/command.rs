//! Other programs, run to their end.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Lines of a failed program's complaint that are repeated.
const COMPLAINT: usize = 5;

/// What a program prints.
///
/// # Errors
/// When it cannot be started, or fails: then with the end of what it complains of.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = complaint.trim().lines().collect();
        bail!("{}", lines[lines.len().saturating_sub(COMPLAINT)..].join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The last line of what a program prints.
///
/// # Errors
/// As [`said`].
pub(crate) fn last_line(command: &mut Command) -> Result<String> {
    Ok(said(command)?.lines().last().unwrap_or_default().to_owned())
}
