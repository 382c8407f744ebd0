//! SQLite behind one writer thread. What waits while a transaction commits goes into the next one together, so that many
//! associations share one flush.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use crate::{Durability, Error, disk::Disk};

const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
-- one row: what tells this installation from every other
CREATE TABLE installation (id TEXT NOT NULL);
CREATE TABLE study (
    id                 INTEGER PRIMARY KEY,
    study_instance_uid TEXT NOT NULL UNIQUE,
    state              TEXT NOT NULL,
    reason             TEXT,
    rule               TEXT,
    priority           INTEGER NOT NULL DEFAULT 0,
    -- counts the instances that change what is to be read, so that a reading knows whether it saw them all
    generation         INTEGER NOT NULL DEFAULT 0,
    attempts           INTEGER NOT NULL DEFAULT 0,
    quiet_ms           INTEGER NOT NULL,
    due_at             INTEGER NOT NULL,
    received_at        INTEGER NOT NULL,
    last_received_at   INTEGER NOT NULL
);
CREATE INDEX study_by_due ON study (state, due_at);
CREATE TABLE instance (
    id                  INTEGER PRIMARY KEY,
    study_id            INTEGER NOT NULL REFERENCES study,
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid    TEXT NOT NULL UNIQUE,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path                TEXT NOT NULL,
    sha256              TEXT NOT NULL,
    data_set_sha256     TEXT NOT NULL,
    bytes               INTEGER NOT NULL,
    source              TEXT NOT NULL,
    received_at         INTEGER NOT NULL,
    own                 INTEGER NOT NULL
);
CREATE INDEX instance_by_study ON instance (study_id);
CREATE TABLE conflict (
    id          INTEGER PRIMARY KEY,
    instance_id INTEGER NOT NULL REFERENCES instance,
    path        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    data_set_sha256 TEXT NOT NULL,
    source      TEXT NOT NULL,
    received_at INTEGER NOT NULL
);
CREATE INDEX conflict_by_instance ON conflict (instance_id);
CREATE TABLE report (
    id            INTEGER PRIMARY KEY,
    study_id      INTEGER NOT NULL REFERENCES study,
    version       INTEGER NOT NULL,
    inputs_digest TEXT NOT NULL,
    written_at    INTEGER NOT NULL,
    UNIQUE (study_id, version)
);
CREATE TABLE object (
    id                  INTEGER PRIMARY KEY,
    report_id           INTEGER NOT NULL REFERENCES report,
    kind                TEXT NOT NULL,
    sop_instance_uid    TEXT UNIQUE,
    sop_class_uid       TEXT,
    series_instance_uid TEXT,
    path                TEXT NOT NULL
);
CREATE INDEX object_by_report ON object (report_id);
CREATE TABLE delivery (
    id           INTEGER PRIMARY KEY,
    object_id    INTEGER NOT NULL REFERENCES object,
    destination  TEXT NOT NULL,
    state        TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    last_error   TEXT,
    delivered_at INTEGER,
    UNIQUE (object_id, destination)
);
CREATE INDEX delivery_by_due ON delivery (state, next_at);
";

/// The most writes in one transaction: bounds how long the first of them waits.
const BATCH: usize = 256;
/// The most writes that wait: beyond, senders are slowed by waiting for a place.
const WAITING: usize = 1024;

/// Does the work; answers whether to keep it, and how to tell the caller.
type Work = dyn FnOnce(&Connection) -> (bool, Reply) + Send;
type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

struct Write {
    /// Whether the answer promises that a power cut changes nothing of it.
    durable: bool,
    /// Folders whose entries must be on the disk before the transaction may say so.
    folders: Vec<PathBuf>,
    run: Box<Work>,
}

#[derive(Clone)]
pub(crate) struct Database {
    writes: mpsc::SyncSender<Write>,
    reader: Arc<Mutex<Connection>>,
    failure: watch::Sender<Option<String>>,
}

