//! The documents against those who judge them: dicom3tools, dcmtk and PixelMed, over the sources that hospitals send.

mod corpus;
mod readings;
mod sources;
mod tools;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use dataset::{Instance, Limits, tags};
use readings::{FOREIGN, PLAIN, all, document, draft, evidence, provenance};
use report::{
    Error, Kind, ModelText, Source, Weight,
    heatmap::{FindingMap, Picture, png},
    parse,
    sr::{Options, TextClass, text_report},
    text::{read_text, render_text},
    validate,
};
use sources::{samples, sources, studies, without_identity};
use tools::{dcentvfy, dciodvfy, dsrdump, pixelmed};

#[test]
fn the_study_is_taken_over_byte_for_byte_or_letter_for_letter() {
    let mut seen = 0;
    for path in sources() {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let plain = document(&instance, PLAIN, TextClass::BasicText);
        let foreign = document(&instance, FOREIGN, TextClass::BasicText);
        let plain = Instance::from_bytes(&plain.file, &Limits::default()).unwrap().header;
        let foreign = Instance::from_bytes(&foreign.file, &Limits::default()).unwrap().header;
        assert_eq!(foreign.text(tags::SPECIFIC_CHARACTER_SET).as_deref(), Some("ISO_IR 192"));
        for tag in [
            tags::PATIENT_NAME,
            tags::PATIENT_ID,
            tags::PATIENT_SEX,
            tags::ACCESSION_NUMBER,
            tags::STUDY_INSTANCE_UID,
            tags::STUDY_ID,
            tags::REFERRING_PHYSICIAN_NAME,
            tags::STUDY_DESCRIPTION,
        ] {
            let given = instance.header.raw(tag).unwrap_or_default();
            assert_eq!(plain.raw(tag).unwrap_or_default(), given, "{tag} of {}", path.display());
            assert_eq!(foreign.text(tag), instance.header.text(tag), "{tag} of {}", path.display());
        }
        assert!(plain.is_our_own() && plain.modality() == "SR");
        seen += 1;
    }
    println!("{seen} sources");
}

/// Every kind of document from one image of every study, and text reports of every script in UTF-8.
#[test]
fn every_document_is_clean_for_us_and_for_the_other_validators() {
    let (own, foreign) = (studies(), sources().collect::<Vec<_>>());
    let work: Vec<(PathBuf, bool)> =
        own.into_iter().map(|path| (path, true)).chain(foreign.into_iter().map(|path| (path, false))).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Vec::new(), BTreeMap::<Kind, usize>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((source, whole)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (complaints, made) = judge(source, *whole);
                    let mut found = found.lock().unwrap();
                    found.0.extend(complaints);
                    made.into_iter().for_each(|kind| *found.1.entry(kind).or_default() += 1);
                }
            });
        }
    });
    let (complaints, kinds) = found.into_inner().unwrap();
    println!("{kinds:?}");
    // An absent test set skips; a present one has these at least.
    assert!(work.is_empty() || (kinds.len() == 10 && kinds.values().all(|count| *count >= 20)), "{kinds:?}");
    let shown = complaints.len().min(40);
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints[..shown].join("\n"));
}

/// What the validators say of the documents made from an image, each line with its document; and which were made. `whole`:
/// of every kind, in the source's own characters; otherwise a text report in UTF-8.
fn judge(source: &Path, whole: bool) -> (Vec<String>, Vec<Kind>) {
    let instance = Instance::open(source, &Limits::default()).expect("an instance");
    let documents =
        if whole { all(&instance, PLAIN) } else { vec![document(&instance, FOREIGN, TextClass::BasicText)] };
    let directory = tempfile::tempdir().expect("a folder");
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let of_source = tools::faults(source);
    let (mut complaints, mut made) = (Vec::new(), Vec::new());
    for document in documents {
        let path = directory.path().join(format!("{:?}.dcm", document.kind));
        std::fs::write(&path, &document.file).expect("written");
        let mut lines = Vec::new();
        let found = validate(&document.file).into_iter().filter(|violation| violation.weight == Weight::Breach);
        lines.extend(found.map(|violation| format!("validate: {violation:?}")));
        lines.extend(dciodvfy(&of_source, &path, document.kind));
        if document.kind.modality() == "KO" || document.kind.modality() == "SR" {
            lines.extend(dsrdump(&path));
        }
        // dcentvfy compares bytes, so it can only judge a report in the source's own character set.
        if whole {
            lines.extend(dcentvfy(source, &path));
        }
        complaints.extend(lines.into_iter().map(|line| format!("{name} {:?}: {line}", document.kind)));
        made.push(document.kind);
    }
    (complaints, made)
}

/// A judge that never complains proves nothing: dcentvfy compares bytes, so UTF-8 is a difference to it.
#[test]
fn dcentvfy_would_see_another_patient() {
    let directory = tempfile::tempdir().unwrap();
    for source in sources().filter(|path| path.ends_with("chrRuss.dcm")) {
        let instance = Instance::open(&source, &Limits::default()).unwrap();
        let path = directory.path().join("utf-8.dcm");
        std::fs::write(&path, document(&instance, FOREIGN, TextClass::BasicText).file).unwrap();
        assert!(!dcentvfy(&source, &path).is_empty());
    }
}

#[test]
fn a_source_without_identity_is_refused() {
    for path in without_identity() {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let source =
            Source { representative: &instance, evidence: vec![evidence(&instance.header)], predecessors: Vec::new() };
        let refused = text_report(&draft(), &source, &provenance(PLAIN), &Options::default());
        assert!(matches!(refused, Err(Error::Identity(_))), "{}", path.display());
    }
}

