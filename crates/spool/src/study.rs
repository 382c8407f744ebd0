//! Studies: what is being received, what has settled, what is being read, and how each ended.

pub(crate) mod clock;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    ConflictView, Error, InstanceView, Spool, Timestamp, attempt,
    decision::end_of_dropped,
    delivery::{AT_ONCE, failed_deliveries, standing},
    outbox::DeliveryState,
    recover::loss,
    withdrawal::newest_withdrawal,
};

/// A study's number in this spool.
pub type StudyId = i64;

/// A number for an association, chosen by the receiver and unique while the daemon runs.
pub type AssociationId = u64;

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
    const ALL: [Self; 7] =
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

/// The open associations. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Associations(Arc<Mutex<HashMap<AssociationId, OpenAssociation>>>);

/// What an open association has brought.
#[derive(Default)]
struct OpenAssociation {
    /// A study that one of them has brought does not settle.
    studies: HashSet<StudyId>,
    /// The newest record in the journal of an instance that it has brought.
    newest: u64,
}

impl Associations {
    fn lock(&self) -> MutexGuard<'_, HashMap<AssociationId, OpenAssociation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a study that an association has brought.
    pub(crate) fn brought(&self, association: Option<AssociationId>, study: StudyId) {
        let mut open = self.lock();
        if let Some(open) = association.and_then(|association| open.get_mut(&association)) {
            open.studies.insert(study);
        }
    }

    /// Notes the record of an instance that an association has brought.
    pub(crate) fn appended(&self, association: AssociationId, number: u64) {
        if let Some(open) = self.lock().get_mut(&association) {
            open.newest = open.newest.max(number);
        }
    }

    fn newest(&self, association: AssociationId) -> u64 {
        self.lock().get(&association).map_or(0, |open| open.newest)
    }

