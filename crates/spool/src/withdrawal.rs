//! Reports that are called back: by a person (`preread queue withdraw`), who wants every destination told; or by a
//! destination, whose rejection note names them.
//!
//! A withdrawal is one durable step. From then on nothing of the reports is sent any more, and their rejection notes are
//! made by the daemon and delivered as reports are: a crash at any point loses none of it.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    DeliveryState, Error, ObjectKind, Prepared, Spool, StudyId, StudyState, Timestamp,
    delivery::{settle_deliveries, standing},
    study::state_of,
};

/// What a withdrawal has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// How many versions of the report were withdrawn.
    pub versions: i64,
    /// The destinations that have, or may have, something of them, by name.
    pub destinations: Vec<String>,
}

/// A withdrawal whose rejection notes are not made yet.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// Its number.
    pub id: i64,
    /// The study.
    pub study: StudyId,
    /// Why, in a person's words.
    pub reason: String,
    /// What some destination has, or may have.
    pub objects: Vec<SentObject>,
}

/// An object of a withdrawn report.
#[derive(Debug, Clone)]
pub struct SentObject {
    /// The version of the report that it belongs to, from 1.
    pub version: i64,
    /// What it is.
    pub kind: ObjectKind,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// The file.
    pub path: PathBuf,
    /// The destinations that have it, or may have it.
    pub destinations: Vec<String>,
}

/// Deliveries after which a destination has the object, or may have it by an attempt whose answer did not come.
const MAY_BE_THERE: &str = "(delivery.state = 'delivered' OR delivery.begun)";

