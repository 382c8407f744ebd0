use std::path::Path;

use infer::{Error, Scripted};

use super::*;
use crate::config::{Mode, Priority};

mod doubt;

const MODEL: &str = "scripted";

fn models_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr")
}

fn sample(name: &str) -> StudyInstance {
    let path = models_folder().join("samples").join(name);
    assert!(path.is_file(), "{} is not there", path.display());
    StudyInstance { path, source: "test".to_owned(), digest: "00".to_owned(), kept_as: None }
}

/// So many images of one patient in series of their own: the same one under other UIDs.
fn images_of_one_patient(count: u8, folder: &Path) -> Vec<StudyInstance> {
    let original = sample("01-normal.dcm");
    let header = Header::open(&original.path, &Limits::default()).unwrap();
    let image = |number: u8| {
        let mut file = std::fs::read(&original.path).unwrap();
        for uid in [&header.sop_instance_uid, &header.series_instance_uid] {
            let uid = uid.as_str().as_bytes();
            while let Some(at) = file.windows(uid.len()).position(|window| window == uid) {
                // Their last digits are fives and sixes.
                file[at + uid.len() - 1] = b'0' + number;
            }
        }
        let path = folder.join(format!("{number}.dcm"));
        std::fs::write(&path, file).unwrap();
        StudyInstance { path, digest: number.to_string(), ..sample("01-normal.dcm") }
    };
    (0..count).map(image).collect()
}

fn study(instances: Vec<StudyInstance>) -> Study {
    Study {
        instances,
        version: 1,
        reported_inputs: None,
        predecessors: Vec::new(),
        decisions: Decisions::default(),
        content_time: "20260102030405".parse().unwrap(),
    }
}

fn pipeline(when: &str, backend: Scripted) -> Pipeline {
    let rule = Rule::new("rule".to_owned(), when, MODEL.to_owned(), Vec::new(), Mode::Draft, Priority::Routine);
    Pipeline {
        rules: vec![rule.unwrap()],
        models: Models::scripted(MODEL, &models_folder(), backend).unwrap(),
        trusts: Trusts::default(),
        limits: Limits::default(),
        deadline: Duration::from_secs(60),
        device: DeviceIdentity { uid: "1.2.3".parse().unwrap(), serial_number: "1".to_owned(), udi: None },
        wanted: Wanted::Everything,
        asked: Asked::default(),
    }
}

fn says(text: &str) -> Scripted {
    Scripted::saying([text])
}

fn written<'a>(pipeline: &'a Pipeline, study: &'a Study) -> Reading<'a> {
    pipeline.read(study).unwrap_or_else(|end| panic!("it is not written: {end:?}"))
}

#[test]
fn a_model_that_is_to_write_json_is_held_to_it() {
    let check = |text: &'static str, expected: &str| {
        let backend = Scripted::new(move |request, _| {
            let schema = infer::Grammar::JsonSchema(report::schema());
            assert_eq!(request.output, infer::Output::Bound(schema));
            Ok(infer::Answer::scripted(text))
        });
        let mut pipeline = pipeline("true", backend);
        pipeline.models = pipeline.models.writing_json();
        let study = study(vec![sample("03-nodule-large.dcm")]);
        let found = match pipeline.read(&study) {
            Ok(reading) => reading.json.report.impression.join(" "),
            Err(end) => format!("{end:?}"),
        };
        assert!(found.contains(expected), "{found}");
    };
    let json = r#"{"findings": [{"sentence": "Right pneumothorax.", "concept": "pneumothorax", "presence": "present"}],
        "impression": ["Right pneumothorax."]}"#;
    check(json, "Right pneumothorax.");
    check("Right pneumothorax.", "no JSON");
}

