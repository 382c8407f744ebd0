//! What a person decides where senders gave one UID to two things: which of two data sets under one SOP Instance UID
//! counts, and whose images count where a study has those of several patients.
//!
//! The spool compares no values: the caller does, and says what it found. Until then, and until a person has decided, the
//! study is not read as if there were one.

use std::path::PathBuf;

use rusqlite::{
    Connection, OptionalExtension, ToSql, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use serde::Serialize;

use crate::{Error, Spool, StudyId, StudyState, attempt, delivery::standing, study::state_of};

/// The number of a quarantined instance.
pub type ConflictId = i64;

/// What is decided of an instance whose SOP Instance UID is that of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// A person is to decide.
    Open,
    /// It counts as well: the other one is in another study.
    Accepted,
    /// It does not count: the one that came first does.
    Aside,
    /// It does not count any more: the one that came later does.
    Superseded,
    /// Nothing is to be decided: it has the values of the one that counts, in another encoding.
    Same,
    /// Nothing is to be decided: it is no image, and neither is the other one.
    Document,
}

impl Decision {
    const ALL: [Self; 6] = [Self::Open, Self::Accepted, Self::Aside, Self::Superseded, Self::Same, Self::Document];

    /// Its name, as `queue show` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Aside => "aside",
            Self::Superseded => "superseded",
            Self::Same => "same",
            Self::Document => "document",
        }
    }
}

impl ToSql for Decision {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Decision {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        Self::ALL.into_iter().find(|decision| decision.as_str() == name).ok_or(FromSqlError::InvalidType)
    }
}

/// Two data sets under one SOP Instance UID of one study, not compared yet.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The number of the second one.
    pub id: ConflictId,
    /// Their study.
    pub study: StudyId,
    /// Study Instance UID of both.
    pub study_instance_uid: String,
    /// SOP Instance UID of both.
    pub sop_instance_uid: String,
    /// The one that counts so far.
    pub first: PairFile,
    /// The one that came besides.
    pub second: PairFile,
    /// Whether `preread` made the first one itself.
    pub own: bool,
}

/// One of a [`Pair`], as it was kept.
#[derive(Debug, Clone)]
pub struct PairFile {
    /// Its file.
    pub path: PathBuf,
    /// The digest of its data set (see [`dataset::Digest`]), printed.
    pub digest: String,
    /// Transfer Syntax UID.
    pub transfer_syntax_uid: String,
}

/// What a look at a [`Pair`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// All values are the same.
    Same,
    /// Neither is an image: nothing of the study's reading depends on it.
    Document,
    /// Neither is an image, so that nobody decides; but the study's reading depends on what the second one says.
    Says,
    /// They differ in these attributes, by their names alone.
    Differs(String),
}

/// Which of two data sets under one SOP Instance UID counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The one that came last.
    Newer,
    /// The one that counted so far.
    Older,
}

impl Spool {
    /// Pairs that nobody has compared yet, the oldest first, but last those whose comparison ended the process; `limit`
    /// bounds the answer.
    pub fn uncompared(&self, limit: usize) -> Result<Vec<Pair>, Error> {
        self.pairs(
            "conflict.decision IS NULL ORDER BY
             coalesce((SELECT deaths FROM comparison WHERE conflict_id = conflict.id), 0), conflict.id LIMIT ?1",
            &i64::try_from(limit).unwrap_or(i64::MAX),
        )
    }

    /// The same of one SOP Instance UID.
    pub fn uncompared_under(&self, sop_instance_uid: &str) -> Result<Vec<Pair>, Error> {
        self.pairs("conflict.decision IS NULL AND sop_instance_uid = ?1 ORDER BY conflict.id", &sop_instance_uid)
    }

