//! Storage commitment: what peers asked about, and what is still to be reported to them. A request that was taken is
//! answered in the end, whatever happens in between, or given up in a way that shows.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::{Error, Spool, Timestamp, decision};

/// The tables of this file in version 2 of the database.
pub(crate) const SCHEMA: &str = "
CREATE TABLE commitment (
    id              INTEGER PRIMARY KEY,
    transaction_uid TEXT NOT NULL,
    peer            TEXT NOT NULL,
    ae_title        TEXT NOT NULL,
    address         TEXT NOT NULL,
    -- 'waiting', 'reported', 'given up'
    state           TEXT NOT NULL,
    instances       INTEGER NOT NULL,
    requested_at    INTEGER NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_at         INTEGER NOT NULL,
    ended_at        INTEGER,
    last_error      TEXT
);
CREATE INDEX commitment_by_due ON commitment (state, next_at);
CREATE INDEX commitment_by_peer ON commitment (peer, ae_title, state);
CREATE TABLE commitment_item (
    commitment_id    INTEGER NOT NULL REFERENCES commitment ON DELETE CASCADE,
    position         INTEGER NOT NULL,
    sop_class_uid    TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    -- Failure Reason (0008,1197), 0 when committed, nothing before it was looked at
    outcome          INTEGER,
    PRIMARY KEY (commitment_id, position)
) WITHOUT ROWID;
";

/// What version 3 adds, to a new spool too: the numbers of what waits, kept up to date row by row, and the ways to find a request. So a
/// request costs the same however many wait.
pub(crate) const FROM_2_TO_3: &str = "
DROP INDEX commitment_by_peer;
CREATE INDEX commitment_by_peer_due ON commitment (peer, ae_title, state, next_at);
CREATE INDEX commitment_by_transaction ON commitment (peer, ae_title, transaction_uid);
CREATE TABLE commitment_waiting (
    peer      TEXT PRIMARY KEY,
    requests  INTEGER NOT NULL,
    instances INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO commitment_waiting SELECT peer, count(*), sum(instances) FROM commitment WHERE state = 'waiting' GROUP BY peer;
CREATE TRIGGER commitment_waits AFTER INSERT ON commitment WHEN NEW.state = 'waiting' BEGIN
    INSERT INTO commitment_waiting VALUES (NEW.peer, 1, NEW.instances)
    ON CONFLICT (peer) DO UPDATE SET requests = requests + 1, instances = instances + excluded.instances;
END;
CREATE TRIGGER commitment_waits_again AFTER UPDATE OF state ON commitment
WHEN OLD.state <> 'waiting' AND NEW.state = 'waiting' BEGIN
    INSERT INTO commitment_waiting VALUES (NEW.peer, 1, NEW.instances)
    ON CONFLICT (peer) DO UPDATE SET requests = requests + 1, instances = instances + excluded.instances;
END;
CREATE TRIGGER commitment_ended AFTER UPDATE OF state ON commitment
WHEN OLD.state = 'waiting' AND NEW.state <> 'waiting' BEGIN
    UPDATE commitment_waiting SET requests = requests - 1, instances = instances - OLD.instances WHERE peer = OLD.peer;
END;
CREATE TRIGGER commitment_removed AFTER DELETE ON commitment WHEN OLD.state = 'waiting' BEGIN
    UPDATE commitment_waiting SET requests = requests - 1, instances = instances - OLD.instances WHERE peer = OLD.peer;
END;
";

/// Requests, and instances of them, that may wait for their results, peer by peer: bounds what a peer that never takes
/// them makes us keep.
const MOST_REQUESTS: i64 = 1000;
const MOST_INSTANCES: i64 = 1_000_000;

/// Results that are tried at once because their peer shows itself; each that arrives brings as many more.
const TRIED_TOGETHER: i64 = 8;

/// The number of a request, made by the spool.
pub type CommitmentId = i64;

/// A request for storage commitment, as it came (PS3.4 J.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentOrder {
    /// Transaction UID (0008,1195).
    pub transaction_uid: String,
    /// The name of the peer that asks.
    pub peer: String,
    /// The AE title by which it asks.
    pub ae_title: String,
    /// The IP address from which it asks.
    pub address: String,
    /// What it asks about: SOP Class and SOP Instance UID of each.
    pub instances: Vec<(String, String)>,
}

