use dataset::{Instance, Limits, tags};
use dicom_core::{Tag, VR};

use super::*;
use crate::{
    ContentTime, Draft, EvidenceItem, ModelText,
    elements::{DataSet, file},
    parse, text, validate,
    values::trimmed,
};

/// A source with every sequence that a report takes over, in the character set `declared`, with `name` for all text.
fn source(declared: &str, name: &[u8]) -> Instance {
    let mut code = DataSet::default();
    code.put_bytes(tags::CODE_VALUE, VR::SH, "P1");
    code.put_bytes(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99LOCAL");
    code.put_bytes(tags::CODE_MEANING, VR::LO, name);
    let mut half_a_code = code.clone();
    half_a_code.elements.retain(|element| element.tag != tags::CODING_SCHEME_DESIGNATOR);
    let mut request = DataSet::default();
    request.put_bytes(tags::REQUESTED_PROCEDURE_ID, VR::SH, "RP7");
    request.put_bytes(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, name);
    request.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![code.clone()]);
    request.put_bytes(Tag(0x0041, 0x0010), VR::LO, "PRIVATE");
    let mut other = DataSet::default();
    other.put_bytes(tags::PATIENT_ID, VR::LO, name);
    other.put_bytes(tags::TYPE_OF_PATIENT_ID, VR::CS, "TEXT");

    let mut image = DataSet::default();
    for (tag, vr, value) in [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, declared.as_bytes()),
        (tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.2"),
        (tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.4.5"),
        (tags::STUDY_INSTANCE_UID, VR::UI, b"1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, b"1.2.3.4"),
        (tags::MODALITY, VR::CS, b"CT"),
        (tags::STUDY_DATE, VR::DA, b"1997.04.24"),
        (tags::STUDY_TIME, VR::TM, b"10:15:00"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, b"unknown"),
        (tags::PATIENT_NAME, VR::PN, name),
        (tags::STUDY_DESCRIPTION, VR::LO, name),
        (tags::PATIENT_AGE, VR::AS, b"66"),
        (tags::LATERALITY, VR::CS, b"L"),
        (tags::BODY_PART_EXAMINED, VR::CS, b"CHEST"),
        (tags::PIXEL_DATA, VR::OB, b"  "),
    ] {
        image.put_bytes(tag, vr, value);
    }
    image.put_items(tags::PROCEDURE_CODE_SEQUENCE, vec![half_a_code, code]);
    image.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![request]);
    image.put_items(tags::OTHER_PATIENT_I_DS_SEQUENCE, vec![other]);
    Instance::from_bytes(&file(&image), &Limits::default()).unwrap()
}

fn report(representative: &Instance, notice: &str) -> DataSet {
    let draft = parse(&ModelText { text: "Left pneumothorax.", tokens: Vec::new(), grid: None });
    let item = |instance: &str, class: &str| EvidenceItem {
        series_instance_uid: "1.2.3.4".parse().unwrap(),
        sop_class_uid: class.parse().unwrap(),
        sop_instance_uid: instance.parse().unwrap(),
        digest: "00".to_owned(),
    };
    let ct = "1.2.840.10008.5.1.4.1.1.2";
    let source = Source {
        representative,
        evidence: vec![item("1.2.3.4.6", ct), item("1.2.3.4.7", ct), item("1.2.3.4.6", ct)],
        predecessors: vec![(Kind::BasicTextReport, item("1.2.3.9", TextClass::BasicText.uid()))],
    };
    let provenance = Provenance {
        model_name: "model".to_owned(),
        model_version: "1".to_owned(),
        model_digest: "abc".to_owned(),
        notice: Some(notice.to_owned()),
        prompt_id: "p".to_owned(),
        settings: "back\\slash ~ tilde".to_owned(),
        settings_digest: None,
        rule: "r".to_owned(),
        version: 2,
        device_uid: "2.25.1".parse().unwrap(),
        device_serial: "s".to_owned(),
        software_version: "0".to_owned(),
        udi: None,
        content_time: ContentTime::from_unix_utc(0),
    };
    let document = text_report(&draft, &source, &provenance, &Options::default()).unwrap();
    assert_eq!(validate(&document.file), []);
    text::read(&document.file).unwrap()
}

#[test]
fn text_in_sequences_keeps_its_bytes_or_its_letters() {
    let check = |declared: &str, name: &[u8], letters: &str| {
        let instance = source(declared, name);
        let places = |it: &DataSet| {
            let of = |item: &DataSet, tag| trimmed(item.bytes(tag).unwrap()).to_vec();
            let request = &it.items(tags::REFERENCED_REQUEST_SEQUENCE)[0];
            let procedure = it.items(tags::CONTENT_SEQUENCE)[0].items(tags::CONCEPT_CODE_SEQUENCE)[0].clone();
            [
                of(it, tags::PATIENT_NAME),
                of(&it.items(tags::PROCEDURE_CODE_SEQUENCE)[0], tags::CODE_MEANING),
                of(&it.items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE)[0], tags::CODE_MEANING),
                of(&it.items(tags::OTHER_PATIENT_I_DS_SEQUENCE)[0], tags::PATIENT_ID),
                of(request, tags::REQUESTED_PROCEDURE_DESCRIPTION),
                of(&request.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE)[0], tags::CODE_MEANING),
                of(&procedure, tags::CODE_MEANING),
            ]
        };
        for bytes in places(&report(&instance, "plain")) {
            assert_eq!(bytes, name, "{declared}");
        }
        for bytes in places(&report(&instance, "für")) {
            assert_eq!(String::from_utf8(bytes).unwrap(), letters, "{declared}");
        }
    };
    check("", b"Doe", "Doe");
    check("ISO_IR 100", b"M\xfcller", "Müller");
    check("ISO_IR 144", b"\xbb\xee\xda", "Люк");
    check("ISO_IR 192", "王小东".as_bytes(), "王小东");
    check("\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田");
    check("GB18030", b"\xcd\xf5", "王");
}

