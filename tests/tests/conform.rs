//! What leaves us is what the standard says: other people's validators, and the source's own attributes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use dicom_dictionary_std::uids;
use e2e::{daemon, instance::Instance, peers, place, samples, sr::Report};
use serde_json::Value;

/// High-Throughput JPEG 2000, lossless.
pub(crate) const HTJ2K: &str = "1.2.840.10008.1.2.4.201";

/// Checks one text report against the image it was made from; every complaint of a validator is a failure.
pub(crate) fn check(source: &Path, sr: &Path) -> Result<()> {
    let errors = peers::dciodvfy(sr)?;
    if !errors.is_empty() {
        // A value that we must repeat as it came, and that was no valid value there, is no fault of ours.
        let inherited: Vec<String> = peers::dciodvfy(source)?;
        let inherited = |error: &String| error.contains("Value invalid for this VR") && inherited.contains(error);
        let own: Vec<&String> = errors.iter().filter(|error| !inherited(error)).collect();
        ensure!(own.is_empty(), "dciodvfy: {own:#?}");
    }
    peers::dsrdump(sr)?;
    let both = peers::python("attributes.py", &[&source.to_string_lossy(), &sr.to_string_lossy()])?;
    let transcoded = same_attributes(&both[0], &both[1])?;
    // dcentvfy compares bytes, so that a name in another character set looks like another name to it.
    if !transcoded {
        let header = without_pixels(source, sr)?;
        peers::dcentvfy(&[header.as_deref().unwrap_or(source), sr])?;
    }
    let report = Report::of(&Instance::read(sr)?)?;
    ensure!(report.completion_flag == "COMPLETE", "Completion Flag {}", report.completion_flag);
    ensure!(report.verification_flag == "UNVERIFIED", "Verification Flag {}", report.verification_flag);
    ensure!(report.preliminary_flag == "PRELIMINARY", "Preliminary Flag {}", report.preliminary_flag);
    ensure!(report.template == "2000", "Template Identifier {}", report.template);
    ensure!(report.series_description.contains("AI DRAFT"), "Series Description {}", report.series_description);
    let first = report.texts("55112-7").into_iter().next().context("no summary")?;
    let draft = first.to_uppercase();
    ensure!(draft.contains("AI") && draft.contains("DRAFT"), "the first line does not say what it is: {first}");
    Ok(())
}

/// High-Throughput JPEG 2000 is younger than dcentvfy, and pixels of odd length are more than it forgives: where it cannot
/// read the pixels it gets the data set up to them, byte for byte, beside `sr`. None where it can read the file as it is.
fn without_pixels(source: &Path, sr: &Path) -> Result<Option<PathBuf>> {
    const PIXELS: &[u8] = b"\xe0\x7f\x10\x00O";
    let mut instance = Instance::read(source)?;
    if instance.transfer_syntax_uid != HTJ2K && instance.data_set.len().is_multiple_of(2) {
        return Ok(None);
    }
    let end = instance.data_set.windows(PIXELS.len()).position(|window| window == PIXELS).context("no pixels")?;
    instance.data_set.truncate(end);
    instance.transfer_syntax_uid = uids::EXPLICIT_VR_LITTLE_ENDIAN.into();
    let file = sr.with_extension("source.dcm");
    fs::write(&file, instance.to_part10()?)?;
    Ok(Some(file))
}

/// The source's attributes of patient and study, byte for byte, or, in another character set, as the same text. Whether
/// any was transcoded.
fn same_attributes(source: &Value, sr: &Value) -> Result<bool> {
    let mut transcoded = false;
    for (keyword, had) in source.as_object().context("not an object")? {
        let has = &sr[keyword];
        if keyword == "SpecificCharacterSet" || had == has {
            continue;
        }
        // An absent type 2 attribute is written empty.
        let empty = |value: &Value| value.is_null() || value["bytes"] == "";
        if empty(had) && empty(has) {
            continue;
        }
        // A date that is none cannot be repeated: DA has no place for it.
        let not_a_date = |value: &Value| value["text"].as_str().is_some_and(|text| text.len() > 10);
        if (keyword == "PatientBirthDate" || keyword == "StudyDate") && not_a_date(had) && empty(has) {
            continue;
        }
        if had["text"] == has["text"] && source["SpecificCharacterSet"] != sr["SpecificCharacterSet"] {
            transcoded = true;
            continue;
        }
        bail!("{keyword} was {had} and is {has}");
    }
    Ok(transcoded)
}