#[test]
fn a_study_ends_as_its_inputs_its_rule_and_its_model_say() {
    let check = |pipeline: &Pipeline, study: &Study, expected: &str| {
        let ended = match pipeline.read(study) {
            Ok(reading) => format!("written: {}", reading.json.report.impression.join(" ")),
            Err(End::Held { what, reason, .. }) => format!("held: {what}: {reason}"),
            Err(End::Skipped { reason }) => format!("skipped: {reason}"),
            Err(End::Verified) => "verified".to_owned(),
            Err(End::Unchanged) => "unchanged".to_owned(),
            Err(End::Stopped) => "stopped".to_owned(),
        };
        assert!(ended.starts_with(expected), "{ended:?} does not start with {expected:?}");
    };
    let image = || study(vec![sample("01-normal.dcm")]);
    let any = |backend| pipeline("true", backend);

    check(&any(says("No abnormality.")), &image(), "written: [The model wrote no impression: read the findings.]");
    check(&any(says("Left pneumothorax.")), &image(), "written: Left pneumothorax.");
    check(&any(says("Left pneumothorax. No pneumothorax.")), &image(), "held: the draft contradicts itself");
    check(
        &any(says("")),
        &image(),
        "held: the draft contradicts itself: the draft is not sent: The model wrote nothing",
    );
    check(&pipeline("modality == 'CT'", says("")), &image(), "skipped: no rule takes any of its 1 images");
    check(&any(says("")), &study(Vec::new()), "held: no image to read");
    let gone = StudyInstance { path: "gone.dcm".into(), source: String::new(), digest: String::new(), kept_as: None };
    let gone = study(vec![gone]);
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
fn each_document_of_a_study_read_again_follows_its_own() {
    let backend = || {
        Scripted::new(|_, _| {
            let mut answer = infer::Answer::scripted("Left pneumothorax.");
            let per_token = answer.tokens.iter().map(|_| vec![0.1, 0.7, 0.1, 0.1]).collect();
            answer.attention = Some(infer::Attention { rows: 1, cols: 4, layer: 0, per_token });
            Ok(answer)
        })
    };
    let pipeline = pipeline("true", backend());
    let documents = |study: &Study| -> Vec<Document> {
        let reading = written(&pipeline, study);
        std::iter::once(&reading.text_sr).chain(reading.objects.iter().map(|(_, it)| it)).cloned().collect()
    };
    let first = documents(&study(vec![sample("01-normal.dcm")]));
    assert_eq!(first.len(), 7);
    let follow = |document: &Document| {
        let item = EvidenceItem {
            series_instance_uid: document.series_instance_uid.clone(),
            sop_class_uid: document.sop_class_uid.clone(),
            sop_instance_uid: document.sop_instance_uid.clone(),
            digest: String::new(),
        };
        (document.kind, item)
    };
    let predecessors = first.iter().map(follow).collect();
    let second = documents(&Study { version: 2, predecessors, ..study(vec![sample("01-normal.dcm")]) });
    let mut followed = 0;
    for (earlier, later) in first.iter().zip(&second) {
        assert_eq!(earlier.kind, later.kind);
        let says = |document: &Document| {
            let uid = earlier.sop_instance_uid.as_str().as_bytes();
            document.file.windows(uid.len()).filter(|it| it == &uid).count()
        };
        assert!(
            earlier.sop_instance_uid != later.sop_instance_uid
                && earlier.series_instance_uid != later.series_instance_uid
        );
        // Only SR documents have an attribute for it (PS3.3 C.17.2).
        assert_eq!(says(later), usize::from(later.kind.modality() == "SR"), "{:?}", later.kind);
        followed += says(later);
    }
    assert_eq!(followed, 3);
}

#[test]
fn a_measurement_report_is_ready_in_the_class_that_more_archives_take() {
    let attending = Scripted::new(|_, _| {
        let mut answer = infer::Answer::scripted("Left pneumothorax.");
        let per_token = answer.tokens.iter().map(|_| vec![0.1, 0.7, 0.1, 0.1]).collect();
        answer.attention = Some(infer::Attention { rows: 1, cols: 4, layer: 0, per_token });
        Ok(answer)
    });
    let mut pipeline = pipeline("true", attending);
    let takes = [("pacs".to_owned(), vec![ObjectName::TextSr, ObjectName::MeasurementsSr])];
    pipeline.wanted = Wanted::ByDestination(takes.into());
    pipeline.rules[0].destinations = vec!["pacs".to_owned()];
    let study = study(vec![sample("01-normal.dcm")]);
    let names: Vec<ObjectName> = written(&pipeline, &study).objects.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [ObjectName::MeasurementsSr, ObjectName::ComprehensiveMeasurementsSr]);
}