#[test]
fn the_header_says_what_it_should_and_no_more() {
    let instance = source("ISO_IR 100", b"M\xfcller");
    let it = report(&instance, "plain");
    assert_eq!(it.plain(tags::STUDY_DATE), "19970424");
    assert_eq!(it.plain(tags::STUDY_TIME), "101500");
    assert_eq!(it.bytes(tags::PATIENT_BIRTH_DATE), Some(&[][..]), "no date that could be read");
    assert_eq!(it.bytes(tags::PATIENT_ID), Some(&[][..]), "type 2 and absent");
    assert_eq!(it.get(tags::PATIENT_AGE), None, "no valid age");
    let request = &it.items(tags::REFERENCED_REQUEST_SEQUENCE)[0];
    assert_eq!(request.plain(tags::REQUESTED_PROCEDURE_ID), "RP7");
    assert_eq!(request.plain(tags::STUDY_INSTANCE_UID), "1.2.3");
    assert_eq!(it.items(tags::PROCEDURE_CODE_SEQUENCE).len(), 1, "half a code is none");
    let evidence = &it.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)[0];
    let instances = evidence.items(tags::REFERENCED_SERIES_SEQUENCE)[0].items(tags::REFERENCED_SOP_SEQUENCE);
    let uids: Vec<&str> = instances.iter().map(|item| item.plain(tags::REFERENCED_SOP_INSTANCE_UID)).collect();
    assert_eq!(uids, ["1.2.3.4.5", "1.2.3.4.6", "1.2.3.4.7"], "what was read and what illustrates, each once");
    assert_eq!(it.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).len(), 1);
    let tree = text::read_text(&file(&it));
    assert!(tree.contains("back/slash - tilde"), "{tree}");
}

#[test]
fn what_a_model_says_of_other_sections_stands_there_and_is_marked() {
    let text =
        "INDICATION: Cough.\nTECHNIQUE: Two views.\nFINDINGS: Left pneumothorax.\nRECOMMENDATIONS: Call the ward.";
    let draft = parse(&ModelText { text, tokens: Vec::new(), grid: None });
    let instance = source("", b"Doe");
    let source = crate::fixture::source(&instance);
    let document = text_report(&draft, &source, &crate::fixture::provenance(), &Options::default()).unwrap();
    assert_eq!(validate(&document.file), []);
    let tree = text::read_text(&document.file);
    let mut from = 0;
    for part in [
        "Clinical Information\n    Clinical Information: [said by the model] Cough.",
        "Current Procedure Descriptions\n",
        "Procedure Description: [said by the model] Two views.",
        "Findings\n    Finding: Left pneumothorax.",
        "Impressions\n    Impression: Left pneumothorax.\n",
        "Recommendations\n    Recommendation: Call the ward.",
    ] {
        let at = tree[from..].find(part).unwrap_or_else(|| panic!("{tree}\ndoes not go on with {part:?}"));
        from += at + part.len();
    }
    // None of it is counted among the findings.
    assert!(!tree.contains("could not be interpreted"), "{tree}");
}

