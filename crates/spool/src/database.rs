//! SQLite behind one writer thread. What waits while a transaction commits goes into the next one together, so that many
//! associations share one flush.

mod check;
mod readers;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use crate::{Durability, Error, disk};
pub(crate) use check::Checked;
use readers::Readers;

/// Version 1 was never released: it kept other digests and had no journal.
const SCHEMA_VERSION: i64 = 3;

const SCHEMA: &str = "
-- one row: what tells this installation from every other, and up to where the journal is no longer needed
CREATE TABLE installation (id TEXT NOT NULL, checkpointed_epoch INTEGER NOT NULL DEFAULT 0);
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
    last_received_at   INTEGER NOT NULL,
    -- whether a person stopped it: then nothing that comes starts it again
    stopped            INTEGER NOT NULL DEFAULT 0,
    -- when retention removed its instances
    removed_at         INTEGER,
    -- how often reading it ended the process
    deaths             INTEGER NOT NULL DEFAULT 0,
    -- whose images a person said count, where it has those of several patients; without a patient's data
    accepted           TEXT,
    -- whether its reading held it: then no report of it is sent
    in_doubt           INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX study_by_due ON study (state, due_at);
CREATE TABLE instance (
    id                  INTEGER PRIMARY KEY,
    study_id            INTEGER NOT NULL REFERENCES study,
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid    TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path                TEXT NOT NULL,
    -- of the data set, which begins so many bytes into the file
    digest              TEXT NOT NULL,
    data_set_at         INTEGER NOT NULL,
    bytes               INTEGER NOT NULL,
    source              TEXT NOT NULL,
    received_at         INTEGER NOT NULL,
    own                 INTEGER NOT NULL,
    -- what is decided of it where another study had its UID before (see decision.rs); nothing where none had
    decision            TEXT,
    -- of whichever study: that a UID is in two is the senders' fault, and each study shows what is its own
    UNIQUE (sop_instance_uid, study_id)
);
CREATE INDEX instance_by_study ON instance (study_id);
-- what came besides under the UID of an instance of the same study
CREATE TABLE conflict (
    id                  INTEGER PRIMARY KEY,
    instance_id         INTEGER NOT NULL REFERENCES instance,
    series_instance_uid TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path                TEXT NOT NULL,
    digest              TEXT NOT NULL,
    data_set_at         INTEGER NOT NULL,
    bytes               INTEGER NOT NULL,
    source              TEXT NOT NULL,
    received_at         INTEGER NOT NULL,
    -- what is decided of it (see decision.rs); nothing before it was compared
    decision            TEXT,
    -- in which attributes it differs, by their names alone
    differs             TEXT
);
CREATE INDEX conflict_by_instance ON conflict (instance_id);
CREATE INDEX conflict_by_decision ON conflict (decision);
-- reports that a person called back, and whether their rejection notes are made
CREATE TABLE withdrawal (
    id       INTEGER PRIMARY KEY,
    study_id INTEGER NOT NULL REFERENCES study,
    reason   TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    noted_at INTEGER
);
CREATE TABLE report (
    id            INTEGER PRIMARY KEY,
    study_id      INTEGER NOT NULL REFERENCES study,
    version       INTEGER NOT NULL,
    inputs_digest TEXT NOT NULL,
    written_at    INTEGER NOT NULL,
    -- whom it was filed under, without a patient's data; nothing for a report of before version 3
    patient       TEXT,
    withdrawal_id INTEGER REFERENCES withdrawal,
    UNIQUE (study_id, version)
);
CREATE TABLE object (
    id                  INTEGER PRIMARY KEY,
    report_id           INTEGER NOT NULL REFERENCES report,
    kind                TEXT NOT NULL,
    sop_instance_uid    TEXT UNIQUE,
    sop_class_uid       TEXT,
    series_instance_uid TEXT,
    path                TEXT NOT NULL,
    -- why, when somebody's rejection note names it
    rejected            TEXT
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
    -- attempts that ended with a refusal that a repetition is unlikely to change
    refusals     INTEGER NOT NULL DEFAULT 0,
    -- whether it was being sent and the answer is not known: then the destination may have it
    begun        INTEGER NOT NULL DEFAULT 0,
    -- what the destination said of it, in its own words
    comment      TEXT,
    UNIQUE (object_id, destination)
);
CREATE INDEX delivery_by_destination ON delivery (state, destination, next_at);
";

