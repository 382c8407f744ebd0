//! What a person sees of the spool (`preread queue`).

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Decision, DeliveryState, DeliveryView, Error, Spool, StudyId, Timestamp, WaitingView, disk::Stream, hex};

/// A study in a list.
#[derive(Debug, Clone, Serialize)]
pub struct StudyView {
    /// Its number.
    pub id: StudyId,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Where it stands.
    pub state: String,
    /// Why it is held or skipped, what its last delivery failed of, or what it waits for.
    pub reason: Option<String>,
    /// How many instances it has; left out where they are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<i64>,
    /// When its first instance came, in milliseconds since 1970 UTC.
    pub received_at: Timestamp,
    /// The rule that chose its model.
    pub rule: Option<String>,
    /// How often it was read.
    pub attempts: i64,
    /// How many instances are quarantined: their SOP Instance UID is that of another one, in this study or another, with
    /// other values.
    pub conflicts: i64,
    /// When retention removed its instances, in milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
    /// Why its newest report was withdrawn, in a person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// Destinations that do not have its report yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingView>,
}

/// An instance of a study.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceView {
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// Transfer Syntax UID.
    pub transfer_syntax_uid: String,
    /// The Part 10 file; its data set is what was received, byte for byte.
    pub path: PathBuf,
    /// SHA-256 of the file as it is now. Left out where instances are listed to be read, and for a file that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// BLAKE3 of the data set as received.
    pub digest: String,
    /// Bytes of the file.
    pub bytes: i64,
    /// Who sent it.
    pub source: String,
    /// When it came, in milliseconds since 1970 UTC.
    pub received_at: Timestamp,
    /// Whether `preread` made it itself.
    pub own: bool,
    /// What is decided of it where another study had its SOP Instance UID before; nothing where none had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// A quarantined instance.
#[derive(Debug, Clone, Serialize)]
pub struct ConflictView {
    /// SOP Instance UID, the same as of an instance that came first.
    pub sop_instance_uid: String,
    /// The Part 10 file.
    pub path: PathBuf,
    /// Series Instance UID, which may be another one than that of the instance that came first.
    pub series_instance_uid: String,
    /// BLAKE3 of the data set as received.
    pub digest: String,
    /// Who sent it.
    pub source: String,
    /// When it came, in milliseconds since 1970 UTC.
    pub received_at: Timestamp,
    /// What is decided of it; nothing before it was compared with the other one.
    pub decision: Option<Decision>,
    /// In which attributes it differs, by their names alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// Whether it is of another series than the one that counts: then it is another image and no correction.
    pub of_another_series: bool,
}

impl ConflictView {
    /// Whether it makes a difference to what is read of its study, or may.
    pub fn matters(&self) -> bool {
        !matches!(self.decision, Some(Decision::Same | Decision::Document))
    }
}

/// A file of a report.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectView {
    /// SOP Instance UID of a DICOM object.
    pub sop_instance_uid: Option<String>,
    /// SOP Class UID of a DICOM object.
    pub sop_class_uid: Option<String>,
    /// What it is: `text-sr`, `pdf`, `heatmap-png`, `report-json` and so on, as [`crate::ObjectKind`] names them.
    pub kind: String,
    /// The report's version, from 1.
    pub version: i64,
    /// The file.
    pub path: PathBuf,
    /// Destinations that have it.
    pub delivered_to: Vec<String>,
    /// Destinations that are to get it and do not have it, with the last error.
    pub pending: Vec<(String, Option<String>)>,
    /// Destinations that do not take it and got another object instead, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<(String, Option<String>)>,
    /// Why it does not count any more: withdrawn by a person, or rejected by a note that came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// What became of it at each destination.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<DeliveryView>,
}

/// A study with all it holds.
#[derive(Debug, Clone, Serialize)]
pub struct StudyDetail {
    /// The study.
    #[serde(flatten)]
    pub study: StudyView,
    /// Its instances, in order of arrival.
    pub instances: Vec<InstanceView>,
    /// What is quarantined.
    pub quarantined: Vec<ConflictView>,
    /// Its reports' files, oldest first.
    pub reports: Vec<ObjectView>,
}