impl Spool {
    /// Withdraws every report of a study that is not withdrawn: what of it is not sent is not sent any more, and a rejection
    /// note is due at every destination that may have it. Durable when it answers.
    ///
    /// Errors with [`Error::WrongState`] when there is none.
    pub async fn withdraw(&self, study: StudyId, reason: String, now: Timestamp) -> Result<Withdrawn, Error> {
        self.database
            .write(move |connection| {
                let state = state_of(connection, study)?;
                let versions: i64 = connection.query_row(
                    "SELECT count(*) FROM report WHERE study_id = ?1 AND withdrawal_id IS NULL",
                    [study],
                    |row| row.get(0),
                )?;
                if versions == 0 {
                    let why = match newest_withdrawal(connection, study)? {
                        Some(_) => "its report is withdrawn already; `preread queue show` says where it was sent to",
                        None => "it has no report that could be withdrawn",
                    };
                    return Err(Error::WrongState { study, state: state.to_string(), why });
                }
                // Held for what a withdrawal cancels, or for something that is still to be decided.
                let waits_for_a_person = state == StudyState::Held && {
                    let reason: Option<String> =
                        connection.query_row("SELECT reason FROM study WHERE id = ?1", [study], |row| row.get(0))?;
                    standing(connection, study)? != (StudyState::Held, reason)
                };
                let withdrawal: i64 = connection.query_row(
                    "INSERT INTO withdrawal (study_id, reason, asked_at) VALUES (?1, ?2, ?3) RETURNING id",
                    params![study, reason, now],
                    |row| row.get(0),
                )?;
                connection.execute(
                    "UPDATE report SET withdrawal_id = ?2 WHERE study_id = ?1 AND withdrawal_id IS NULL",
                    params![study, withdrawal],
                )?;
                connection.execute(
                    "UPDATE delivery SET state = ?2 WHERE state IN (?3, ?4) AND object_id IN (
                     SELECT object.id FROM object JOIN report ON report.id = report_id
                     WHERE withdrawal_id = ?1 AND kind != 'rejection-note')",
                    params![withdrawal, DeliveryState::Withdrawn, DeliveryState::Pending, DeliveryState::Failed],
                )?;
                // A reading that is under way saw these reports as what it follows: it is taken again.
                connection.execute(
                    "UPDATE study SET generation = generation + 1,
                     state = CASE WHEN state = 'reading' THEN 'settled' WHEN state IN ('received', 'settled') OR ?2 THEN state
                             ELSE 'written' END
                     WHERE id = ?1",
                    params![study, waits_for_a_person],
                )?;
                let destinations = destinations_of(connection, withdrawal)?;
                Ok(Withdrawn { versions, destinations })
            })
            .await
    }

    /// The withdrawals whose rejection notes are not made yet.
    pub fn open_withdrawals(&self) -> Result<Vec<Withdrawal>, Error> {
        self.database.read(|connection| {
            let open = connection
                .prepare_cached("SELECT id, study_id, reason FROM withdrawal WHERE noted_at IS NULL ORDER BY id")?
                .query_map([], |row| {
                    Ok(Withdrawal { id: row.get(0)?, study: row.get(1)?, reason: row.get(2)?, objects: Vec::new() })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            open.into_iter().map(|it| Ok(Withdrawal { objects: self.sent_objects(connection, it.id)?, ..it })).collect()
        })
    }

    /// Keeps the rejection notes of a withdrawal, each with the version of the report that it stands beside, and queues
    /// their deliveries; none where nothing was sent.
    pub async fn note_withdrawal(
        &self,
        withdrawal: &Withdrawal,
        notes: Vec<(i64, Prepared)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (id, study) = (withdrawal.id, withdrawal.study);
        self.database
            .write(move |connection| {
                for (version, note) in notes {
                    let report: i64 = connection.query_row(
                        "SELECT id FROM report WHERE study_id = ?1 AND version = ?2",
                        params![study, version],
                        |row| row.get(0),
                    )?;
                    note.insert(connection, report, now)?;
                }
                let noted = "UPDATE withdrawal SET noted_at = ?2 WHERE id = ?1 AND noted_at IS NULL";
                connection.execute(noted, params![id, now])?;
                settle_deliveries(connection, study)
            })
            .await
    }

    /// The rejection notes of a withdrawal cannot be made: its study is held, with what a person must do.
    pub async fn withdrawal_failed(
        &self,
        withdrawal: &Withdrawal,
        reason: String,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (id, study) = (withdrawal.id, withdrawal.study);
        self.database
            .write(move |connection| {
                connection.execute("UPDATE withdrawal SET noted_at = ?2 WHERE id = ?1", params![id, now])?;
                connection.execute(
                    "UPDATE study SET state = ?2, reason = iif(state = ?2, reason || '; ', '') || ?3
                     WHERE id = ?1 AND state IN ('written', 'delivered', ?2)",
                    params![study, StudyState::Held.as_str(), reason],
                )?;
                Ok(())
            })
            .await
    }

    /// SOP Instance UIDs of the withdrawn objects that a destination has, or may have.
    pub fn withdrawn_at(&self, study: StudyId, destination: &str) -> Result<Vec<String>, Error> {
        self.database.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT sop_instance_uid FROM delivery JOIN object ON object.id = object_id
                     JOIN report ON report.id = report_id
                     WHERE study_id = ?1 AND destination = ?2 AND withdrawal_id NOT NULL AND kind != 'rejection-note'
                     AND {MAY_BE_THERE} ORDER BY object.id"
                ))?
                .query_map(params![study, destination], |row| row.get(0))?
                .collect()
        })
    }

    /// Somebody's rejection note names these, by SOP Instance UID: those that are objects of the study's reports are marked
    /// with `why`, and not sent any more. Answers how many were not marked before.
    pub async fn reject_objects(&self, study: StudyId, uids: Vec<String>, why: String) -> Result<usize, Error> {
        self.database
            .write(move |connection| {
                let mut marked = 0;
                for uid in uids {
                    let object: Option<i64> = connection
                        .query_row(
                            "UPDATE object SET rejected = ?3 WHERE sop_instance_uid = ?2 AND rejected IS NULL
                             AND report_id IN (SELECT id FROM report WHERE study_id = ?1) RETURNING id",
                            params![study, uid, why],
                            |row| row.get(0),
                        )
                        .optional()?;
                    let Some(object) = object else { continue };
                    marked += 1;
                    connection.execute(
                        "UPDATE delivery SET state = ?2 WHERE object_id = ?1 AND state IN (?3, ?4)",
                        params![object, DeliveryState::Withdrawn, DeliveryState::Pending, DeliveryState::Failed],
                    )?;
                }
                Ok(marked)
            })
            .await
    }

    fn sent_objects(&self, connection: &Connection, withdrawal: i64) -> rusqlite::Result<Vec<SentObject>> {
        let mut destinations = connection.prepare_cached(&format!(
            "SELECT destination FROM delivery WHERE object_id = ?1 AND {MAY_BE_THERE} ORDER BY destination"
        ))?;
        let objects = connection
            .prepare_cached(
                "SELECT object.id, version, kind, sop_class_uid, sop_instance_uid, series_instance_uid, path
                 FROM object JOIN report ON report.id = report_id
                 WHERE withdrawal_id = ?1 AND sop_instance_uid NOT NULL AND kind != 'rejection-note'
                 ORDER BY version, object.id",
            )?
            .query_map([withdrawal], |row| {
                let destinations = destinations.query_map([row.get::<_, i64>(0)?], |row| row.get(0))?;
                Ok(SentObject {
                    version: row.get(1)?,
                    kind: ObjectKind::named(&row.get::<_, String>(2)?, 2)?,
                    sop_class_uid: row.get(3)?,
                    sop_instance_uid: row.get(4)?,
                    series_instance_uid: row.get(5)?,
                    path: self.absolute(&row.get::<_, String>(6)?),
                    destinations: destinations.collect::<rusqlite::Result<_>>()?,
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(objects.into_iter().filter(|object| !object.destinations.is_empty()).collect())
    }
}

fn destinations_of(connection: &Connection, withdrawal: i64) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare(&format!(
        "SELECT DISTINCT destination FROM delivery JOIN object ON object.id = object_id
         JOIN report ON report.id = report_id WHERE withdrawal_id = ?1 AND kind != 'rejection-note' AND {MAY_BE_THERE}
         ORDER BY destination"
    ))?;
    Ok(statement.query_map([withdrawal], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Whether some destination has a report of the study, or may have it, that nobody withdrew.
pub(crate) fn may_be_somewhere(connection: &Connection, study: StudyId) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT 1 FROM delivery JOIN object ON object.id = object_id JOIN report ON report.id = report_id
         WHERE study_id = ?1 AND kind != 'rejection-note' AND {MAY_BE_THERE}"
    );
    connection.prepare_cached(&sql)?.exists([study])
}

/// How many withdrawals of a study wait for their rejection notes.
pub(crate) fn open(connection: &Connection, study: StudyId) -> rusqlite::Result<i64> {
    let mut statement =
        connection.prepare_cached("SELECT count(*) FROM withdrawal WHERE study_id = ?1 AND noted_at IS NULL")?;
    statement.query_row([study], |row| row.get(0))
}

/// Why a study's newest report was withdrawn; nothing when it stands.
pub(crate) fn newest_withdrawal(connection: &Connection, study: StudyId) -> rusqlite::Result<Option<String>> {
    let newest = connection
        .prepare_cached(
            "SELECT withdrawal.reason FROM report LEFT JOIN withdrawal ON withdrawal.id = withdrawal_id
             WHERE report.study_id = ?1 ORDER BY version DESC LIMIT 1",
        )?
        .query_row([study], |row| row.get(0))
        .optional()?;
    Ok(newest.flatten())
}

/// Why a study that ended well is not what it seems: its newest report was withdrawn, or somebody rejected it.
pub(crate) fn remark(connection: &Connection, study: StudyId) -> rusqlite::Result<Option<String>> {
    if let Some(reason) = newest_withdrawal(connection, study)? {
        return Ok(Some(format!("withdrawn: {reason}")));
    }
    let rejected = connection
        .prepare_cached(
            "SELECT rejected FROM object WHERE report_id = (SELECT id FROM report WHERE study_id = ?1
             ORDER BY version DESC LIMIT 1) AND rejected NOT NULL LIMIT 1",
        )?
        .query_row([study], |row| row.get::<_, String>(0))
        .optional()?;
    Ok(rejected.map(|why| format!("the report was rejected by a note that came in: {why}")))
}
