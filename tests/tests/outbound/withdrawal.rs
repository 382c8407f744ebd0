//! What was sent and is wrong is called back; and what its sender rejects is not read.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, value::DataSetSequence};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use e2e::{
    daemon::{Daemon, Setup},
    instance::{Instance, Study, encode},
    orthanc::{ORTHANC, Orthanc},
    peers, place, samples,
    scp::{Answer, Scp},
    wait,
};

use super::{PATIENCE, destinations, send, words};

const KEY_OBJECTS: &str = uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE;

fn items(object: &InMemDicomObject, tag: Tag) -> Vec<InMemDicomObject> {
    object.get(tag).and_then(|element| element.items()).map(<[_]>::to_vec).unwrap_or_default()
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    let value = object.get(tag).and_then(|element| element.to_str().ok()).unwrap_or_default();
    value.trim_end_matches(['\0', ' ']).to_owned()
}

/// The instances that a document lists in a sequence of references by study and series.
fn listed(object: &InMemDicomObject, tag: Tag) -> BTreeSet<String> {
    let series = items(object, tag).into_iter().flat_map(|study| items(&study, tags::REFERENCED_SERIES_SEQUENCE));
    let instances = series.flat_map(|series| items(&series, tags::REFERENCED_SOP_SEQUENCE));
    instances.map(|it| text(&it, tags::REFERENCED_SOP_INSTANCE_UID)).collect()
}

fn evidence(object: &InMemDicomObject) -> BTreeSet<String> {
    listed(object, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)
}

/// The rejection notes that came to a destination: Key Object Selections with that title.
fn notes(pacs: &Scp) -> Result<Vec<Instance>> {
    let mut notes = Vec::new();
    for received in pacs.received().into_iter().filter(|one| one.status == 0) {
        let object = received.instance.header()?;
        let title = items(&object, tags::CONCEPT_NAME_CODE_SEQUENCE).first().map(|code| text(code, tags::CODE_VALUE));
        if received.instance.sop_class_uid == KEY_OBJECTS && title.as_deref() == Some("113037") {
            notes.push(received.instance);
        }
    }
    Ok(notes)
}

fn uids_of<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> BTreeSet<String> {
    instances.into_iter().map(|it| it.sop_instance_uid.clone()).collect()
}