#[test]
fn a_report_on_nothing_is_refused() {
    let instance = source("", b"Doe");
    let source = Source { representative: &instance, evidence: Vec::new(), predecessors: Vec::new() };
    let provenance = Provenance {
        model_name: String::new(),
        model_version: String::new(),
        model_digest: String::new(),
        notice: None,
        prompt_id: String::new(),
        settings: String::new(),
        settings_digest: None,
        rule: String::new(),
        version: 1,
        device_uid: "2.25.1".parse().unwrap(),
        device_serial: String::new(),
        software_version: String::new(),
        udi: None,
        content_time: ContentTime::from_unix_utc(0),
    };
    let refused = text_report(&Draft::default(), &source, &provenance, &Options::default());
    assert!(matches!(refused, Err(Error::NoEvidence)));
}

mod measured {
    use super::super::*;
    use crate::{
        CodedFindings, LocalizedFinding, Region, Shape, Trust, Weight, codes,
        fixture::{self, evidence},
        localized::{Certainty, Measurement},
        text, validate,
    };
    use dataset::tags;
    use dicom_core::Tag;

    fn report(change: impl FnOnce(&mut LocalizedFinding)) -> Result<Option<Document>, Error> {
        let representative = fixture::radiograph();
        let mut findings = fixture::findings();
        change(&mut findings.localized[0]);
        let source = fixture::source(&representative);
        measurement_report(&findings, &source, &fixture::provenance(), &MeasurementOptions::default())
    }

    fn shaped(shape: Shape) -> Result<Option<Document>, Error> {
        report(|finding| finding.region = Region::new(&evidence(), Some(2), shape))
    }

    /// The values of an attribute, wherever it stands.
    fn all(data_set: &crate::elements::DataSet, tag: Tag, into: &mut Vec<String>) {
        for element in &data_set.elements {
            if element.tag == tag {
                into.push(data_set.plain(tag).to_owned());
            }
            data_set.items(element.tag).iter().for_each(|item| all(item, tag, into));
        }
    }

    #[test]
    fn every_shape_is_drawn_and_what_is_none_is_refused() {
        let check = |shape: Shape, expected: &str| {
            let document = shaped(shape).unwrap().unwrap();
            let breaches = validate(&document.file).into_iter().filter(|it| it.weight == Weight::Breach).count();
            assert_eq!(breaches, 0, "{expected}: {:#?}", validate(&document.file));
            let (mut types, mut frames) = (Vec::new(), Vec::new());
            let data_set = text::read(&document.file).unwrap();
            all(&data_set, tags::GRAPHIC_TYPE, &mut types);
            all(&data_set, tags::REFERENCED_FRAME_NUMBER, &mut frames);
            assert_eq!((types, frames), (vec![expected.to_owned()], vec!["2".to_owned()]));
        };
        check(Shape::Polygon(vec![[1.0, 1.0], [5.0, 1.0], [5.0, 5.0]]), "POLYLINE");
        check(Shape::Ellipse { major: [[0.0, 5.0], [10.0, 5.0]], minor: [[5.0, 2.0], [5.0, 8.0]] }, "ELLIPSE");
        check(Shape::Point([0.5, 0.5]), "POINT");
        for shape in [
            Shape::Polygon(vec![[1.0, 1.0], [5.0, 1.0], [1.0, 1.0]]),
            Shape::Polygon(Vec::new()),
            Shape::Point([f32::NAN, 0.0]),
            Shape::Line([[1.0, 1.0], [1.0, 1.0]]),
            // A line shows a length, and none was measured.
            Shape::Line([[1.0, 1.0], [4.0, 5.0]]),
        ] {
            assert!(matches!(shaped(shape.clone()), Err(Error::Region)), "{shape:?}");
        }
        let line = report(|finding| {
            finding.region.shape = Shape::Line([[1.0, 1.0], [4.0, 5.0]]);
            let measured = Measurement { name: codes::LENGTH, value: 5.0, unit: codes::PIXELS, trust: Trust::InPixels };
            finding.measurements = vec![measured];
        });
        let file = line.unwrap().unwrap().file;
        assert_eq!(validate(&file), [], "a line is drawn with its length");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let number = |value| report(|finding| finding.measurements[0].value = value);
        assert!(matches!(number(f64::NAN), Err(Error::Number)));
        assert!(matches!(number(f64::INFINITY), Err(Error::Number)));
        let certain = |percent| report(|it| it.certainty = Some(Certainty { percent }));
        assert!(matches!(certain(101.0), Err(Error::Number)));
        assert!(certain(100.0).is_ok());
    }

    #[test]
    fn nothing_to_show_makes_no_document() {
        let representative = fixture::radiograph();
        let (source, provenance) = (fixture::source(&representative), fixture::provenance());
        let none = CodedFindings::default();
        assert!(measurement_report(&none, &source, &provenance, &MeasurementOptions::default()).unwrap().is_none());
        assert!(results_report(&none, &source, &provenance, &Completion::Complete).unwrap().is_none());
    }

