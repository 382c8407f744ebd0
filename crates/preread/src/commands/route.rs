use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use dataset::{Header, Limits};

use crate::{output::shown, route::Facts};

/// For each file, whether it is an image to read, and what each rule says of it.
pub(crate) fn explain(paths: &[PathBuf], config: &Path) -> Result<ExitCode> {
    let config = super::load_config(config)?;
    for path in super::files_of(paths)? {
        println!("{}", shown(&path));
        let header = match Header::open(&path, &Limits::default()) {
            Ok(header) => header,
            Err(error) => {
                println!("  not an instance: {error}");
                continue;
            }
        };
        if let Some((_, reason)) = pixel::choose(&[&header]).skipped.first() {
            println!("  not read: {reason}");
            continue;
        }
        let facts = Facts::of(&header, "");
        for rule in &config.rules {
            let answer = if rule.matches(&facts)? { "takes it" } else { "does not take it" };
            println!("  rule \"{}\" {answer}: {}", rule.name, rule.written);
        }
        println!("  with {facts}");
    }
    Ok(ExitCode::SUCCESS)
}
