//! The documents against those who judge them: dicom3tools, dcmtk and PixelMed, over the sources that hospitals send.

mod sources;
mod tools;

use dataset::{Header, Instance, Limits, tags};
use report::{
    Completion, ContentTime, Document, Draft, Error, EvidenceItem, ModelText, Provenance, Source, Weight,
    heatmap::{FindingMap, Picture, png},
    parse,
    sr::{Options, TextClass, text_report},
    text::{read_text, render_text},
    validate,
};
use sources::{samples, sources, without_identity};
use tools::{dcentvfy, dciodvfy, dsrdump, pixelmed};

const TEXT: &str = "Large nodule in the left upper zone. Small right pleural effusion. No pneumothorax. \
                    The heart is enlarged. Endotracheal tube in place. An odd sentence.";

fn draft() -> Draft {
    parse(&ModelText { text: TEXT, tokens: Vec::new(), grid: None })
}

fn provenance(notice: &str) -> Provenance {
    Provenance {
        model_name: "phantom-cxr".to_owned(),
        model_version: "1.0".to_owned(),
        model_digest: "sha256:4a44dc15364204a80fe80e9039455cc1608281820fe2b24f1e5233ade6af1dd5".to_owned(),
        notice: Some(notice.to_owned()),
        prompt_id: "report-1".to_owned(),
        settings: "greedy, 128 tokens, float32".to_owned(),
        rule: "chest radiographs".to_owned(),
        version: 1,
        device_uid: "2.25.123456789".parse().expect("a UID"),
        device_serial: "4711".to_owned(),
        software_version: "0.0.0".to_owned(),
        content_time: "20260801101500".parse::<ContentTime>().expect("a time"),
    }
}

/// ASCII, so that the source's character set and bytes stay.
const PLAIN: &str = "Demonstration model. Not for clinical use.";
/// Not ASCII, so that everything becomes UTF-8.
const FOREIGN: &str = "Vorführmodell. Nicht für die Klinik. 展示";

fn evidence(header: &Header) -> EvidenceItem {
    EvidenceItem {
        series_instance_uid: header.series_instance_uid.clone(),
        sop_class_uid: header.sop_class_uid.clone(),
        sop_instance_uid: header.sop_instance_uid.clone(),
        digest: "00".repeat(32),
    }
}

fn document(instance: &Instance, notice: &str, class: TextClass) -> Document {
    let source = Source { representative: instance, evidence: vec![evidence(&instance.header)], predecessor: None };
    let options = Options {
        class,
        completion: Completion::Complete,
        clinical_information: Some("Cough.".to_owned()),
        ..Options::default()
    };
    text_report(&draft(), &source, &provenance(notice), &options).expect("a document")
}

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

#[test]
fn every_document_is_clean_for_us_and_for_the_other_validators() {
    let directory = tempfile::tempdir().unwrap();
    let mut complaints = Vec::new();
    let mut count = 0;
    for source in sources() {
        let instance = Instance::open(&source, &Limits::default()).unwrap();
        let name = source.file_name().unwrap().to_string_lossy().into_owned();
        for (notice, class) in
            [(PLAIN, TextClass::BasicText), (FOREIGN, TextClass::BasicText), (PLAIN, TextClass::Enhanced)]
        {
            let document = document(&instance, notice, class);
            let path = directory.path().join(format!("{count}.dcm"));
            std::fs::write(&path, &document.file).unwrap();
            let before = complaints.len();
            let found = validate(&document.file).into_iter().filter(|violation| violation.weight == Weight::Breach);
            complaints.extend(found.map(|violation| format!("validate: {violation:?}")));
            complaints.extend(dciodvfy(&source, &path, class));
            complaints.extend(dsrdump(&path));
            // dcentvfy compares bytes, so it can only judge a report in the source's own character set.
            if notice == PLAIN {
                complaints.extend(dcentvfy(&source, &path));
            }
            complaints[before..].iter_mut().for_each(|line| *line = format!("{name} {class:?}: {line}"));
            count += 1;
        }
    }
    println!("{count} documents");
    // An absent test set skips; a present one has these at least.
    assert!(count == 0 || count >= 50);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
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
            Source { representative: &instance, evidence: vec![evidence(&instance.header)], predecessor: None };
        let refused = text_report(&draft(), &source, &provenance(PLAIN), &Options::default());
        assert!(matches!(refused, Err(Error::Identity(_))), "{}", path.display());
    }
}

/// Both ends of the matrix: Basic Text with another character set, Enhanced in UTF-8.
#[test]
fn pixelmed_finds_our_template() {
    let directory = tempfile::tempdir().unwrap();
    let sources: Vec<_> = sources().collect();
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else { return };
    for (source, notice, class) in [(first, PLAIN, TextClass::BasicText), (last, FOREIGN, TextClass::Enhanced)] {
        let instance = Instance::open(source, &Limits::default()).unwrap();
        let path = directory.path().join(format!("{class:?}.dcm"));
        std::fs::write(&path, document(&instance, notice, class).file).unwrap();
        let complaints = pixelmed(&path);
        assert!(complaints.is_empty(), "{class:?}: {complaints:#?}");
    }
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
    let languages = [("RFC5646", "en", "English"), ("ISO3166_1", "US", "United States")];
    for path in sources().take(1) {
        let instance = Instance::open(&path, &Limits::default()).unwrap();
        let written = Instance::from_bytes(&document(&instance, PLAIN, TextClass::BasicText).file, &Limits::default());
        let mut codes = Vec::new();
        sources::codes(written.unwrap().object(), &mut codes);
        assert!(codes.len() > 30, "{codes:?}");
        for (scheme, value, meaning) in &codes {
            let code = (scheme.as_str(), value.as_str(), meaning.as_str());
            assert!(verified.contains(&code) || languages.contains(&code), "{code:?}");
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
        let source = Source { representative: &instance, evidence: Vec::new(), predecessor: None };
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