/// The one Basic Text SR among the files of a folder, at any depth.
pub(crate) fn find_sr(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(find_sr(&path)?);
        } else if Instance::read(&path).is_ok_and(|instance| instance.sop_class_uid == uids::BASIC_TEXT_SR_STORAGE) {
            found.push(path);
        }
    }
    Ok(found)
}

/// `preread read` on one file; the report it wrote.
fn read_to_sr(file: &Path, out: &Path) -> Result<PathBuf> {
    let model = place::model();
    let paths = [file, &model, out].map(|path| path.to_string_lossy().into_owned());
    let output = daemon::command(&["read", &paths[0], "--model", &paths[1], "--out", &paths[2]])?;
    ensure!(output.status.success(), "preread read: {}", String::from_utf8_lossy(&output.stderr));
    let mut reports = find_sr(out)?;
    ensure!(reports.len() == 1, "{} text reports in {}", reports.len(), out.display());
    reports.pop().context("no report")
}

#[test]
fn the_reports_of_the_samples_pass_every_validator() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for sample in samples::all()? {
        let sr = read_to_sr(&sample.file, &dir.path().join(&sample.name))?;
        check(&sample.file, &sr).with_context(|| sample.name.clone())?;
    }
    Ok(())
}

#[test]
fn pixelmed_finds_the_template_and_nothing_to_complain_about() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Each takes a Java start and many style sheets: one without findings, one with four, one with a Japanese name.
    for name in ["01-normal", "12-four-findings", "10-japanese-name"] {
        let file = place::model().join("samples").join(name).with_extension("dcm");
        let sr = read_to_sr(&file, &dir.path().join(name))?;
        peers::pixelmed(&sr, "TID_2000").with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Every object that `preread read` writes of a sample with a finding at a place: highdicom and pypdf find what is in them.
#[test]
fn other_readers_find_every_finding_number_and_region() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sample = samples::all()?.into_iter().find(|it| it.name.starts_with("10-")).context("no sample")?;
    read_to_sr(&sample.file, dir.path())?;
    let names = ["measurements-sr", "ai-results-sr", "pdf"];
    let folder = dir.path().join(&sample.instance.study_instance_uid);
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name).with_extension("dcm")).collect();
    let files: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let read = peers::python("report_objects.py", &files.iter().map(String::as_str).collect::<Vec<_>>())?;
    let regions = read[0]["regions"].as_array().context("no regions")?;
    ensure!(!regions.is_empty(), "highdicom finds no region: {read}");
    for region in regions {
        let whole = ["tracking", "tracking_uid", "finding"].iter().all(|key| region[*key].is_string());
        ensure!(whole && !region["sites"][0].is_null(), "{region}");
        // The demonstration model is not calibrated, and what is not calibrated is no certainty.
        ensure!(region["numbers"][0].is_null(), "{region}");
        ensure!(region["outline"]["image"] == sample.json["sop_instance_uid"], "{region}");
        ensure!(region["outline"]["points"].as_array().is_some_and(|points| points.len() > 3), "{region}");
    }
    let study = read[1]["study"].as_array().context("no groups")?;
    // Without a number a finding of the study is a qualitative evaluation, and no measurement group.
    ensure!(study.is_empty(), "{study:?}");
    let page = read[2]["pages"][0].as_str().unwrap_or_default();
    let name = sample.json["patient_name"].as_str().unwrap_or_default();
    for part in name.split(['=', '^']).filter(|part| !part.is_empty()) {
        ensure!(page.contains(part), "the PDF does not have {part} of the name: {page}");
    }
    ensure!(page.contains("AI DRAFT"), "{page}");
    Ok(())
}
