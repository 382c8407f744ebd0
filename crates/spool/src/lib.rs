//! Nothing acknowledged is lost: instances, studies, reports and what is still to be delivered.
//!
//! Instances and reports are files, named by our own id and never by a peer's UID; state is SQLite (WAL, synchronous
//! FULL) behind one writer thread that batches what waits into one transaction. Every transition of a study is one
//! statement guarded by the state it leaves, so that a crash between any two changes no outcome.

mod database;
mod disk;
mod error;
mod instance;
mod outbox;
mod recover;
mod study;
mod view;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

pub use error::Error;
pub use instance::{Arrival, Receiving, Stored};
pub use outbox::{Delivery, Lineage, ObjectKind, Predecessor, Prepared, ReportFile};
pub use recover::Recovery;
pub use study::{AssociationId, Claim, StudyId, StudyState};
pub use view::{ConflictView, InstanceView, ObjectView, StudyDetail, StudyView};

use database::Database;
use disk::Disk;
use study::OpenAssociations;

/// Milliseconds since 1970-01-01 UTC. Passed in by the caller: the spool has no clock.
pub type Timestamp = i64;

/// When an instance is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After its bytes, its directory entry and its row would survive a power cut.
    #[default]
    Instance,
    /// After they would survive the death of the process only.
    None,
}

/// How a spool is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// When an instance is acknowledged.
    pub durability: Durability,
    /// Bytes of the file system that stay free: below, instances are refused as out of resources.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::Instance, reserve_bytes: 1 << 30 }
    }
}

/// The spool. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Spool {
    disk: Arc<Disk>,
    database: Database,
    associations: Arc<Mutex<OpenAssociations>>,
}

impl Spool {
    /// Opens a spool for the daemon, makes it when absent, and recovers what a crash left (see [`Recovery`]).
    ///
    /// Errors when the folder cannot be used, when another daemon has it, or when its schema is from a later version.
    pub fn open(dir: &Path, options: Options, now: Timestamp) -> Result<(Self, Recovery), Error> {
        let disk = Arc::new(Disk::open(dir, &options)?);
        let database = Database::open(&disk.database_path(), options.durability)?;
        let spool = Self { disk, database, associations: Arc::default() };
        let recovery = spool.recover(now)?;
        Ok((spool, recovery))
    }

    /// Opens an existing spool beside a running daemon, to look at it and to steer it (`preread queue`).
    pub fn open_beside(dir: &Path) -> Result<Self, Error> {
        let options = Options::default();
        let disk = Arc::new(Disk::open_beside(dir, &options)?);
        let database = Database::open(&disk.database_path(), options.durability)?;
        Ok(Self { disk, database, associations: Arc::default() })
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
        self.disk.absolute(relative)
    }
}

/// Lower-case hexadecimal, as `sha256sum` prints it.
fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