const STUDY: &str = "SELECT id, study_instance_uid, state,
    coalesce(reason, CASE WHEN state = 'received' AND EXISTS (SELECT 1 FROM attempt WHERE study_id = study.id)
        THEN 'being read ahead' WHEN state IN ('received', 'settled') AND deaths > 0
        THEN 'reading it ended preread: it is read again after all others' END), received_at, rule, attempts,
    (SELECT count(*) FROM instance WHERE study_id = study.id),
    (SELECT count(*) FROM conflict JOIN instance ON instance.id = instance_id
     WHERE study_id = study.id AND conflict.decision IS NOT 'same')
    + (SELECT count(*) FROM instance WHERE study_id = study.id AND decision IN ('open', 'aside')),
    removed_at,
    (SELECT withdrawal.reason FROM report LEFT JOIN withdrawal ON withdrawal.id = withdrawal_id
     WHERE report.study_id = study.id ORDER BY version DESC LIMIT 1) FROM study";

impl Spool {
    /// Every study, the newest first.
    pub fn studies(&self) -> Result<Vec<StudyView>, Error> {
        self.database.read(|connection| {
            let mut studies = connection
                .prepare(&format!("{STUDY} ORDER BY received_at DESC, id DESC"))?
                .query_map([], study_view)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let waiting = self.waiting(connection)?;
            for study in &mut studies {
                study.waiting = of_study(&waiting, study.id);
            }
            Ok(studies)
        })
    }

