//! Studies: what is being received, what has settled, what is being read, and how each ended.

pub(crate) mod clock;

use std::{fmt, str::FromStr};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    ConflictView, Decision, Error, InstanceView, Spool, Timestamp,
    association::Quiet,
    attempt,
    decision::end_of_dropped,
    delivery::{AT_ONCE, failed_deliveries, standing, supersede},
    outbox::DeliveryState,
    recover::loss,
    withdrawal::{self, newest_withdrawal},
};

/// A study's number in this spool.
pub type StudyId = i64;

/// Where a study stands. The states between `Reading` and `Written` (routed, rendered, inferred, checked) are steps of
/// one task and are not kept: a crash among them starts the reading again, with the same outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StudyState {
    /// Instances are still coming, or may.
    Received,
    /// Complete, waiting for its turn.
    Settled,
    /// Being read now.
    Reading,
    /// A report is written and on its way to its destinations.
    Written,
    /// Every destination has the report.
    Delivered,
    /// Stopped, with a reason that a person can act on (`preread queue retry`).
    Held,
    /// Not to be read, with the rule or the reason that said so.
    Skipped,
}

impl StudyState {
    pub(crate) const ALL: [Self; 7] =
        [Self::Received, Self::Settled, Self::Reading, Self::Written, Self::Delivered, Self::Held, Self::Skipped];

    /// The state's name, as `queue ls` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Settled => "settled",
            Self::Reading => "reading",
            Self::Written => "written",
            Self::Delivered => "delivered",
            Self::Held => "held",
            Self::Skipped => "skipped",
        }
    }
}

impl FromStr for StudyState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl fmt::Display for StudyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a study may be read ahead: late enough that a sender with a new association for each instance is not read after
/// each of them.
const READ_AHEAD_AT: &str = "(due_at - quiet_ms * 3 / 4)";

/// The right to read one study, and what was there when it was given.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The study.
    pub study: StudyId,
    /// Its Study Instance UID.
    pub study_instance_uid: String,
    /// When its last instance came.
    pub last_received_at: Timestamp,
    /// How often it was read before this, reports and failures together.
    pub attempts: i64,
    /// How often reading it ended the process.
    pub deaths: i64,
    /// The instances to read, our own objects left out, in order of arrival.
    pub instances: Vec<InstanceView>,
    /// What came besides under the UIDs of its instances, with other values; documents too.
    pub quarantined: Vec<ConflictView>,
    /// Whose images a person said count (see [`Spool::accept_group`]).
    pub accepted: Option<String>,
    generation: i64,
}

impl Claim {
    /// Whether both saw the same instances of the same study.
    pub fn saw_the_same(&self, other: &Self) -> bool {
        (self.study, self.generation) == (other.study, other.generation)
    }

    pub(crate) fn generation(&self) -> i64 {
        self.generation
    }
}

