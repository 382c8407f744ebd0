use dataset::tags;
use dicom_core::{Tag, VR};

use super::*;
use crate::{
    elements::{DataSet, Value, file},
    fixture::{self, CR_CLASS},
};

fn report() -> DataSet {
    fixture::data_set(Kind::BasicTextReport)
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

/// A code of our table; with a meaning of its own where it has none.
fn known(value: &str, scheme: &str) -> DataSet {
    let found = crate::codes::all().find(|code| code.value == value && code.scheme == scheme);
    code(value, scheme, found.map_or("meaning", |code| code.meaning))
}

fn item(relationship: &str, value_type: &str, name: Option<(&str, &str)>) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, relationship);
    item.put_bytes(tags::VALUE_TYPE, VR::CS, value_type);
    if let Some((value, scheme)) = name {
        item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![known(value, scheme)]);
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
    measured.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![known(unit, "UCUM")]);
    let mut number = item("CONTAINS", "NUM", Some(("81827009", "SCT")));
    number.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    number
}

/// Changes the document of a kind and names the rules that it then breaks, in order, each once.
#[track_caller]
fn check_kind(kind: Kind, mutate: impl FnOnce(&mut DataSet), expected: &[&str]) {
    let mut data_set = fixture::data_set(kind);
    mutate(&mut data_set);
    let found = validate(&file(&data_set));
    let mut rules: Vec<&str> = Vec::new();
    for violation in found.iter().filter(|it| it.weight == Weight::Breach) {
        if !rules.contains(&violation.rule) {
            rules.push(violation.rule);
        }
    }
    assert_eq!(rules, expected, "{found:#?}");
}

#[track_caller]
fn check(mutate: impl FnOnce(&mut DataSet), expected: &[&str]) {
    check_kind(Kind::BasicTextReport, mutate, expected);
}

/// Changes something wherever it stands in the tree.
fn everywhere(data_set: &mut DataSet, change: &dyn Fn(&mut DataSet)) {
    change(data_set);
    for element in &mut data_set.elements {
        if let Value::Items(items) = &mut element.value {
            items.iter_mut().for_each(|item| everywhere(item, change));
        }
    }
}

/// Changes the items of a value type, wherever they stand.
fn each(data_set: &mut DataSet, value_type: &str, change: &dyn Fn(&mut DataSet)) {
    everywhere(data_set, &|item| {
        if item.plain(tags::VALUE_TYPE) == value_type {
            change(item);
        }
    });
}

/// Removes the items with a concept name, wherever they stand.
fn without(data_set: &mut DataSet, concept: &str) {
    everywhere(data_set, &|parent| {
        let named = |child: &DataSet| {
            child.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first().map(|it| it.plain(tags::CODE_VALUE).to_owned())
        };
        let children = parent.items(tags::CONTENT_SEQUENCE);
        if children.iter().any(|child| named(child).as_deref() == Some(concept)) {
            let kept = children.iter().filter(|child| named(child).as_deref() != Some(concept)).cloned().collect();
            parent.put_items(tags::CONTENT_SEQUENCE, kept);
        }
    });
}

