//! What was acknowledged and is gone: counted, named where that is known, held, and kept in mind until it came again or a
//! person says that it is known.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::{Durability, Error, Spool, StudyId, Timestamp, instance::Row};

/// Something that was acknowledged and is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Study Instance UID, where it is known.
    pub study_instance_uid: Option<String>,
    /// SOP Instance UID, where it is known.
    pub sop_instance_uid: Option<String>,
    /// What happened.
    pub what: String,
    /// When it was found out, in milliseconds since 1970 UTC.
    pub found_at: Timestamp,
}

/// The tables of this file, all of version 3.
pub(crate) const SCHEMA: &str = "
CREATE TABLE loss (
    id                 INTEGER PRIMARY KEY,
    found_at           INTEGER NOT NULL,
    study_instance_uid TEXT,
    sop_instance_uid   TEXT,
    what               TEXT NOT NULL,
    -- when it came again, or a person said that it is known
    ended_at           INTEGER
);
CREATE INDEX loss_by_instance ON loss (sop_instance_uid);
CREATE INDEX loss_by_study ON loss (study_instance_uid);
-- one row while a daemon has the spool, and after one that did not end orderly: the name of its durability
CREATE TABLE unclosed (durability TEXT NOT NULL);
";

const IN_JOURNAL: &str = "its record in the journal is gone or damaged";
const UNNAMED: &str = "an acknowledged instance whose record in the journal is gone or damaged";
const UNKNOWN: &str = "the journal, or the receipts beside it, are gone or damaged after an end that was no orderly one: \
                       whether acknowledged instances are gone, and which, cannot be told";

/// What a start found to be gone.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) named: Vec<Row>,
    /// Those whose record was too long for its receipt.
    pub(super) unnamed: usize,
    /// Whether there may be more.
    pub(super) may_be_more: bool,
}

impl Losses {
    /// Notes them in the database, and holds their studies: a report on what is left would not say that it lacks them.
    pub(super) fn note(&self, connection: &Connection, now: Timestamp) -> Result<Vec<Loss>, Error> {
        let mut noted = Vec::new();
        let mut note = |study: Option<&str>, instance: Option<&str>, what: &str| -> Result<(), Error> {
            connection.execute(
                "INSERT INTO loss (found_at, study_instance_uid, sop_instance_uid, what) VALUES (?1, ?2, ?3, ?4)",
                params![now, study, instance, what],
            )?;
            noted.push(Loss {
                study_instance_uid: study.map(str::to_owned),
                sop_instance_uid: instance.map(str::to_owned),
                what: what.to_owned(),
                found_at: now,
            });
            Ok(())
        };
        for row in &self.named {
            note(Some(row.study_instance_uid()), Some(&row.sop_instance_uid), IN_JOURNAL)?;
            row.hold_study_that_lost_it(connection)?;
        }
        (0..self.unnamed).try_for_each(|_| note(None, None, UNNAMED))?;
        if self.may_be_more {
            note(None, None, UNKNOWN)?;
        }
        Ok(noted)
    }
}

/// Whether something is gone that did not come again and that no person knows of.
pub(super) fn is_open(connection: &Connection) -> Result<bool, Error> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM loss WHERE ended_at IS NULL)", [], |row| row.get(0))?)
}

/// An instance is kept: if it was lost before, it came again.
pub(crate) fn came_again(connection: &Connection, sop_instance_uid: &str, now: Timestamp) -> Result<(), Error> {
    connection
        .prepare_cached("UPDATE loss SET ended_at = ?2 WHERE sop_instance_uid = ?1 AND ended_at IS NULL")?
        .execute(params![sop_instance_uid, now])?;
    Ok(())
}

/// In SQL, whether something of the study with the UID in parameter 1 is gone: while it is, what else comes of it does not
/// make it one to be read.
pub(crate) const OF_STUDY: &str =
    "EXISTS (SELECT 1 FROM loss WHERE loss.study_instance_uid = ?1 AND loss.ended_at IS NULL)";

/// A person reads a study without what is gone of it.
pub(crate) fn is_done_without(connection: &Connection, study: StudyId) -> Result<(), Error> {
    connection.execute(
        "UPDATE loss SET ended_at = found_at WHERE ended_at IS NULL
         AND study_instance_uid = (SELECT study_instance_uid FROM study WHERE id = ?1)",
        [study],
    )?;
    Ok(())
}

impl Spool {
    /// What was acknowledged, is gone, did not come again, and was not confirmed by a person; the oldest first.
    pub fn losses(&self) -> Result<Vec<Loss>, Error> {
        self.database.read(|connection| {
            connection
                .prepare(
                    "SELECT study_instance_uid, sop_instance_uid, what, found_at FROM loss WHERE ended_at IS NULL
                     ORDER BY id",
                )?
                .query_map([], |row| {
                    Ok(Loss {
                        study_instance_uid: row.get(0)?,
                        sop_instance_uid: row.get(1)?,
                        what: row.get(2)?,
                        found_at: row.get(3)?,
                    })
                })?
                .collect()
        })
    }

    /// A person knows what is gone. Answers how much that is. Held studies stay held.
    pub async fn confirm_losses(&self, now: Timestamp) -> Result<usize, Error> {
        self.database
            .write(move |connection| {
                Ok(connection.execute("UPDATE loss SET ended_at = ?1 WHERE ended_at IS NULL", [now])?)
            })
            .await
    }

    /// Ends orderly: everything is where it stays, and a start that finds the journal otherwise need not fear a loss.
    /// Nothing may be received any more.
    pub async fn close(&self) -> Result<(), Error> {
        self.checkpoint().await?;
        self.database
            .write(|connection| {
                connection.execute("DELETE FROM unclosed", [])?;
                Ok(())
            })
            .await
    }
}

/// How the journal was kept by who did not end orderly; nothing after an orderly end.
pub(super) fn unclosed(connection: &Connection) -> Result<Option<String>, Error> {
    Ok(connection.query_row("SELECT durability FROM unclosed", [], |row| row.get(0)).optional()?)
}

/// The spool is open from now on, with this durability.
pub(super) fn begin(connection: &Connection, durability: Durability) -> Result<(), Error> {
    connection.execute("DELETE FROM unclosed", [])?;
    connection.execute("INSERT INTO unclosed (durability) VALUES (?1)", [durability.as_str()])?;
    Ok(())
}
