//! A model reads only what its manifest says it was made for: in `preread read` and in the daemon.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, value::DataSetSequence};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup, command},
    instance::{self, Instance},
    place,
    random::Random,
    samples,
    scu::Scu,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

fn item(elements: &[(Tag, VR, &str)]) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    elements.iter().for_each(|(tag, vr, value)| put(&mut item, *tag, *vr, value));
    item
}

fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

fn code(value: &str, scheme: &str, meaning: &str) -> InMemDicomObject {
    item(&[
        (tags::CODE_VALUE, VR::SH, value),
        (tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
        (tags::CODE_MEANING, VR::LO, meaning),
    ])
}

/// A drawn chest of a woman of 78 years, altered, as a study of its own.
fn altered(random: &mut Random, alter: impl FnOnce(&mut InMemDicomObject)) -> Result<Instance> {
    let sample = samples::all()?.into_iter().find(|it| it.name.starts_with("03-")).context("no sample")?;
    let mut object = dicom_object::from_reader(sample.instance.to_part10()?.as_slice())?.into_inner();
    for tag in [tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID, tags::SOP_INSTANCE_UID] {
        put(&mut object, tag, VR::UI, &random.uid());
    }
    alter(&mut object);
    instance::encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
}

type Alter = fn(&mut InMemDicomObject);

/// What is altered, what the model was made for besides, and what becomes of it.
const ROWS: &[(&str, &str, Alter, &str)] = &[
    ("nothing", "age = [18, 120]\nsex = ['F']", |_| {}, "written"),
    ("case and padding", "", |it| put(it, tags::BODY_PART_EXAMINED, VR::CS, "chest "), "written"),
    ("another word for it", "", |it| put(it, tags::BODY_PART_EXAMINED, VR::CS, "THORAX"), "written"),
    ("a knee", "", |it| put(it, tags::BODY_PART_EXAMINED, VR::CS, "KNEE"), "skipped: its body part is KNEE"),
    (
        "a tibia by its code",
        "",
        |it| {
            it.remove_element(tags::BODY_PART_EXAMINED);
            sequence(it, tags::ANATOMIC_REGION_SEQUENCE, vec![code("12611008", "SCT", "Tibia")]);
        },
        "skipped: its body part is TIBIA",
    ),
    (
        "a chest by its code",
        "",
        |it| {
            it.remove_element(tags::BODY_PART_EXAMINED);
            sequence(it, tags::ANATOMIC_REGION_SEQUENCE, vec![code("T-D3000", "SRT", "Chest")]);
        },
        "written",
    ),
    (
        "a head in the anatomy of a frame",
        "",
        |it| {
            it.remove_element(tags::BODY_PART_EXAMINED);
            let mut anatomy = InMemDicomObject::new_empty();
            sequence(&mut anatomy, tags::ANATOMIC_REGION_SEQUENCE, vec![code("69536005", "SCT", "Head")]);
            let mut group = InMemDicomObject::new_empty();
            sequence(&mut group, tags::FRAME_ANATOMY_SEQUENCE, vec![anatomy]);
            sequence(it, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![group]);
        },
        "skipped: its body part is HEAD",
    ),
    ("a lateral", "", |it| put(it, tags::VIEW_POSITION, VR::CS, "LL"), "skipped: it is another view than PA, AP"),
    (
        "a lateral by its code",
        "",
        |it| {
            it.remove_element(tags::VIEW_POSITION);
            sequence(it, tags::VIEW_CODE_SEQUENCE, vec![code("399198007", "SCT", "right lateral")]);
        },
        "skipped: it is another view",
    ),
    (
        "a lateral by how the patient stood",
        "",
        |it| {
            it.remove_element(tags::VIEW_POSITION);
            put(it, tags::PATIENT_ORIENTATION, VR::CS, "A\\F");
        },
        "skipped: it is another view",
    ),
    ("another modality", "", |it| put(it, tags::MODALITY, VR::CS, "MG"), "skipped: its modality is MG"),
    ("six years", "age = '18..'", |it| put(it, tags::PATIENT_AGE, VR::AS, "006Y"), "skipped: the patient's age"),
    (
        "born six years ago",
        "age = [18, 120]",
        |it| put(it, tags::PATIENT_BIRTH_DATE, VR::DA, "20200815"),
        "skipped: the patient's age",
    ),
    ("a man", "sex = ['F']", |it| put(it, tags::PATIENT_SEX, VR::CS, "M"), "skipped: the patient's sex"),
    (
        "descriptions say nothing",
        "",
        |it| put(it, tags::STUDY_DESCRIPTION, VR::LO, "Knee lateral, mammogram of a child"),
        "written",
    ),
    (
        "no body part",
        "",
        |it| put(it, tags::BODY_PART_EXAMINED, VR::CS, ""),
        "written: body part (Body Part Examined, Anatomic Region Sequence)",
    ),
    (
        "no view",
        "",
        |it| {
            it.remove_element(tags::VIEW_POSITION);
        },
        "written: view (View Position",
    ),
    (
        "no age",
        "age = '18..'",
        |it| put(it, tags::PATIENT_BIRTH_DATE, VR::DA, ""),
        "written: patient's age (Patient's Age",
    ),
];

#[test]
fn read_reads_what_a_model_was_made_for_and_nothing_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut random = Random::seeded(12_010);
    for (number, (what, manifest, alter, expected)) in ROWS.iter().enumerate() {
        let folder = dir.path().join(number.to_string());
        fs::create_dir(&folder)?;
        let scope = "modality = ['CR', 'DX']\nbody_part = ['CHEST']\nview = ['PA', 'AP']\n";
        let model = place::model_made_for(&folder, &format!("{scope}{manifest}"))?;
        let file = folder.join("image.dcm");
        fs::write(&file, altered(&mut random, alter)?.to_part10()?)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let out = text(&folder.join("out"));
        let read = command(&["read", &text(&file), "--model", &text(&model), "--out", &out, "--json"])?;
        let answer: Value = serde_json::from_slice(&read.stdout)
            .with_context(|| format!("{what}: {}", String::from_utf8_lossy(&read.stderr)))?;
        let study = &answer["studies"][0];
        let (state, said) = expected.split_once(": ").unwrap_or((expected, ""));
        ensure!(study["state"] == state, "{what}: {study}");
        let where_said =
            if state == "written" { study["images"]["notes"].to_string() } else { study["reason"].to_string() };
        ensure!(where_said.contains(said), "{what}: {where_said} does not say {said:?}");
        ensure!(!said.is_empty() || !where_said.contains("do not state"), "{what}: {where_said}");
    }
    Ok(())
}