/// The mutations of the shared list, by name: what each does to a clean measurement report, and the rules that refuse it.
/// `scoord_enh` is no mistake: an Enhanced SR has coordinates; what we refuse of it is that it is no document of ours.
#[test]
fn every_known_mutation_is_refused() {
    type Mutation = (&'static str, fn(&mut DataSet), &'static [&'static str]);
    const MUTATIONS: &[Mutation] = &[
        ("clean", |_| {}, &[]),
        ("nodevuid", |it| without(it, "121012"), &["observer"]),
        (
            "sitecontains",
            |it| {
                everywhere(it, &|item| {
                    let name = item.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first();
                    let is_site = name.is_some_and(|name| name.plain(tags::CODE_VALUE) == "363698007");
                    if is_site {
                        item.put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS");
                    }
                })
            },
            &["relationship", "template-row"],
        ),
        (
            "selfrom",
            |it| {
                everywhere(it, &|item| {
                    if item.plain(tags::RELATIONSHIP_TYPE) == "SELECTED FROM" {
                        item.put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, "INFERRED FROM");
                    }
                })
            },
            &["graphic", "relationship", "template-row"],
        ),
        ("nocont", |it| everywhere(it, &|item| remove(item, tags::CONTINUITY_OF_CONTENT)), &["type-1", "item"]),
        ("evid", |it| remove(it, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE), &["evidence"]),
        (
            "evid2",
            |it| {
                let other = |item: &mut DataSet| {
                    if item.get(tags::REFERENCED_SOP_INSTANCE_UID).is_some() {
                        item.put_bytes(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.99");
                    }
                };
                let evidence = element(it, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE);
                let Value::Items(items) = &mut evidence.value else { panic!("no sequence") };
                items.iter_mut().for_each(|item| everywhere(item, &other));
            },
            &["evidence"],
        ),
        ("nover", |it| remove(it, tags::VERIFICATION_FLAG), &["type-1", "draft"]),
        ("verflag", |it| it.put_bytes(tags::VERIFICATION_FLAG, VR::CS, "VERIFIED"), &["verification", "draft"]),
        (
            "numds",
            |it| everywhere(it, &|item| change_if(item, tags::NUMERIC_VALUE, VR::DS, b"26.24567890123456789")),
            &["value", "number"],
        ),
        (
            "unit",
            |it| {
                everywhere(it, &|item| {
                    if item.get(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).is_some() {
                        let unit = code("millimeter", "UCUM", "millimeter");
                        item.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![unit]);
                    }
                })
            },
            &["code-table", "unit"],
        ),
        (
            "longmean",
            |it| {
                let long = code("126000", "DCM", &"X".repeat(65));
                it.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![long]);
            },
            &["value", "code-table"],
        ),
        ("noref", |it| remove(it, tags::PERFORMED_PROCEDURE_CODE_SEQUENCE), &["type-2"]),
        ("noppss", |it| remove(it, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE), &["type-2"]),
        (
            "scoord3d_in_comp",
            |it| {
                it.put_bytes(tags::SOP_CLASS_UID, VR::UI, Kind::Measurements.sop_class_uid());
                each(it, "SCOORD", &|item| item.put_bytes(tags::VALUE_TYPE, VR::CS, "SCOORD3D"));
            },
            &["value-type", "graphic", "relationship", "template-row", "blank-viewer"],
        ),
        (
            "num_basic",
            |it| it.put_bytes(tags::SOP_CLASS_UID, VR::UI, Kind::BasicTextReport.sop_class_uid()),
            &["draft", "value-type"],
        ),
        (
            "scoord_enh",
            |it| it.put_bytes(tags::SOP_CLASS_UID, VR::UI, Kind::EnhancedTextReport.sop_class_uid()),
            &["draft"],
        ),
        ("emptytext", |it| each(it, "TEXT", &|item| item.put_bytes(tags::TEXT_VALUE, VR::UT, "")), &["item"]),
        (
            "lang",
            |it| {
                let language = at(it, &[1]);
                language.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("eng", "RFC5646", "English")]);
            },
            &["code-table", "language"],
        ),
        (
            "badcode",
            |it| {
                everywhere(it, &|item| {
                    let code_of = |item: &DataSet| {
                        item.items(tags::CONCEPT_CODE_SEQUENCE).first().map(|it| it.plain(tags::CODE_VALUE).to_owned())
                    };
                    if code_of(item).as_deref() == Some("27925004") {
                        item.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("27925005", "SCT", "Nodule")]);
                    }
                })
            },
            &["code-table"],
        ),
        (
            "wrong meaning",
            |it| {
                everywhere(it, &|item| {
                    let code_of = |item: &DataSet| {
                        item.items(tags::CONCEPT_CODE_SEQUENCE).first().map(|it| it.plain(tags::CODE_VALUE).to_owned())
                    };
                    if code_of(item).as_deref() == Some("27925004") {
                        item.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("27925004", "SCT", "Mass")]);
                    }
                })
            },
            &["code-table"],
        ),
        ("notmpl", |it| remove(it, tags::CONTENT_TEMPLATE_SEQUENCE), &["template"]),
        ("openpoly", |it| each(it, "SCOORD", &|item| shorten(item, 8)), &["graphic"]),
        ("odd number of coordinates", |it| each(it, "SCOORD", &|item| shorten(item, 4)), &["graphic"]),
        ("prelim", |it| it.put_bytes(tags::PRELIMINARY_FLAG, VR::CS, "DRAFT"), &["flag", "draft"]),
        ("tracking", |it| without(it, "112039"), &["template-row", "tracking"]),
        ("tracking uid", |it| without(it, "112040"), &["template-row", "tracking"]),
        ("no region", |it| without(it, "111030"), &["blank-viewer"]),
        (
            "a number among the evaluations",
            |it| {
                let last = it.items(tags::CONTENT_SEQUENCE).len();
                append(it, &[last], number("26.2", "mm"));
            },
            &["template-row", "qualitative"],
        ),
    ];
    for (name, mutation, expected) in MUTATIONS {
        println!("{name}");
        check_kind(Kind::Measurements3D, mutation, expected);
    }
    // Every line of the shared list that names a mutation has its row.
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/reference/sr-validator-mutations.txt");
    let Ok(list) = std::fs::read_to_string(list) else { return println!("skipped: the shared list is not there") };
    for name in list.lines().filter_map(|line| line.split('|').next()).map(str::trim).filter(|name| !name.is_empty()) {
        assert!(MUTATIONS.iter().any(|(known, ..)| *known == name), "{name} is not tried");
    }
}

fn element(data_set: &mut DataSet, tag: Tag) -> &mut crate::elements::Element {
    data_set.elements.iter_mut().find(|element| element.tag == tag).unwrap()
}

fn change_if(item: &mut DataSet, tag: Tag, vr: VR, value: &[u8]) {
    if item.get(tag).is_some() {
        item.put_bytes(tag, vr, value);
    }
}

