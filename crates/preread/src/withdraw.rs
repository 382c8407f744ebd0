//! Rejection notes for what a person withdrew: made here, kept in the spool, and delivered as reports are.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use dataset::{Instance, Limits, tags};
use report::{Document, EvidenceItem, Provenance, Source, rejection::rejection_note};
use spool::{ObjectKind, Prepared, ReportFile, SentObject, Spool, Withdrawal};

use crate::{clock, pipeline::DeviceIdentity};

/// Makes the rejection notes of every withdrawal that has none yet. Errors when the spool does.
pub(crate) async fn note_open(spool: &Spool, device: &DeviceIdentity) -> Result<(), spool::Error> {
    for withdrawal in spool.open_withdrawals()? {
        let study = withdrawal.study;
        match notes(&withdrawal, device) {
            Ok(notes) => {
                let count = notes.len();
                let notes = prepared(spool, notes).await?;
                spool.note_withdrawal(&withdrawal, notes, clock::now()).await?;
                tracing::info!(study, notes = count, "report withdrawn; its rejection notes are on their way");
            }
            Err(error) => {
                let named: Vec<&str> = withdrawal.objects.iter().map(|it| it.sop_instance_uid.as_str()).collect();
                let reason = format!(
                    "withdrawn, but the rejection note cannot be made ({error:#}): delete these by hand where they were sent \
                     to: {}",
                    named.join(", ")
                );
                tracing::error!(study, "report withdrawn, but its rejection note cannot be made; the study is held");
                spool.withdrawal_failed(&withdrawal, reason, clock::now()).await?;
            }
        }
    }
    Ok(())
}

/// A note for each patient that versions of the report were filed under: the version that it stands beside, the note, and
/// who gets it.
type Note = (i64, Document, Vec<String>);

async fn prepared(spool: &Spool, notes: Vec<Note>) -> Result<Vec<(i64, Prepared)>, spool::Error> {
    let mut prepared = Vec::new();
    for (version, note, destinations) in notes {
        let uids = [&note.sop_instance_uid, &note.sop_class_uid, &note.series_instance_uid].map(ToString::to_string);
        let file = ReportFile { kind: ObjectKind::RejectionNote, uids: Some(uids), bytes: note.file, destinations };
        prepared.push((version, spool.prepare(vec![file], clock::now()).await?));
    }
    Ok(prepared)
}

/// The patient as a report names it, byte for byte: what it was filed under.
type Patient = Vec<Vec<u8>>;

/// Objects that were filed under one patient.
struct Filed<'a> {
    /// What the note has its patient and study from.
    of: Instance,
    version: i64,
    objects: Vec<&'a SentObject>,
}

fn notes(withdrawal: &Withdrawal, device: &DeviceIdentity) -> Result<Vec<Note>> {
    let mut by_patient: BTreeMap<Patient, Filed<'_>> = BTreeMap::new();
    let mut versions: BTreeMap<i64, Vec<&SentObject>> = BTreeMap::new();
    for object in &withdrawal.objects {
        versions.entry(object.version).or_default().push(object);
    }
    for (version, objects) in versions {
        let first = objects.first().context("a version without objects")?;
        // What we wrote is small, and of one piece.
        let of = Instance::open(&first.path, &Limits::default()).context("a sent object cannot be read back")?;
        let filed = by_patient.entry(patient(&of)).or_insert_with(|| Filed { of, version, objects: Vec::new() });
        filed.version = version;
        filed.objects.extend(objects);
    }
    by_patient.into_values().map(|filed| note(&filed, &withdrawal.reason, device)).collect()
}

fn patient(of: &Instance) -> Patient {
    let attributes = [
        tags::PATIENT_NAME,
        tags::PATIENT_ID,
        tags::ISSUER_OF_PATIENT_ID,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
        tags::SPECIFIC_CHARACTER_SET,
    ];
    attributes.map(|tag| of.header.raw(tag).unwrap_or_default().to_vec()).to_vec()
}

fn note(filed: &Filed<'_>, reason: &str, device: &DeviceIdentity) -> Result<Note> {
    let item = |object: &&SentObject| {
        Ok::<_, anyhow::Error>(EvidenceItem {
            series_instance_uid: object.series_instance_uid.parse()?,
            sop_class_uid: object.sop_class_uid.parse()?,
            sop_instance_uid: object.sop_instance_uid.parse()?,
            digest: String::new(),
        })
    };
    let evidence = filed.objects.iter().map(item).collect::<Result<Vec<_>>>()?;
    let source = Source { representative: &filed.of, evidence, predecessors: Vec::new() };
    let model = filed.of.header.text(tags::MANUFACTURER_MODEL_NAME);
    let provenance = Provenance {
        model_name: model.unwrap_or_else(|| "preread".to_owned()),
        model_version: String::new(),
        model_digest: String::new(),
        notice: None,
        prompt_id: String::new(),
        settings: String::new(),
        settings_digest: None,
        rule: "withdrawal".to_owned(),
        version: u32::try_from(filed.version)?,
        device_uid: device.uid.clone(),
        device_serial: device.serial_number.clone(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        udi: device.udi.clone(),
        content_time: clock::content_time(clock::now()),
    };
    let note = rejection_note(&source, reason, &provenance)?;
    let violations = report::validate(&note.file);
    if report::must_hold(&violations) {
        let list: Vec<String> = violations.iter().map(|it| format!("{}: {}", it.at, it.sentence)).collect();
        anyhow::bail!("it does not pass our own check: {}", list.join("; "));
    }
    let mut destinations: Vec<String> =
        filed.objects.iter().flat_map(|object| object.destinations.iter().cloned()).collect();
    destinations.sort();
    destinations.dedup();
    Ok((filed.version, note, destinations))
}
