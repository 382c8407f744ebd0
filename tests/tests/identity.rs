//! One patient, one study, one reading: what came for several patients, twice, or late never meets in a report unasked, and
//! nothing that was acknowledged is out of sight.

use std::{collections::BTreeSet, fs, io::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::Instance,
    peers,
    random::Random,
    samples,
    scp::{Received, Scp},
    scu::Scu,
    sr::Report,
    wait,
};
use flate2::{Compression, write::DeflateEncoder};
use serde_json::Value;

/// On a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(120);

type Values<'a> = &'a [(Tag, VR, &'a str)];

/// A daemon, its PACS, and images to send.
struct House {
    pacs: Scp,
    daemon: Daemon,
    images: Vec<Instance>,
    random: Random,
}

impl House {
    fn open(seed: u64) -> Result<Self> {
        let pacs = Scp::start("PACS")?;
        let daemon = Daemon::start(&Setup { quiet_period: "1s".into(), ..Setup::to("PACS", &pacs.address()) })?;
        let images = samples::all()?.into_iter().map(|sample| sample.instance).collect();
        Ok(Self { pacs, daemon, images, random: Random::seeded(seed) })
    }

    /// An image of a study, in a series of its own, that states these values.
    fn image(&mut self, study: &str, number: usize, values: Values<'_>) -> Result<Instance> {
        let (series, instance) = (self.random.uid(), self.random.uid());
        self.copy(study, &series, &instance, number)?.with(values)
    }

    /// A sample under these UIDs, of the patient A: the samples are of a patient each.
    fn copy(&self, study: &str, series: &str, instance: &str, number: usize) -> Result<Instance> {
        self.images[number]
            .encoded(uids::EXPLICIT_VR_LITTLE_ENDIAN)?
            .reissued(study, series, instance)?
            .with(&A.values())
    }

    /// What is no image: a document of this SOP class.
    fn document(&mut self, study: &str, sop_class: &str, modality: &str) -> Result<Instance> {
        let instance = self.random.uid();
        let mut made = e2e::instance::Study::seeded(7);
        made.uid = study.to_owned();
        let document = made.document(1)?.with(&A.values())?;
        document.with(&[
            (tags::SOP_CLASS_UID, VR::UI, sop_class),
            (tags::SOP_INSTANCE_UID, VR::UI, &instance),
            (tags::MODALITY, VR::CS, modality),
        ])
    }

    fn send(&self, instances: &[Instance]) -> Result<()> {
        let mut scu = Scu::for_instances(&self.daemon.address(), "MODALITY", AE_TITLE, instances)?;
        for instance in instances {
            assert_eq!(scu.store(instance)?, 0);
        }
        scu.release()
    }

    fn queue(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let output = self.daemon.command(&[&["queue"], arguments].concat())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), said))
    }

    fn accept(&self, study: &str, more: &[&str]) -> Result<()> {
        let (done, said) = self.queue(&[&["accept", study], more].concat())?;
        ensure!(done, "queue accept {study} {more:?}: {said}");
        Ok(())
    }

    fn state(&self, study: &str, state: &str) -> Result<Value> {
        self.daemon.await_state(study, state, PATIENCE)
    }

    fn reports(&self, study: &str) -> Vec<Received> {
        let mut stored = self.pacs.stored_in(study);
        stored.retain(|one| one.instance.sop_class_uid == uids::BASIC_TEXT_SR_STORAGE);
        stored
    }

    /// The report with this version, from 1, once the PACS has it.
    fn report(&self, study: &str, version: usize) -> Result<Told> {
        let received = wait::until("a report", PATIENCE, || Ok(self.reports(study).into_iter().nth(version - 1)));
        Told::of(&received.with_context(|| format!("the daemon's log:\n{}", self.daemon.log()))?.instance)
    }
}

/// What a report says of itself.
#[derive(Debug, PartialEq)]
struct Told {
    patient_id: String,
    patient_name: String,
    complete: bool,
    predecessors: usize,
    /// The images that it was made from.
    evidence: BTreeSet<String>,
}

