use std::path::Path;

use infer::{Error, Scripted};

use super::*;
use crate::config::{Mode, Priority};

const MODEL: &str = "scripted";

fn models_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr")
}

fn sample(name: &str) -> StudyInstance {
    let path = models_folder().join("samples").join(name);
    assert!(path.is_file(), "{} is not there", path.display());
    StudyInstance { path, source: "test".to_owned(), digest: "00".to_owned() }
}

fn study(instances: Vec<StudyInstance>) -> Study {
    Study {
        instances,
        version: 1,
        reported_inputs: None,
        predecessor: None,
        content_time: "20260102030405".parse().unwrap(),
    }
}

fn pipeline(when: &str, backend: Scripted) -> Pipeline {
    let rule = Rule::new("rule".to_owned(), when, MODEL.to_owned(), Vec::new(), Mode::Draft, Priority::Routine);
    Pipeline {
        rules: vec![rule.unwrap()],
        models: Models::scripted(MODEL, &models_folder(), backend).unwrap(),
        limits: Limits::default(),
        deadline: Duration::from_secs(60),
        device: DeviceIdentity { uid: "1.2.3".parse().unwrap(), serial_number: "1".to_owned() },
    }
}

fn says(text: &str) -> Scripted {
    Scripted::saying([text])
}

fn written<'a>(pipeline: &'a Pipeline, study: &'a Study) -> Reading<'a> {
    pipeline.read(study).unwrap_or_else(|end| panic!("it is not written: {end:?}"))
}

#[test]
fn a_study_ends_as_its_inputs_its_rule_and_its_model_say() {
    let check = |pipeline: &Pipeline, study: &Study, expected: &str| {
        let ended = match pipeline.read(study) {
            Ok(reading) => format!("written: {}", reading.json.report.impression.join(" ")),
            Err(End::Held { what, reason, .. }) => format!("held: {what}: {reason}"),
            Err(End::Skipped { reason }) => format!("skipped: {reason}"),
            Err(End::Unchanged) => "unchanged".to_owned(),
            Err(End::Stopped) => "stopped".to_owned(),
        };
        assert!(ended.starts_with(expected), "{ended:?} does not start with {expected:?}");
    };
    let image = || study(vec![sample("01-normal.dcm")]);
    let any = |backend| pipeline("true", backend);

    check(&any(says("No abnormality.")), &image(), "written: No abnormality reported by the model.");
    check(&any(says("Left pneumothorax.")), &image(), "written: Left pneumothorax.");
    check(&any(says("Left pneumothorax. No pneumothorax.")), &image(), "held: the draft contradicts itself");
    check(
        &any(says("")),
        &image(),
        "held: the draft contradicts itself: the draft is not sent: The model wrote nothing",
    );
    check(&pipeline("modality == 'CT'", says("")), &image(), "skipped: no rule takes any of its 1 images");
    check(&any(says("")), &study(Vec::new()), "held: no image to read");
    let gone = study(vec![StudyInstance { path: "gone.dcm".into(), source: String::new(), digest: String::new() }]);
    check(&any(says("")), &gone, "held: an instance cannot be read back: gone.dcm");
    let broken = Scripted::new(|_, _| Err(Error::Request("out of order".to_owned())));
    check(&any(broken), &image(), "held: the model failed: model \"scripted\": request: out of order");
    let cancelled = Scripted::new(|_, _| Err(Error::Cancelled));
    check(&any(cancelled), &image(), "stopped");

    let reader = any(says("No abnormality."));
    let inputs = reader.read(&image()).ok().map(|reading| reading.inputs_digest);
    check(&reader, &Study { reported_inputs: inputs, ..image() }, "unchanged");
    check(&reader, &Study { reported_inputs: Some("others".to_owned()), ..image() }, "written");
}

#[test]
fn the_same_study_makes_the_same_object_and_another_version_another_one() {
    let pipeline = pipeline("true", says("No abnormality."));
    let read = |version| {
        let study = Study { version, ..study(vec![sample("01-normal.dcm")]) };
        written(&pipeline, &study).text_sr.clone()
    };
    assert_eq!(read(1), read(1));
    assert_ne!(read(1).sop_instance_uid, read(2).sop_instance_uid);
}

#[test]
fn one_image_is_read_and_the_report_says_that_there_were_others() {
    let pipeline = pipeline("true", says("No abnormality."));
    let study = study(vec![sample("01-normal.dcm"), sample("02-nodule-small.dcm")]);
    let reading = written(&pipeline, &study);
    assert_eq!(reading.json.images.read.len(), 1);
    assert_eq!(reading.json.images.left_out.len(), 1);
    let sr = Instance::from_bytes(&reading.text_sr.file, &Limits::default()).unwrap();
    assert_eq!(sr.header.text(dataset::tags::COMPLETION_FLAG).as_deref(), Some("PARTIAL"));
    assert!(sr.header.is_our_own());
}