    fn pairs(&self, which: &str, parameter: &dyn ToSql) -> Result<Vec<Pair>, Error> {
        self.database.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT conflict.id, study_id, study_instance_uid, sop_instance_uid, own,
                     instance.path, instance.digest, instance.transfer_syntax_uid,
                     conflict.path, conflict.digest, conflict.transfer_syntax_uid
                     FROM conflict JOIN instance ON instance.id = instance_id JOIN study ON study.id = study_id
                     WHERE {which}"
                ))?
                .query_map([parameter], |row| {
                    let file = |first: usize| {
                        Ok::<_, rusqlite::Error>(PairFile {
                            path: self.absolute(&row.get::<_, String>(first)?),
                            digest: row.get(first + 1)?,
                            transfer_syntax_uid: row.get(first + 2)?,
                        })
                    };
                    Ok(Pair {
                        id: row.get(0)?,
                        study: row.get(1)?,
                        study_instance_uid: row.get(2)?,
                        sop_instance_uid: row.get(3)?,
                        own: row.get(4)?,
                        first: file(5)?,
                        second: file(8)?,
                    })
                })?
                .collect()
        })
    }

    /// Keeps what a comparison found. Where the two differ, or a document says something, the study is looked at again once
    /// it was quiet, as for an instance that came; else nothing of it changes.
    pub async fn compared(&self, pair: &Pair, found: Compared) -> Result<(), Error> {
        let (id, study) = (pair.id, pair.study);
        self.database
            .step(move |connection| {
                attempt::end_comparison(connection, id)?;
                self::found(connection, id, study, found)
            })
            .await
    }

    /// Decides which data sets count where several came under one SOP Instance UID; the study is read again. Answers how
    /// many were decided of. Where nothing waits for a decision, the last one is taken back: [`Keep::Older`] makes that
    /// count which counted before it, [`Keep::Newer`] that which was set aside.
    ///
    /// Errors with [`Error::WrongState`] where there is neither, or while instances are still coming.
    pub async fn accept(&self, study: StudyId, keep: Keep) -> Result<usize, Error> {
        self.database
            .write(move |connection| {
                require_at_rest(connection, study)?;
                let mut decided = decide(connection, study, keep, Decision::Open)?;
                if decided == 0 {
                    let taken_back = match keep {
                        Keep::Newer => Decision::Aside,
                        Keep::Older => Decision::Superseded,
                    };
                    decided = decide(connection, study, keep, taken_back)?;
                }
                if decided == 0 {
                    let state = state_of(connection, study)?.to_string();
                    return Err(Error::WrongState { study, state, why: "no instance of it waits for a decision" });
                }
                read_again(connection, study)?;
                Ok(decided)
            })
            .await
    }

    /// The word of the newest [`Self::accept_group`] of a study; nothing before there was one, and where there is no such study.
    pub fn accepted(&self, study: StudyId) -> Result<Option<String>, Error> {
        self.database.read(|connection| {
            let word = connection.query_row("SELECT accepted FROM study WHERE id = ?1", [study], |row| row.get(0));
            Ok(word.optional()?.flatten())
        })
    }

    /// Decides whose images count where a study has those of several patients; the study is read again. `accepted` is a
    /// word of the caller's, which says nothing of a patient and which [`crate::Claim::accepted`] gives back.
    ///
    /// Errors with [`Error::WrongState`] while instances are still coming.
    pub async fn accept_group(&self, study: StudyId, accepted: String) -> Result<(), Error> {
        self.database
            .write(move |connection| {
                require_at_rest(connection, study)?;
                connection.execute("UPDATE study SET accepted = ?2 WHERE id = ?1", params![study, accepted])?;
                read_again(connection, study)
            })
            .await
    }
}

/// Keeps what a comparison found, unless another one was first.
pub(crate) fn found(connection: &Connection, id: ConflictId, study: StudyId, found: Compared) -> Result<(), Error> {
    let is_read_again = matches!(found, Compared::Differs(_) | Compared::Says);
    let (decision, differs) = match found {
        Compared::Same => (Decision::Same, None),
        Compared::Document | Compared::Says => (Decision::Document, None),
        Compared::Differs(attributes) => (Decision::Open, Some(attributes)),
    };
    let changed = connection.execute(
        "UPDATE conflict SET decision = ?2, differs = ?3 WHERE id = ?1 AND decision IS NULL",
        params![id, decision, differs],
    )?;
    if changed == 1 && is_read_again {
        connection.execute(
            "UPDATE study SET state = iif(stopped, state, 'received'), reason = iif(stopped, reason, NULL),
             generation = generation + 1, due_at = max(due_at, quiet_ms +
             (SELECT received_at FROM conflict WHERE id = ?2)) WHERE id = ?1",
            params![study, id],
        )?;
    }
    Ok(())
}

/// A decision on what is still coming, or on what is being read, would be one on something else than a person saw.
fn require_at_rest(connection: &Connection, study: StudyId) -> Result<(), Error> {
    let state = state_of(connection, study)?;
    if matches!(state, StudyState::Received | StudyState::Settled | StudyState::Reading) {
        let why = "it is being received or read; what there is to decide is known when it is held";
        return Err(Error::WrongState { study, state: state.to_string(), why });
    }
    Ok(())
}

fn read_again(connection: &Connection, study: StudyId) -> Result<(), Error> {
    connection.execute(
        "UPDATE study SET state = 'settled', reason = NULL, stopped = 0, generation = generation + 1 WHERE id = ?1",
        [study],
    )?;
    Ok(())
}

