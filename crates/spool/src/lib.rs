//! Nothing acknowledged is lost: instances, studies, reports and what is still to be delivered.
//!
//! Instances and reports are files, named by our own id and never by a peer's UID; state is SQLite behind one writer
//! thread that batches what waits into one transaction. What is acknowledged is in a journal first, which one flush makes
//! survive a power cut for many associations at a time; its file and its row follow. Every transition of a study is one
//! statement guarded by the state it leaves, so that a crash between any two changes no outcome.

mod association;
mod attempt;
mod buffer;
mod commitment;
mod database;
mod decision;
mod delivery;
mod disk;
mod error;
#[cfg(test)]
mod faults;
mod files;
mod filing;
mod instance;
mod journal;
mod outbox;
mod recover;
mod retention;
mod scrub;
mod study;
mod view;
mod withdrawal;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;

pub use association::{AssociationId, Patience};
pub use attempt::Death;
pub use commitment::{Commitment, CommitmentId, CommitmentOrder, CommitmentView};
pub use decision::{Compared, ConflictId, Decision, Keep, Pair, PairFile};
pub use delivery::{AT_ONCE, Delivery, DeliveryView, Failure, WaitingView};
pub use disk::allow_open_files;
pub use error::{Error, in_words};
pub use instance::{Arrival, Receiving, Stored};
pub use outbox::{DeliveryState, Lineage, ObjectKind, Predecessor, Prepared, ReportFile};
pub use recover::{Recovery, loss::Loss};
pub use retention::{Removed, Retention};
pub use scrub::{Scrubbed, Verification};
pub use study::{Claim, StudyId, StudyState};
pub use view::{ConflictView, InstanceView, ObjectView, StudyDetail, StudyView};
pub use withdrawal::{SentObject, Withdrawal, Withdrawn};

use association::Associations;
use buffer::Buffers;
use database::{Checked, Database, Observer};
use disk::{Disk, MachineDisk};
use files::Files;
use filing::Filing;
use journal::{Journal, RECORD_ROOM};

/// Milliseconds since 1970-01-01 UTC. Passed in by the caller: the spool has no clock.
pub type Timestamp = i64;

/// When an instance is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After its bytes, its directory entry and its row would survive a power cut.
    #[default]
    Instance,
    /// After it was written; the release of its association is answered after all of them would survive a power cut.
    Association,
    /// After they would survive the death of the process only.
    None,
}

impl Durability {
    /// Its name, as the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Association => "association",
            Self::None => "none",
        }
    }
}

/// How a spool is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// When an instance is acknowledged.
    pub durability: Durability,
    /// Bytes of the file system that stay free: below, instances are refused as out of resources.
    pub reserve_bytes: u64,
    /// Inodes of the file system that stay free, likewise; without it a twentieth of all, 16 to 1000. A file system that
    /// does not count them has enough.
    pub reserve_files: Option<u64>,
    /// Bytes that received instances may take.
    pub quota_bytes: u64,
    /// Bytes of the journal: how much may be acknowledged and not yet be flushed where it stays.
    pub journal_bytes: u64,
    /// How long a study waits for an association that stays open.
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Instance,
            reserve_bytes: 1 << 30,
            reserve_files: None,
            quota_bytes: u64::MAX,
            journal_bytes: 256 << 20,
            patience: Patience::default(),
        }
    }
}

/// The room of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that received instances take.
    pub used_bytes: u64,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Inodes free on it, and how many there are; nothing where it does not count them.
    pub free_files: Option<(u64, u64)>,
}

impl Room {
    /// Inodes that must stay free under these options; 0 where they are not counted.
    pub fn reserve_files(&self, options: &Options) -> u64 {
        let inodes = self.free_files.map(|(free, all)| disk::Inodes { free, all });
        inodes.map_or(0, |inodes| files::reserve_files(options.reserve_files, inodes))
    }
}

/// Connections that a daemon reads its state with at a time.
const READERS: usize = 4;
/// How long a start may look whether the state database holds together: enough for some millions of instances. The rest of
/// a larger one is looked at while the daemon runs.
const CHECKED_AT_START: Duration = Duration::from_secs(10);

/// The spool. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Spool {
    files: Arc<Files>,
    database: Database,
    /// Nothing beside a daemon, which is who receives.
    filing: Option<Arc<Filing>>,
    durability: Durability,
    associations: Associations,
    buffers: Arc<Buffers>,
    filed: Arc<Notify>,
    _end: Arc<End>,
}

/// Ends the filing with the last clone of the spool.
struct End(Option<Arc<Filing>>);

impl Drop for End {
    fn drop(&mut self) {
        if let Some(filing) = &self.0 {
            filing.journal.close();
        }
    }
}