/// From version 2 to 3. SQLite cannot take a constraint away, so that `instance` is made anew, and with it what refers to it.
const FROM_2_TO_3: &str = "
ALTER TABLE study ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
ALTER TABLE study ADD COLUMN accepted TEXT;
ALTER TABLE study ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE report ADD COLUMN patient TEXT;
CREATE TABLE old_conflict AS
    SELECT conflict.*, series_instance_uid, sop_class_uid, transfer_syntax_uid
    FROM conflict JOIN instance ON instance.id = instance_id;
DROP TABLE conflict;
CREATE TABLE new_instance (
    id                  INTEGER PRIMARY KEY,
    study_id            INTEGER NOT NULL REFERENCES study,
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid    TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path                TEXT NOT NULL,
    digest              TEXT NOT NULL,
    data_set_at         INTEGER NOT NULL,
    bytes               INTEGER NOT NULL,
    source              TEXT NOT NULL,
    received_at         INTEGER NOT NULL,
    own                 INTEGER NOT NULL,
    decision            TEXT,
    UNIQUE (sop_instance_uid, study_id)
);
INSERT INTO new_instance SELECT id, study_id, series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid,
    path, digest, data_set_at, bytes, source, received_at, own, NULL FROM instance;
DROP TABLE instance;
ALTER TABLE new_instance RENAME TO instance;
CREATE INDEX instance_by_study ON instance (study_id);
CREATE TABLE conflict (
    id                  INTEGER PRIMARY KEY,
    instance_id         INTEGER NOT NULL REFERENCES instance,
    series_instance_uid TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path                TEXT NOT NULL,
    digest              TEXT NOT NULL,
    data_set_at         INTEGER NOT NULL,
    bytes               INTEGER NOT NULL,
    source              TEXT NOT NULL,
    received_at         INTEGER NOT NULL,
    decision            TEXT,
    differs             TEXT
);
INSERT INTO conflict SELECT id, instance_id, series_instance_uid, sop_class_uid, transfer_syntax_uid, path, digest,
    data_set_at, bytes, source, received_at, NULL, NULL FROM old_conflict;
DROP TABLE old_conflict;
CREATE INDEX conflict_by_instance ON conflict (instance_id);
CREATE INDEX conflict_by_decision ON conflict (decision);
CREATE TABLE withdrawal (
    id       INTEGER PRIMARY KEY,
    study_id INTEGER NOT NULL REFERENCES study,
    reason   TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    noted_at INTEGER
);
ALTER TABLE report ADD COLUMN withdrawal_id INTEGER REFERENCES withdrawal;
ALTER TABLE object ADD COLUMN rejected TEXT;
ALTER TABLE delivery ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN comment TEXT;
DROP INDEX delivery_by_due;
CREATE INDEX delivery_by_destination ON delivery (state, destination, next_at);
";

/// The most writes in one transaction: bounds how long the first of them waits.
const BATCH: usize = 256;
/// The most writes that wait: beyond, senders are slowed by waiting for a place.
const WAITING: usize = 1024;

/// Does the work; answers what is to become of it, and how to tell the caller.
type Work = dyn FnOnce(&Connection) -> (Outcome, Reply) + Send;
type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

struct Write {
    lasting: Lasting,
    run: Box<Work>,
}

/// What is to become of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Keep,
    Undo,
    /// It found that the database does not hold together.
    Damage,
}

/// What a write outlives once it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    /// The process. A power cut may undo it, and it is done again with the same outcome.
    Process,
    /// A power cut, by itself.
    Database,
}

/// Sees the database after each transaction, so that a test can cut the power at any of them; may make it fail.
pub(crate) type Observer = Box<dyn FnMut(&Connection, bool) -> Result<(), Error> + Send>;

#[derive(Clone)]
pub(crate) struct Database {
    writes: mpsc::SyncSender<Write>,
    readers: Arc<Readers>,
    failure: watch::Sender<Option<String>>,
}