impl Told {
    fn of(instance: &Instance) -> Result<Self> {
        let header = instance.header()?;
        let text = |tag: Tag| {
            let element = header.get(tag).and_then(|element| element.to_str().ok());
            element.map(|text| text.trim_end_matches([' ', '\0']).to_owned()).unwrap_or_default()
        };
        let items = |tag: Tag| header.get(tag).and_then(|element| element.items()).unwrap_or_default();
        let mut evidence = BTreeSet::new();
        for study in items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE) {
            let series = study.get(tags::REFERENCED_SERIES_SEQUENCE).and_then(|it| it.items()).unwrap_or_default();
            for image in series.iter().filter_map(|it| it.get(tags::REFERENCED_SOP_SEQUENCE)?.items()).flatten() {
                let uid = image.get(tags::REFERENCED_SOP_INSTANCE_UID).context("no UID")?.to_str()?;
                evidence.insert(uid.trim_end_matches('\0').to_owned());
            }
        }
        Ok(Self {
            patient_id: text(tags::PATIENT_ID),
            patient_name: text(tags::PATIENT_NAME),
            complete: Report::of(instance)?.completion_flag == "COMPLETE",
            predecessors: items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).len(),
            evidence,
        })
    }
}

/// Who an image is of; empty is stated as empty.
#[derive(Debug, Clone, Copy)]
struct Who<'a> {
    id: &'a str,
    issuer: &'a str,
    born: &'a str,
    sex: &'a str,
    name: &'a str,
}

const A: Who<'_> = Who { id: "P-A", issuer: "", born: "19700101", sex: "F", name: "ALPHA^A" };
const B: Who<'_> = Who { id: "P-B", issuer: "", born: "19801231", sex: "M", name: "BETA^B" };

impl Who<'_> {
    fn values(&self) -> Vec<(Tag, VR, &str)> {
        vec![
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
            (tags::PATIENT_ID, VR::LO, self.id),
            (tags::ISSUER_OF_PATIENT_ID, VR::LO, self.issuer),
            (tags::PATIENT_BIRTH_DATE, VR::DA, self.born),
            (tags::PATIENT_SEX, VR::CS, self.sex),
            (tags::PATIENT_NAME, VR::PN, self.name),
        ]
    }
}