impl Database {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self, Error> {
        let mut writer = connect(path, durability)?;
        migrate(&mut writer)?;
        let reader = connect(path, durability)?;
        let (writes, incoming) = mpsc::sync_channel(WAITING);
        let failure = watch::Sender::new(None);
        let for_writer = failure.clone();
        std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || write_loop(&writer, durability, &incoming, &for_writer))
            .map_err(Error::io(path))?;
        Ok(Self { writes, reader: Arc::new(Mutex::new(reader)), failure })
    }

    /// Runs `work` in the next transaction, after `folders` were synced, and answers when it is on the disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        folders: Vec<PathBuf>,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit(true, folders, work).await
    }

    /// Runs `work` in the next transaction and answers when it is committed, without waiting for the disk: for steps that
    /// a power cut may undo because they are taken again, with the same outcome.
    pub(crate) async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit(false, Vec::new(), work).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        durable: bool,
        folders: Vec<PathBuf>,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.require_running()?;
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |connection: &Connection| -> (bool, Reply) {
            let result = work(connection);
            let keep = result.is_ok();
            let reply: Reply = Box::new(move |committed| {
                // What failed by itself says why, whatever became of the transaction around it. A caller that went
                // away no longer wants the answer; the work is done all the same.
                let _ = answer.send(if keep { committed.and(result) } else { result });
            });
            (keep, reply)
        });
        let writes = self.writes.clone();
        let mut write = Write { durable, folders, run };
        // The common case has a place free; only a full queue costs a blocking thread.
        if let Err(mpsc::TrySendError::Full(returned)) = writes.try_send(write) {
            write = returned;
            let sent = tokio::task::spawn_blocking(move || writes.send(write)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return Err(Error::Stopped);
            }
        }
        answered.await.unwrap_or(Err(Error::Stopped))
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let reader: MutexGuard<'_, Connection> = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&reader)?)
    }

    /// A write at start, before anything else runs.
    pub(crate) fn write_now<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut connection = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Passes a result on. After a failed flush nothing more is acknowledged and the daemon stops: the page cache may have
    /// dropped what it could not write, and a second flush would lie.
    pub(crate) fn watching<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error @ Error::Flush { .. }) = &result {
            self.failure.send_replace(Some(error.to_string()));
        }
        result
    }

    /// Errors with [`Error::Stopped`] after a failed flush.
    pub(crate) fn require_running(&self) -> Result<(), Error> {
        if self.failure.borrow().is_some() { Err(Error::Stopped) } else { Ok(()) }
    }

    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            _ => std::future::pending().await,
        }
    }
}

fn connect(path: &Path, durability: Durability) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Instance => "FULL",
        Durability::None => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.execute("INSERT INTO installation (id) VALUES (lower(hex(randomblob(16))))", [])?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        _ => return Err(Error::Schema { found, known: SCHEMA_VERSION }),
    }
    Ok(transaction.commit()?)
}

fn write_loop(
    connection: &Connection,
    durability: Durability,
    incoming: &mpsc::Receiver<Write>,
    failed: &watch::Sender<Option<String>>,
) {
    while let Ok(first) = incoming.recv() {
        let batch: Vec<Write> = std::iter::once(first).chain(incoming.try_iter().take(BATCH - 1)).collect();
        let synchronous = match durability {
            Durability::Instance if batch.iter().any(|write| write.durable) => "FULL",
            // In WAL mode a later FULL commit also flushes what came before it, so that the order of steps is kept.
            Durability::Instance => "NORMAL",
            Durability::None => "OFF",
        };
        let prepared = connection.pragma_update(None, "synchronous", synchronous).map_err(Error::from);
        if let Err(error) = prepared.and_then(|()| commit(connection, batch)) {
            // Whatever it was, what the disk holds is not known any more (see `Database::watching`).
            failed.send_replace(Some(error.to_string()));
            return;
        }
    }
}

/// Commits a batch and answers each write; an error means that the disk failed, after every write was told so.
fn commit(connection: &Connection, batch: Vec<Write>) -> Result<(), Error> {
    let mut replies = Vec::with_capacity(batch.len());
    let result = commit_batch(connection, batch, &mut replies);
    let stopped = result.is_err();
    for reply in replies {
        reply(if stopped { Err(Error::Stopped) } else { Ok(()) });
    }
    result
}

fn commit_batch(connection: &Connection, batch: Vec<Write>, replies: &mut Vec<Reply>) -> Result<(), Error> {
    let folders: BTreeSet<&PathBuf> = batch.iter().flat_map(|write| &write.folders).collect();
    for folder in folders {
        Disk::sync_folder(folder)?;
    }
    let mut transaction = begin(connection)?;
    for write in batch {
        // A savepoint each, so that one refused write takes nothing of its neighbours with it.
        let savepoint = transaction.savepoint()?;
        let (keep, reply) = (write.run)(&savepoint);
        if keep {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
        replies.push(reply);
    }
    Ok(transaction.commit()?)
}

/// Another process (`preread queue`) may hold the database for a moment; that is no failure of the disk.
fn begin(connection: &Connection) -> Result<Transaction<'_>, Error> {
    loop {
        match Transaction::new_unchecked(connection, TransactionBehavior::Immediate) {
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == rusqlite::ErrorCode::DatabaseBusy => {}
            other => return Ok(other?),
        }
    }
}