#[test]
fn one_image_is_read_and_the_report_says_that_there_were_others() {
    let pipeline = pipeline("true", says("No abnormality."));
    let folder = tempfile::tempdir().unwrap();
    let study = study(images_of_one_patient(2, folder.path()));
    let reading = written(&pipeline, &study);
    assert_eq!(reading.json.images.read.len(), 1);
    assert_eq!(reading.json.images.left_out.len(), 1);
    let sr = Instance::from_bytes(&reading.text_sr.file, &Limits::default()).unwrap();
    assert_eq!(sr.header.text(dataset::tags::COMPLETION_FLAG).as_deref(), Some("PARTIAL"));
    assert!(sr.header.is_our_own());
}

#[test]
fn images_of_two_patients_are_held_if_a_rule_takes_any() {
    let study = || study(vec![sample("01-normal.dcm"), sample("02-nodule-small.dcm")]);
    let check = |when: &str, expected: &str| {
        let end = pipeline(when, says("No abnormality.")).read(&study()).err();
        assert!(format!("{end:?}").contains(expected), "{when}: {end:?}");
    };
    check("true", "group 2: 1 image from test");
    check("modality == 'CT'", "no rule takes any of its 2 images");
}

#[test]
fn a_late_image_that_is_not_read_makes_another_report() {
    let pipeline = pipeline("true", says("No abnormality."));
    let folder = tempfile::tempdir().unwrap();
    let images = || images_of_one_patient(2, folder.path());
    let first = written(&pipeline, &study(images().into_iter().take(1).collect())).inputs_digest;
    let both = Study { reported_inputs: Some(first.clone()), ..study(images()) };
    let later = written(&pipeline, &both);
    assert_ne!(later.inputs_digest, first);
    let again = Study { reported_inputs: Some(later.inputs_digest.clone()), ..study(images()) };
    assert_eq!(pipeline.read(&again).err(), Some(End::Unchanged));
    let reversed =
        Study { reported_inputs: again.reported_inputs.clone(), ..study(images().into_iter().rev().collect()) };
    assert_eq!(pipeline.read(&reversed).err(), Some(End::Unchanged), "whichever came first");
}

#[test]
fn a_model_gets_as_many_images_as_its_manifest_asks_for() {
    let check = |limit: u32, read: usize, reason: &str| {
        let policy = pixel::ImagePolicy { limit: pixel::Limit(limit), ..pixel::ImagePolicy::default() };
        let counts = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&counts);
        let backend = Scripted::new(move |request, _| {
            seen.lock().unwrap().push(request.images.len());
            Ok(infer::Answer::scripted("No abnormality."))
        });
        let mut pipeline = pipeline("true", backend);
        pipeline.models = pipeline.models.with_policy(&policy);
        let folder = tempfile::tempdir().unwrap();
        let study = study(images_of_one_patient(3, folder.path()));
        let reading = written(&pipeline, &study);
        let images = serde_json::to_value(&reading.json).unwrap()["images"].take();
        assert_eq!(*counts.lock().unwrap(), [read]);
        assert_eq!(images["read"].as_array().map(Vec::len), Some(read));
        assert_eq!(images["shown"].as_array().map(Vec::len), Some(read));
        assert_eq!(images["stacks"].as_array().map(Vec::len), Some(study.instances.len()));
        let left_out = images["left_out"].as_array().unwrap();
        assert_eq!(left_out.len(), study.instances.len() - read);
        assert!(left_out.iter().all(|one| one["reason"] == reason), "{left_out:?}");
        assert!(!reading.heatmap.png().unwrap().is_empty());
        // The report names what was read and nothing else.
        assert_eq!(reading.json.report.inputs.len(), read);
    };
    check(1, 1, "the model reads no more images of a study");
    check(2, 2, "the model reads no more images of a study");
}

