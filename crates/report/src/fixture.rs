//! A reading to test with: a small radiograph, one finding at a place, two of the study, and every document of it.

use dataset::{Instance, Limits, Uid, tags};
use dicom_core::VR;

use crate::{
    CodedFindings, Completion, ContentTime, Document, EvidenceItem, Grid, LocalizedFinding, ModelText, Presence,
    Provenance, Region, Shape, Source, StudyFinding, Trust, Weight, codes,
    elements::{DataSet, file},
    heatmap::{FindingMap, Picture, Raster, draw, secondary_capture},
    key_objects::key_objects,
    localized::{Certainty, Measurement},
    parse, pdf,
    presentation::presentation_state,
    rejection::rejection_note,
    sr::{MeasurementClass, MeasurementOptions, Options, TextClass, measurement_report, results_report, text_report},
    text,
    uids::Kind,
    validate,
    vocabulary::Concept,
};

pub(crate) const CR_CLASS: &str = "1.2.840.10008.5.1.4.1.1.1";

pub(crate) fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// A radiograph with little more than an identity.
pub(crate) fn radiograph() -> Instance {
    let mut image = DataSet::default();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, CR_CLASS),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4.5"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::MODALITY, VR::CS, "CR"),
        (tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
        (tags::PATIENT_NAME, VR::PN, "Doe^Jane"),
        (tags::ACCESSION_NUMBER, VR::SH, "A1"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Chest PA"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::WINDOW_CENTER, VR::DS, "2048"),
        (tags::WINDOW_WIDTH, VR::DS, "4096"),
        (tags::PIXEL_DATA, VR::OB, "\0\0"),
    ] {
        image.put_bytes(tag, vr, value);
    }
    image.put_bytes(tags::ROWS, VR::US, 200_u16.to_le_bytes());
    image.put_bytes(tags::COLUMNS, VR::US, 300_u16.to_le_bytes());
    Instance::from_bytes(&file(&image), &Limits::default()).unwrap()
}

pub(crate) fn evidence() -> EvidenceItem {
    EvidenceItem {
        series_instance_uid: uid("1.2.3.4"),
        sop_class_uid: uid(CR_CLASS),
        sop_instance_uid: uid("1.2.3.4.5"),
        digest: "00".to_owned(),
    }
}

pub(crate) fn source(representative: &Instance) -> Source<'_> {
    Source { representative, evidence: vec![evidence()], predecessors: Vec::new() }
}

pub(crate) fn provenance() -> Provenance {
    Provenance {
        model_name: "model".to_owned(),
        model_version: "1".to_owned(),
        model_digest: "abc".to_owned(),
        notice: None,
        prompt_id: "p".to_owned(),
        settings: "greedy".to_owned(),
        settings_digest: None,
        rule: "r".to_owned(),
        version: 1,
        device_uid: uid("2.25.1"),
        device_serial: "s".to_owned(),
        software_version: "0".to_owned(),
        udi: Some("(01)00844588003288(17)141120(10)7654321D(21)10987654d321".to_owned()),
        content_time: ContentTime::from_unix_utc(0),
    }
}

pub(crate) fn findings() -> CodedFindings {
    let shape = Shape::Polygon(vec![[30.5, 20.0], [60.0, 20.0], [60.0, 50.25], [30.5, 50.25]]);
    let certainty = Some(Certainty { percent: 72.04 });
    let diameter = Measurement {
        name: codes::DIAMETER,
        value: 26.245_678_901_234_567,
        unit: codes::MILLIMETRE,
        trust: Trust::AtDetector,
    };
    let study = |concept: &str, presence, certainty| StudyFinding {
        label: Concept::named(concept).unwrap().name().to_owned(),
        finding: Concept::named(concept).unwrap().code().unwrap(),
        presence,
        site: Some(codes::LUNG),
        laterality: Some(codes::RIGHT),
        certainty,
    };
    CodedFindings {
        localized: vec![LocalizedFinding {
            label: "Nodule 1".to_owned(),
            finding: Concept::named("nodule").unwrap().code().unwrap(),
            site: Some(codes::LUNG),
            laterality: Some(codes::LEFT),
            region: Region::new(&evidence(), None, shape),
            measurements: vec![diameter],
            certainty,
        }],
        study: vec![
            study("pleural_effusion", Presence::Present, certainty),
            study("pneumothorax", Presence::Absent, None),
        ],
    }
}

