use std::{path::Path, process::ExitCode};

use anyhow::Result;

use crate::{config::EXAMPLE, models::Models};

/// Checks the file, and that what it names is there: models and ONNX Runtime.
pub(crate) fn check(path: &Path) -> Result<ExitCode> {
    let config = super::load_config(path)?;
    let folders = config.models.iter().map(|model| (model.name.as_str(), model.path.as_path()));
    Models::open(folders, config.runtime.library.as_deref(), config.runtime.threads)?;
    println!(
        "{} is valid: {} models, {} destinations, {} rules",
        path.display(),
        config.models.len(),
        config.destinations.len(),
        config.rules.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints the shipped example.
pub(crate) fn example() -> Result<ExitCode> {
    print!("{EXAMPLE}");
    Ok(ExitCode::SUCCESS)
}