#[test]
fn what_a_model_looked_at_leads_back_to_the_image() {
    use infer::{Attention, Placement};
    // The model saw the middle of an image twice as large; it looked at the second of four columns.
    let check = |placements: Vec<Placement>, expected: Option<(f64, f64)>| {
        let pipeline = pipeline(
            "true",
            Scripted::new(move |_, _| {
                let mut answer = infer::Answer::scripted("Left pneumothorax.");
                let per_token = answer.tokens.iter().map(|_| vec![0.1, 0.7, 0.1, 0.1]).collect();
                answer.attention = Some(Attention { rows: 1, cols: 4, layer: 0, per_token });
                answer.placements = placements.clone();
                Ok(answer)
            }),
        );
        let study = study(vec![sample("01-normal.dcm")]);
        let reading = written(&pipeline, &study);
        let attended = serde_json::to_value(&reading.json).unwrap()["attended"].take();
        let number = |key: &str| attended[0][key].as_f64();
        match (number("column").zip(number("row")), expected) {
            (Some(found), Some(due)) => {
                assert!((found.0 - due.0).abs() < 1e-9 && (found.1 - due.1).abs() < 1e-9, "{found:?}, due {due:?}");
            }
            (found, due) => assert_eq!(found, due),
        }
        let with_colour = reading.heatmap.png().unwrap();
        assert!(!with_colour.is_empty());
    };
    let size = |name: &str| {
        let header = Header::open(&sample(name).path, &Limits::default()).unwrap();
        [dataset::tags::COLUMNS, dataset::tags::ROWS].map(|tag| u32::try_from(header.integer(tag).unwrap()).unwrap())
    };
    let [columns, rows] = size("01-normal.dcm").map(f64::from);
    check(Vec::new(), Some((columns * 1.5 / 4.0, rows / 2.0)));
    let placement =
        |image, scale: f64, offset: [f64; 2]| Placement { image, scale: [scale; 2], offset, width: 40, height: 20 };
    // Half of the size, from 10 columns and 4 rows on: column 15 of the input is column 25 * 2 of the image.
    check(vec![placement(0, 0.5, [-10.0, -4.0])], Some((50.0, 28.0)));
    // Black around the image was looked at: that is no point of it.
    check(vec![placement(0, 0.5, [30.0, 0.0])], None);
    // Which of two inputs attention lies over is not known.
    check(vec![placement(0, 0.5, [0.0, 0.0]), placement(0, 0.5, [-40.0, 0.0])], None);
}

/// A sample as a spool keeps it.
fn kept(name: &str, path: PathBuf) -> StudyInstance {
    let bytes = std::fs::read(sample(name).path).unwrap();
    let (meta, data_set_at) = dataset::part10::Meta::parse(&bytes).unwrap();
    let header = Header::open(&sample(name).path, &Limits::default()).unwrap();
    StudyInstance {
        path,
        source: "test".to_owned(),
        digest: dataset::Digest::of(&bytes[data_set_at..]).to_string(),
        kept_as: Some(KeptAs {
            study_instance_uid: header.study_instance_uid.to_string(),
            sop_instance_uid: header.sop_instance_uid.to_string(),
            transfer_syntax_uid: meta.transfer_syntax_uid.to_string(),
        }),
    }
}

