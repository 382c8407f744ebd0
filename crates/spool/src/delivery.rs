//! Deliveries: what is due at a destination, in which order, and what became of it.
//!
//! The order of a study's deliveries to one destination is that of its reports' versions, and of a version the text report
//! comes first. A version that is not sent yet when a newer one is written is never sent.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::{
    DeliveryState, Error, ObjectKind, Spool, StudyId, StudyState, Timestamp, error::is_of_a_value, withdrawal,
};

/// Earlier than any time: the next try of a delivery that a person asked for, whatever is known of its destination.
pub const AT_ONCE: Timestamp = 0;

/// An object that is due at a destination.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The delivery's number.
    pub id: i64,
    /// The study it reports on.
    pub study: StudyId,
    /// The destination's name.
    pub destination: String,
    /// What is delivered.
    pub kind: ObjectKind,
    /// The file.
    pub path: PathBuf,
    /// Its SOP Instance UID.
    pub sop_instance_uid: String,
    /// Attempts made before.
    pub attempts: i64,
    /// How many of them ended with a refusal that a repetition is unlikely to change.
    pub refusals: i64,
    /// Whether the destination may have it by an attempt whose answer did not come.
    pub begun: bool,
    /// What the last attempt ended with, in our words.
    pub last_error: Option<String>,
    next_at: Timestamp,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In our own words.
    pub error: String,
    /// In the destination's, without control characters: it may name a patient, and is for `preread queue show` alone.
    pub comment: Option<String>,
    /// When it is tried again; with nothing it is given up, and its study held for a person.
    pub next_at: Option<Timestamp>,
    /// Whether a repetition is unlikely to change it.
    pub is_refusal: bool,
    /// Whether the destination may have stored the object all the same.
    pub may_be_there: bool,
}

/// A destination that a study waits for.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct WaitingView {
    /// Its name.
    pub destination: String,
    /// How many objects it does not have.
    pub objects: i64,
    /// Whether that was given up, so that a person must look.
    pub given_up: bool,
    /// How often it was tried.
    pub attempts: i64,
    /// What the last try ended with.
    pub last_error: Option<String>,
    /// When it is tried again, in milliseconds since 1970 UTC; nothing once given up.
    pub next_try_at: Option<Timestamp>,
}

/// What became of an object at a destination.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryView {
    /// The destination's name.
    pub destination: String,
    /// Where it stands, by [`DeliveryState::as_str`].
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// What the last try ended with, in our words.
    pub last_error: Option<String>,
    /// What the destination said, in its own words (Error Comment, 0000,0902), without control characters.
    pub comment: Option<String>,
    /// When it is tried again, in milliseconds since 1970 UTC.
    pub next_try_at: Option<Timestamp>,
    /// When the destination had it, in milliseconds since 1970 UTC.
    pub delivered_at: Option<Timestamp>,
}

const DELIVERY: &str =
    "SELECT delivery.id, study_id, destination, path, sop_instance_uid, attempts, kind, refusals, begun,
    last_error, next_at FROM delivery JOIN object ON object.id = object_id JOIN report ON report.id = report_id";

/// The order in which the objects of a study are sent.
const IN_ORDER: &str = "ORDER BY version, CASE WHEN kind IN ('text-sr', 'enhanced-text-sr') THEN 0
    WHEN kind = 'rejection-note' THEN 2 ELSE 1 END, object.id";

/// What may be sent while it waits: no report of a study that its reading held, because what is open of the study (whose it
/// is, what of it counts) is open of the report as well. Rejection notes go.
const MAY_GO: &str = "(kind = 'rejection-note' OR NOT (SELECT in_doubt FROM study WHERE study.id = report.study_id))";

/// Studies looked at for one whose turn it is: those before it wait for a text report that is tried again later.
const CANDIDATES: i64 = 64;