    #[test]
    fn a_finding_keeps_its_identity_over_versions_and_its_document_does_not() {
        let representative = fixture::radiograph();
        let mut findings = fixture::findings();
        findings.localized.push(findings.localized[0].clone());
        let made = |version| {
            let mut source = fixture::source(&representative);
            source.predecessors.push((Kind::Measurements3D, evidence()));
            let provenance = Provenance { version, model_digest: version.to_string(), ..fixture::provenance() };
            let options = MeasurementOptions::default();
            let document = measurement_report(&findings, &source, &provenance, &options).unwrap().unwrap();
            let data_set = text::read(&document.file).unwrap();
            let mut tracking = Vec::new();
            all(&data_set, tags::UID, &mut tracking);
            assert_eq!(data_set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).len(), 1);
            (tracking, document.sop_instance_uid, data_set.plain(tags::SERIES_NUMBER).to_owned())
        };
        let (first, second) = (made(1), made(2));
        assert_eq!(first.0, second.0);
        // The device, and two findings that are the same but for their number.
        assert_eq!((first.0.len(), first.0[1] == first.0[2]), (3, false));
        assert_ne!(first.1, second.1);
        assert_eq!((first.2.as_str(), second.2.as_str()), ("902", "912"));
    }

    #[test]
    fn a_document_follows_its_own_kind_then_another_class_of_it_then_the_text_report() {
        let representative = fixture::radiograph();
        let earlier = |uid: &str| crate::EvidenceItem { sop_instance_uid: uid.parse().unwrap(), ..evidence() };
        let check = |predecessors: &[(Kind, &str)], expected: [Option<&str>; 3]| {
            let source = Source {
                predecessors: predecessors.iter().map(|(kind, uid)| (*kind, earlier(uid))).collect(),
                ..fixture::source(&representative)
            };
            let (findings, provenance) = (fixture::findings(), fixture::provenance());
            let options = MeasurementOptions::default();
            let made = [
                measurement_report(&findings, &source, &provenance, &options).unwrap().unwrap(),
                results_report(&findings, &source, &provenance, &Completion::Complete).unwrap().unwrap(),
                text_report(&crate::Draft::default(), &source, &provenance, &Options::default()).unwrap(),
            ];
            for (document, expected) in made.iter().zip(expected) {
                let data_set = text::read(&document.file).unwrap();
                let mut named = Vec::new();
                for study in data_set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE) {
                    all(study, tags::REFERENCED_SOP_INSTANCE_UID, &mut named);
                }
                assert_eq!(named, expected.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{:?}", document.kind);
                assert!(!crate::must_hold(&validate(&document.file)), "{:?}", document.kind);
            }
        };
        check(&[], [None; 3]);
        let (text, three_d) = ((Kind::BasicTextReport, "1.1"), (Kind::Measurements3D, "1.2"));
        let (flat, results, key) = ((Kind::Measurements, "1.3"), (Kind::Results, "1.4"), (Kind::KeyObjects, "1.5"));
        check(&[key, text], [Some("1.1"); 3]);
        check(&[text, flat, three_d, results], [Some("1.2"), Some("1.4"), Some("1.1")]);
        check(&[text, flat], [Some("1.3"), Some("1.1"), Some("1.1")]);
        check(&[(Kind::EnhancedTextReport, "1.6")], [Some("1.6"); 3]);
        // What is no SR is followed by none.
        check(&[key], [None; 3]);
    }

    #[test]
    fn a_draft_becomes_coded_findings() {
        let text = "Large nodule in the left upper zone. Cardiomegaly. No pneumothorax.";
        let token = crate::TokenEvidence { range: 0..36, logprob: -0.1, attention: Some(vec![0.0, 1.0, 0.0, 0.0]) };
        let draft = crate::parse(&crate::ModelText { text, tokens: vec![token], grid: Some((2, 2)) });
        let coded = CodedFindings::of(&draft, |grid| {
            let corners = crate::heatmap::outline(grid, (100.0, 100.0))?;
            Some(Region::new(&evidence(), None, Shape::Polygon(corners)))
        });
        let [nodule] = coded.localized.as_slice() else { panic!("{coded:?}") };
        assert_eq!(
            (nodule.label.as_str(), nodule.site, nodule.laterality),
            ("Nodule 1", Some(codes::LUNG), Some(codes::LEFT))
        );
        let Shape::Polygon(corners) = &nodule.region.shape else { panic!("{nodule:?}") };
        assert!(corners.iter().all(|[column, row]| *column >= 45.0 && *row <= 55.0), "{corners:?}");
        // Cardiomegaly has no code that could be verified: it stays in the text.
        let labels: Vec<&str> = coded.study.iter().map(|it| it.label.as_str()).collect();
        assert_eq!(labels, ["Nodule", "Pneumothorax"]);
    }
}