/// Twenty studies of two images each, in every way in which two images can be of one patient or of two.
#[test]
fn no_report_is_of_two_patients_and_nothing_is_out_of_sight() -> Result<()> {
    let mut house = House::open(1201)?;
    let no_id = Who { id: "", ..A };
    let nobody = Who { id: "", issuer: "", born: "", sex: "", name: "" };
    // The two images, and whether they are of one patient as far as anybody can say.
    let rows: Vec<(Vec<Who<'_>>, bool)> = vec![
        (vec![A, A], true),
        (vec![A, B], false),
        (vec![B, A], false),
        (vec![A, Who { id: "P-B", ..A }], false),
        (vec![A, Who { id: "p-a", ..A }], false),
        (vec![A, Who { issuer: "ELSEWHERE", ..A }], true),
        (vec![Who { issuer: "HERE", ..A }, Who { issuer: "ELSEWHERE", ..A }], false),
        (vec![A, Who { born: "19700102", ..A }], false),
        (vec![A, Who { born: "", ..A }], true),
        (vec![A, Who { sex: "M", ..A }], false),
        (vec![A, Who { sex: "", ..A }], true),
        (vec![A, Who { name: "ALPHA^ANNA", ..A }], true),
        (vec![A, Who { name: "ALPHA^A=阿^乙", ..A }], true),
        (vec![A, no_id], true),
        (vec![A, nobody], true),
        (vec![no_id, no_id], true),
        (vec![no_id, Who { name: "BETA^B", ..no_id }], false),
        (vec![no_id, Who { born: "19700102", ..no_id }], false),
        (vec![no_id, Who { name: "alpha^a^", ..no_id }], true),
        (vec![A, nobody, B], false),
    ];
    let mut sent = Vec::new();
    for (row, _) in &rows {
        let study = house.random.uid();
        let mut images = Vec::new();
        for (number, who) in row.iter().enumerate() {
            images.push(house.image(&study, number, &who.values())?);
        }
        house.send(&images)?;
        sent.push((study, images));
    }
    for ((row, of_one), (study, images)) in rows.iter().zip(&sent) {
        let state = if *of_one { "delivered" } else { "held" };
        let entry = house.state(study, state).with_context(|| format!("{row:?}"))?;
        assert_eq!(entry["instances"], images.len(), "{row:?}");
        let shown = house.daemon.show(study)?;
        let uids: Vec<&str> = shown["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| it["sop_instance_uid"].as_str())
            .collect();
        assert_eq!(uids, images.iter().map(|it| it.sop_instance_uid.as_str()).collect::<Vec<_>>(), "{row:?}");
        assert_eq!(house.reports(study).len(), usize::from(*of_one), "{row:?}");
        if *of_one {
            assert!(shown.get("groups").is_none() && shown.get("decision_needed").is_none(), "{row:?}: {shown:#}");
            continue;
        }
        let groups = shown["groups"].as_array().context("no groups")?;
        let counted: u64 = groups.iter().filter_map(|group| group["images"].as_u64()).sum();
        assert_eq!((counted, groups[1]["number"].as_u64()), (images.len() as u64, Some(2)), "{row:?}");
        assert_eq!(groups[1]["instances"][0], images[1].sop_instance_uid, "{row:?}");
        let needed = shown["decision_needed"] == true && groups.iter().all(|group| group["accepted"] == false);
        // Who they are is for the person who asks, and not for a program.
        assert!(needed && !shown.to_string().contains("ALPHA") && !shown.to_string().contains("P-A"), "{shown:#}");
        let reason = entry["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("different patients") && reason.contains("group 2: 1 image"), "{row:?}: {reason}");
        // Whose images count, a person says; only they are read.
        house.accept(study, &["--group", "2"])?;
        let told = house.report(study, 1)?;
        let (second, id) = (images[1].sop_instance_uid.clone(), row[1].id);
        let expected = (id, false, BTreeSet::from([second]));
        assert_eq!((told.patient_id.as_str(), told.complete, told.evidence), expected, "{row:?}");
        let shown = house.daemon.show(study)?;
        let accepted = |number: usize| shown["groups"][number]["accepted"].as_bool();
        assert_eq!((accepted(0), accepted(1)), (Some(false), Some(true)), "{row:?}");
        assert_eq!(shown["decision_needed"], false, "{row:?}");
    }
    let (done, said) = house.queue(&["show", &sent[1].0])?;
    assert!(done && said.contains("group 2: 1 images; patient BETA^B, id P-B"), "{said}");
    assert!(!house.queue(&["accept", &sent[1].0, "--group", "3"])?.0);
    let log = house.daemon.log();
    assert!(!log.contains("ALPHA") && !log.contains("P-A") && !log.contains("19700101"), "{log}");
    Ok(())
}

#[test]
fn a_late_image_of_another_patient_makes_no_version_of_the_first_ones_report() -> Result<()> {
    let mut house = House::open(1202)?;
    let studies = [house.random.uid(), house.random.uid()];
    let mut sent = Vec::new();
    for study in &studies {
        let first = house.image(study, 2, &A.values())?;
        house.send(std::slice::from_ref(&first))?;
        sent.push(first);
    }
    for (study, first) in studies.iter().zip(&sent) {
        assert_eq!(house.report(study, 1)?.evidence, BTreeSet::from([first.sop_instance_uid.clone()]));
        house.state(study, "delivered")?;
    }
    let mut late = Vec::new();
    for study in &studies {
        // Before the first one in reading order.
        let image = house.image(study, 5, &[&B.values()[..], &[(tags::SERIES_NUMBER, VR::IS, "0")]].concat())?;
        house.send(std::slice::from_ref(&image))?;
        late.push(image);
    }
    for study in &studies {
        let entry = house.state(study, "held")?;
        assert!(entry["reason"].to_string().contains("patients"), "{entry}");
        assert_eq!(house.reports(study).len(), 1);
    }
    house.accept(&studies[0], &["--group", "1"])?;
    let told = house.report(&studies[0], 2)?;
    assert_eq!((told.patient_id.as_str(), told.complete, told.predecessors), ("P-A", false, 1));
    house.accept(&studies[1], &["--group", "2"])?;
    let told = house.report(&studies[1], 2)?;
    assert_eq!((told.patient_id.as_str(), told.complete, told.predecessors), ("P-B", false, 0), "{told:?}");
    assert_eq!(told.evidence, BTreeSet::from([late[1].sop_instance_uid.clone()]));
    // Somebody whom nobody has spoken of holds it again; more of the accepted one does not.
    let more = house.image(&studies[0], 6, &B.values())?;
    house.send(&[more])?;
    house.state(&studies[0], "delivered")?;
    let third = house.image(&studies[0], 7, &Who { id: "P-C", ..A }.values())?;
    house.send(&[third])?;
    house.state(&studies[0], "held")?;
    Ok(())
}

#[test]
fn a_corrected_study_waits_for_a_person_and_the_newer_one_can_count() -> Result<()> {
    let mut house = House::open(1203)?;
    type Corrected<'a> = (Who<'a>, bool, &'a [&'a str], (&'a str, bool, usize));
    // What is corrected, which way a person decides, and whom the second report is of and whether it follows the first.
    let rows: [Corrected<'_>; 5] = [
        (B, false, &[], ("P-B", true, 0)),
        (Who { name: "ALPHA^ANNA", ..A }, false, &[], ("P-A", true, 1)),
        (Who { born: "19710101", ..A }, false, &[], ("P-A", true, 1)),
        (B, false, &["--older"], ("P-A", false, 1)),
        (A, true, &[], ("P-A", true, 1)),
    ];
    let mut studies = Vec::new();
    for (who, pixels, _, _) in &rows {
        let study = house.random.uid();
        let first = house.image(&study, 2, &A.values())?;
        let series = first.header()?.get(tags::SERIES_INSTANCE_UID).context("no series")?.to_str()?.into_owned();
        let base = if *pixels { house.copy(&study, &series, &first.sop_instance_uid, 5)? } else { first.clone() };
        house.send(std::slice::from_ref(&first))?;
        studies.push((study, base.with(&who.values())?));
    }
    for (study, corrected) in &studies {
        house.state(study, "delivered")?;
        house.send(std::slice::from_ref(corrected))?;
    }
    for ((study, _), (who, pixels, decision, expected)) in studies.iter().zip(&rows) {
        let entry = house.state(study, "held")?;
        let reason = entry["reason"].as_str().unwrap_or_default();
        let named = if *pixels {
            "pixels"
        } else if who.born != A.born {
            "PatientBirthDate"
        } else {
            "PatientName"
        };
        assert!(reason.contains(named) && reason.contains("queue accept"), "{who:?}: {reason}");
        assert_eq!(entry["conflicts"], 1);
        assert_eq!(house.reports(study).len(), 1);
        let (done, said) = house.queue(&["retry", study])?;
        assert!(done, "{said}");
        house.state(study, "held")?;
        house.accept(study, decision)?;
        let told = house.report(study, 2)?;
        assert_eq!((told.patient_id.as_str(), told.complete, told.predecessors), *expected, "{who:?} {decision:?}");
        house.state(study, "delivered")?;
        // The other way takes the decision back; the same way there is nothing left to decide.
        let again = [&["accept", study.as_str()], *decision].concat();
        assert!(!house.queue(&again)?.0, "nothing is left to decide");
    }
    Ok(())
}

#[test]
fn a_correction_of_an_image_that_no_model_read_waits_for_a_person_where_one_would_read_it() -> Result<()> {
    let mut house = House::open(1209)?;
    let knee = [(tags::BODY_PART_EXAMINED, VR::CS, "KNEE")];
    let hand = [(tags::BODY_PART_EXAMINED, VR::CS, "HAND")];
    let chest = [(tags::BODY_PART_EXAMINED, VR::CS, "CHEST")];
    let (study, other) = (house.random.uid(), house.random.uid());
    let (first, beside) = (house.image(&study, 2, &knee)?, house.image(&other, 2, &knee)?);
    house.send(&[first.clone(), beside.clone()])?;
    house.state(&study, "skipped")?;
    house.state(&other, "skipped")?;
    house.send(&[first.with(&chest)?, beside.with(&hand)?])?;
    let entry = house.state(&study, "held")?;
    assert!(entry["reason"].to_string().contains("BodyPartExamined"), "{entry}");
    // Nothing depends on a decision that makes no model read anything.
    house.state(&other, "skipped")?;
    house.accept(&study, &[])?;
    assert_eq!(house.report(&study, 1)?.evidence, BTreeSet::from([first.sop_instance_uid]));
    Ok(())
}

#[test]
fn a_uid_of_two_images_is_visible_in_the_study_of_each() -> Result<()> {
    let mut house = House::open(1204)?;
    // In two series of one study.
    let study = house.random.uid();
    let first = house.image(&study, 2, &[])?;
    let series = house.random.uid();
    let second = house.copy(&study, &series, &first.sop_instance_uid, 5)?;
    house.send(&[first, second])?;
    house.state(&study, "held")?;
    assert!(house.reports(&study).is_empty());
    house.accept(&study, &[])?;
    assert!(!house.report(&study, 1)?.complete, "one of the two images was not read");

    // In two studies.
    let studies = [house.random.uid(), house.random.uid(), house.random.uid()];
    let first = house.image(&studies[0], 2, &[])?;
    let mut copies = Vec::new();
    for study in &studies[1..] {
        let series = house.random.uid();
        copies.push(house.copy(study, &series, &first.sop_instance_uid, 5)?);
    }
    let beside = house.image(&studies[2], 6, &[])?;
    house.send(std::slice::from_ref(&first))?;
    house.send(&[copies.remove(0)])?;
    house.send(&[copies.remove(0), beside.clone()])?;
    house.state(&studies[0], "delivered")?;
    assert!(house.report(&studies[0], 1)?.complete, "it has all that is its own");
    for study in &studies[1..] {
        let entry = house.state(study, "held")?;
        assert!(entry["reason"].to_string().contains("another study"), "{entry}");
        assert_eq!(entry["conflicts"], 1);
    }
    house.accept(&studies[1], &[])?;
    assert_eq!(house.report(&studies[1], 1)?.evidence, BTreeSet::from([first.sop_instance_uid]));
    house.accept(&studies[2], &["--older"])?;
    let told = house.report(&studies[2], 1)?;
    assert_eq!((told.complete, told.evidence), (false, BTreeSet::from([beside.sop_instance_uid])));
    Ok(())
}

#[test]
fn the_same_instance_in_another_encoding_is_the_same_instance() -> Result<()> {
    let mut house = House::open(1205)?;
    let (study, dir) = (house.random.uid(), tempfile::tempdir()?);
    let values = [(tags::PATIENT_NAME, VR::PN, "MUELLER^JOERG"), (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100")];
    let image = house.image(&study, 2, &values)?.encoded(uids::EXPLICIT_VR_LITTLE_ENDIAN)?;
    house.send(std::slice::from_ref(&image))?;
    house.state(&study, "delivered")?;
    let mut others = Vec::new();
    for syntax in [uids::IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.2"] {
        others.push(image.encoded(syntax)?);
    }
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
    deflated.write_all(&image.data_set)?;
    others.push(Instance {
        transfer_syntax_uid: "1.2.840.10008.1.2.1.99".to_owned(),
        data_set: deflated.finish()?,
        ..image.clone()
    });
    others.push(image.with(&[(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192")])?);
    let file = dir.path().join("image.dcm");
    fs::write(&file, image.to_part10()?)?;
    let tools: [(&str, &[&str]); 5] = [
        ("dcmcrle", &["+un"]),
        ("dcmcjpeg", &["+un", "+e1"]),
        ("dcmcjpls", &["+un", "+el"]),
        ("dcmconv", &["+t=", "-e", "+g"]),
        ("dcmconv", &["+ti", "+e"]),
    ];
    let name = |path: &std::path::Path| path.to_string_lossy().into_owned();
    for (tool, options) in tools {
        let to = dir.path().join(tool);
        let (from, into) = (name(&file), name(&to));
        // They would give the image a new UID where pixels were lost; without loss it keeps its own.
        let options: Vec<&str> = options.iter().filter(|it| **it != "+un").copied().collect();
        let (done, said) = peers::dcmtk(tool, &[&options[..], &[&from, &into]].concat())?;
        ensure!(done, "{tool}: {said}");
        others.push(Instance::read(&to)?);
    }
    for other in &others {
        assert_eq!(other.sop_instance_uid, image.sop_instance_uid);
        house.send(std::slice::from_ref(other))?;
    }
    // What is compared later than it was received has been, once something else that came later has.
    let probe = house.random.uid();
    let first = house.image(&probe, 2, &[])?;
    let changed = first.with(&[(tags::PATIENT_ID, VR::LO, "CHANGED")])?;
    house.send(&[first, changed])?;
    house.state(&probe, "held")?;
    let entry = house.state(&study, "delivered")?;
    let quarantined = house.daemon.show(&study)?["quarantined"].clone();
    assert_eq!((&entry["conflicts"], &entry["attempts"]), (&0.into(), &1.into()), "{quarantined:#}");
    assert_eq!(house.reports(&study).len(), 1);
    Ok(())
}

#[test]
fn a_report_says_the_same_of_a_study_whichever_image_came_first() -> Result<()> {
    let mut house = House::open(1206)?;
    let (late, at_once) = (house.random.uid(), house.random.uid());
    let (first, second) = (house.image(&late, 2, &[])?, house.image(&late, 5, &[])?);
    house.send(std::slice::from_ref(&first))?;
    assert!(house.report(&late, 1)?.complete);
    house.send(&[second])?;
    let images = [house.image(&at_once, 2, &[])?, house.image(&at_once, 5, &[])?];
    house.send(&images)?;
    let (told, told_at_once) = (house.report(&late, 2)?, house.report(&at_once, 1)?);
    assert_eq!((told.complete, told_at_once.complete), (false, false));
    assert_eq!(told.predecessors, 1);
    house.state(&late, "delivered")?;
    // The same image once more changes nothing, and is no third version.
    house.send(&[first])?;
    house.state(&late, "delivered")?;
    assert_eq!(house.reports(&late).len(), 2);
    Ok(())
}

#[test]
fn documents_neither_hold_a_study_nor_make_its_report_partial() -> Result<()> {
    let mut house = House::open(1207)?;
    let classes = [
        (uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE, "KO"),
        (uids::COMPREHENSIVE_SR_STORAGE, "SR"),
        (uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, "PR"),
        (uids::ENCAPSULATED_PDF_STORAGE, "DOC"),
        (uids::RT_PLAN_STORAGE, "RTPLAN"),
        (uids::TWELVE_LEAD_ECG_WAVEFORM_STORAGE, "ECG"),
    ];
    let mut studies = Vec::new();
    for (class, modality) in classes {
        let (alone, beside) = (house.random.uid(), house.random.uid());
        let document = house.document(&alone, class, modality)?;
        house.send(&[document])?;
        let (image, document) = (house.image(&beside, 2, &[])?, house.document(&beside, class, modality)?);
        house.send(&[image, document])?;
        studies.push((alone, beside, class, modality));
    }
    for (alone, beside, class, modality) in studies {
        let entry = house.state(&alone, "skipped")?;
        assert!(entry["reason"].to_string().contains("no image"), "{entry}");
        assert!(house.report(&beside, 1)?.complete, "{modality}");
        // Nor is a late one, one that was changed, or one of another patient anything to read again for.
        house.state(&beside, "delivered")?;
        let late = house.document(&beside, class, modality)?;
        let changed = late.with(&[(tags::PATIENT_ID, VR::LO, "CHANGED")])?;
        house.send(&[late, changed])?;
        house.state(&beside, "delivered")?;
    }
    // All of them were looked at by now, and nothing more was sent.
    let probe = house.random.uid();
    let image = house.image(&probe, 2, &[])?;
    house.send(&[image])?;
    house.report(&probe, 1)?;
    let queue = house.daemon.queue()?;
    for entry in queue {
        assert_ne!(entry["state"], "held", "{entry}");
        let study = entry["study_instance_uid"].as_str().unwrap_or_default();
        assert!(house.reports(study).len() <= 1, "{entry}");
    }
    Ok(())
}

#[test]
fn what_a_destination_has_is_neither_dropped_nor_held() -> Result<()> {
    let mut house = House::open(1208)?;
    let study = house.random.uid();
    let image = house.image(&study, 2, &A.values())?;
    house.send(&[image])?;
    house.state(&study, "delivered")?;
    for command in ["drop", "hold"] {
        let (done, said) = house.queue(&[command, &study])?;
        assert!(!done && said.contains("every destination has its report"), "{command}: {said}");
        house.state(&study, "delivered")?;
    }
    // What came later is ended; the report is where it is, and the queue says so.
    let other = house.image(&study, 5, &B.values())?;
    house.send(&[other])?;
    house.state(&study, "held")?;
    let (done, said) = house.queue(&["drop", &study])?;
    assert!(done && said.contains("is delivered"), "{said}");
    house.state(&study, "delivered")?;
    Ok(())
}

#[test]
fn beside_a_verified_report_no_draft_is_delivered() -> Result<()> {
    const REASON: &str = "a verified report of the study is there already";
    let mut house = House::open(1210)?;
    let verified = |house: &mut House, study: &str, flag: &str| -> Result<Instance> {
        let document = house.document(study, uids::BASIC_TEXT_SR_STORAGE, "SR")?;
        document.with(&[(tags::VERIFICATION_FLAG, VR::CS, flag)])
    };
    // It comes before the image, with it, after the report, or as a corrected version of one that was not verified.
    let [before, with, after, corrected, not] = std::array::from_fn(|_| house.random.uid());
    let report = verified(&mut house, &before, "VERIFIED")?;
    house.send(&[report])?;
    house.state(&before, "skipped")?;
    let image = house.image(&before, 2, &[])?;
    house.send(&[image])?;
    let (image, report) = (house.image(&with, 2, &[])?, verified(&mut house, &with, "VERIFIED")?);
    house.send(&[image, report])?;
    for study in [&after, &corrected, &not] {
        let (image, report) = (house.image(study, 2, &[])?, verified(&mut house, study, "UNVERIFIED")?);
        house.send(&[image, report.clone()])?;
        house.report(study, 1)?;
        house.state(study, "delivered")?;
        if study == &corrected {
            house.send(&[report.with(&[(tags::VERIFICATION_FLAG, VR::CS, "VERIFIED")])?])?;
        }
    }
    let report = verified(&mut house, &after, "VERIFIED")?;
    house.send(&[report])?;
    for (study, state, reports) in
        [(&before, "skipped", 0), (&with, "skipped", 0), (&after, "delivered", 1), (&corrected, "delivered", 1)]
    {
        // A late image changes nothing of it.
        for round in 0..2 {
            let entry = wait::until(REASON, PATIENCE, || {
                let entry = house.daemon.study(study)?.unwrap_or_default();
                Ok(entry["reason"].to_string().contains(REASON).then_some(entry))
            })?;
            assert_eq!((entry["state"].as_str(), house.reports(study).len()), (Some(state), reports), "{entry}");
            if round == 0 {
                let late = house.image(study, 5, &[])?;
                house.send(&[late])?;
                wait::until("the late image", PATIENCE, || {
                    let entry = house.daemon.study(study)?.unwrap_or_default();
                    Ok((entry["state"] != state || entry["reason"].is_null()).then_some(()))
                })?;
            }
        }
    }
    let late = house.image(&not, 5, &[])?;
    house.send(&[late])?;
    house.report(&not, 2)?;
    Ok(())
}