impl Spool {
    /// What is due at a destination now, of the study that waits longest, in the order in which it has to be sent: at most
    /// `limit` objects.
    pub fn due_deliveries(&self, destination: &str, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, Error> {
        self.database.read(|connection| {
            let candidates: Vec<StudyId> = connection
                .prepare_cached(&format!(
                    "SELECT study_id FROM delivery JOIN object ON object.id = object_id
                     JOIN report ON report.id = report_id
                     WHERE delivery.state = ?3 AND destination = ?1 AND next_at <= ?2 AND {MAY_GO}
                     ORDER BY next_at, delivery.id LIMIT ?4"
                ))?
                .query_map(params![destination, now, DeliveryState::Pending, CANDIDATES], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut seen = Vec::new();
            for study in candidates {
                if seen.contains(&study) {
                    continue;
                }
                seen.push(study);
                let waiting = connection
                    .prepare_cached(&format!(
                        "{DELIVERY} WHERE delivery.state = ?3 AND destination = ?1 AND study_id = ?2 AND {MAY_GO}
                         {IN_ORDER}"
                    ))?
                    .query_map(params![destination, study, DeliveryState::Pending], |row| self.delivery(row))?
                    .collect::<rusqlite::Result<Vec<Delivery>>>();
                let waiting = match waiting {
                    // The next start holds its study; until then it keeps no other from being sent.
                    Err(error) if is_of_a_value(&error) => continue,
                    waiting => waiting?,
                };
                let due = whose_turn_it_is(waiting, now, limit);
                if !due.is_empty() {
                    return Ok(due);
                }
            }
            Ok(Vec::new())
        })
    }

    /// When there is next something due at a destination.
    pub fn next_delivery(&self, destination: &str) -> Result<Option<Timestamp>, Error> {
        self.database.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT min(next_at) FROM delivery JOIN object ON object.id = object_id
                     JOIN report ON report.id = report_id
                     WHERE delivery.state = ?2 AND destination = ?1 AND {MAY_GO}"
                ))?
                .query_row(params![destination, DeliveryState::Pending], |row| row.get(0))
        })
    }

    /// What waits for destinations other than these.
    pub fn deliveries_to_others(&self, known: &[String], limit: usize) -> Result<Vec<Delivery>, Error> {
        self.database.read(|connection| {
            let destinations: Vec<String> = connection
                .prepare_cached("SELECT DISTINCT destination FROM delivery WHERE state = ?1")?
                .query_map([DeliveryState::Pending], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut found = Vec::new();
            for destination in destinations.iter().filter(|name| !known.contains(name)) {
                let mut statement = connection
                    .prepare_cached(&format!("{DELIVERY} WHERE delivery.state = ?2 AND destination = ?1 {IN_ORDER}"))?;
                let rows =
                    statement.query_map(params![destination, DeliveryState::Pending], |row| self.delivery(row))?;
                found.extend(rows.take(limit - found.len()).collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(found)
        })
    }

    /// Notes, durably, that these are being sent from now on. Answers the numbers of those that may be: a report that was
    /// withdrawn, or has a successor, since they were looked up is not sent any more, nor is one whose study was held.
    pub async fn begin_deliveries(&self, deliveries: &[Delivery]) -> Result<Vec<i64>, Error> {
        let ids: Vec<i64> = deliveries.iter().map(|delivery| delivery.id).collect();
        self.database
            .write(move |connection| {
                let mut begun = Vec::new();
                for id in ids {
                    let sql = format!(
                        "UPDATE delivery SET begun = 1 WHERE id = ?1 AND state = ?2 AND object_id IN (
                         SELECT object.id FROM object JOIN report ON report.id = report_id
                         WHERE object.id = delivery.object_id AND {MAY_GO})"
                    );
                    if connection.execute(&sql, params![id, DeliveryState::Pending])? == 1 {
                        begun.push(id);
                    }
                }
                Ok(begun)
            })
            .await
    }

    /// These were not sent after all: an earlier object was not taken, or the destination could not be reached.
    pub async fn not_begun(&self, deliveries: &[&Delivery]) -> Result<(), Error> {
        let before: Vec<(i64, bool)> = deliveries.iter().map(|delivery| (delivery.id, delivery.begun)).collect();
        self.database
            .step(move |connection| {
                for (id, begun) in before {
                    connection.execute("UPDATE delivery SET begun = ?2 WHERE id = ?1", params![id, begun])?;
                }
                Ok(())
            })
            .await
    }

    /// A destination has the object; `remark` says what it made of it besides, in our words.
    pub async fn delivered(&self, delivery: &Delivery, remark: Option<String>, now: Timestamp) -> Result<(), Error> {
        let (id, study) = (delivery.id, delivery.study);
        self.database
            .step(move |connection| {
                // A newer version, or a withdrawal, may have come while it was on its way: it is there all the same.
                connection.execute(
                    "UPDATE delivery SET state = ?4, delivered_at = ?2, last_error = ?3, comment = NULL,
                     attempts = attempts + 1
                     WHERE id = ?1 AND state IN (?5, ?6, ?7)",
                    params![
                        id,
                        now,
                        remark,
                        DeliveryState::Delivered,
                        DeliveryState::Pending,
                        DeliveryState::Superseded,
                        DeliveryState::Withdrawn
                    ],
                )?;
                settle_deliveries(connection, study)
            })
            .await
    }

    /// A destination does not take the object as what it is: it gets the same report's `kind` instead. False, and nothing
    /// done, when the report has none.
    pub async fn deliver_instead(
        &self,
        delivery: &Delivery,
        kind: ObjectKind,
        why: String,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (id, study, destination) = (delivery.id, delivery.study, delivery.destination.clone());
        self.database
            .step(move |connection| {
                let other: Option<i64> = connection
                    .query_row(
                        "SELECT other.id FROM delivery JOIN object ON object.id = object_id
                         JOIN object AS other ON other.report_id = object.report_id
                         WHERE delivery.id = ?1 AND delivery.state = ?3 AND other.kind = ?2",
                        params![id, kind.as_str(), DeliveryState::Pending],
                        |row| row.get(0),
                    )
                    .optional()?;
                let Some(other) = other else { return Ok(false) };
                connection.execute(
                    "UPDATE delivery SET state = ?3, begun = 0, attempts = attempts + 1, last_error = ?2
                     WHERE id = ?1",
                    params![id, why, DeliveryState::Replaced],
                )?;
                connection.execute(
                    "INSERT OR IGNORE INTO delivery (object_id, destination, state, next_at)
                     VALUES (?1, ?2, ?4, ?3)",
                    params![other, destination, now, DeliveryState::Pending],
                )?;
                settle_deliveries(connection, study)?;
                Ok(true)
            })
            .await
    }

    /// An attempt failed. What has to follow a text report waits as long as it does, and is given up with it.
    pub async fn delivery_failed(&self, delivery: &Delivery, failure: Failure) -> Result<(), Error> {
        let (id, study, destination) = (delivery.id, delivery.study, delivery.destination.clone());
        let leads = matches!(delivery.kind, ObjectKind::TextSr | ObjectKind::EnhancedTextSr);
        self.database
            .step(move |connection| {
                let Failure { error, comment, next_at, is_refusal, may_be_there } = failure;
                let state = if next_at.is_some() { DeliveryState::Pending } else { DeliveryState::Failed };
                let changed = connection.execute(
                    "UPDATE delivery SET state = ?2, attempts = attempts + 1, last_error = ?3, comment = ?4,
                     next_at = coalesce(?5, next_at), refusals = refusals + ?6, begun = ?7
                     WHERE id = ?1 AND state = ?8",
                    params![id, state, error, comment, next_at, is_refusal, may_be_there, DeliveryState::Pending],
                )?;
                if changed == 0 {
                    // Superseded or withdrawn on its way; all that is left to know is whether it may be there.
                    connection.execute("UPDATE delivery SET begun = ?2 WHERE id = ?1", params![id, may_be_there])?;
                    return Ok(());
                }
                if let (true, Some(next_at)) = (leads, next_at) {
                    connection.execute(
                        "UPDATE delivery SET next_at = max(next_at, ?3) WHERE state = ?4 AND destination = ?2
                         AND object_id IN (SELECT other.id FROM delivery JOIN object ON object.id = object_id
                                           JOIN object AS other ON other.report_id = object.report_id
                                           WHERE delivery.id = ?1)",
                        params![id, destination, next_at, DeliveryState::Pending],
                    )?;
                }
                if leads && next_at.is_none() {
                    give_up_what_follows(connection, id, &destination)?;
                }
                let reason = format!("{destination}: {error}");
                connection.execute(
                    "UPDATE study SET reason = ?2 WHERE id = ?1 AND state = 'written'",
                    params![study, reason],
                )?;
                settle_deliveries(connection, study)
            })
            .await
    }

    /// A destination cannot be reached, or takes nothing: whatever is due there by `now` waits until `next_at`. `tried` is
    /// whether that was found out just now.
    pub async fn destination_away(
        &self,
        destination: &str,
        error: &str,
        tried: bool,
        now: Timestamp,
        next_at: Timestamp,
    ) -> Result<usize, Error> {
        let (destination, error) = (destination.to_owned(), error.to_owned());
        self.database
            .step(move |connection| {
                let due = "delivery.state = ?4 AND destination = ?1 AND next_at <= ?2";
                connection.execute(
                    &format!(
                        "UPDATE study SET reason = ?1 || ': ' || ?3 WHERE state = 'written' AND id IN (
                         SELECT study_id FROM delivery JOIN object ON object.id = object_id
                         JOIN report ON report.id = report_id WHERE {due})"
                    ),
                    params![destination, now, error, DeliveryState::Pending],
                )?;
                let waiting = connection.execute(
                    &format!(
                        "UPDATE delivery SET attempts = attempts + ?5, last_error = ?3, comment = NULL, next_at = ?6
                         WHERE {due} AND object_id IN (SELECT object.id FROM object JOIN report ON report.id = report_id
                                                       WHERE object.id = delivery.object_id AND {MAY_GO})"
                    ),
                    params![destination, now, error, DeliveryState::Pending, tried, next_at],
                )?;
                Ok(waiting)
            })
            .await
    }

    /// What each study waits for, of those that wait for a destination.
    pub(crate) fn waiting(&self, connection: &Connection) -> rusqlite::Result<Vec<(StudyId, WaitingView)>> {
        // With one max() SQLite takes the bare columns from the row that has it: the error of the last try.
        connection
            .prepare_cached(
                "SELECT study_id, destination, count(*), delivery.state, max(attempts), last_error,
                 (CASE delivery.state WHEN ?1 THEN next_at END)
                 FROM delivery JOIN object ON object.id = object_id JOIN report ON report.id = report_id
                 WHERE delivery.state IN (?1, ?2) GROUP BY study_id, destination, delivery.state
                 ORDER BY study_id, destination, delivery.state",
            )?
            .query_map([DeliveryState::Pending, DeliveryState::Failed], |row| {
                let view = WaitingView {
                    destination: row.get(1)?,
                    objects: row.get(2)?,
                    given_up: row.get::<_, DeliveryState>(3)? == DeliveryState::Failed,
                    attempts: row.get(4)?,
                    last_error: row.get(5)?,
                    next_try_at: row.get(6)?,
                };
                Ok((row.get(0)?, view))
            })?
            .collect()
    }

    fn delivery(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<Delivery> {
        Ok(Delivery {
            id: row.get(0)?,
            study: row.get(1)?,
            destination: row.get(2)?,
            path: self.absolute(&row.get::<_, String>(3)?),
            sop_instance_uid: row.get(4)?,
            attempts: row.get(5)?,
            kind: ObjectKind::named(&row.get::<_, String>(6)?, 6)?,
            refusals: row.get(7)?,
            begun: row.get(8)?,
            last_error: row.get(9)?,
            next_at: row.get(10)?,
        })
    }
}

/// Of what waits at one destination for one study, in order, what may be sent now: what is due, up to a text report that
/// is not.
fn whose_turn_it_is(waiting: Vec<Delivery>, now: Timestamp, limit: usize) -> Vec<Delivery> {
    let mut due = Vec::new();
    let mut blocked = false;
    for delivery in waiting {
        let is_due = delivery.next_at <= now;
        match delivery.kind {
            // It names what is there, whatever comes besides.
            ObjectKind::RejectionNote if is_due => due.push(delivery),
            ObjectKind::RejectionNote => {}
            ObjectKind::TextSr | ObjectKind::EnhancedTextSr if !is_due => blocked = true,
            _ if is_due && !blocked => due.push(delivery),
            _ => {}
        }
    }
    due.truncate(limit);
    due
}

/// A text report was given up: what else of its version waits for the destination would be shown there without the words that
/// say what it is, so that it does not go alone. A text report of another class that went there, or is still to go, stands in.
fn give_up_what_follows(connection: &Connection, id: i64, destination: &str) -> Result<(), Error> {
    let why = "not sent: the text report of its version was not taken, and without that it does not go";
    connection.execute(
        "UPDATE delivery SET state = ?3, last_error = ?4, comment = NULL WHERE state = ?5 AND destination = ?2
         AND object_id IN (SELECT other.id FROM delivery JOIN object ON object.id = object_id
                           JOIN object AS other ON other.report_id = object.report_id
                           WHERE delivery.id = ?1 AND other.kind NOT IN ('text-sr', 'enhanced-text-sr', 'rejection-note'))
         AND NOT EXISTS (SELECT 1 FROM delivery AS given JOIN object ON object.id = given.object_id
                         JOIN object AS text ON text.report_id = object.report_id
                         JOIN delivery AS of_text ON of_text.object_id = text.id
                         WHERE given.id = ?1 AND text.kind IN ('text-sr', 'enhanced-text-sr')
                         AND of_text.destination = ?2 AND of_text.state IN (?5, ?6))",
        params![id, destination, DeliveryState::Failed, why, DeliveryState::Pending, DeliveryState::Delivered],
    )?;
    Ok(())
}

/// Gives up what is to be sent of a kind that a later version wrote, and holds its study: it would never be sent.
pub(crate) fn give_up_unknown_kinds(connection: &Connection) -> Result<(), Error> {
    let known: Vec<String> = ObjectKind::ALL.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
    let unknown = format!("SELECT object.id FROM object WHERE kind NOT IN ({})", known.join(", "));
    let why = "an object of its report is of a kind that this preread does not know; was it written by a later one? Install that \
               one, and then `preread queue retry`";
    connection.execute(
        &format!(
            "UPDATE study SET state = ?1, reason = ?2 WHERE state = ?3 AND id IN
             (SELECT study_id FROM report JOIN object ON report.id = report_id JOIN delivery ON object.id = object_id
              WHERE delivery.state = ?4 AND object.id IN ({unknown}))"
        ),
        params![StudyState::Held.as_str(), why, StudyState::Written.as_str(), DeliveryState::Pending],
    )?;
    connection.execute(
        &format!("UPDATE delivery SET state = ?1, last_error = ?2 WHERE state = ?3 AND object_id IN ({unknown})"),
        params![DeliveryState::Failed, why, DeliveryState::Pending],
    )?;
    Ok(())
}

/// What was not sent of earlier versions is not sent any more.
pub(crate) fn supersede(connection: &Connection, study: StudyId, version: i64) -> Result<(), Error> {
    connection.execute(
        "UPDATE delivery SET state = ?3 WHERE state IN (?4, ?5) AND object_id IN (
         SELECT object.id FROM object JOIN report ON report.id = report_id
         WHERE study_id = ?1 AND version < ?2 AND kind != 'rejection-note')",
        params![study, version, DeliveryState::Superseded, DeliveryState::Pending, DeliveryState::Failed],
    )?;
    Ok(())
}