fn send(daemon: &Daemon, instance: &Instance) -> Result<()> {
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(instance))?;
    ensure!(scu.store(instance)? == 0);
    scu.release()
}

fn reason(entry: &Value) -> &str {
    entry["reason"].as_str().unwrap_or_default()
}

#[test]
fn the_daemon_skips_what_no_model_reads_and_looks_again_when_it_can() -> Result<()> {
    let daemon = Daemon::start(&Setup { when: "true".into(), ..Setup::default() })?;
    let mut random = Random::seeded(12_011);
    let knee = altered(&mut random, |it| put(it, tags::BODY_PART_EXAMINED, VR::CS, "KNEE"))?;
    send(&daemon, &knee)?;
    let entry = daemon.await_state(&knee.study_instance_uid, "skipped", PATIENCE)?;
    ensure!(reason(&entry).contains("its body part is KNEE"), "{entry}");
    let chest = altered(&mut random, |it| put(it, tags::STUDY_INSTANCE_UID, VR::UI, &knee.study_instance_uid))?;
    send(&daemon, &chest)?;
    let ended = daemon.await_state(&knee.study_instance_uid, "delivered", PATIENCE)?;
    ensure!(ended["instances"] == 2, "{ended}");
    let kept = daemon.kept_beside_report(&knee.study_instance_uid, "report-json")?;
    let kept: Value = serde_json::from_slice(&kept)?;
    ensure!(kept["images"]["read"] == serde_json::json!([chest.sop_instance_uid]), "{kept}");
    ensure!(kept["images"]["left_out"].to_string().contains("KNEE"), "{kept}");
    Ok(())
}

#[test]
fn what_states_nothing_is_held_or_read_as_the_rule_says() -> Result<()> {
    let mut random = Random::seeded(12_012);
    let silent = altered(&mut random, |it| put(it, tags::BODY_PART_EXAMINED, VR::CS, ""))?;
    let daemon = Daemon::start(&Setup::default())?;
    send(&daemon, &silent)?;
    let entry = daemon.await_state(&silent.study_instance_uid, "held", PATIENCE)?;
    for part in ["body part (Body Part Examined", "unstated = \"read\"", "rule \"radiographs\""] {
        ensure!(reason(&entry).contains(part), "{entry} does not say {part:?}");
    }
    drop(daemon);
    let daemon = Daemon::start(&Setup { more: "unstated = \"read\"\n".into(), ..Setup::default() })?;
    send(&daemon, &silent)?;
    daemon.await_state(&silent.study_instance_uid, "delivered", PATIENCE)?;
    let kept = daemon.kept_beside_report(&silent.study_instance_uid, "report-json")?;
    let kept: Value = serde_json::from_slice(&kept)?;
    ensure!(kept["images"]["notes"].to_string().contains("do not state their body part"), "{kept}");
    Ok(())
}