fn withdraw(daemon: &Daemon, id: &str, reason: &str) -> Result<String> {
    let output = daemon.command(&["queue", "withdraw", id, "--reason", reason])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_withdrawn_report_is_called_back_from_everyone_who_has_it_also_over_a_crash() -> Result<()> {
    const REASON: &str = "images of another patient were among them";
    let (has, lacks) = (Scp::start("PACS")?, Scp::start("PACS")?);
    lacks.answer(0x0110);
    let more = destinations(&[("has", has.address()), ("lacks", lacks.address())])
        .replace("[[rule]]", "objects = [\"text-sr\", \"pdf\", \"heatmap\", \"key-objects\"]\n\n[[rule]]");
    let mut daemon = Daemon::start(&Setup { when: "false".into(), more, ..Setup::default() })?;
    let mut study = Study::seeded(400);
    send(&daemon, &[study.image(1)?])?;
    // The last section is that of the destination which has nothing: it lacks four objects, the other one.
    wait::until("the report at one of two", PATIENCE, || {
        let entry = daemon.study(&study.uid)?.unwrap_or_default();
        let waiting = entry["waiting"].as_array().cloned().unwrap_or_default();
        Ok((waiting.len() == 1 && waiting[0]["destination"] == "lacks").then_some(()))
    })?;
    let sent: Vec<Instance> = has.stored_in(&study.uid).into_iter().map(|one| one.instance).collect();
    ensure!(!sent.is_empty());

    // The command works beside the daemon, and without one.
    daemon.kill()?;
    let said = withdraw(&daemon, "1", REASON)?;
    ensure!(said.contains("rejection note to has;"), "{said}");
    let entry = daemon.study(&study.uid)?.context("no study")?;
    ensure!(entry["state"] == "written" && entry["withdrawn"] == REASON, "{entry:#}");
    let again = daemon.command(&["queue", "withdraw", "1", "--reason", "again"])?;
    ensure!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("withdrawn already"));
    daemon.start_again()?;
    let entry = daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    assert_eq!(entry["reason"], format!("withdrawn: {REASON}"), "{entry:#}");

    let notes = notes(&has)?;
    let [note] = notes.as_slice() else { anyhow::bail!("{} notes", notes.len()) };
    let object = note.header()?;
    assert_eq!(evidence(&object), uids_of(&sent), "it names what was sent, and nothing else");
    let content = items(&object, tags::CONTENT_SEQUENCE);
    let of_content: BTreeSet<String> = content
        .iter()
        .flat_map(|item| items(item, tags::REFERENCED_SOP_SEQUENCE))
        .map(|it| text(&it, tags::REFERENCED_SOP_INSTANCE_UID))
        .collect();
    assert_eq!(of_content, uids_of(&sent));
    ensure!(content.iter().any(|item| text(item, tags::TEXT_VALUE).contains(REASON)), "it does not say why");
    let of_report = sent[0].header()?;
    for tag in [tags::STUDY_INSTANCE_UID, tags::PATIENT_NAME, tags::PATIENT_ID, tags::ACCESSION_NUMBER] {
        assert_eq!(text(&object, tag), text(&of_report, tag), "{tag}");
    }
    assert!(lacks.stored_in(&study.uid).is_empty() && self::notes(&lacks)?.is_empty(), "it has nothing to give back");
    let file = daemon.dir().join("note.dcm");
    fs::write(&file, note.to_part10()?)?;
    let checked = Command::new(place::preread()?).args(["report", "validate"]).arg(&file).output()?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    assert_eq!(peers::dciodvfy(&file)?, Vec::<String>::new());
    peers::dsrdump(&file)?;

    let shown = words(&daemon, &["queue", "show", "1"])?;
    for part in ["(withdrawn: images of another", "not sent to lacks: it was withdrawn before", "rejection-note"] {
        ensure!(shown.contains(part), "{shown}\ndoes not say {part}");
    }
    ensure!(words(&daemon, &["queue", "ls"])?.contains(&format!("withdrawn: {REASON}")));
    ensure!(!daemon.log().contains("another patient"), "a person's words are in the log");

    // Once more from the start: nothing is sent twice, and what was cancelled stays so.
    lacks.answer(0);
    let before = has.received().len();
    daemon.kill()?;
    daemon.start_again()?;
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((has.received().len(), lacks.stored_in(&study.uid).len()), (before, 0));
    Ok(())
}

#[test]
fn a_destination_that_refuses_a_rejection_note_leaves_a_person_the_uids_to_delete() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    pacs.script(|instance, _| Answer::Status(if instance.sop_class_uid == KEY_OBJECTS { 0x0122 } else { 0 }));
    let objects = ["text-sr", "pdf"].map(str::to_owned).to_vec();
    let daemon = Daemon::start(&Setup { objects, ..Setup::to("PACS", &pacs.address()) })?;
    let mut study = Study::seeded(410);
    send(&daemon, &[study.image(1)?])?;
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    withdraw(&daemon, &study.uid, "wrong side")?;
    let held = daemon.await_state(&study.uid, "held", PATIENCE)?;
    let reason = held["reason"].as_str().unwrap_or_default();
    for uid in uids_of(pacs.stored_in(&study.uid).iter().map(|one| &one.instance)) {
        ensure!(reason.contains(&uid), "{reason}\ndoes not name {uid}");
    }
    for part in ["pacs: ", "0x0122", "delete it there by hand", "queue drop 1"] {
        ensure!(reason.contains(part), "{reason}\ndoes not say {part}");
    }
    ensure!(words(&daemon, &["queue", "ls"])?.contains("withdrawn: wrong side"));
    Ok(())
}