impl Spool {
    /// Opens a spool for the daemon, makes it when absent, and recovers what a crash left (see [`Recovery`]).
    ///
    /// Errors when the folder cannot be used, when another daemon has it, or when its schema is from a later version; with
    /// an error that [`Error::is_full_disk`] when there is no room to recover, so that it may be opened when there is; with
    /// [`Error::Damaged`] when the state database does not hold together.
    pub fn open(dir: &Path, options: Options, now: Timestamp) -> Result<(Self, Recovery), Error> {
        let opened = Self::open_on(Arc::new(MachineDisk), dir, &options, None, now);
        let (spool, recovery) = opened.map_err(|error| files::without_room(dir, error))?;
        spool.start_filing()?;
        Ok((spool, recovery))
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &Options,
        observer: Option<Observer>,
        now: Timestamp,
    ) -> Result<(Self, Recovery), Error> {
        let files = Arc::new(Files::open(disk, dir, options)?);
        let mut database = Database::open(&files.database_path(), options.durability, READERS)?;
        let checked = database.check(CHECKED_AT_START)?;
        let checkpointed: i64 =
            database.writer.query_row("SELECT checkpointed_epoch FROM installation", [], |row| row.get(0))?;
        let after = u64::try_from(checkpointed).unwrap_or(0);
        let (folder, beside) = (files.journal_path(), files.receipts_path());
        let (journal, contents) = Journal::open(&*files.disk, &folder, &beside, options.journal_bytes, after)?;
        let mut recovery = recover::recover(&files, &mut database, &journal, contents, options.durability, now)?;
        let database = database.start(observer)?;
        if checked == Checked::InPart {
            recovery.is_checked_later = true;
            database.check_on(&files.database_path())?;
        }
        Ok((Self::assembled(files, database, Some(journal), options), recovery))
    }

    fn assembled(files: Arc<Files>, database: Database, journal: Option<Journal>, options: &Options) -> Self {
        let durability = options.durability;
        let (associations, filed) = (Associations::new(options.patience), Arc::new(Notify::new()));
        let collected = journal.as_ref().map_or(0, Journal::longest);
        let filing = journal.map(|journal| {
            let (files, associations, filed) = (Arc::clone(&files), associations.clone(), Arc::clone(&filed));
            Arc::new(Filing::new(Arc::new(journal), files, database.clone(), durability, associations, filed))
        });
        let (buffers, end) = (Arc::new(Buffers::new(RECORD_ROOM + collected)), Arc::new(End(filing.clone())));
        Self { files, database, filing, durability, associations, buffers, filed, _end: end }
    }

    fn start_filing(&self) -> Result<(), Error> {
        let Some(filing) = &self.filing else { return Ok(()) };
        let (journal, filing) = (Arc::clone(&filing.journal), Arc::downgrade(filing));
        std::thread::Builder::new()
            .name("spool-filing".to_owned())
            .spawn(move || filing::run(&journal, &filing))
            .map_err(Error::io("the spool's filing thread"))?;
        Ok(())
    }

    /// Opens an existing spool beside a running daemon, to look at it and to steer it (`preread queue`).
    pub fn open_beside(dir: &Path) -> Result<Self, Error> {
        let options = Options::default();
        let files = Arc::new(Files::open_beside(Arc::new(MachineDisk), dir, &options)?);
        let database = Database::open(&files.database_path(), options.durability, 1)?.start(None)?;
        Ok(Self::assembled(files, database, None, &options))
    }

    /// Whether a daemon has the spool open; nothing where there is none, or nobody can say.
    pub fn is_in_use(dir: &Path) -> Option<bool> {
        Files::is_in_use(dir)
    }

    /// Notified when instances that were received have got their rows, which is some time after they are acknowledged.
    pub fn filed(&self) -> &Arc<Notify> {
        &self.filed
    }

    /// Everything that was acknowledged before this call has its file and its row when it answers.
    pub async fn file(&self) -> Result<(), Error> {
        self.in_filing(|filing| filing.file_up_to(filing.journal.newest())).await
    }

    /// Flushes everything that was acknowledged to where it stays, so that the journal holds nothing of before this call.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.in_filing(|filing| filing.free(filing.journal.seal(), false)).await
    }

    /// Work that blocks; beside a daemon there is none.
    async fn in_filing(&self, work: impl FnOnce(&Filing) -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
        let Some(filing) = self.filing.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || work(&filing)).await.map_err(|_| Error::Stopped)?
    }

    /// How much room there is. Beside a daemon, what is still coming is not counted.
    pub fn room(&self) -> Result<Room, Error> {
        let kept = self.database.read(recover::kept_bytes)?;
        let free = self.files.free()?;
        Ok(Room {
            used_bytes: kept.max(self.files.budget.used_bytes()),
            free_bytes: free.bytes,
            free_files: free.files.map(|files| (files.free, files.all)),
        })
    }

    /// Bytes and inodes free on the file system of a folder; the latter where it counts them.
    pub fn free(dir: &Path) -> Result<(u64, Option<u64>), Error> {
        let free = MachineDisk.free(dir).map_err(Error::io(dir))?;
        Ok((free.bytes, free.files.map(|files| files.free)))
    }

    /// Looks whether the state database holds together, for as long as `limit`. Errors with [`Error::Damaged`].
    pub fn check(&self, limit: Duration) -> Result<(), Error> {
        self.database.check_for(&self.files.database_path(), limit)
    }

    /// Why nothing is received now, if nothing is: the reserve of the file system or the quota is reached.
    pub fn refusal(&self) -> Result<Option<Error>, Error> {
        self.files.refusal()
    }

    /// Resolves when a write to the disk failed in a way that must not be retried (a failed fsync): the daemon must stop
    /// and recover from what the disk really holds.
    pub async fn failed(&self) -> String {
        self.database.failed().await
    }

    /// What tells this installation from every other: 128 random bits, made with the spool, in hexadecimal.
    pub fn installation(&self) -> Result<String, Error> {
        self.database.read(|connection| connection.query_row("SELECT id FROM installation", [], |row| row.get(0)))
    }

    fn absolute(&self, relative: &str) -> PathBuf {
        self.files.absolute(relative)
    }
}

/// The number of the user that this process does everything as.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Lower-case hexadecimal, as `sha256sum` prints it.
fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
