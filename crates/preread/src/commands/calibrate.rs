use std::{fs, process::ExitCode};

use anyhow::{Context, Result, bail};
use report::{Calibration, Labelled, Reliability};
use serde_json::json;

use crate::{
    cli::{Calibrate, Method},
    output::shown,
    text_file,
};

/// Fits a calibration to labelled sentences and writes it.
pub(crate) fn run(arguments: &Calibrate) -> Result<ExitCode> {
    let path = &arguments.labelled;
    let text = text_file::read(path).with_context(|| shown(path))?;
    let mut labelled: Vec<Labelled> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read: Labelled = serde_json::from_str(line).with_context(|| {
            format!("{}, line {}: wanted is {{\"score\": 0.93, \"correct\": true}}", shown(path), number + 1)
        })?;
        if !(0.0..=1.0).contains(&read.score) {
            bail!("{}, line {}: a score is a number from 0 to 1", shown(path), number + 1);
        }
        labelled.push(read);
    }
    let fitted = match arguments.method {
        Method::Temperature => Calibration::fit_temperature(&labelled),
        Method::Isotonic => Calibration::fit_isotonic(&labelled),
    };
    let Some(calibration) = fitted else {
        bail!("{}: a calibration needs sentences that are correct and sentences that are not", shown(path));
    };
    let before = Reliability::of(&labelled, None);
    let after = Reliability::of(&labelled, Some(&calibration));
    let written = serde_json::to_vec_pretty(&calibration)?;
    fs::write(&arguments.out, written).with_context(|| shown(&arguments.out))?;
    if let Some(diagram) = &arguments.diagram {
        fs::write(diagram, Reliability::diagram(&before, &after)).with_context(|| shown(diagram))?;
    }
    if arguments.json {
        super::print_json(&json!({ "calibration": calibration, "before": before, "after": after }))?;
    } else {
        println!("{} sentences", before.count);
        println!("expected calibration error before: {:.4}", before.expected_error);
        println!("expected calibration error after:  {:.4} (on the same sentences)", after.expected_error);
        println!("written to {}", shown(&arguments.out));
    }
    Ok(ExitCode::SUCCESS)
}