#[test]
fn no_later_version_follows_a_withdrawn_one() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let mut study = Study::seeded(420);
    let uid = study.uid.clone();
    send(&daemon, &[study.image(5)?])?;
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    withdraw(&daemon, "1", "not good")?;
    wait::until("the note", PATIENCE, || Ok((notes(&pacs)?.len() == 1).then_some(())))?;
    let reports = || -> Vec<Instance> {
        let stored = pacs.stored_in(&uid).into_iter().map(|one| one.instance);
        stored.filter(|it| it.sop_class_uid == uids::BASIC_TEXT_SR_STORAGE).collect()
    };
    // The same images, because a person asks.
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    ensure!(daemon.command(&["queue", "retry", "1"])?.status.success());
    wait::until("a second report", PATIENCE, || Ok((reports().len() == 2).then_some(())))?;
    let [first, second] = reports().try_into().ok().context("not two reports")?;
    assert_ne!(first.sop_instance_uid, second.sop_instance_uid);
    ensure!(listed(&second.header()?, tags::PREDECESSOR_DOCUMENTS_SEQUENCE).is_empty(), "it follows a withdrawn one");
    let entry = daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    ensure!(entry["reason"].is_null() && entry["withdrawn"].is_null(), "the new report stands: {entry:#}");
    // And what comes after that follows the one that stands.
    send(&daemon, &[study.image(1)?])?;
    wait::until("a third report", PATIENCE, || Ok((reports().len() == 3).then_some(())))?;
    let third = reports().pop().context("no report")?;
    let predecessors = listed(&third.header()?, tags::PREDECESSOR_DOCUMENTS_SEQUENCE);
    assert_eq!(predecessors, BTreeSet::from([second.sop_instance_uid]));
    Ok(())
}

#[test]
fn orthanc_takes_a_rejection_note_and_it_starts_nothing_when_it_comes_back() -> Result<()> {
    let ready = Orthanc::prepare()?;
    let daemon = Daemon::start(&Setup::to(ORTHANC, &ready.address()))?;
    let orthanc = ready.route_to(daemon.port())?;
    let sample = samples::all()?.into_iter().next().context("no sample")?;
    orthanc.upload(&sample.file)?;
    let study = &sample.instance.study_instance_uid;
    wait::until("a report in Orthanc", PATIENCE, || Ok((orthanc.came_by_store().len() == 1).then_some(())))?;
    daemon.await_state(study, "delivered", PATIENCE)?;
    withdraw(&daemon, "1", "a test")?;
    wait::until("a note in Orthanc", PATIENCE, || Ok((orthanc.came_by_store().len() == 2).then_some(())))?;
    wait::until("Orthanc to have sent everything", PATIENCE, || Ok((!orthanc.is_busy()?).then_some(())))?;
    std::thread::sleep(Duration::from_secs(5));
    let queue = daemon.queue()?;
    ensure!(queue.len() == 1 && queue[0]["state"] == "delivered" && queue[0]["reason"] == "withdrawn: a test");
    assert_eq!(orthanc.came_by_store().len(), 2, "nothing was sent again");
    Ok(())
}

fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
}

fn value(tag: Tag, vr: VR, value: &str) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

/// Somebody's rejection note, of the study of `like`, titled with a code of CID 7010.
fn note_of_others(like: &Instance, number: u32, title: &str, named: &[(&str, &str)]) -> Result<Instance> {
    let mut object = like.header()?;
    object.retain(|element| element.header().tag.group() != 0x0028);
    let code = InMemDicomObject::from_element_iter([
        value(tags::CODE_VALUE, VR::SH, title),
        value(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM"),
        value(tags::CODE_MEANING, VR::LO, "Rejected"),
    ]);
    let reference = |(class, instance): &(&str, &str)| {
        InMemDicomObject::from_element_iter([
            value(tags::REFERENCED_SOP_CLASS_UID, VR::UI, class),
            value(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance),
        ])
    };
    let entry = |named: &(&str, &str)| {
        InMemDicomObject::from_element_iter([
            value(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS"),
            value(tags::VALUE_TYPE, VR::CS, "IMAGE"),
            sequence(tags::REFERENCED_SOP_SEQUENCE, vec![reference(named)]),
        ])
    };
    let series = InMemDicomObject::from_element_iter([
        value(tags::SERIES_INSTANCE_UID, VR::UI, &text(&object, tags::SERIES_INSTANCE_UID)),
        sequence(tags::REFERENCED_SOP_SEQUENCE, named.iter().map(reference).collect()),
    ]);
    let study = InMemDicomObject::from_element_iter([
        value(tags::STUDY_INSTANCE_UID, VR::UI, &like.study_instance_uid),
        sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series]),
    ]);
    let base = &like.sop_instance_uid;
    let uid = |last: u32| format!("{}{number}{last}", &base[..base.len().min(50)]);
    for element in [
        value(tags::SOP_CLASS_UID, VR::UI, KEY_OBJECTS),
        value(tags::SOP_INSTANCE_UID, VR::UI, &uid(1)),
        value(tags::SERIES_INSTANCE_UID, VR::UI, &uid(2)),
        value(tags::MODALITY, VR::CS, "KO"),
        value(tags::MANUFACTURER, VR::LO, "Acme"),
        value(tags::VALUE_TYPE, VR::CS, "CONTAINER"),
        value(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE"),
        sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code]),
        sequence(tags::CONTENT_SEQUENCE, named.iter().map(entry).collect()),
        sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![study]),
    ] {
        object.put(element);
    }
    encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
}