fn shorten(item: &mut DataSet, by: usize) {
    let data = item.bytes(tags::GRAPHIC_DATA).unwrap();
    let data = data[..data.len() - by].to_vec();
    item.put_bytes(tags::GRAPHIC_DATA, VR::FL, data);
}

/// What only the other kinds have.
#[test]
fn every_kind_is_checked() {
    check_kind(Kind::Results, |_| {}, &[]);
    check_kind(
        Kind::Results,
        |it| it.put_bytes(tags::SERIES_DESCRIPTION, VR::LO, Kind::Measurements3D.series_description()),
        &["blank-viewer"],
    );
    check_kind(
        Kind::KeyObjects,
        |it| remove(it, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE),
        &["type-1", "evidence"],
    );
    check_kind(Kind::KeyObjects, |it| append(it, &[], image("CONTAINS", None, "1.2.9")), &["evidence"]);
    check_kind(Kind::KeyObjects, |it| append(it, &[], number("1", "mm")), &["value-type", "template-row"]);
    check_kind(Kind::Pdf, |it| it.put_bytes(tags::ENCAPSULATED_DOCUMENT, VR::OB, "%PDF-1.7 half"), &["pdf"]);
    check_kind(Kind::Pdf, |it| it.put_bytes(tags::ENCAPSULATED_DOCUMENT_LENGTH, VR::UL, [1, 0, 0, 0]), &["pdf"]);
    check_kind(Kind::Pdf, |it| remove(it, tags::BURNED_IN_ANNOTATION), &["type-1"]);
    check_kind(Kind::Pdf, |it| it.put_bytes(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "text/plain"), &["flag"]);
    check_kind(Kind::HeatMap, |it| it.put_bytes(tags::PIXEL_DATA, VR::OB, [0; 8]), &["pixels"]);
    check_kind(Kind::HeatMap, |it| remove(it, tags::PLANAR_CONFIGURATION), &["type-1c"]);
    check_kind(Kind::HeatMap, |it| remove(it, tags::CONVERSION_TYPE), &["type-1"]);
    check_kind(Kind::HeatMap, |it| it.put_bytes(tags::SERIES_NUMBER, VR::IS, "3"), &["draft"]);
    check_kind(Kind::Presentation, |it| remove(it, tags::REFERENCED_SERIES_SEQUENCE), &["type-1"]);
    check_kind(Kind::Presentation, |it| remove(it, tags::CONTENT_LABEL), &["type-1"]);
    check_kind(
        Kind::Presentation,
        |it| everywhere(it, &|item| change_if(item, tags::GRAPHIC_TYPE, VR::CS, b"BOX")),
        &["flag"],
    );
    check_kind(Kind::Presentation, |it| it.put_bytes(tags::PATIENT_SEX, VR::CS, "M\\F"), &[]);
    check_kind(Kind::Presentation, |it| it.put_bytes(tags::CONTENT_LABEL, VR::CS, "A\\B"), &["multiplicity"]);
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
    check(
        |it| it.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code("18748-4", "LN", &long)]),
        &["value", "code-table"],
    );
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
    check(|it| remove(at(it, &[9, 1]), tags::CONCEPT_NAME_CODE_SEQUENCE), &["name", "template-row"]);
    check(
        |it| at(it, &[9, 1]).put_bytes(tags::RELATIONSHIP_TYPE, VR::CS, "SELECTED FROM"),
        &["relationship", "template-row"],
    );
    check(|it| append(it, &[9], number("1", "mm")), &["value-type", "template-row"]);
    check(|it| append(it, &[11], image("CONTAINS", None, "1.2.3.4.5")), &["unnamed-image", "template-row"]);
    check(|it| append(it, &[11], image("CONTAINS", Some(("121080", "DCM")), "1.2.3.4.5")), &[]);
    check(|it| append(it, &[11], image("CONTAINS", Some(("121080", "DCM")), "1.2.9")), &["evidence"]);
    check(|it| remove(it, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE), &["evidence"]);
    check(|it| remove(it, tags::CONTENT_TEMPLATE_SEQUENCE), &["template"]);
    check(
        |it| at(it, &[2]).put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code("eng", "RFC5646", "English")]),
        &["code-table", "language"],
    );
    check(|it| at(it, &[9, 1]).put_bytes(tags::TEXT_VALUE, VR::UT, "All is well."), &["draft"]);
    check(|it| remove(it, tags::CONTENT_SEQUENCE), &["root", "template-row", "draft", "observer"]);
    let without_uid = |it: &mut DataSet| {
        let children: Vec<DataSet> = it.items(tags::CONTENT_SEQUENCE).to_vec();
        let kept =
            |child: &DataSet| child.items(tags::CONCEPT_NAME_CODE_SEQUENCE)[0].plain(tags::CODE_VALUE) != "121012";
        it.put_items(tags::CONTENT_SEQUENCE, children.into_iter().filter(kept).collect());
    };
    check(without_uid, &["observer"]);
}