impl Database {
    /// Opens the database, or makes it, with so many connections to read with. Nothing is written before [`Self::start`].
    ///
    /// Errors with [`Error::Damaged`] when it does not hold together, as far as that is found out at once.
    pub(crate) fn open(path: &Path, durability: Durability, readers: usize) -> Result<Opened, Error> {
        Self::open_any(path, durability, readers).map_err(|error| check::named(path, error))
    }

    fn open_any(path: &Path, durability: Durability, readers: usize) -> Result<Opened, Error> {
        // SQLite gives the files that it makes beside the database the database's own mode.
        disk::make_private_file(path).map_err(Error::io(path))?;
        let mut writer = connect(path, durability)?;
        let is_new = migrate(&mut writer)?;
        let readers = (0..readers.max(1)).map(|_| connect(path, durability)).collect::<Result<_, Error>>()?;
        Ok(Opened { path: path.to_owned(), writer, readers, durability, is_new })
    }

    /// Runs `work` in the next transaction and answers when it is on the disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit(Lasting::Database, work).await
    }

    /// Runs `work` in the next transaction and answers when it is committed, without waiting for the disk: for steps that
    /// a power cut may undo because they are taken again, with the same outcome, or because the journal has them.
    pub(crate) async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit(Lasting::Process, work).await
    }

    /// [`Self::write`] for a thread that may block.
    pub(crate) fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit_blocking(Lasting::Database, work)
    }

    /// [`Self::step`] for a thread that may block.
    pub(crate) fn step_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit_blocking(Lasting::Process, work)
    }

    fn submit_blocking<T: Send + 'static>(
        &self,
        lasting: Lasting,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.require_running()?;
        let (write, answered) = queued(lasting, work);
        self.writes.send(write).map_err(|_| Error::Stopped)?;
        answered.blocking_recv().unwrap_or(Err(Error::Stopped))
    }

    async fn submit<T: Send + 'static>(
        &self,
        lasting: Lasting,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.require_running()?;
        let (mut write, answered) = queued(lasting, work);
        let writes = self.writes.clone();
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

    /// Runs `work` on a connection of its own. It waits for nobody who reads, so long as not all connections are taken.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let read = self.readers.with(work).map_err(Error::Database);
        read.inspect_err(|error| {
            // What else it says may be as wrong: nothing more is acknowledged on it.
            if error.is_damage() {
                self.fail(error);
            }
        })
    }

    /// Nothing more is acknowledged, because of an error of the disk.
    pub(crate) fn fail(&self, error: &Error) {
        self.failure.send_replace(Some(error.to_string()));
    }

    /// Passes a result on. After a failed flush nothing more is acknowledged and the daemon stops: the page cache may have
    /// dropped what it could not write, and a second flush would lie.
    pub(crate) fn watching<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if matches!(error, Error::Flush { .. }) || error.is_damage() {
                self.fail(error);
            }
        })
    }

    /// Errors with [`Error::Stopped`] after a failed flush.
    pub(crate) fn require_running(&self) -> Result<(), Error> {
        if self.failure.borrow().is_some() { Err(Error::Stopped) } else { Ok(()) }
    }

    /// Looks whether the database holds together, on a thread of its own and without a limit: nothing is acknowledged any
    /// more when it does not.
    pub(crate) fn check_on(&self, path: &Path) -> Result<(), Error> {
        let connection = connect(path, Durability::Instance)?;
        let (path, database) = (path.to_owned(), self.clone());
        let check = move || match check::quick_check(&connection, &path, None) {
            Ok(_) => tracing::info!("the state database holds together"),
            Err(error) => database.fail(&error),
        };
        std::thread::Builder::new()
            .name("spool-check".to_owned())
            .spawn(check)
            .map_err(Error::io("the spool's checking thread"))?;
        Ok(())
    }

    /// Looks whether the database holds together, for as long as `limit`.
    pub(crate) fn check_for(&self, path: &Path, limit: Duration) -> Result<(), Error> {
        self.readers.with(|connection| check::quick_check(connection, path, Some(limit)).map(|_| ()))
    }

    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            _ => std::future::pending().await,
        }
    }
}

