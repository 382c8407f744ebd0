use dataset::{Instance, Limits, tags};
use dicom_core::{Tag, VR};

use super::*;
use crate::{
    Completion, ContentTime, EvidenceItem, ModelText, Provenance, Source,
    elements::{DataSet, Value, file},
    parse,
    sr::{Options, text_report},
};

const CR_CLASS: &str = "1.2.840.10008.5.1.4.1.1.1";

/// A radiograph with no more than an identity and a few pixels.
fn source() -> Instance {
    let mut image = DataSet::default();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, CR_CLASS),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4.5"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::MODALITY, VR::CS, "CR"),
        (tags::PATIENT_NAME, VR::PN, "Doe^Jane"),
        (tags::ACCESSION_NUMBER, VR::SH, "A1"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Chest PA"),
        (tags::PIXEL_DATA, VR::OB, "\0\0"),
    ] {
        image.put_bytes(tag, vr, value);
    }
    Instance::from_bytes(&file(&image), &Limits::default()).unwrap()
}

fn report() -> DataSet {
    let draft = parse(&ModelText {
        text: "Large nodule in the left upper zone. No pleural effusion. Something else.",
        tokens: Vec::new(),
        grid: None,
    });
    let representative = source();
    let source = Source {
        representative: &representative,
        evidence: vec![EvidenceItem {
            series_instance_uid: "1.2.3.4".parse().unwrap(),
            sop_class_uid: CR_CLASS.parse().unwrap(),
            sop_instance_uid: "1.2.3.4.5".parse().unwrap(),
            digest: "00".to_owned(),
        }],
        predecessor: None,
    };
    let provenance = Provenance {
        model_name: "model".to_owned(),
        model_version: "1".to_owned(),
        model_digest: "abc".to_owned(),
        notice: None,
        prompt_id: "p".to_owned(),
        settings: "greedy".to_owned(),
        rule: "r".to_owned(),
        version: 1,
        device_uid: "2.25.1".parse().unwrap(),
        device_serial: "s".to_owned(),
        software_version: "0".to_owned(),
        content_time: ContentTime::from_unix_utc(0),
    };
    let options = Options { completion: Completion::Partial("no heat map".to_owned()), ..Options::default() };
    let document = text_report(&draft, &source, &provenance, &options).unwrap();
    text::read(&document.file).unwrap()
}

/// The item at a position in the content tree, counted from 1.
fn at<'a>(data_set: &'a mut DataSet, path: &[usize]) -> &'a mut DataSet {
    path.iter().fold(data_set, |item, number| {
        let sequence = item.elements.iter_mut().find(|element| element.tag == tags::CONTENT_SEQUENCE).unwrap();
        let Value::Items(items) = &mut sequence.value else { panic!("no sequence") };
        &mut items[number - 1]
    })
}

fn remove(data_set: &mut DataSet, tag: Tag) {
    data_set.elements.retain(|element| element.tag != tag);
}

fn code(value: &str, scheme: &str, meaning: &str) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::CODE_VALUE, VR::SH, value);
    item.put_bytes(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    item.put_bytes(tags::CODE_MEANING, VR::LO, meaning);
    item
}

fn item(relationship: &str, value_type: &str, name: Option<(&str, &str)>) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, relationship);
    item.put_bytes(tags::VALUE_TYPE, VR::CS, value_type);
    if let Some((value, scheme)) = name {
        item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(value, scheme, "meaning")]);
    }
    item
}

fn append(data_set: &mut DataSet, path: &[usize], child: DataSet) {
    let parent = at(data_set, path);
    let mut children = parent.items(tags::CONTENT_SEQUENCE).to_vec();
    children.push(child);
    parent.put_items(tags::CONTENT_SEQUENCE, children);
}

fn image(relationship: &str, name: Option<(&str, &str)>, instance: &str) -> DataSet {
    let mut reference = DataSet::default();
    reference.put_bytes(tags::REFERENCED_SOP_CLASS_UID, VR::UI, CR_CLASS);
    reference.put_bytes(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance);
    let mut image = item(relationship, "IMAGE", name);
    image.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![reference]);
    image
}

fn number(value: &str, unit: &str) -> DataSet {
    let mut measured = DataSet::default();
    measured.put_bytes(tags::NUMERIC_VALUE, VR::DS, value);
    measured.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code(unit, "UCUM", "unit")]);
    let mut number = item("CONTAINS", "NUM", Some(("81827009", "SCT")));
    number.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    number
}