fn named(instance: &Instance) -> (&str, &str) {
    (&instance.sop_class_uid, &instance.sop_instance_uid)
}

#[test]
fn a_note_that_does_not_say_what_it_is_holds_its_study() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    // Without a code as its title, and one that rejects and names nothing.
    for (seed, title, names_it) in [(431, "", true), (432, "113001", false)] {
        let mut study = Study::seeded(seed);
        let image = study.image(1)?;
        let rejected: Vec<(&str, &str)> = names_it.then(|| named(&image)).into_iter().collect();
        send(&daemon, &[image.clone(), note_of_others(&image, 1, title, &rejected)?])?;
        let held = daemon.await_state(&study.uid, "held", PATIENCE)?;
        let reason = held["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("a Key Object Selection of this study cannot be read"), "{title}: {reason}");
        ensure!(pacs.stored_in(&study.uid).is_empty(), "{title}: it was read all the same");
    }
    Ok(())
}

#[test]
fn what_its_sender_rejects_is_taken_out_of_the_reading() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let mut study = Study::seeded(430);
    let [read, other] = [study.image(1)?, study.image(2)?];
    send(&daemon, &[read.clone(), other.clone()])?;
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    let reports = || -> Vec<Instance> { pacs.stored_in(&study.uid).into_iter().map(|one| one.instance).collect() };
    let analysed = |report: &Instance| -> Result<BTreeSet<String>> { Ok(evidence(&report.header()?)) };
    let first = reports().pop().context("no report")?;
    ensure!(analysed(&first)?.contains(&read.sop_instance_uid), "the first image is what is read");

    // The one that was read is rejected: another version, of the other one, that says so.
    send(&daemon, &[note_of_others(&read, 1, "113001", &[named(&read)])?])?;
    wait::until("a second version", PATIENCE, || Ok((reports().len() == 2).then_some(())))?;
    let second = reports().pop().context("no report")?;
    let seen = analysed(&second)?;
    ensure!(seen.contains(&other.sop_instance_uid) && !seen.contains(&read.sop_instance_uid), "{seen:?}");
    assert_eq!(text(&second.header()?, tags::COMPLETION_FLAG), "PARTIAL");
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    let json: serde_json::Value = serde_json::from_slice(&latest_json(&daemon, &study.uid)?)?;
    ensure!(json.to_string().contains("rejected by its sender (Rejected for Quality Reasons)"), "{json:#}");

    // And then the other one too: nothing is left, and there is a report out there.
    send(&daemon, &[note_of_others(&read, 2, "113037", &[named(&other)])?])?;
    let held = daemon.await_state(&study.uid, "held", PATIENCE)?;
    let reason = held["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("was rejected by the sender") && reason.contains("queue withdraw"), "{reason}");
    assert_eq!(reports().len(), 2);

    // A study of which nothing was reported yet is not held: there is nothing to do about it.
    let mut early = Study::seeded(431);
    let image = early.image(1)?;
    send(&daemon, &[note_of_others(&image, 1, "113001", &[named(&image)])?, image])?;
    let skipped = daemon.await_state(&early.uid, "skipped", PATIENCE)?;
    ensure!(skipped["reason"].as_str().unwrap_or_default().contains("rejected"), "{skipped:#}");
    Ok(())
}

fn latest_json(daemon: &Daemon, study: &str) -> Result<Vec<u8>> {
    wait::until("report.json of version 2", PATIENCE, || {
        let shown = daemon.show(study)?;
        let reports = shown["reports"].as_array().cloned().unwrap_or_default();
        let of = reports.iter().find(|it| it["kind"] == "report-json" && it["version"] == 2);
        Ok(of.and_then(|it| it["path"].as_str()).map(fs::read).transpose()?)
    })
}

