use std::{path::Path, process::ExitCode};

use anyhow::Result;

use crate::{
    clock,
    config::{EXAMPLE, TlsSection},
    models::Models,
    trust::Trusts,
};

/// Checks the file, and that what it names is there: models, ONNX Runtime, certificates.
pub(crate) fn check(path: &Path) -> Result<ExitCode> {
    let config = super::load_config(path)?;
    let models = Models::open(&config.models, &config.runtime)?;
    Trusts::of(&config.rules, &models)?;
    let tls = config.tls.as_ref().map(TlsSection::load).transpose()?;
    for warning in tls.iter().flat_map(|tls| tls.warnings(clock::system_time())) {
        eprintln!("warning: {warning}");
    }
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
