use std::{path::Path, process::ExitCode};

use anyhow::Result;

use crate::{
    clock,
    config::{Config, EXAMPLE, TlsSection, wider, wider_than_second},
    models::Models,
    trust::Trusts,
};

/// Checks the file, and what it names as far as it is there: models, certificates. What is not there yet, which ports are
/// free and what may be written is `doctor`'s: the check runs beside a daemon, and before anything is installed.
pub(crate) fn check(path: &Path) -> Result<ExitCode> {
    let config = super::load_config(path)?;
    let (warnings, errors) = found(&config);
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    if !errors.is_empty() {
        for error in &errors {
            eprintln!("preread: {error}");
        }
        return Ok(ExitCode::FAILURE);
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

/// What is probably not meant, and what of the things that are named cannot be used.
fn found(config: &Config) -> (Vec<String>, Vec<String>) {
    let mut warnings = config.warnings.clone();
    let (models, absent, mut errors) = Models::look(&config.models, &config.runtime);
    warnings.extend(absent);
    for rule in &config.rules {
        warnings.extend(models.bundle(&rule.model).and_then(|bundle| wider(rule, &bundle.manifest)));
        let second = rule.settings.second_model.as_ref().and_then(|name| models.bundle(name));
        warnings.extend(second.and_then(|bundle| wider_than_second(rule, &bundle.manifest)));
    }
    errors.extend(Trusts::of(&config.rules, &models).err().map(|error| crate::told::told(&error)));
    match config.tls.as_ref().map(TlsSection::load).transpose() {
        Ok(tls) => {
            warnings.extend(tls.iter().flat_map(|tls| tls.warnings(clock::system_time())).map(|it| it.to_string()))
        }
        Err(error) => errors.push(crate::told::told(&error)),
    }
    (warnings, errors)
}

/// Prints the shipped example.
pub(crate) fn example() -> Result<ExitCode> {
    print!("{EXAMPLE}");
    Ok(ExitCode::SUCCESS)
}