/// A database that recovery may still change in peace.
pub(crate) struct Opened {
    path: PathBuf,
    pub(crate) writer: Connection,
    readers: Vec<Connection>,
    durability: Durability,
    /// Whether there was none before.
    pub(crate) is_new: bool,
}

impl Opened {
    /// One durable transaction, before anything else runs.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let transaction = self.writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Starts the writer thread.
    pub(crate) fn start(self, mut observer: Option<Observer>) -> Result<Database, Error> {
        if let Some(observer) = &mut observer {
            observer(&self.writer, true)?;
        }
        let (writes, incoming) = mpsc::sync_channel(WAITING);
        let failure = watch::Sender::new(None);
        let writer = Writer {
            connection: self.writer,
            durability: self.durability,
            observer,
            failure: failure.clone(),
            synchronous: "",
        };
        std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || writer.run(&incoming))
            .map_err(Error::io("the spool's writer thread"))?;
        Ok(Database { writes, readers: Arc::new(Readers::new(self.readers)), failure })
    }

    /// Looks whether the database holds together, for as long as `limit`. What was not reached by then is looked at by
    /// [`Database::check_on`].
    pub(crate) fn check(&self, limit: Duration) -> Result<Checked, Error> {
        check::quick_check(&self.writer, &self.path, Some(limit))
    }
}

/// A write to be queued, and where its answer comes.
fn queued<T: Send + 'static>(
    lasting: Lasting,
    work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
) -> (Write, oneshot::Receiver<Result<T, Error>>) {
    let (answer, answered) = oneshot::channel();
    let run = Box::new(move |connection: &Connection| -> (Outcome, Reply) {
        let result = work(connection);
        let outcome = match &result {
            Ok(_) => Outcome::Keep,
            Err(error) if error.is_damage() => Outcome::Damage,
            Err(_) => Outcome::Undo,
        };
        let reply: Reply = Box::new(move |committed| {
            // What failed by itself says why, whatever became of the transaction around it. A caller that went
            // away no longer wants the answer; the work is done all the same.
            let _ = answer.send(if outcome == Outcome::Keep { committed.and(result) } else { result });
        });
        (outcome, reply)
    });
    (Write { lasting, run }, answered)
}

fn connect(path: &Path, durability: Durability) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Instance | Durability::Association => "FULL",
        Durability::None => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // Otherwise what is sorted or undone may stand in a file outside of the spool, and needs a descriptor.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Pages of the write-ahead log that are copied back at a time: fewer would put that into every hundredth answer.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    Ok(connection)
}

/// Columns that the first spools of this version lack.
fn add_missing_columns(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let has = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('study') WHERE name = 'in_doubt')";
    if !transaction.query_row(has, [], |row| row.get::<_, bool>(0))? {
        transaction.execute_batch("ALTER TABLE study ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0")?;
    }
    Ok(())
}

/// Answers whether the database is new.
fn migrate(connection: &mut Connection) -> Result<bool, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.execute_batch(crate::commitment::SCHEMA)?;
            transaction.execute_batch(crate::attempt::SCHEMA)?;
            transaction.execute_batch(crate::commitment::FROM_2_TO_3)?;
            transaction.execute_batch(crate::recover::loss::SCHEMA)?;
            transaction.execute("INSERT INTO installation (id) VALUES (lower(hex(randomblob(16))))", [])?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        2 => {
            transaction.execute_batch(FROM_2_TO_3)?;
            transaction.execute_batch(crate::attempt::SCHEMA)?;
            transaction.execute_batch(crate::commitment::FROM_2_TO_3)?;
            transaction.execute_batch(crate::recover::loss::SCHEMA)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => add_missing_columns(&transaction)?,
        1 => return Err(Error::Unreleased { found }),
        _ => return Err(Error::Schema { found, known: SCHEMA_VERSION }),
    }
    transaction.execute_batch(crate::attempt::COMPARISON)?;
    transaction.commit()?;
    Ok(found == 0)
}

