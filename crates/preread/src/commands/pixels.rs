use std::{fs, process::ExitCode};

use anyhow::{Context, Result};
use dataset::{Instance, Limits};

use crate::cli::Pixels;

/// What `pixel` makes of a file: numbers to compare, or the picture.
pub(crate) fn run(arguments: &Pixels) -> Result<ExitCode> {
    let context = || arguments.file.display().to_string();
    let instance = Instance::open(&arguments.file, &Limits::default()).with_context(context)?;
    let limits = pixel::Limits::default();
    let frame = arguments.frame - 1;
    if let Some(out) = &arguments.out {
        let picture =
            pixel::render(&instance, frame, &pixel::RenderOptions::default(), &limits).with_context(context)?;
        fs::write(out, pixel::png(&picture)).with_context(|| out.display().to_string())?;
    }
    if arguments.json || arguments.out.is_none() {
        let description = pixel::describe(&instance, frame, &limits).with_context(context)?;
        super::print_json(&description)?;
    }
    Ok(ExitCode::SUCCESS)
}