/// A request whose result is to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// Its number.
    pub id: CommitmentId,
    /// As it came.
    pub order: CommitmentOrder,
    /// When it came.
    pub requested_at: Timestamp,
    /// What became of each instance, in their order, once all were looked at: 0, or Failure Reason (0008,1197).
    pub outcomes: Option<Vec<u16>>,
    /// Attempts to report it that failed.
    pub attempts: i64,
}

/// A request whose result its peer does not have.
#[derive(Debug, Clone, Serialize)]
pub struct CommitmentView {
    /// Its number.
    pub id: CommitmentId,
    /// Transaction UID (0008,1195).
    pub transaction_uid: String,
    /// The name of the peer that asks.
    pub peer: String,
    /// The AE title by which it asks.
    pub ae_title: String,
    /// `waiting`, or `given up`.
    pub state: String,
    /// How many instances it asks about.
    pub instances: i64,
    /// When it came, in milliseconds since 1970 UTC.
    pub requested_at: Timestamp,
    /// Attempts to report it that failed.
    pub attempts: i64,
    /// What the last attempt failed of.
    pub last_error: Option<String>,
}

impl Spool {
    /// The requests whose results their peers do not have: those that wait, and those that were given up; the oldest first,
    /// 1000 at most.
    pub fn open_commitments(&self) -> Result<Vec<CommitmentView>, Error> {
        self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, transaction_uid, peer, ae_title, state, instances, requested_at, attempts, last_error
                     FROM commitment WHERE state IN ('waiting', 'given up') ORDER BY requested_at, id LIMIT 1000",
                )?
                .query_map([], |row| {
                    Ok(CommitmentView {
                        id: row.get(0)?,
                        transaction_uid: row.get(1)?,
                        peer: row.get(2)?,
                        ae_title: row.get(3)?,
                        state: row.get(4)?,
                        instances: row.get(5)?,
                        requested_at: row.get(6)?,
                        attempts: row.get(7)?,
                        last_error: row.get(8)?,
                    })
                })?
                .collect()
        })
    }

    /// Takes a request; it survives a power cut when this answers. Some of what waits for the same peer and AE title becomes
    /// due, and more with each result that arrives. Costs the same however much waits.
    ///
    /// The same request again is one, and is reported again. Where its Transaction UID is that of another request of this
    /// AE title, nothing is committed: `duplicate` becomes the outcome of every instance. Nothing is taken, and answered,
    /// when the peer does not take the results of earlier ones.
    pub async fn take_commitment(
        &self,
        order: CommitmentOrder,
        duplicate: u16,
        now: Timestamp,
    ) -> Result<Option<CommitmentId>, Error> {
        self.database
            .write(move |connection| {
                let (requests, waiting) = waiting_of(connection, &order.peer)?;
                let count = i64::try_from(order.instances.len()).unwrap_or(i64::MAX);
                let is_too_much = requests >= MOST_REQUESTS || waiting.saturating_add(count) > MOST_INSTANCES;
                let same_transaction = same_transaction(connection, &order)?;
                for &(id, is_waiting) in &same_transaction {
                    if instances(connection, id)?.0 == order.instances {
                        if is_too_much && !is_waiting {
                            return Ok(None);
                        }
                        ask_again(connection, id, duplicate, now)?;
                        due_now(connection, &order.peer, &order.ae_title, now)?;
                        return Ok(Some(id));
                    }
                }
                if is_too_much {
                    return Ok(None);
                }
                let outcome = (!same_transaction.is_empty()).then_some(duplicate);
                let id = insert(connection, &order, outcome, now)?;
                due_now(connection, &order.peer, &order.ae_title, now)?;
                Ok(Some(id))
            })
            .await
    }

    /// The requests whose results are due, the longest waiting first, without those in `busy`; `limit` bounds the answer.
    pub fn due_commitments(
        &self,
        busy: &[CommitmentId],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Commitment>, Error> {
        self.database.read(|connection| {
            let mut due = connection.prepare_cached(
                "SELECT id, transaction_uid, peer, ae_title, address, requested_at, attempts FROM commitment
                 WHERE state = 'waiting' AND next_at <= ?1 ORDER BY next_at, id",
            )?;
            let mut rows = due.query([now])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()?
                && found.len() < limit
            {
                if !busy.contains(&row.get(0)?) {
                    found.push(commitment(connection, row)?);
                }
            }
            Ok(found)
        })
    }

    /// When the next result is due, after `now`.
    pub fn next_commitment_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.database.read(|connection| {
            connection
                .prepare_cached("SELECT min(next_at) FROM commitment WHERE state = 'waiting' AND next_at > ?1")?
                .query_row([now], |row| row.get(0))
        })
    }

    /// Keeps what became of each instance, in the order of the request: 0, or Failure Reason (0008,1197).
    pub async fn commitment_verified(&self, id: CommitmentId, outcomes: Vec<u16>) -> Result<(), Error> {
        self.database
            .step(move |connection| {
                let mut update = connection.prepare_cached(
                    "UPDATE commitment_item SET outcome = ?3 WHERE commitment_id = ?1 AND position = ?2",
                )?;
                for (position, outcome) in (0_i64..).zip(outcomes) {
                    update.execute(params![id, position, outcome])?;
                }
                Ok(())
            })
            .await
    }

    /// The peer has confirmed the result.
    pub async fn commitment_reported(&self, id: CommitmentId, now: Timestamp) -> Result<(), Error> {
        self.database
            .step(move |connection| {
                let asked: Option<(String, String)> = connection
                    .query_row(
                        "UPDATE commitment SET state = 'reported', ended_at = ?2, last_error = NULL WHERE id = ?1
                         RETURNING peer, ae_title",
                        params![id, now],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()?;
                asked.map_or(Ok(()), |(peer, ae_title)| due_now(connection, &peer, &ae_title, now))
            })
            .await
    }

    /// The result did not reach the peer: it is tried again at `next_at`, or, with none, given up.
    pub async fn commitment_failed(
        &self,
        id: CommitmentId,
        error: String,
        next_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.database
            .step(move |connection| {
                let (state, ended_at) = match next_at {
                    Some(_) => ("waiting", None),
                    None => ("given up", Some(now)),
                };
                connection.execute(
                    "UPDATE commitment SET state = ?2, attempts = attempts + 1, last_error = ?3, ended_at = ?5,
                     next_at = coalesce(?4, next_at) WHERE id = ?1",
                    params![id, state, error, next_at, ended_at],
                )?;
                Ok(())
            })
            .await
    }

    /// Forgets the requests that ended before `before`, and with them that their Transaction UIDs are taken.
    pub async fn forget_commitments(&self, before: Timestamp) -> Result<usize, Error> {
        self.database
            .step(move |connection| Ok(connection.execute("DELETE FROM commitment WHERE ended_at < ?1", [before])?))
            .await
    }

    /// Whether other values came under the UID of an instance that is kept, in its study or in another one, and nobody has
    /// decided which ones are meant.
    pub fn is_in_conflict(&self, sop_instance_uid: &str) -> Result<bool, Error> {
        self.database.read(|connection| decision::is_open(connection, sop_instance_uid))
    }
}

