//! OHIF as it is shipped, on Orthanc with DICOMweb, in headless Chromium: what a radiologist sees of our documents. The
//! screenshots stay in `target/ohif`.

use std::fs;

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use e2e::{daemon, instance::Instance, orthanc::Orthanc, peers, place, samples};
use serde_json::Value;

/// The series numbers of a first report's documents, and the names of the screenshots.
const SERIES: [&str; 4] = ["901=text-sr", "902=measurements-sr", "904=pdf", "905=heatmap"];

#[test]
fn every_document_is_shown_and_nothing_goes_blank() -> Result<()> {
    let Some(ohif) = peers::Ohif::installed() else { return Ok(()) };
    let sample = samples::all()?.into_iter().find(|it| it.name.starts_with("03-")).context("no sample")?;
    let dir = tempfile::tempdir()?;
    let (model, out) = (place::model(), dir.path().join("out"));
    let paths = [&sample.file, &model, &out].map(|path| path.to_string_lossy().into_owned());
    let read = daemon::command(&["read", &paths[0], "--model", &paths[1], "--out", &paths[2]])?;
    ensure!(read.status.success(), "preread read: {}", String::from_utf8_lossy(&read.stderr));
    let orthanc = Orthanc::prepare()?.serve_web()?;
    orthanc.upload(&sample.file)?;
    let out = out.join(&sample.instance.study_instance_uid);
    for document in place::dicom_files(&out)? {
        orthanc.upload(&document)?;
    }
    let screenshots = place::root().join("target/ohif");
    fs::create_dir_all(&screenshots)?;
    let study = &sample.instance.study_instance_uid;
    let seen = ohif.look(&orthanc.web_address(), study, &SERIES, &screenshots)?;

    for name in SERIES.iter().filter_map(|series| series.split('=').nth(1)) {
        let errors = seen[name]["errors"].as_array().context("no such series")?;
        ensure!(errors.is_empty(), "{name}: the page has errors: {errors:?}");
        ensure!(screenshots.join(format!("{name}.png")).is_file(), "no screenshot of {name}");
    }
    let text = seen["text-sr"]["text"].as_str().unwrap_or_default();
    ensure!(text.contains("AI-GENERATED DRAFT - NOT VERIFIED"), "the report is not readable: {text}");
    for sentence in sample.truth() {
        ensure!(text.contains(&sentence), "{sentence} is not shown: {text}");
    }
    let embedded = seen["pdf"]["objects"].as_array().context("no objects")?;
    ensure!(embedded.iter().any(|kind| kind == "application/pdf"), "the PDF is not shown: {embedded:?}");
    for name in ["measurements-sr", "heatmap"] {
        let bright = seen[name]["bright"].as_f64().unwrap_or_default();
        ensure!(bright > 0.2, "{name}: the viewport is blank: {bright}");
    }
    drawn_at_its_place(&seen["measurements-sr"], &Instance::read(&out.join("measurements-sr.dcm"))?, &sample.json)
}

/// The region is drawn where the document says, and there is what the phantom has: its centre lies within the box.
fn drawn_at_its_place(seen: &Value, document: &Instance, truth: &Value) -> Result<()> {
    let shapes = seen["drawn"].as_array().context("nothing is drawn")?;
    let shape = shapes.iter().find(|shape| shape["kind"] == "polyline").context("no outline is drawn")?;
    let points: Vec<[f64; 2]> = serde_json::from_value(shape["points"].clone())?;
    let drawn = centre(&points);
    let stated = coordinates(&document.header()?).context("the document has no coordinates")?;
    let points: Vec<[f64; 2]> = stated.chunks_exact(2).map(|pair| [f64::from(pair[0]), f64::from(pair[1])]).collect();
    let stated = centre(&points);
    let apart = (drawn[0] - stated[0]).hypot(drawn[1] - stated[1]);
    ensure!(apart < 1.0, "drawn around {drawn:?}, and the document says {stated:?}");
    let corners: [f64; 4] = serde_json::from_value(truth["findings"][0]["box"].clone())?;
    let inside = (corners[0]..=corners[2]).contains(&drawn[0]) && (corners[1]..=corners[3]).contains(&drawn[1]);
    ensure!(inside, "drawn around {drawn:?}, and the nodule is in {corners:?}");
    Ok(())
}

/// The middle of the corners' extent.
fn centre(points: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|axis| {
        let along = points.iter().map(|point| point[axis]);
        (along.clone().fold(f64::INFINITY, f64::min) + along.fold(f64::NEG_INFINITY, f64::max)) / 2.0
    })
}

/// Graphic Data of the first SCOORD.
fn coordinates(object: &InMemDicomObject) -> Option<Vec<f32>> {
    if let Some(data) = object.get(tags::GRAPHIC_DATA) {
        return data.to_multi_float32().ok();
    }
    object.get(tags::CONTENT_SEQUENCE)?.items()?.iter().find_map(coordinates)
}
