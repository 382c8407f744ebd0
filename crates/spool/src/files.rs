//! The spool's files: how they are named, where they stand, and how much room they may take.

mod budget;
mod lock;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Durability, Error, Options, Timestamp,
    buffer::BLOCK,
    disk::{self, Disk, DiskFile, Free},
};
pub(crate) use budget::{Budget, reserve_files, without_room};
use lock::Lock;

/// Received instances, one folder a day. A file is made where it stays: until there is a row for it, it is an orphan that
/// the next start removes.
pub(crate) const INSTANCES: &str = "instances";
/// Reports and what belongs to them.
pub(crate) const REPORTS: &str = "reports";
/// What was acknowledged and is not yet flushed elsewhere.
pub(crate) const JOURNAL: &str = "journal";
/// What says which records the journal must hold (see [`crate::journal::Receipts`]).
pub(crate) const RECEIPTS: &str = "receipts";

const DATABASE: &str = "state.sqlite";
const MILLISECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    root: PathBuf,
    durability: Durability,
    /// Who may take how much.
    pub(crate) budget: Budget,
    next_id: AtomicU64,
    /// The folder under `instances/` whose own entry is known to be on the disk.
    folder_made: Mutex<String>,
    /// Held for the daemon's life, so that two daemons cannot share a spool.
    _lock: Option<Lock>,
}

impl Files {
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Self, Error> {
        // The lock and the state database are the system's and SQLite's to keep, on whatever disk the rest is.
        disk::create_private_folder(dir).map_err(Error::io(dir))?;
        let root = dir.canonicalize().map_err(Error::io(dir))?;
        for folder in ["", INSTANCES, REPORTS] {
            let path = root.join(folder);
            disk.create_folder(&path).map_err(Error::io(&path))?;
        }
        disk.sync_folder(&root).map_err(Error::flush(&root))?;
        let lock = Lock::take(&root, dir)?;
        Ok(Self::at(disk, root, options, Some(lock)))
    }