fn region(value_type: &str, points: &[[f32; 2]], child: &str) -> DataSet {
    let data: Vec<u8> = points.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    let mut region = item("CONTAINS", value_type, Some(("111030", "DCM")));
    region.put_bytes(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
    region.put_bytes(tags::GRAPHIC_DATA, VR::FL, data);
    region.put_items(tags::CONTENT_SEQUENCE, vec![image(child, None, "1.2.3.4.5")]);
    region
}

const SQUARE: &[[f32; 2]] = &[[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 0.0]];

/// The report as a measurement report with one measurement group.
fn measurements(data_set: &mut DataSet, class: &str) {
    data_set.put_bytes(tags::SOP_CLASS_UID, VR::UI, class);
    data_set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code("126000", "DCM", "Imaging Measurement Report")]);
    let mut identification = DataSet::default();
    identification.put_bytes(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    identification.put_bytes(tags::TEMPLATE_IDENTIFIER, VR::CS, "1500");
    data_set.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![identification]);
    let mut tracking = item("HAS OBS CONTEXT", "TEXT", Some(("112039", "DCM")));
    tracking.put_bytes(tags::TEXT_VALUE, VR::UT, "Nodule 1");
    let mut unique = item("HAS OBS CONTEXT", "UIDREF", Some(("112040", "DCM")));
    unique.put_bytes(tags::UID, VR::UI, "1.2.3");
    let mut group = item("CONTAINS", "CONTAINER", Some(("125007", "DCM")));
    group.put_bytes(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    let content = vec![tracking, unique, region("SCOORD", SQUARE, "SELECTED FROM"), number("26.2", "mm")];
    group.put_items(tags::CONTENT_SEQUENCE, content);
    append(data_set, &[], group);
}

const COMPREHENSIVE: &str = "1.2.840.10008.5.1.4.1.1.88.33";
const C3D: &str = "1.2.840.10008.5.1.4.1.1.88.34";

#[track_caller]
fn check(mutate: impl FnOnce(&mut DataSet), expected: &[&str]) {
    let mut data_set = report();
    mutate(&mut data_set);
    let found = validate(&file(&data_set));
    let mut rules: Vec<&str> = found.iter().map(|violation| violation.rule).collect();
    rules.dedup();
    assert_eq!(rules, expected, "{found:#?}");
}

#[test]
fn our_report_passes() {
    check(|_| {}, &[]);
    check(|it| measurements(it, C3D), &[]);
    assert!(!must_hold(&[]));
}

#[test]
fn what_is_no_dicom_is_said_to_be_unreadable() {
    for bytes in [&b""[..], b"DICM", &[0; 300]] {
        assert_eq!(validate(bytes)[0].rule, "readable");
    }
    let whole = file(&report());
    // Every cut is answered, none panics.
    (0..whole.len()).step_by(7).for_each(|length| assert!(must_hold(&validate(&whole[..length])), "{length}"));
}

/// Each byte in turn damaged: always an answer.
#[test]
fn damaged_files_are_answered() {
    let whole = file(&report());
    for place in (140..whole.len()).step_by(3) {
        for damage in [0x00, 0xff] {
            let mut damaged = whole.clone();
            damaged[place] = damage;
            validate(&damaged);
            text::read_text(&damaged);
        }
    }
}

#[test]
fn modules_are_checked() {
    check(|it| remove(it, tags::VERIFICATION_FLAG), &["type-1", "draft"]);
    check(|it| it.put_bytes(tags::VERIFICATION_FLAG, VR::CS, "VERIFIED"), &["verification", "draft"]);
    check(|it| it.put_bytes(tags::PRELIMINARY_FLAG, VR::CS, "DRAFT"), &["flag", "draft"]);
    check(|it| it.put_bytes(tags::PRELIMINARY_FLAG, VR::CS, "FINAL"), &["draft"]);
    check(|it| remove(it, tags::COMPLETION_FLAG), &["type-1"]);
    check(|it| remove(it, tags::PERFORMED_PROCEDURE_CODE_SEQUENCE), &["type-2"]);
    check(|it| remove(it, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE), &["type-2"]);
    check(|it| remove(it, tags::PATIENT_ID), &["type-2"]);
    check(|it| it.put_bytes(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"), &["type-1c"]);
    check(|it| it.put_bytes(tags::MODALITY, VR::CS, "CR"), &["flag"]);
    check(|it| it.put_bytes(tags::BODY_PART_EXAMINED, VR::CS, "CHEST"), &["foreign"]);
    check(|it| it.put_bytes(tags::SERIES_DESCRIPTION, VR::LO, "Report"), &["draft"]);
    check(|it| remove(it, tags::SOFTWARE_VERSIONS), &["draft"]);
    check(|it| it.put_bytes(tags::SOP_CLASS_UID, VR::UI, CR_CLASS), &["class"]);
}

#[test]
fn encoding_is_checked() {
    let long = "X".repeat(65);
    check(|it| it.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code("18748-4", "LN", &long)]), &["value"]);
    check(|it| at(it, &[1]).put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("1", "", "x")]), &["code"]);
    check(
        |it| at(it, &[1]).put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("P5-09051", "SRT", "x")]),
        &["code-scheme"],
    );
    check(|it| it.put_bytes(tags::INSTANCE_CREATION_DATE, VR::DA, "2026.01.02"), &["value"]);
    check(|it| it.put_bytes(tags::SOP_INSTANCE_UID, VR::UI, "1.2.03"), &["value"]);
    check(|it| it.elements.reverse(), &["order"]);
    check(
        |it| it.put(tags::SERIES_DESCRIPTION, VR::ST, Value::Bytes(b"AI DRAFT report - not verified".to_vec())),
        &["vr"],
    );
    check(|it| it.put(tags::INSTANCE_NUMBER, VR::IS, Value::Bytes(b"1".to_vec())), &["even-length"]);
    // A value of the study that breaks a rule is on record, and the report leaves: it must name the study as it is.
    let mut copied = report();
    copied.put_bytes(tags::ACCESSION_NUMBER, VR::SH, "12345678901234567");
    let found = validate(&file(&copied));
    assert!(found.len() == 1 && found[0].rule == "value" && !must_hold(&found), "{found:?}");
    let mut other = report();
    let whole = file(&other);
    other.put_bytes(tags::SOP_INSTANCE_UID, VR::UI, "1.2.9");
    let preamble = whole.len() - other_length(&whole);
    let mixed = [&whole[..preamble], &other.encode().unwrap()].concat();
    assert_eq!(validate(&mixed)[0].rule, "file-meta");
}