/// The first requests of this AE title with this Transaction UID, and whether each waits. One more than these is a
/// duplicate whatever it names.
fn same_transaction(connection: &Connection, order: &CommitmentOrder) -> Result<Vec<(CommitmentId, bool)>, Error> {
    let mut same = connection.prepare_cached(
        "SELECT id, state = 'waiting' FROM commitment WHERE peer = ?1 AND ae_title = ?2 AND transaction_uid = ?3
         ORDER BY id LIMIT 8",
    )?;
    let of_order = params![order.peer, order.ae_title, order.transaction_uid];
    let ids = same.query_map(of_order, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Takes a request anew: its instances are looked at again, unless they never were to be.
fn ask_again(connection: &Connection, id: CommitmentId, duplicate: u16, now: Timestamp) -> Result<(), Error> {
    connection.execute(
        "UPDATE commitment SET state = 'waiting', attempts = 0, requested_at = ?2, next_at = ?2, ended_at = NULL
         WHERE id = ?1",
        params![id, now],
    )?;
    connection.execute(
        "UPDATE commitment_item SET outcome = NULL WHERE commitment_id = ?1 AND outcome <> ?2",
        params![id, duplicate],
    )?;
    Ok(())
}

/// Keeps a request, with the outcome of all of its instances where that is known.
fn insert(
    connection: &Connection,
    order: &CommitmentOrder,
    outcome: Option<u16>,
    now: Timestamp,
) -> Result<CommitmentId, Error> {
    let count = i64::try_from(order.instances.len()).unwrap_or(i64::MAX);
    let id = connection.query_row(
        "INSERT INTO commitment (transaction_uid, peer, ae_title, address, state, instances, requested_at, next_at)
         VALUES (?1, ?2, ?3, ?4, 'waiting', ?5, ?6, ?6) RETURNING id",
        params![order.transaction_uid, order.peer, order.ae_title, order.address, count, now],
        |row| row.get(0),
    )?;
    let mut item = connection.prepare_cached(
        "INSERT INTO commitment_item (commitment_id, position, sop_class_uid, sop_instance_uid, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, (class, instance)) in (0_i64..).zip(&order.instances) {
        item.execute(params![id, position, class, instance, outcome])?;
    }
    Ok(id)
}

/// How many requests of a peer wait for their results, and how many instances they name.
fn waiting_of(connection: &Connection, peer: &str) -> Result<(i64, i64), Error> {
    let waiting = connection
        .prepare_cached("SELECT requests, instances FROM commitment_waiting WHERE peer = ?1")?
        .query_row([peer], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(waiting.unwrap_or((0, 0)))
}

/// The peer is there: some of what waits for it need not wait longer.
fn due_now(connection: &Connection, peer: &str, ae_title: &str, now: Timestamp) -> Result<(), Error> {
    connection
        .prepare_cached(
            "UPDATE commitment SET next_at = ?3 WHERE id IN
             (SELECT id FROM commitment WHERE peer = ?1 AND ae_title = ?2 AND state = 'waiting' AND next_at > ?3
              ORDER BY next_at LIMIT ?4)",
        )?
        .execute(params![peer, ae_title, now, TRIED_TOGETHER])?;
    Ok(())
}

/// The instances of a request, and what became of them.
type Items = (Vec<(String, String)>, Option<Vec<u16>>);

fn instances(connection: &Connection, id: CommitmentId) -> rusqlite::Result<Items> {
    let mut items = connection.prepare_cached(
        "SELECT sop_class_uid, sop_instance_uid, outcome FROM commitment_item WHERE commitment_id = ?1
         ORDER BY position",
    )?;
    let items = items.query_map([id], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, Option<u16>>(2)?)))?;
    let (instances, outcomes): (Vec<_>, Vec<_>) = items.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().unzip();
    Ok((instances, outcomes.into_iter().collect()))
}

fn commitment(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Commitment> {
    let id = row.get(0)?;
    let (instances, outcomes) = instances(connection, id)?;
    let order = CommitmentOrder {
        transaction_uid: row.get(1)?,
        peer: row.get(2)?,
        ae_title: row.get(3)?,
        address: row.get(4)?,
        instances,
    };
    Ok(Commitment { id, order, requested_at: row.get(5)?, attempts: row.get(6)?, outcomes })
}