#[test]
fn what_is_not_what_was_kept_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1.dcm");
    let reader = pipeline("true", says("No abnormality."));
    let whole = std::fs::read(sample("01-normal.dcm").path).unwrap();
    let (_, data_set_at) = dataset::part10::Meta::parse(&whole).unwrap();
    let check = |change: &dyn Fn(&mut Vec<u8>), amend: &dyn Fn(&mut KeptAs), expected: &str| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let mut instance = kept("01-normal.dcm", path.clone());
        instance.kept_as.as_mut().map(amend);
        let ended = match reader.read(&study(vec![instance])) {
            Ok(_) => "written".to_owned(),
            Err(end) => format!("{end:?}"),
        };
        assert!(ended.contains(expected), "{ended}");
    };
    let same: &dyn Fn(&mut KeptAs) = &|_| {};
    check(&|_| {}, same, "written");
    // The preamble is nobody's.
    check(&|bytes| bytes[5] = 1, same, "written");
    let damaged = "damaged on the disk";
    check(&|bytes| *bytes.last_mut().unwrap() ^= 1, same, damaged);
    check(&|bytes| bytes.truncate(bytes.len() - 1), same, damaged);
    check(&|bytes| bytes.truncate(200), same, damaged);
    check(&Vec::clear, same, damaged);
    check(&|bytes| bytes.push(0), same, damaged);
    check(&|bytes| bytes[data_set_at + 20] ^= 0x20, same, damaged);
    let other = std::fs::read(sample("03-nodule-large.dcm").path).unwrap();
    check(&|bytes| bytes.clone_from(&other), same, damaged);
    // A row that speaks of another instance than its digest.
    check(&|_| {}, &|kept| kept.study_instance_uid = "1.2.3".to_owned(), damaged);
    check(&|_| {}, &|kept| kept.sop_instance_uid = "1.2.3".to_owned(), damaged);
    check(&|_| {}, &|kept| kept.transfer_syntax_uid = "1.2.840.10008.1.2".to_owned(), damaged);
}

#[test]
fn a_reading_has_one_deadline_from_its_beginning() {
    let check = |limit: Duration, waits: Duration, expected: &str| {
        let backend = Scripted::new(move |_, cancel| {
            std::thread::sleep(waits);
            cancel.check()?;
            Ok(infer::Answer::scripted("No abnormality."))
        });
        let reader = Pipeline { deadline: limit, ..pipeline("true", backend) };
        let instances = study(vec![sample("01-normal.dcm")]);
        let course = Course::new(None, limit);
        // What was waited for before counts too.
        std::thread::sleep(waits);
        let ended = match reader.read_on(&instances, &course, &mut Made::default()) {
            Ok(_) => "written".to_owned(),
            Err(end) => format!("{end:?}"),
        };
        assert!(ended.contains(expected), "{ended}");
    };
    let long = Duration::from_secs(60);
    check(long, Duration::ZERO, "written");
    check(Duration::ZERO, Duration::ZERO, "study.deadline");
    check(Duration::from_millis(20), Duration::from_millis(40), "study.deadline");
    // Enough for either, and not for both.
    check(Duration::from_secs(2), Duration::from_millis(1_500), "deadline");
}

#[test]
fn images_that_are_not_ready_in_time_make_no_report_of_some_of_them() {
    let reader = pipeline("true", says("No abnormality."));
    let folder = tempfile::tempdir().unwrap();
    let instances = study(images_of_one_patient(2, folder.path()));
    let course = Course::new(None, Duration::from_secs(60));
    let opened = reader.open(&instances, &course).unwrap();
    let routed = reader.route(opened).unwrap();
    let over = Course::new(None, Duration::ZERO);
    let ended = format!("{:?}", reader.render(routed, &over).map(|_| ()));
    assert!(ended.contains("the reading took too long") && ended.contains("study.deadline"), "{ended}");
}