impl Spool {
    /// Settles what is due: received, its quiet period over, none of its associations open (see [`crate::Patience`]). A study
    /// that waits for one says so. Answers how many settled.
    pub async fn settle(&self, now: Timestamp) -> Result<usize, Error> {
        let received: Vec<(Quiet, Option<String>)> = self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, quiet_ms, due_at, reason FROM study WHERE state = 'received' AND due_at <= ?1",
                )?
                .query_map([now], |row| Ok((Quiet::of(row)?, row.get(3).unwrap_or(None))))?
                .collect()
        })?;
        let (mut due, mut waiting) = (Vec::new(), Vec::new());
        for (quiet, reason) in received {
            let study = quiet.study;
            let Some(peer) = self.associations.keep_waiting(quiet, now) else {
                due.push(study);
                continue;
            };
            let waits = format!("waits for the association of peer \"{peer}\", which brought of it and is still open");
            if reason.as_ref() != Some(&waits) {
                waiting.push((study, waits));
            }
        }
        if due.is_empty() && waiting.is_empty() {
            return Ok(0);
        }
        // What came last may still be in the journal alone.
        self.file().await?;
        self.database
            .step(move |connection| {
                for (study, waits) in waiting {
                    connection.execute(
                        "UPDATE study SET reason = ?2 WHERE id = ?1 AND state = 'received'",
                        params![study, waits],
                    )?;
                }
                let mut settled = 0;
                for study in due {
                    // An instance may have come since, and moved due_at on.
                    settled += connection.execute(
                        "UPDATE study SET state = 'settled', reason = NULL
                         WHERE id = ?1 AND state = 'received' AND due_at <= ?2",
                        params![study, now],
                    )?;
                }
                Ok(settled)
            })
            .await
    }

    /// When there is next something to do: a study that settles or may be read ahead; nothing when there is nothing to wait
    /// for.
    pub fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.database.read(|connection| {
            let sql = format!(
                "SELECT min(at) FROM (SELECT min(due_at) AS at FROM study WHERE state = 'received'
                 UNION ALL SELECT min({READ_AHEAD_AT}) FROM study WHERE state = 'received' AND {READ_AHEAD_AT} > ?1)"
            );
            connection.prepare_cached(&sql)?.query_row([now], |row| row.get(0))
        })
    }

    /// Claims the next settled study to read: those whose reading ended the process last, then higher priority first, then
    /// the one that waits longest. That its reading begins is noted for good.
    pub async fn claim(&self) -> Result<Option<Claim>, Error> {
        let waiting: bool = self.database.read(|connection| {
            let mut waiting =
                connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM study WHERE state = 'settled')")?;
            waiting.query_row([], |row| row.get(0))
        })?;
        if !waiting {
            return Ok(None);
        }
        let spool = self.clone();
        self.database
            .write(move |connection| {
                let claimed: Option<StudyId> = connection
                    .query_row(
                        "UPDATE study SET state = 'reading', reason = NULL, attempts = attempts + 1
                         WHERE id = (SELECT id FROM study WHERE state = 'settled'
                                     ORDER BY deaths, priority DESC, last_received_at, id LIMIT 1)
                         RETURNING id",
                        [],
                        |row| row.get(0),
                    )
                    .optional()?;
                let Some(study) = claimed else { return Ok(None) };
                match spool.claim_of(connection, study).map_err(Error::from) {
                    Ok(claim) => {
                        attempt::begin(connection, study, claim.generation, false)?;
                        Ok(Some(claim))
                    }
                    Err(error) => match error.not_understood() {
                        Some(what) => {
                            hold_not_understood(connection, study, &what)?;
                            Ok(None)
                        }
                        None => Err(error),
                    },
                }
            })
            .await
    }

    /// A study that has not settled yet but may have all its instances: it was quiet for a quarter of its quiet period,
    /// none of its associations is open, its reading never ended the process, and it is none of `known`. To be read ahead
    /// ([`Self::begin_ahead`]), so that its report is there when it settles; nothing of it changes here.
    pub fn unsettled(&self, known: &[StudyId], now: Timestamp) -> Result<Option<Claim>, Error> {
        let candidates: Vec<Quiet> = self.database.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT id, quiet_ms, due_at FROM study WHERE state = 'received' AND {READ_AHEAD_AT} <= ?1 AND deaths = 0
                     ORDER BY priority DESC, due_at, id",
                ))?
                .query_map([now], Quiet::of)?
                .collect()
        })?;
        let is_free = |it: &Quiet| !known.contains(&it.study) && self.associations.keep_waiting(*it, now).is_none();
        for it in candidates.into_iter().filter(is_free) {
            match self.database.read(|connection| self.claim_of(connection, it.study)) {
                // When it settles it is held.
                Err(error) if error.not_understood().is_some() => {}
                claim => return claim.map(Some),
            }
        }
        Ok(None)
    }

    /// What there is to read of a study.
    fn claim_of(&self, connection: &Connection, study: StudyId) -> rusqlite::Result<Claim> {
        // The generation is read first: an instance that comes in between makes the reading worthless, not wrong.
        let mut claim = connection
            .prepare_cached(
                "SELECT id, study_instance_uid, last_received_at, attempts, generation, deaths, accepted
                 FROM study WHERE id = ?1",
            )?
            .query_row([study], |row| {
                Ok(Claim {
                    study: row.get(0)?,
                    study_instance_uid: row.get(1)?,
                    last_received_at: row.get(2)?,
                    attempts: row.get(3)?,
                    generation: row.get(4)?,
                    deaths: row.get(5)?,
                    accepted: row.get(6)?,
                    instances: Vec::new(),
                    quarantined: Vec::new(),
                })
            })?;
        self.fill(connection, &mut claim)?;
        Ok(claim)
    }

    /// Whether a study still waits to be read, with the very instances that it had at `claim`.
    pub fn is_waiting(&self, claim: &Claim) -> Result<bool, Error> {
        self.database.read(|connection| {
            let mut waits = connection.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM study WHERE id = ?1 AND generation = ?2 AND state IN ('received', 'settled'))",
            )?;
            waits.query_row(params![claim.study, claim.generation], |row| row.get(0))
        })
    }

    /// Lists in a claim what its study has.
    fn fill(&self, connection: &Connection, claim: &mut Claim) -> rusqlite::Result<()> {
        let instances = self.instances_of(connection, claim.study)?;
        claim.instances = instances.into_iter().filter(|instance| !instance.own).collect();
        let quarantined = self.conflicts_of(connection, claim.study)?;
        claim.quarantined = quarantined.into_iter().filter(|it| it.decision != Some(Decision::Same)).collect();
        Ok(())
    }

    /// Ends a reading without a report: held or skipped, with the reason and the rule that said so.
    ///
    /// A study that is held keeps its reports that were not sent: they are not sent until a reading ends otherwise, or a
    /// person ends it.
    ///
    /// False when instances came meanwhile: the study is being received again, and this end is not its end.
    pub async fn end(
        &self,
        claim: &Claim,
        state: StudyState,
        reason: String,
        rule: Option<String>,
    ) -> Result<bool, Error> {
        let claim = claim.clone();
        self.database
            .step(move |connection| {
                let doubt = state == StudyState::Held || is_in_doubt(connection, claim.study)?;
                let ended = leave_reading(connection, &claim, state, Some(&reason), rule.as_deref())?;
                if ended && doubt {
                    doubt_reports(connection, claim.study)?;
                }
                Ok(ended)
            })
            .await
    }

    /// Puts a study that has its report already back to where its deliveries stand: nothing new was to be read.
    pub async fn unchanged(&self, claim: &Claim) -> Result<bool, Error> {
        let claim = claim.clone();
        self.database
            .step(move |connection| {
                let (state, reason) = standing(connection, claim.study)?;
                leave_reading(connection, &claim, state, reason.as_deref(), None)
            })
            .await
    }

    /// Ends a reading after which nothing more of the study is delivered, for `reason`: what of its reports was not sent is
    /// not sent any more. The study is delivered where a destination has one of them, or may have it, else skipped.
    ///
    /// False when instances came meanwhile, as for [`Self::end`].
    pub async fn end_for_good(&self, claim: &Claim, reason: String) -> Result<bool, Error> {
        let claim = claim.clone();
        self.database
            .write(move |connection| {
                let state = if withdrawal::may_be_somewhere(connection, claim.study)? {
                    StudyState::Delivered
                } else {
                    StudyState::Skipped
                };
                if !leave_reading(connection, &claim, state, Some(&reason), None)? {
                    return Ok(false);
                }
                supersede(connection, claim.study, i64::MAX)?;
                Ok(true)
            })
            .await
    }

    /// Gives a claim back, so that the study is read again: for a daemon that stops.
    pub async fn release(&self, claim: &Claim) -> Result<bool, Error> {
        let claim = claim.clone();
        self.database.step(move |connection| leave_reading(connection, &claim, StudyState::Settled, None, None)).await
    }

    /// Reads a held, skipped or finished study again, or tries a failed delivery again at once.
    pub async fn retry(&self, study: StudyId) -> Result<StudyState, Error> {
        self.database
            .step(move |connection| {
                let state = state_of(connection, study)?;
                let next = match state {
                    StudyState::Held
                        if failed_deliveries(connection, study)? > 0 && !is_in_doubt(connection, study)? =>
                    {
                        StudyState::Written
                    }
                    StudyState::Held | StudyState::Skipped => StudyState::Settled,
                    // A person ended what came after its report; without this, it would be ended for ever.
                    StudyState::Delivered if is_stopped(connection, study)? => StudyState::Settled,
                    StudyState::Written => StudyState::Written,
                    StudyState::Delivered if newest_withdrawal(connection, study)?.is_some() => StudyState::Settled,
                    _ => {
                        return Err(Error::WrongState {
                            study,
                            state: state.to_string(),
                            why: "only a held, skipped or withdrawn study, or one with deliveries waiting, can be retried",
                        });
                    }
                };
                connection.execute(
                    &format!(
                        "UPDATE delivery SET state = ?3, next_at = ?2, attempts = 0, refusals = 0
                         WHERE state IN {} AND object_id IN
                         (SELECT object.id FROM object JOIN report ON report.id = report_id WHERE study_id = ?1)",
                        DeliveryState::open_in_sql()
                    ),
                    params![study, AT_ONCE, DeliveryState::Pending],
                )?;
                loss::is_done_without(connection, study)?;
                connection.execute(
                    "UPDATE study SET state = ?2, reason = NULL, stopped = 0, deaths = 0 WHERE id = ?1",
                    params![study, next.as_str()],
                )?;
                Ok(next)
            })
            .await
    }

    /// Stops a study, so that a person can look at it first: whatever it waits for, it waits for
    /// [`Self::retry`] from now on. What a destination has, it keeps; a rejection note goes its way.
    ///
    /// Errors with [`Error::WrongState`] when every destination has its report, and it was not withdrawn: there is nothing to
    /// stop.
    pub async fn hold(&self, study: StudyId, reason: String) -> Result<(), Error> {
        self.leave_to_person(study, StudyState::Held, reason).await
    }

    /// Ends a study without a report, and what of it is not delivered. Its instances stay. One whose report a destination
    /// has is delivered from then on, because that is what happened. A rejection note that is on its way stays so; one that
    /// was given up is done with.
    ///
    /// Errors with [`Error::WrongState`] when every destination has its report, and it was not withdrawn: there is nothing to
    /// end.
    pub async fn drop_study(&self, study: StudyId, reason: String) -> Result<(), Error> {
        self.leave_to_person(study, StudyState::Skipped, reason).await
    }

    async fn leave_to_person(&self, study: StudyId, state: StudyState, reason: String) -> Result<(), Error> {
        self.database
            .write(move |connection| {
                let is_withdrawn = newest_withdrawal(connection, study)?.is_some();
                if state_of(connection, study)? == StudyState::Delivered && !is_withdrawn {
                    let why =
                        "every destination has its report, and it stays there; `preread queue withdraw` calls it back";
                    return Err(Error::WrongState { study, state: StudyState::Delivered.to_string(), why });
                }
                // A reading that is under way finds another state than the one it leaves, and its report is not kept.
                connection.execute(
                    "UPDATE study SET state = ?2, reason = ?3, stopped = 1 WHERE id = ?1",
                    params![study, state.as_str(), reason],
                )?;
                // A rejection note is no report: whoever has what was withdrawn has to hear of it, whatever else stops.
                let of_reports = "object_id IN (SELECT object.id FROM object JOIN report ON report.id = report_id
                                                WHERE study_id = ?1 AND kind != 'rejection-note')";
                if state == StudyState::Skipped {
                    // What was given up before is not to be sent either; left as it is, it would keep the instances for ever.
                    connection.execute(
                        &format!(
                            "DELETE FROM delivery WHERE (state = ?2 AND {of_reports}) OR (state = ?3 AND object_id IN (
                             SELECT object.id FROM object JOIN report ON report.id = report_id WHERE study_id = ?1))"
                        ),
                        params![study, DeliveryState::Pending, DeliveryState::Failed],
                    )?;
                    let (end, remark) = end_of_dropped(connection, study)?;
                    connection.execute(
                        "UPDATE study SET state = ?2, reason = coalesce(?3, reason) WHERE id = ?1",
                        params![study, end.as_str(), remark],
                    )?;
                } else {
                    connection.execute(
                        &format!(
                            "UPDATE delivery SET state = ?2, last_error = 'held by a person'
                             WHERE state = ?3 AND {of_reports}"
                        ),
                        params![study, DeliveryState::Failed, DeliveryState::Pending],
                    )?;
                }
                Ok(())
            })
            .await
    }
}