#[test]
fn a_note_that_names_our_report_marks_it_and_sends_no_second_one() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let mut study = Study::seeded(440);
    let image = study.image(1)?;
    send(&daemon, std::slice::from_ref(&image))?;
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    let report = pacs.stored_in(&study.uid).pop().context("no report")?.instance;
    send(&daemon, &[note_of_others(&image, 1, "113037", &[named(&report)])?])?;
    let shown = wait::until("the mark", PATIENCE, || {
        let shown = words(&daemon, &["queue", "show", "1"])?;
        Ok(shown.contains("(withdrawn: Rejected for Patient Safety Reasons)").then_some(shown))
    })?;
    daemon.await_state(&study.uid, "delivered", PATIENCE).with_context(|| shown.clone())?;
    ensure!(words(&daemon, &["queue", "ls"])?.contains("the report was rejected by a note that came in"), "{shown}");
    assert_eq!(pacs.stored_in(&study.uid).len(), 1, "the draft that somebody rejected is not sent anew");
    Ok(())
}

#[test]
fn a_note_stands_beside_any_version_of_itself_and_a_rejected_image_is_in_no_group() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    // "Of Interest" first, and under the same UID a note that rejects.
    let mut study = Study::seeded(450);
    let [read, other] = [study.image(1)?, study.image(2)?];
    let of_interest = note_of_others(&read, 1, "113000", &[named(&read)])?;
    send(&daemon, &[read.clone(), other.clone(), of_interest])?;
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    send(&daemon, &[note_of_others(&read, 1, "113001", &[named(&read)])?])?;
    let reports = || -> Vec<Instance> { pacs.stored_in(&study.uid).into_iter().map(|one| one.instance).collect() };
    wait::until("a second version", PATIENCE, || Ok((reports().len() == 2).then_some(())))?;
    let seen = evidence(&reports().pop().context("no report")?.header()?);
    assert_eq!(seen, BTreeSet::from([other.sop_instance_uid]));

    // Three patients, of whom one is rejected: the numbers in the reason are those that a person gives.
    let mut mixed = Study::seeded(451);
    let patient = |image: Instance, id: &str| image.with(&[(tags::PATIENT_ID, VR::LO, id)]);
    let images = [patient(mixed.image(1)?, "P-1")?, patient(mixed.image(2)?, "P-2")?, patient(mixed.image(3)?, "P-3")?];
    let [rejected, second, third] = &images;
    let note = note_of_others(rejected, 1, "113001", &[named(rejected)])?;
    send(&daemon, &[&images[..], &[note]].concat())?;
    let held = daemon.await_state(&mixed.uid, "held", PATIENCE)?;
    let reason = held["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("2 different patients"), "{reason}");
    let shown = words(&daemon, &["queue", "show", &mixed.uid])?;
    let of_group = |number: usize| shown.split(&format!("\n  group {number}: ")).nth(1).unwrap_or_default();
    ensure!(of_group(1).contains("id P-2") && of_group(2).starts_with("1 images") && of_group(3).is_empty(), "{shown}");
    ensure!(of_group(2).contains(&third.sop_instance_uid) && of_group(1).contains(&second.sop_instance_uid), "{shown}");
    ensure!(daemon.command(&["queue", "accept", &mixed.uid, "--group", "2"])?.status.success());
    daemon.await_state(&mixed.uid, "delivered", PATIENCE)?;
    let report = pacs.stored_in(&mixed.uid).pop().context("no report")?.instance;
    assert_eq!(text(&report.header()?, tags::PATIENT_ID), "P-3");
    Ok(())
}

#[test]
fn a_withdrawn_study_can_be_held_as_the_command_says_and_its_note_goes_out() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let mut study = Study::seeded(460);
    send(&daemon, &[study.image(1)?])?;
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;
    pacs.answer(0xa700);
    let said = withdraw(&daemon, "1", "f\u{fc}r einen anderen")?;
    ensure!(said.contains("preread queue hold 1"), "{said}");
    words(&daemon, &["queue", "hold", "1"])?;
    pacs.answer(0);
    wait::until("the note", PATIENCE, || Ok((notes(&pacs)?.len() == 1).then_some(())))?;
    let held = daemon.await_state(&study.uid, "held", PATIENCE)?;
    ensure!(held["withdrawn"] == "f\u{fc}r einen anderen", "{held}");
    send(&daemon, &[study.image(2)?])?;
    std::thread::sleep(Duration::from_secs(4));
    daemon.await_state(&study.uid, "held", PATIENCE)?;
    Ok(())
}