    fn bring(&self, study: StudyId) -> bool {
        self.lock().values().any(|open| open.studies.contains(&study))
    }
}

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
    /// What came besides under the UIDs of its instances, with other values.
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
    /// An association is open: the studies it brings do not settle until [`Self::association_closed`].
    pub fn association_opened(&self, association: AssociationId) {
        self.associations.lock().entry(association).or_default();
    }

    /// An association is closed, in whatever way.
    pub fn association_closed(&self, association: AssociationId) {
        self.associations.lock().remove(&association);
    }

    /// What was acknowledged on an association has its files and its rows when this answers, and with
    /// [`crate::Durability::Association`] it survives a power cut from now on. Called before the association is released.
    pub async fn flush_association(&self, association: AssociationId) -> Result<(), Error> {
        let newest = self.associations.newest(association);
        if newest == 0 {
            return Ok(());
        }
        match self.in_filing(move |filing| filing.file_up_to(newest)).await {
            // It is kept where it is until there is room.
            Err(error) if error.is_full_disk() => Ok(()),
            filed => filed,
        }
    }

    /// Settles what is due: received, its quiet period over, none of its associations open. Answers how many settled.
    pub async fn settle(&self, now: Timestamp) -> Result<usize, Error> {
        let due: Vec<StudyId> = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT id FROM study WHERE state = 'received' AND due_at <= ?1")?
                .query_map([now], |row| row.get(0))?
                .collect()
        })?;
        let due: Vec<StudyId> = due.into_iter().filter(|study| !self.associations.bring(*study)).collect();
        if due.is_empty() {
            return Ok(0);
        }
        // What came last may still be in the journal alone.
        self.file().await?;
        self.database
            .step(move |connection| {
                let mut settled = 0;
                for study in due {
                    // An instance may have come since, and moved due_at on.
                    settled += connection.execute(
                        "UPDATE study SET state = 'settled' WHERE id = ?1 AND state = 'received' AND due_at <= ?2",
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
                let claimed = connection
                    .query_row(
                        "UPDATE study SET state = 'reading', reason = NULL, attempts = attempts + 1
                         WHERE id = (SELECT id FROM study WHERE state = 'settled'
                                     ORDER BY deaths, priority DESC, last_received_at, id LIMIT 1)
                         RETURNING id, study_instance_uid, last_received_at, attempts, generation, deaths, accepted",
                        [],
                        claim_without_instances,
                    )
                    .optional()?;
                let Some(mut claim) = claimed else { return Ok(None) };
                attempt::begin(connection, claim.study, claim.generation, false)?;
                spool.fill(connection, &mut claim)?;
                Ok(Some(claim))
            })
            .await
    }

    /// A study that has not settled yet but may have all its instances: it was quiet for a quarter of its quiet period,
    /// none of its associations is open, its reading never ended the process, and it is none of `known`. To be read ahead
    /// ([`Self::begin_ahead`]), so that its report is there when it settles; nothing of it changes here.
    pub fn unsettled(&self, known: &[StudyId], now: Timestamp) -> Result<Option<Claim>, Error> {
        let candidates: Vec<Claim> = self.database.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT id, study_instance_uid, last_received_at, attempts, generation, deaths, accepted FROM study
                     WHERE state = 'received' AND {READ_AHEAD_AT} <= ?1 AND deaths = 0
                     ORDER BY priority DESC, due_at, id",
                ))?
                .query_map([now], claim_without_instances)?
                .collect()
        })?;
        let candidate = candidates
            .into_iter()
            .find(|candidate| !known.contains(&candidate.study) && !self.associations.bring(candidate.study));
        let Some(mut claim) = candidate else { return Ok(None) };
        // The generation was read first: an instance that comes in between makes the reading worthless, not wrong.
        self.database.read(|connection| self.fill(connection, &mut claim))?;
        Ok(Some(claim))
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
        claim.quarantined = quarantined.into_iter().filter(ConflictView::matters).collect();
        Ok(())
    }

    /// Ends a reading without a report: held or skipped, with the reason and the rule that said so.
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
            .step(move |connection| leave_reading(connection, &claim, state, Some(&reason), rule.as_deref()))
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
                    StudyState::Held if failed_deliveries(connection, study)? > 0 => StudyState::Written,
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
    /// [`Self::retry`] from now on. What a destination has, it keeps.
    ///
    /// Errors with [`Error::WrongState`] when every destination has its report: there is nothing to stop.
    pub async fn hold(&self, study: StudyId, reason: String) -> Result<(), Error> {
        self.leave_to_person(study, StudyState::Held, reason).await
    }

    /// Ends a study without a report, and what of it is not delivered. Its instances stay. One whose report a destination
    /// has is delivered from then on, because that is what happened.
    ///
    /// Errors with [`Error::WrongState`] when every destination has its report: there is nothing to end.
    pub async fn drop_study(&self, study: StudyId, reason: String) -> Result<(), Error> {
        self.leave_to_person(study, StudyState::Skipped, reason).await
    }

    async fn leave_to_person(&self, study: StudyId, state: StudyState, reason: String) -> Result<(), Error> {
        self.database
            .write(move |connection| {
                if state_of(connection, study)? == StudyState::Delivered {
                    let why =
                        "every destination has its report, and it stays there; `preread queue withdraw` calls it back";
                    return Err(Error::WrongState { study, state: StudyState::Delivered.to_string(), why });
                }
                // A reading that is under way finds another state than the one it leaves, and its report is not kept.
                connection.execute(
                    "UPDATE study SET state = ?2, reason = ?3, stopped = 1 WHERE id = ?1",
                    params![study, state.as_str(), reason],
                )?;
                let of_study = "object_id IN (SELECT object.id FROM object JOIN report ON report.id = report_id
                                              WHERE study_id = ?1)";
                if state == StudyState::Skipped {
                    // What was given up before is not to be sent either; left as it is, it would keep the instances for ever.
                    let open = DeliveryState::open_in_sql();
                    connection
                        .execute(&format!("DELETE FROM delivery WHERE state IN {open} AND {of_study}"), [study])?;
                    connection.execute(
                        "UPDATE study SET state = ?2 WHERE id = ?1",
                        params![study, end_of_dropped(connection, study)?.as_str()],
                    )?;
                } else {
                    connection.execute(
                        &format!(
                            "UPDATE delivery SET state = ?2, last_error = 'held by a person'
                             WHERE state = ?3 AND {of_study}"
                        ),
                        params![study, DeliveryState::Failed, DeliveryState::Pending],
                    )?;
                }
                Ok(())
            })
            .await
    }
}

/// A row of the columns id, study_instance_uid, last_received_at, attempts, generation, deaths, accepted.
fn claim_without_instances(row: &Row<'_>) -> rusqlite::Result<Claim> {
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
         deaths = iif(?3 = 'settled', deaths, 0)
         WHERE id = ?1 AND state = 'reading' AND generation = ?2",
        params![claim.study, claim.generation, state.as_str(), reason, rule],
    )?;
    Ok(changed == 1)
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