fn picture() -> Raster {
    let grid = Grid { rows: 2, columns: 2, values: vec![0.0, 1.0, 0.0, 0.0] };
    let pixels = vec![100; 30 * 20];
    draw(
        &Picture::Grey { width: 30, height: 20, pixels: &pixels },
        &[FindingMap { grid: &grid, area: None, label: "Nodule" }],
    )
    .unwrap()
}

/// One document of each kind.
pub(crate) fn documents() -> Vec<Document> {
    let representative = radiograph();
    let (source, provenance, findings) = (source(&representative), provenance(), findings());
    let model_text = "Large nodule in the left upper zone. No pleural effusion. Something else.";
    let draft = parse(&ModelText { text: model_text, tokens: Vec::new(), grid: None });
    let completion = Completion::Partial("no heat map".to_owned());
    let picture = picture();
    let heat_map = secondary_capture(&picture, None, &source, &provenance).unwrap();
    let text = |class| {
        let options = Options { class, completion: completion.clone(), ..Options::default() };
        text_report(&draft, &source, &provenance, &options).unwrap()
    };
    let measured = |class| {
        let options = MeasurementOptions { class, completion: completion.clone(), heat_map: Some(&heat_map) };
        measurement_report(&findings, &source, &provenance, &options).unwrap().unwrap()
    };
    let figure = pdf::Figure { picture: &picture, caption: "What the model attended to." };
    let sections = pdf::sections(&draft, &provenance, 1);
    let withdrawn = text(TextClass::BasicText);
    vec![
        rejection_note_of(&[&withdrawn, &heat_map]),
        withdrawn,
        text(TextClass::Enhanced),
        measured(MeasurementClass::Comprehensive3D),
        measured(MeasurementClass::Comprehensive),
        results_report(&findings, &source, &provenance, &completion).unwrap().unwrap(),
        pdf::report(&sections, &[figure], &source, &provenance).unwrap(),
        key_objects(findings.localized.iter().map(|it| &it.region), Some(&heat_map), &source, &provenance).unwrap(),
        presentation_state(&findings.localized, &[&representative], &source, &provenance).unwrap().unwrap(),
        heat_map,
    ]
}

/// What takes documents back, the first of which it has its patient from.
pub(crate) fn rejection_note_of(documents: &[&Document]) -> Document {
    let of = Instance::from_bytes(&documents[0].file, &Limits::default()).unwrap();
    let item = |document: &&Document| EvidenceItem {
        series_instance_uid: document.series_instance_uid.clone(),
        sop_class_uid: document.sop_class_uid.clone(),
        sop_instance_uid: document.sop_instance_uid.clone(),
        digest: String::new(),
    };
    let source =
        Source { representative: &of, evidence: documents.iter().map(item).collect(), predecessors: Vec::new() };
    rejection_note(&source, "the wrong\u{1b}[2J patient", &provenance()).unwrap()
}

/// The data set of the document of a kind.
pub(crate) fn data_set(kind: Kind) -> DataSet {
    let document = documents().into_iter().find(|document| document.kind == kind).unwrap();
    text::read(&document.file).unwrap()
}

#[test]
fn every_document_passes_and_has_its_own_series() {
    let documents = documents();
    let all = crate::validate_all(
        documents.iter().filter(|it| !matches!(it.kind, Kind::EnhancedTextReport | Kind::Measurements)),
    );
    assert!(all.iter().all(|it| it.weight == Weight::Remark && it.rule == "blank-viewer"), "{all:#?}");
    for document in &documents {
        let breaches: Vec<_> = validate(&document.file).into_iter().filter(|it| it.weight == Weight::Breach).collect();
        assert_eq!(breaches, [], "{:?}", document.kind);
    }
    let results = documents.iter().filter(|it| it.kind == Kind::Results);
    assert!(crate::must_hold(&crate::validate_all(results)), "study-level results never go alone");
    let twice = [&documents[0], &documents[0]];
    assert!(crate::validate_all(twice).iter().any(|it| it.rule == "own-series"));
}
