//! What is said of one study, the same in `report.json`, with `--json` and `--jsonl`, and in a row of the table.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use dataset::{Header, tags};
use report::Drafted;
use serde_json::{Value, json};

use super::{folder::Run, setup};
use crate::pipeline::{End, Made, Pipeline, Reading, VERIFIED};

/// The files of one study.
pub(super) struct Files {
    /// Study Instance UID as it stands in the files, valid or not.
    pub(super) study_instance_uid: String,
    /// The name of the study's folder.
    pub(super) name: String,
    pub(super) paths: Vec<PathBuf>,
    patient_ids: BTreeSet<String>,
    accession_numbers: BTreeSet<String>,
}

/// A text of a header for a person or a program: without control characters, and nothing in it a guess.
pub(super) fn text(header: &Header, tag: dataset::Tag) -> String {
    header.character_set().clean(header.raw(tag).unwrap_or_default(), false).text.trim().to_owned()
}

impl Files {
    /// A study of no file yet.
    pub(super) fn of(study_instance_uid: String, name: String) -> Self {
        Self {
            study_instance_uid,
            name,
            paths: Vec::new(),
            patient_ids: BTreeSet::new(),
            accession_numbers: BTreeSet::new(),
        }
    }

    /// One more file. What all files say of patient and order is told, in whichever order they lie.
    pub(super) fn add(&mut self, path: &Path, header: &Header) {
        self.paths.push(path.to_owned());
        let said = |tag| Some(text(header, tag)).filter(|text| !text.is_empty());
        self.patient_ids.extend(said(tags::PATIENT_ID));
        self.accession_numbers.extend(said(tags::ACCESSION_NUMBER));
    }
}

/// Values as DICOM writes several: with a backslash between them (PS3.5 6.4).
fn values(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join("\\")
}

/// How a study ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Written,
    Held,
    Skipped,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Held => "held",
            Self::Skipped => "skipped",
        }
    }

    /// The state of a report that an earlier run wrote.
    pub(super) fn of(report: &Value) -> Self {
        match report["state"].as_str() {
            Some("written") => Self::Written,
            Some("skipped") => Self::Skipped,
            _ => Self::Held,
        }
    }
}

/// What every record says, whatever became of the study.
fn said(files: &Files, inputs_digest: &str, run: &Run, record: &mut Value) {
    record["study_instance_uid"] = json!(files.study_instance_uid);
    record["folder"] = json!(files.name);
    record["paths"] = json!(files.paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>());
    record["patient_id"] = json!(values(&files.patient_ids));
    record["accession_number"] = json!(values(&files.accession_numbers));
    record["inputs_digest"] = json!(inputs_digest);
    record["software_version"] = json!(run.software_version);
    record["run_settings_digest"] = json!(run.settings_digest);
}

/// The model's part: which one, with which settings.
fn made_by(pipeline: &Pipeline, run: &Run, rule: Option<&str>, record: &mut Value) {
    let rule = rule.and_then(|name| pipeline.rules.iter().find(|rule| rule.name == name));
    // Where there is one model, it is the one that would have read.
    let model = rule.map(|rule| rule.model.as_str());
    let only = || if run.models.len() == 1 { run.models.keys().next().map(String::as_str) } else { None };
    let model = model.or_else(only);
    let bundle = model.and_then(|name| pipeline.models.bundle(name));
    record["rule"] = json!(rule.map(|rule| &rule.name));
    record["model"] = json!(bundle.map(infer::Bundle::name));
    record["model_digest"] = json!(bundle.map(|bundle| &bundle.digest));
    record["settings_digest"] = json!(
        rule.and_then(|rule| pipeline.asked.settings_digest(pipeline.trusts.get(rule).settings_digest))
            .unwrap_or_else(|| run.settings_digest.clone())
    );
    record["seed"] = json!(setup::seed(pipeline, model));
}

/// Of a study with a report.
pub(super) fn written(
    pipeline: &Pipeline,
    run: &Run,
    (files, inputs_digest): (&Files, &str),
    reading: &Reading<'_>,
    objects: Vec<PathBuf>,
) -> serde_json::Result<Value> {
    let mut record = serde_json::to_value(&reading.json)?;
    said(files, inputs_digest, run, &mut record);
    made_by(pipeline, run, Some(&reading.rule.name), &mut record);
    record["state"] = json!(State::Written.as_str());
    record["reason"] = Value::Null;
    record["files"] = json!(objects.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>());
    Ok(record)
}

/// Of a study without a report: what the model said all the same, and why that is not one.
pub(super) fn unwritten(
    pipeline: &Pipeline,
    run: &Run,
    (files, inputs_digest): (&Files, &str),
    end: &End,
    made: Made,
    report: PathBuf,
) -> (State, Value) {
    let (state, reason, rule) = match end {
        End::Held { reason, rule, .. } => (State::Held, reason.clone(), rule.clone()),
        End::Skipped { reason, .. } => (State::Skipped, reason.clone(), None),
        End::Verified => (State::Skipped, VERIFIED.to_owned(), None),
        End::Unchanged => (State::Skipped, "its report stands".to_owned(), None),
        End::Stopped => (State::Held, "the reading was cancelled".to_owned(), None),
    };
    let mut record = match &made.draft {
        Some(draft) => json!(Drafted::from(draft)),
        None => json!({ "findings": [], "impression": [], "unrecognised": [], "struck": [] }),
    };
    said(files, inputs_digest, run, &mut record);
    made_by(pipeline, run, rule.as_deref(), &mut record);
    record["state"] = json!(state.as_str());
    record["reason"] = json!(reason);
    record["model_text"] = json!(made.model_text);
    record["objections"] = json!(made.objections);
    record["documents"] = json!([]);
    record["files"] = json!([report.to_string_lossy()]);
    (state, record)
}