    /// How many studies are in each state, by its name; states without a study are left out.
    pub fn count_by_state(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT state, count(*) FROM study GROUP BY state")?
                .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
                .collect()
        })
    }

    /// A study by its number or its Study Instance UID. Errors with [`Error::NoStudy`].
    pub fn study(&self, id_or_uid: &str) -> Result<StudyDetail, Error> {
        let found = self.database.read(|connection| {
            connection
                .query_row(
                    &format!("{STUDY} WHERE study_instance_uid = ?1 OR CAST(id AS TEXT) = ?1"),
                    [id_or_uid],
                    study_view,
                )
                .optional()
        })?;
        let study = found.ok_or_else(|| Error::NoStudy(id_or_uid.to_owned()))?;
        let id = study.id;
        let mut detail = self.database.read(|connection| {
            Ok(StudyDetail {
                instances: self.instances_of(connection, id)?,
                quarantined: self.conflicts_of(connection, id)?,
                reports: self.objects_of(connection, id)?,
                study: StudyView { instances: None, waiting: of_study(&self.waiting(connection)?, id), ..study },
            })
        })?;
        for instance in &mut detail.instances {
            instance.sha256 = self.sha256(instance).ok();
        }
        Ok(detail)
    }

    /// SHA-256 of an instance's file.
    fn sha256(&self, instance: &InstanceView) -> std::io::Result<String> {
        let file = self.files.disk.open(&instance.path)?;
        let mut stream = Stream::new(&*file)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(hex(hash.finalize())),
                count => hash.update(&buffer[..count]),
            }
        }
    }

    pub(crate) fn instances_of(&self, connection: &Connection, study: StudyId) -> rusqlite::Result<Vec<InstanceView>> {
        connection
            .prepare_cached(
                "SELECT sop_instance_uid, sop_class_uid, series_instance_uid, transfer_syntax_uid, path, digest,
                 bytes, source, own, received_at, decision FROM instance WHERE study_id = ?1 ORDER BY id",
            )?
            .query_map([study], |row| {
                Ok(InstanceView {
                    sop_instance_uid: row.get(0)?,
                    sop_class_uid: row.get(1)?,
                    series_instance_uid: row.get(2)?,
                    transfer_syntax_uid: row.get(3)?,
                    path: self.absolute(&row.get::<_, String>(4)?),
                    sha256: None,
                    digest: row.get(5)?,
                    bytes: row.get(6)?,
                    source: row.get(7)?,
                    own: row.get(8)?,
                    received_at: row.get(9)?,
                    decision: row.get(10)?,
                })
            })?
            .collect()
    }

    pub(crate) fn conflicts_of(&self, connection: &Connection, study: StudyId) -> rusqlite::Result<Vec<ConflictView>> {
        connection
            .prepare_cached(
                "SELECT sop_instance_uid, conflict.path, conflict.digest, conflict.source, conflict.series_instance_uid,
                 conflict.received_at, conflict.decision, differs,
                 conflict.series_instance_uid != instance.series_instance_uid
                 FROM conflict JOIN instance ON instance.id = instance_id WHERE study_id = ?1 ORDER BY conflict.id",
            )?
            .query_map([study], |row| {
                Ok(ConflictView {
                    sop_instance_uid: row.get(0)?,
                    path: self.absolute(&row.get::<_, String>(1)?),
                    digest: row.get(2)?,
                    source: row.get(3)?,
                    series_instance_uid: row.get(4)?,
                    received_at: row.get(5)?,
                    decision: row.get(6)?,
                    differs: row.get(7)?,
                    of_another_series: row.get(8)?,
                })
            })?
            .collect()
    }

    fn objects_of(&self, connection: &Connection, study: StudyId) -> rusqlite::Result<Vec<ObjectView>> {
        let mut deliveries = connection.prepare(
            "SELECT destination, state, attempts, last_error, comment, next_at, delivered_at FROM delivery
             WHERE object_id = ?1 ORDER BY destination",
        )?;
        connection
            .prepare(
                "SELECT object.id, sop_instance_uid, sop_class_uid, kind, version, path,
                 CASE WHEN kind != 'rejection-note' THEN coalesce(withdrawal.reason, rejected) END
                 FROM object JOIN report ON report.id = report_id LEFT JOIN withdrawal ON withdrawal.id = withdrawal_id
                 WHERE report.study_id = ?1 ORDER BY version, object.id",
            )?
            .query_map([study], |row| {
                let deliveries = deliveries
                    .query_map(params![row.get::<_, i64>(0)?], delivery_view)?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                let why = |it: &DeliveryView| (it.destination.clone(), it.last_error.clone());
                let is = |state: DeliveryState| deliveries.iter().filter(move |it| it.state == state);
                Ok(ObjectView {
                    sop_instance_uid: row.get(1)?,
                    sop_class_uid: row.get(2)?,
                    kind: row.get(3)?,
                    version: row.get(4)?,
                    path: self.absolute(&row.get::<_, String>(5)?),
                    delivered_to: is(DeliveryState::Delivered).map(|it| it.destination.clone()).collect(),
                    pending: deliveries.iter().filter(|it| it.state.is_open()).map(why).collect(),
                    replaced: is(DeliveryState::Replaced).map(why).collect(),
                    withdrawn: row.get(6)?,
                    deliveries,
                })
            })?
            .collect()
    }
}

fn of_study(waiting: &[(StudyId, WaitingView)], study: StudyId) -> Vec<WaitingView> {
    // They are sorted by study.
    let from = waiting.partition_point(|(id, _)| *id < study);
    waiting[from..].iter().take_while(|(id, _)| *id == study).map(|(_, view)| view.clone()).collect()
}

fn delivery_view(row: &Row<'_>) -> rusqlite::Result<DeliveryView> {
    let state = row.get(1)?;
    Ok(DeliveryView {
        destination: row.get(0)?,
        attempts: row.get(2)?,
        last_error: row.get(3)?,
        comment: row.get(4)?,
        next_try_at: if state == DeliveryState::Pending { row.get(5)? } else { None },
        delivered_at: row.get(6)?,
        state,
    })
}

fn study_view(row: &Row<'_>) -> rusqlite::Result<StudyView> {
    Ok(StudyView {
        id: row.get(0)?,
        study_instance_uid: row.get(1)?,
        state: row.get(2)?,
        reason: row.get(3)?,
        received_at: row.get(4)?,
        rule: row.get(5)?,
        attempts: row.get(6)?,
        instances: row.get(7)?,
        conflicts: row.get(8)?,
        removed_at: row.get(9)?,
        withdrawn: row.get(10)?,
        waiting: Vec::new(),
    })
}