/// Moves a written study on when none of its deliveries is pending. A study that is being received again stays so.
pub(crate) fn settle_deliveries(connection: &Connection, study: StudyId) -> Result<(), Error> {
    let (state, reason) = standing(connection, study)?;
    if state != StudyState::Written {
        connection.execute(
            "UPDATE study SET state = ?2, reason = ?3 WHERE id = ?1 AND state = 'written'",
            params![study, state.as_str(), reason],
        )?;
    }
    Ok(())
}

/// Where a study with a report stands, by its deliveries, and why.
pub(crate) fn standing(connection: &Connection, study: StudyId) -> Result<(StudyState, Option<String>), Error> {
    let mut errors: Vec<String> = connection
        .prepare_cached(
            "SELECT DISTINCT destination || ': ' || last_error FROM delivery JOIN object ON object.id = object_id
             JOIN report ON report.id = report_id WHERE study_id = ?1 AND delivery.state = ?2 AND last_error NOT NULL",
        )?
        .query_map(params![study, DeliveryState::Failed], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    errors.sort();
    let failed = failed_deliveries(connection, study)?;
    let reason = (!errors.is_empty()).then(|| errors.join("; "));
    let open: i64 = connection.query_row(
        "SELECT count(*) FROM delivery JOIN object ON object.id = object_id JOIN report ON report.id = report_id
         WHERE study_id = ?1 AND delivery.state = ?2",
        params![study, DeliveryState::Pending],
        |row| row.get(0),
    )?;
    let remark = withdrawal::remark(connection, study)?;
    Ok(match (open + withdrawal::open(connection, study)?, failed) {
        (0, 0) => (StudyState::Delivered, remark),
        (0, _) => (StudyState::Held, reason),
        _ => (StudyState::Written, reason.or(remark)),
    })
}

pub(crate) fn failed_deliveries(connection: &Connection, study: StudyId) -> Result<i64, Error> {
    Ok(connection.query_row(
        "SELECT count(*) FROM delivery JOIN object ON object.id = object_id JOIN report ON report.id = report_id
         WHERE study_id = ?1 AND delivery.state = ?2",
        params![study, DeliveryState::Failed],
        |row| row.get(0),
    )?)
}