/// Each kind of structured report once: it takes a Java start and many style sheets each.
#[test]
fn pixelmed_finds_our_templates() {
    let directory = tempfile::tempdir().unwrap();
    let sources: Vec<_> = sources().collect();
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else { return };
    let mut complaints = Vec::new();
    for (source, notice, kinds) in [
        (first, PLAIN, [Kind::BasicTextReport, Kind::Measurements3D]),
        (last, FOREIGN, [Kind::EnhancedTextReport, Kind::Results]),
    ] {
        let instance = Instance::open(source, &Limits::default()).unwrap();
        for document in all(&instance, notice).into_iter().filter(|document| kinds.contains(&document.kind)) {
            let path = directory.path().join(format!("{:?}.dcm", document.kind));
            std::fs::write(&path, document.file).unwrap();
            let text = matches!(document.kind, Kind::BasicTextReport | Kind::EnhancedTextReport);
            let found = pixelmed(&path, if text { "TID_2000" } else { "TID_1500" });
            complaints.extend(found.into_iter().map(|line| format!("{:?}: {line}", document.kind)));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn good_samples_of_others_pass_our_check_and_one_that_blanks_a_viewer_does_not() {
    for (path, expected) in samples() {
        let mut rules: Vec<&str> = validate(&std::fs::read(&path).unwrap()).iter().map(|it| it.rule).collect();
        rules.dedup();
        assert_eq!(rules, expected, "{}", path.display());
    }
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    for path in sources().take(3) {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let make = |class| document(&instance, PLAIN, class);
        assert_eq!(make(TextClass::BasicText), make(TextClass::BasicText));
        let (basic, enhanced) = (make(TextClass::BasicText), make(TextClass::Enhanced));
        assert_ne!(basic.sop_instance_uid, enhanced.sop_instance_uid);
        assert_ne!(basic.series_instance_uid, enhanced.series_instance_uid);
    }
}

/// Every code in a document of ours is one that `pydicom.sr` 3.0.2 has: `tests/codes.tsv`.
#[test]
fn every_code_that_we_write_is_in_the_verified_list() {
    let verified: Vec<(&str, &str, &str)> = include_str!("../codes.tsv")
        .lines()
        .map(|line| {
            let mut parts = line.split('\t');
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
        })
        .collect();
    // Not in pydicom's dictionaries: languages, and three that the templates name themselves (TID 1500, CID 210, 211).
    let elsewhere = [
        ("RFC5646", "en", "English"),
        ("ISO3166_1", "US", "United States"),
        ("UMLS", "C0034375", "Qualitative Evaluations"),
        ("SCT", "705057003", "Presence"),
        ("SCT", "2667000", "Absent"),
    ];
    for path in sources().take(1) {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let mut codes = Vec::new();
        for document in all(&instance, PLAIN) {
            let written = Instance::from_bytes(&document.file, &Limits::default());
            sources::codes(written.unwrap().object(), &mut codes);
        }
        assert!(codes.len() > 30, "{codes:?}");
        for (scheme, value, meaning) in &codes {
            let code = (scheme.as_str(), value.as_str(), meaning.as_str());
            assert!(verified.contains(&code) || elsewhere.contains(&code), "{code:?}");
        }
    }
}

#[test]
fn a_report_reads_the_same_on_a_terminal_and_from_the_file() {
    let provenance = provenance(PLAIN);
    let text = render_text(&draft(), &provenance);
    assert!(
        text.starts_with("AI-GENERATED DRAFT - NOT VERIFIED BY A RADIOLOGIST. phantom-cxr 1.0. Demonstration model. "),
        "{text}"
    );
    for path in sources().take(1) {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let tree = read_text(&document(&instance, FOREIGN, TextClass::BasicText).file);
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            assert!(tree.contains(line.trim()), "{line} in {tree}");
        }
        assert!(tree.contains("展示") && tree.contains("UNVERIFIED, PRELIMINARY"), "{tree}");
    }
    assert!(read_text(b"nothing").starts_with("not a readable SR"));
}

#[test]
fn report_json_says_what_was_found_and_nothing_of_the_patient() {
    let text = "Large nodule in the left upper zone.";
    let token =
        report::TokenEvidence { range: 0..text.len(), logprob: -0.5, attention: Some(vec![0.0, 1.0, 0.0, 0.0]) };
    let draft = parse(&ModelText { text, tokens: vec![token], grid: Some((2, 2)) });
    for path in sources().take(1) {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let document = document(&instance, PLAIN, TextClass::BasicText);
        let source = Source { representative: &instance, evidence: Vec::new(), predecessors: Vec::new() };
        let provenance = provenance(PLAIN);
        let derivation = report::sr::derivation(&source, &provenance);
        let objections = report::check(&draft, &report::StudyFacts::of([&instance.header]));
        let json = report::Report::new(&draft, &objections, &provenance, &derivation, &[document]);
        let json = serde_json::to_value(&json).unwrap();
        let finding = &json["findings"][0];
        assert_eq!(finding["concept"], "nodule");
        assert_eq!(finding["code"]["value"], "27925004");
        assert_eq!(
            (&finding["side"], &finding["zone"], &finding["size"]),
            (&"left".into(), &"upper".into(), &"large".into())
        );
        assert_eq!(finding["attention"]["best_cell"], serde_json::json!([0, 1]));
        assert_eq!(json["impression"][0], text);
        let name = instance.header.text(tags::PATIENT_NAME).unwrap();
        assert!(!json.to_string().contains(&name));
    }
    let pixels = vec![50; 64 * 64];
    let map = FindingMap { area: None, grid: draft.findings[0].attention.as_ref().unwrap(), label: text };
    assert!(png(&Picture::Grey { width: 64, height: 64, pixels: &pixels }, &[map]).is_ok());
}