/// Holds a study whose rows hold what this version does not understand, so that it keeps no other from being read.
fn hold_not_understood(connection: &Connection, study: StudyId, what: &str) -> Result<(), Error> {
    tracing::error!(study, "study held: what the spool says of it is not understood");
    let reason = format!(
        "what the spool says of this study is not understood ({what}); was it written by a later preread? Install that one, or \
         look at the disk, and then `preread queue retry`"
    );
    connection.execute("UPDATE study SET state = 'held', reason = ?2 WHERE id = ?1", params![study, reason])?;
    Ok(())
}

/// The guarded step out of `Reading`: only when no instance came since the claim. The reading has ended either way.
pub(crate) fn leave_reading(
    connection: &Connection,
    claim: &Claim,
    state: StudyState,
    reason: Option<&str>,
    rule: Option<&str>,
) -> Result<bool, Error> {
    attempt::end(connection, claim.study)?;
    let changed = connection.execute(
        "UPDATE study SET state = ?3, reason = ?4, rule = coalesce(?5, rule),
         deaths = iif(?3 = 'settled', deaths, 0), in_doubt = iif(?3 = 'settled', in_doubt, 0)
         WHERE id = ?1 AND state = 'reading' AND generation = ?2",
        params![claim.study, claim.generation, state.as_str(), reason, rule],
    )?;
    Ok(changed == 1)
}