fn other_length(file: &[u8]) -> usize {
    file.len() - Meta::parse(file).unwrap().1
}

#[test]
fn the_tree_is_checked() {
    check(|it| remove(at(it, &[9]), tags::CONTINUITY_OF_CONTENT), &["item"]);
    check(|it| at(it, &[9, 1]).put_bytes(tags::TEXT_VALUE, VR::UT, ""), &["item", "draft"]);
    check(|it| remove(at(it, &[9, 1]), tags::CONCEPT_NAME_CODE_SEQUENCE), &["name"]);
    check(|it| at(it, &[9, 1]).put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, "SELECTED FROM"), &["relationship"]);
    check(|it| append(it, &[9], number("1", "mm")), &["value-type"]);
    check(|it| append(it, &[11], image("CONTAINS", None, "1.2.3.4.5")), &["unnamed-image"]);
    check(|it| append(it, &[11], image("CONTAINS", Some(("121080", "DCM")), "1.2.3.4.5")), &[]);
    check(|it| append(it, &[11], image("CONTAINS", Some(("121080", "DCM")), "1.2.9")), &["evidence"]);
    check(|it| remove(it, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE), &["evidence"]);
    check(|it| remove(it, tags::CONTENT_TEMPLATE_SEQUENCE), &["template"]);
    check(
        |it| at(it, &[2]).put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("eng", "RFC5646", "English")]),
        &["language"],
    );
    check(|it| at(it, &[9, 1]).put_bytes(tags::TEXT_VALUE, VR::UT, "All is well."), &["draft"]);
    check(|it| remove(it, tags::CONTENT_SEQUENCE), &["root", "template", "draft", "observer"]);
    let without_uid = |it: &mut DataSet| {
        let children: Vec<DataSet> = it.items(tags::CONTENT_SEQUENCE).to_vec();
        let kept =
            |child: &DataSet| child.items(tags::CONCEPT_NAME_CODE_SEQUENCE)[0].plain(tags::CODE_VALUE) != "121012";
        it.put_items(tags::CONTENT_SEQUENCE, children.into_iter().filter(kept).collect());
    };
    check(without_uid, &["observer"]);
}

#[test]
fn measurement_reports_are_checked_for_what_blanks_a_viewer() {
    check(|it| measurements(it, COMPREHENSIVE), &[]);
    let with = |change: fn(&mut DataSet)| {
        move |it: &mut DataSet| {
            measurements(it, COMPREHENSIVE);
            let last = it.items(tags::CONTENT_SEQUENCE).len();
            change(at(it, &[last]));
        }
    };
    check(with(|group| splice(group, 3, None)), &["blank-viewer"]);
    check(with(|group| splice(group, 2, None)), &["tracking"]);
    check(with(|group| splice(group, 1, None)), &["tracking"]);
    check(with(|group| splice(group, 4, Some(number("26.2456789012345678", "mm")))), &["value", "number"]);
    check(with(|group| splice(group, 4, Some(number("26.2", "millimeter")))), &["unit"]);
    check(
        with(|group| splice(group, 3, Some(region("SCOORD", SQUARE, "INFERRED FROM")))),
        &["graphic", "relationship"],
    );
    check(with(|group| splice(group, 3, Some(region("SCOORD", &SQUARE[..3], "SELECTED FROM")))), &["graphic"]);
    check(
        with(|group| splice(group, 3, Some(region("SCOORD3D", SQUARE, "SELECTED FROM")))),
        &["value-type", "graphic", "relationship", "blank-viewer"],
    );
    check(
        with(|group| {
            let mut site = item("CONTAINS", "CODE", Some(("363698007", "SCT")));
            site.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("39607008", "SCT", "Lung")]);
            splice(group, 4, Some(site));
        }),
        &["finding-site"],
    );
    check(|it| measurements(it, "1.2.840.10008.5.1.4.1.1.88.11"), &["value-type"]);
}

fn splice(group: &mut DataSet, number: usize, with: Option<DataSet>) {
    let mut children = group.items(tags::CONTENT_SEQUENCE).to_vec();
    children.splice(number - 1..number, with);
    group.put_items(tags::CONTENT_SEQUENCE, children);
}
