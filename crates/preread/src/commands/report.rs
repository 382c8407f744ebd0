use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

/// Prints what our own check finds, a line each.
pub(crate) fn validate(files: &[PathBuf]) -> Result<ExitCode> {
    let mut all_good = true;
    for path in files {
        let file = fs::read(path).with_context(|| path.display().to_string())?;
        let violations = report::validate(&file);
        all_good &= !report::must_hold(&violations);
        if violations.is_empty() {
            println!("{}: valid", path.display());
        }
        for violation in violations {
            println!("{}: {} at {}: {}", path.display(), violation.rule, violation.at, violation.sentence);
        }
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