/// Decides of what stands as `now`: what waits, or, to take a decision back, what it did away with. Answers how many.
fn decide(connection: &Connection, study: StudyId, keep: Keep, now: Decision) -> Result<usize, Error> {
    let (of_counted, of_others, of_two_studies, was) = match keep {
        Keep::Newer => (Decision::Superseded, Decision::Superseded, Decision::Accepted, Decision::Aside),
        Keep::Older => (Decision::Aside, Decision::Aside, Decision::Aside, Decision::Accepted),
    };
    let replaced = match (keep, now) {
        (Keep::Older, Decision::Open) => 0,
        _ => replace(connection, study, now, of_counted)?,
    };
    let others = match now {
        // Of what counted before that, nothing new is decided.
        Decision::Superseded => 0,
        _ => connection.execute(
            "UPDATE conflict SET decision = ?2 WHERE decision = ?3
             AND instance_id IN (SELECT id FROM instance WHERE study_id = ?1)",
            params![study, of_others, now],
        )?,
    };
    let was = if now == Decision::Open { Decision::Open } else { was };
    let shared = connection.execute(
        "UPDATE instance SET decision = ?2 WHERE decision = ?3 AND study_id = ?1",
        params![study, of_two_studies, was],
    )?;
    Ok(replaced + others + shared)
}

/// Puts the newest data set under each SOP Instance UID that stands as `now` into the place of the one that counted, which
/// is quarantined `of_counted` instead. Answers how many.
fn replace(connection: &Connection, study: StudyId, now: Decision, of_counted: Decision) -> Result<usize, Error> {
    const COLUMNS: &str = "series_instance_uid, sop_class_uid, transfer_syntax_uid, path, digest, data_set_at, bytes, \
                           source, received_at";
    let mut newest = connection.prepare(
        "SELECT max(conflict.id), instance_id FROM conflict JOIN instance ON instance.id = instance_id
         WHERE study_id = ?1 AND conflict.decision = ?2 GROUP BY instance_id",
    )?;
    let pairs: Vec<(ConflictId, i64)> = newest
        .query_map(params![study, now], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (conflict, instance) in &pairs {
        connection.execute(
            &format!(
                "INSERT INTO conflict (instance_id, decision, differs, {COLUMNS})
                 SELECT id, ?3, (SELECT differs FROM conflict WHERE id = ?2), {COLUMNS} FROM instance WHERE id = ?1"
            ),
            params![instance, conflict, of_counted],
        )?;
        // That these do not count was said beside the one that counted.
        if of_counted == Decision::Superseded {
            connection.execute(
                "UPDATE conflict SET decision = ?2 WHERE instance_id = ?1 AND decision = ?3 AND id != ?4",
                params![instance, Decision::Superseded, Decision::Aside, conflict],
            )?;
        }
        connection.execute(
            &format!("UPDATE instance SET ({COLUMNS}) = (SELECT {COLUMNS} FROM conflict WHERE id = ?2) WHERE id = ?1"),
            [instance, conflict],
        )?;
        connection.execute("DELETE FROM conflict WHERE id = ?1", [conflict])?;
    }
    Ok(pairs.len())
}

/// Whether a study has an instance under this SOP Instance UID, our own objects left out.
pub(crate) fn is_taken(connection: &Connection, sop_instance_uid: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM instance WHERE sop_instance_uid = ?1 AND NOT own")?
        .exists([sop_instance_uid])
}

/// Whether it is the SOP Instance UID of an object that we made: what an archive changed of it on its way back to us is
/// ours all the same.
pub(crate) fn is_of_our_making(connection: &Connection, sop_instance_uid: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM object WHERE sop_instance_uid = ?1")?.exists([sop_instance_uid])
}

/// Whether it is open which data set a SOP Instance UID means.
pub(crate) fn is_open(connection: &Connection, sop_instance_uid: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM conflict JOIN instance ON instance.id = instance_id
                            WHERE sop_instance_uid = ?1 AND coalesce(conflict.decision, 'open') IN ('open', 'document'))
                 OR 1 < (SELECT count(*) FROM instance WHERE sop_instance_uid = ?1 AND decision IS NOT 'aside')",
        )?
        .query_row([sop_instance_uid], |row| row.get(0))
}

/// Where a study that a person ends stands, and what there is to say of its report: what destinations have of it, they have.
pub(crate) fn end_of_dropped(connection: &Connection, study: StudyId) -> Result<(StudyState, Option<String>), Error> {
    let sent: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM delivery JOIN object ON object.id = object_id
         JOIN report ON report.id = report_id WHERE study_id = ?1)",
        [study],
        |row| row.get(0),
    )?;
    if sent { standing(connection, study) } else { Ok((StudyState::Skipped, None)) }
}
