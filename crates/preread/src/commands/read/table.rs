//! `--table`: a row for each finding of each study, and one for a study without. RFC 4180, UTF-8.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    commands::usage,
    output::{one_line, shown},
};

/// The columns of a study, in order: a field of its record each.
const STUDY: &[&str] = &[
    "study_instance_uid",
    "path",
    "files",
    "patient_id",
    "accession_number",
    "state",
    "reason",
    "rule",
    "model",
    "model_digest",
    "software_version",
    "settings_digest",
    "seed",
];

/// The columns of a finding, with the place of each in `findings[]`.
const FINDING: &[(&str, &str)] = &[
    ("concept", "/concept"),
    ("presence", "/presence"),
    ("side", "/side"),
    ("zone", "/zone"),
    ("size", "/size"),
    ("text", "/text"),
    ("code", "/code/value"),
    ("code_scheme", "/code/scheme"),
    ("code_meaning", "/code/meaning"),
    ("token_probability_mean", "/confidence/mean"),
    ("probability_calibrated", "/confidence/calibrated"),
];

/// Refuses what cannot be written, before anything is read.
pub(super) fn require_form(path: &Path) -> Result<()> {
    let extension = path.extension().map(|it| it.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "csv" => Ok(()),
        "parquet" => Err(usage(format!("{}: Parquet is not written yet; name a .csv file", shown(path)))),
        _ => Err(usage(format!("{}: the table is written as CSV; name a .csv file", shown(path)))),
    }
}

/// Writes the table: whole, or not at all.
pub(super) fn write(path: &Path, records: &[&Value]) -> Result<()> {
    let mut text = STUDY.iter().copied().chain(FINDING.iter().map(|(name, _)| *name)).collect::<Vec<_>>().join(",");
    text.push_str("\r\n");
    for record in records {
        rows(record, &mut text);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let unfinished = path.with_file_name(format!(".{name}.unfinished"));
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| shown(&unfinished))?;
    std::fs::rename(&unfinished, path).with_context(|| shown(path))
}

fn rows(record: &Value, text: &mut String) {
    let of_study: Vec<String> = STUDY.iter().map(|column| study_cell(record, column)).collect();
    let none = Vec::new();
    let findings = record["findings"].as_array().unwrap_or(&none);
    let nothing = [Value::Null];
    let findings = if findings.is_empty() { nothing.as_slice() } else { findings.as_slice() };
    for finding in findings {
        let of_finding = FINDING.iter().map(|(_, place)| finding.pointer(place).map(cell).unwrap_or_default());
        let cells: Vec<String> = of_study.iter().cloned().chain(of_finding).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
}

fn study_cell(record: &Value, column: &str) -> String {
    match column {
        // The files of a study stand in its report.json; the table has the first, to join labels by.
        "path" => cell(&record["paths"][0]),
        "files" => record["paths"].as_array().map_or(0, Vec::len).to_string(),
        column => cell(&record[column]),
    }
}

/// A value of the table.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => one_line(text),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_study_has_a_row_for_each_finding_and_at_least_one() {
        let check = |findings: Value, rows_due: usize, part: &str| {
            let record = json!({
                "study_instance_uid": "1.2", "paths": ["a, \"b\".dcm", "c.dcm"], "patient_id": "=7\u{1b}", "state": "held",
                "reason": "no image, none", "seed": 0, "findings": findings,
            });
            let mut text = String::new();
            rows(&record, &mut text);
            assert_eq!(text.matches("\r\n").count(), rows_due, "{text}");
            assert!(text.starts_with(r#"1.2,"a, ""b"".dcm",2,=7\u{1b},,held,"no image, none","#), "{text}");
            assert!(text.contains(part), "{text}");
        };
        check(json!([]), 1, ",0,,,,,,,,,,,");
        let finding =
            |concept: &str| json!({ "concept": concept, "presence": "present", "side": "left", "text": "A, b." });
        check(json!([finding("nodule"), finding("pneumothorax")]), 2, ",pneumothorax,present,left,,,\"A, b.\",");
    }
}
