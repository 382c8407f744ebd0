//! The sample studies that come with the embedded model, and the truth about each.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{instance::Instance, place};

/// A sample study: one image and what is on it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its name, such as `02-nodule-small`.
    pub name: String,
    /// The DICOM file.
    pub file: PathBuf,
    /// The file as it is sent.
    pub instance: Instance,
    /// One sentence for each finding, in the model's words; none for a normal image.
    pub truth: Vec<String>,
    /// The whole truth, as the file beside the image says it.
    pub json: Value,
}

impl Sample {
    /// The truth as a set.
    pub fn truth(&self) -> BTreeSet<String> {
        self.truth.iter().cloned().collect()
    }
}

/// All samples, by name.
///
/// # Errors
/// When they cannot be read.
pub fn all() -> Result<Vec<Sample>> {
    let files = place::dicom_files(&place::model().join("samples"))?;
    files.into_iter().map(read).collect()
}

fn read(file: PathBuf) -> Result<Sample> {
    let truth = file.with_extension("json");
    let json = fs::read(&truth).with_context(|| format!("cannot read {}", truth.display()))?;
    let json: Value = serde_json::from_slice(&json)?;
    let findings = json["findings"].as_array().context("the truth has no findings")?;
    let sentence = |finding: &Value| Some(finding["sentence"].as_str()?.to_owned());
    Ok(Sample {
        name: file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        instance: Instance::read(&file)?,
        truth: findings.iter().filter_map(sentence).collect(),
        json,
        file,
    })
}