/// Notes that no report of a study is sent until a reading of it ends with one, and says it of each that waits.
fn doubt_reports(connection: &Connection, study: StudyId) -> Result<(), Error> {
    connection.execute("UPDATE study SET in_doubt = 1 WHERE id = ?1", [study])?;
    connection.execute(
        "UPDATE delivery SET last_error = 'not sent while its study is held', comment = NULL
         WHERE state = ?2 AND object_id IN (SELECT object.id FROM object JOIN report ON report.id = report_id
                                            WHERE study_id = ?1 AND kind != 'rejection-note')",
        params![study, DeliveryState::Pending],
    )?;
    Ok(())
}

fn is_in_doubt(connection: &Connection, study: StudyId) -> rusqlite::Result<bool> {
    connection.query_row("SELECT in_doubt FROM study WHERE id = ?1", [study], |row| row.get(0))
}

fn is_stopped(connection: &Connection, study: StudyId) -> rusqlite::Result<bool> {
    connection.query_row("SELECT stopped FROM study WHERE id = ?1", [study], |row| row.get(0))
}

pub(crate) fn state_of(connection: &Connection, study: StudyId) -> Result<StudyState, Error> {
    connection
        .query_row("SELECT state FROM study WHERE id = ?1", [study], |row| state_column(row, 0))
        .optional()?
        .ok_or_else(|| Error::NoStudy(study.to_string()))
}

/// Reads a column of state names.
pub(crate) fn state_column(row: &Row<'_>, index: usize) -> rusqlite::Result<StudyState> {
    let name: String = row.get(index)?;
    name.parse().map_err(|()| rusqlite::Error::InvalidColumnType(index, name, rusqlite::types::Type::Text))
}