/// The one thread that writes.
struct Writer {
    connection: Connection,
    durability: Durability,
    observer: Option<Observer>,
    failure: watch::Sender<Option<String>>,
    /// SQLite's setting of that name, as it was left.
    synchronous: &'static str,
}

impl Writer {
    fn run(mut self, incoming: &mpsc::Receiver<Write>) {
        while let Ok(first) = incoming.recv() {
            let batch: Vec<Write> = std::iter::once(first).chain(incoming.try_iter().take(BATCH - 1)).collect();
            match self.commit(batch) {
                Ok(()) => {}
                // SQLite has undone the transaction, and every write of it was told.
                Err(error) if error.is_full_disk() => tracing::error!(%error, "the state could not be written"),
                Err(error) => {
                    // Whatever it was, what the disk holds is not known any more (see `Database::watching`).
                    self.failure.send_replace(Some(error.to_string()));
                    return;
                }
            }
        }
    }

    /// Commits a batch and answers each write; an error means that the disk failed, after every write was told so.
    fn commit(&mut self, batch: Vec<Write>) -> Result<(), Error> {
        let mut replies = Vec::with_capacity(batch.len());
        let result = self.commit_batch(batch, &mut replies);
        for reply in replies {
            reply(match &result {
                Ok(()) => Ok(()),
                Err(error) if error.is_full_disk() => Err(Error::DatabaseFull),
                Err(_) => Err(Error::Stopped),
            });
        }
        result
    }

    fn commit_batch(&mut self, batch: Vec<Write>, replies: &mut Vec<Reply>) -> Result<(), Error> {
        let lasting = batch.iter().map(|write| write.lasting).max().unwrap_or(Lasting::Process);
        let synchronous = match self.durability {
            Durability::None => "OFF",
            _ if lasting == Lasting::Database => "FULL",
            // In WAL mode a later FULL commit also flushes what came before it, so that the order of steps is kept.
            _ => "NORMAL",
        };
        if self.synchronous != synchronous {
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            self.synchronous = synchronous;
        }
        let mut transaction = begin(&self.connection)?;
        for write in batch {
            // A savepoint each, so that one refused write takes nothing of its neighbours with it.
            let savepoint = transaction.savepoint()?;
            let (outcome, reply) = (write.run)(&savepoint);
            if savepoint.is_autocommit() {
                // SQLite undoes the whole transaction by itself when the disk is full.
                replies.push(reply);
                return Err(Error::DatabaseFull);
            }
            replies.push(reply);
            match outcome {
                Outcome::Keep => savepoint.commit()?,
                Outcome::Undo => savepoint.finish()?,
                Outcome::Damage => return Err(check::damaged("a write found it so")),
            }
        }
        transaction.commit()?;
        match &mut self.observer {
            Some(observer) => observer(&self.connection, synchronous == "FULL"),
            None => Ok(()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every column of every table, with its type.
    fn columns(connection: &Connection) -> Vec<(String, String, String)> {
        let sql = "SELECT tables.name, columns.name, columns.type FROM sqlite_schema AS tables
                   JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table' ORDER BY 1, 2";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    fn indices(connection: &Connection) -> Vec<String> {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn a_spool_of_version_2_becomes_what_a_new_one_is() {
        let mut new = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut new).unwrap());
        let mut old = Connection::open_in_memory().unwrap();
        old.execute_batch(include_str!("../tests/data/version_2.sql")).unwrap();
        old.execute_batch(
            "INSERT INTO installation (id) VALUES ('x');
             INSERT INTO study (study_instance_uid, state, quiet_ms, due_at, received_at, last_received_at)
             VALUES ('1.2.3', 'settled', 1, 1, 1, 1);
             PRAGMA user_version = 2",
        )
        .unwrap();
        assert!(!migrate(&mut old).unwrap());
        assert_eq!(columns(&old), columns(&new));
        assert_eq!(indices(&old), indices(&new));
        let kept: (String, i64) =
            old.query_row("SELECT state, deaths FROM study", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(kept, ("settled".to_owned(), 0));
        assert!(!migrate(&mut old).unwrap(), "a second start changes nothing");
    }
}