    pub(crate) fn open_beside(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Self, Error> {
        match File::open(dir.join(DATABASE)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::Denied(dir.to_owned()));
            }
            Err(_) => return Err(Error::Absent(dir.to_owned())),
        }
        let root = dir.canonicalize().map_err(Error::io(dir))?;
        Ok(Self::at(disk, root, options, None))
    }

    /// Whether a daemon has the spool open; nothing where nobody can say.
    pub(crate) fn is_in_use(dir: &Path) -> Option<bool> {
        let lock = File::open(dir).ok()?;
        match lock.try_lock_shared() {
            Ok(()) => Some(false),
            Err(std::fs::TryLockError::WouldBlock) => Some(true),
            Err(std::fs::TryLockError::Error(_)) => None,
        }
    }

    fn at(disk: Arc<dyn Disk>, root: PathBuf, options: &Options, lock: Option<Lock>) -> Self {
        Self {
            disk,
            root,
            durability: options.durability,
            budget: Budget::new(options),
            next_id: AtomicU64::new(0),
            folder_made: Mutex::default(),
            _lock: lock,
        }
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    pub(crate) fn receipts_path(&self) -> PathBuf {
        self.root.join(RECEIPTS)
    }

    pub(crate) fn absolute(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Claims room for bytes of an instance. Refuses beyond the quota, and when the file system is down to its reserve.
    pub(crate) fn claim(&self, bytes: u64) -> Result<(), Error> {
        self.budget.claim(bytes, &self.root, || self.free())
    }

    /// Claims room for one more file, until [`Budget::file_made`]. Refuses when the file system is down to its reserve.
    pub(crate) fn claim_file(&self) -> Result<(), Error> {
        self.budget.claim_file(&self.root, || self.free())
    }

    /// Why nothing can be received now, if nothing can.
    pub(crate) fn refusal(&self) -> Result<Option<Error>, Error> {
        match self.claim_file() {
            Ok(()) => {
                self.budget.file_made();
                Ok(None)
            }
            Err(error) if error.is_full_disk() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// What is free on the spool's file system.
    pub(crate) fn free(&self) -> Result<Free, Error> {
        self.disk.free(&self.root).map_err(Error::io(&self.root))
    }

    /// A path, relative to the spool, that no file has: named by the time and a counter, and by nobody else's choice. No two
    /// are the same while this runs.
    pub(crate) fn name(&self, home: Home, now: Timestamp) -> Result<String, Error> {
        let (folder, extension) = match home {
            Home::Instances => (format!("{INSTANCES}/{:06}", now.div_euclid(MILLISECONDS_PER_DAY)), "dcm"),
            Home::Reports(extension) => (REPORTS.to_owned(), extension),
        };
        loop {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let relative = format!("{folder}/{now:012x}-{id:06x}.{extension}");
            let path = self.root.join(&relative);
            if !self.disk.exists(&path).map_err(Error::io(&path))? {
                return Ok(relative);
            }
        }
    }

    /// Makes a file, and the folder that it is in.
    pub(crate) fn create(&self, relative: &str) -> Result<Arc<dyn DiskFile>, Error> {
        if let Some((folder, _)) = relative.rsplit_once('/') {
            self.make_folder(folder)?;
        }
        let path = self.absolute(relative);
        self.disk.create(&path).map_err(|error| self.failed(&path, error))
    }

    /// Makes a file of these bytes, instead of one that is there. It is not flushed.
    pub(crate) fn write_whole(&self, relative: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.absolute(relative);
        if self.disk.exists(&path).map_err(Error::io(&path))? {
            self.remove(&path);
        }
        let file = self.create(relative)?;
        write(&*file, bytes, 0).map_err(|error| self.failed(&path, error)).inspect_err(|_| self.remove(&path))
    }

    /// What a failed write means: a full disk is the sender's to try again, everything else is a defect of the disk.
    pub(crate) fn failed(&self, path: &Path, error: io::Error) -> Error {
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Error::io(path)(error);
        }
        let free = self.free().ok();
        // Which of bytes, inodes or a user's quota it was, the system does not say.
        match free.and_then(|free| self.budget.shortage(&self.root, free)) {
            Some(shortage) => shortage,
            None => Error::NoRoom { path: path.to_owned(), source: error },
        }
    }

    /// Makes a file's bytes and its entry survive a power cut, as far as the configuration asks for it.
    pub(crate) fn flush(&self, file: &dyn DiskFile, relative: &str) -> Result<(), Error> {
        if self.durability == Durability::None {
            return Ok(());
        }
        let path = self.absolute(relative);
        // In this order: on the usual file systems the flush of a new file brings its entry along.
        file.sync().map_err(Error::flush(&path))?;
        let folder = path.parent().unwrap_or(&self.root);
        self.disk.sync_folder(folder).map_err(Error::flush(folder))
    }

    /// Makes a folder whose own entry survives a power cut before anything in it is counted on.
    pub(crate) fn make_folder(&self, folder: &str) -> Result<(), Error> {
        let mut made = self.folder_made.lock().unwrap_or_else(PoisonError::into_inner);
        if folder == REPORTS || *made == folder {
            return Ok(());
        }
        let path = self.root.join(folder);
        self.disk.create_folder(&path).map_err(|error| self.failed(&path, error))?;
        if self.durability != Durability::None {
            let parent = path.parent().unwrap_or(&self.root);
            self.disk.sync_folder(parent).map_err(Error::flush(parent))?;
        }
        folder.clone_into(&mut made);
        Ok(())
    }

    /// Removes a file that nothing counts on; one that is gone already is no error.
    pub(crate) fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "a left-over file could not be removed");
        }
    }

    /// Every file below a folder of the spool, relative to the spool's root.
    pub(crate) fn files_below(&self, folder: &str) -> Result<Vec<String>, Error> {
        let folder = self.root.join(folder);
        let files = self.disk.files_below(&folder).map_err(Error::io(&folder))?;
        let relative = |path: &PathBuf| Some(path.strip_prefix(&self.root).ok()?.to_string_lossy().into_owned());
        Ok(files.iter().filter_map(relative).collect())
    }
}

/// Where a file stays.
#[derive(Clone, Copy)]
pub(crate) enum Home {
    Instances,
    /// With the extension that says what it is.
    Reports(&'static str),
}

/// What is shorter goes through the page cache, which gathers it.
const PAST_THE_CACHE: usize = 64 << 10;

/// Writes to a file that is not read again soon; as much as can be past the page cache.
pub(crate) fn write(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let in_blocks = bytes.as_ptr().align_offset(BLOCK) == 0 && offset.is_multiple_of(BLOCK as u64);
    let whole = if in_blocks && bytes.len() >= PAST_THE_CACHE { bytes.len() / BLOCK * BLOCK } else { 0 };
    let (blocks, rest) = bytes.split_at(whole);
    if !blocks.is_empty() {
        file.write_blocks_at(blocks, offset)?;
    }
    if rest.is_empty() { Ok(()) } else { file.write_all_at(rest, offset + whole as u64) }
}
