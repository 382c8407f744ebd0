//! The spool's files. The only module that makes, names, syncs or removes them.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Durability, Error, Options, Timestamp};

/// Where a file stands while it is being written. Emptied at start: nothing in it was acknowledged.
pub(crate) const INCOMING: &str = "incoming";
/// Received instances, one folder a day.
pub(crate) const INSTANCES: &str = "instances";
/// Reports and what belongs to them.
pub(crate) const REPORTS: &str = "reports";

const MILLISECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

pub(crate) struct Disk {
    root: PathBuf,
    durability: Durability,
    reserve_bytes: u64,
    next_id: AtomicU64,
    /// The folder under `instances/` whose own entry is known to be on the disk.
    folder_made: Mutex<String>,
    /// Held for the daemon's life, so that two daemons cannot share a spool.
    _lock: Option<File>,
}

impl Disk {
    pub(crate) fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        for folder in ["", INCOMING, INSTANCES, REPORTS] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(Error::io(&path))?;
        }
        Self::sync_folder(dir)?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::io(&lock_path))?;
        lock.try_lock().map_err(|_| Error::InUse(dir.to_owned()))?;
        Self::at(dir, options, Some(lock))
    }

    pub(crate) fn open_beside(dir: &Path, options: &Options) -> Result<Self, Error> {
        if !dir.join(DATABASE).is_file() {
            return Err(Error::Absent(dir.to_owned()));
        }
        Self::at(dir, options, None)
    }

    fn at(dir: &Path, options: &Options, lock: Option<File>) -> Result<Self, Error> {
        let root = dir.canonicalize().map_err(Error::io(dir))?;
        Ok(Self {
            root,
            durability: options.durability,
            reserve_bytes: options.reserve_bytes,
            next_id: AtomicU64::new(0),
            folder_made: Mutex::default(),
            _lock: lock,
        })
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    pub(crate) fn absolute(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Refuses when the file system is down to its reserve.
    pub(crate) fn require_space(&self) -> Result<(), Error> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|error| Error::io(&self.root)(error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.reserve_bytes {
            return Err(Error::Full { dir: self.root.clone(), free, reserve: self.reserve_bytes });
        }
        Ok(())
    }

    /// A new file under `incoming/`, named by the time and a counter: unique across restarts, and nobody else's choice.
    pub(crate) fn create_incoming(&self, now: Timestamp) -> Result<(File, PathBuf), Error> {
        loop {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join(INCOMING).join(format!("{now:012x}-{id:06x}"));
            match OpenOptions::new().create_new(true).read(true).write(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(&path)(error)),
            }
        }
    }

    /// Syncs a finished file and moves it to where it stays; answers its path relative to the spool and the folders whose
    /// entries must be synced before the file may be counted on.
    pub(crate) fn keep(
        &self,
        file: &File,
        from: &Path,
        to: Home,
        now: Timestamp,
    ) -> Result<(String, Vec<PathBuf>), Error> {
        if self.durability == Durability::Instance {
            file.sync_data().map_err(Error::flush(from))?;
        }
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let (folder, extension) = match to {
            Home::Instances => (format!("{INSTANCES}/{:06}", now.div_euclid(MILLISECONDS_PER_DAY)), "dcm"),
            Home::Reports(extension) => (REPORTS.to_owned(), extension),
        };
        self.make_folder(&folder)?;
        let relative = format!("{folder}/{name}.{extension}");
        let path = self.root.join(&relative);
        fs::rename(from, &path).map_err(Error::io(&path))?;
        let to_sync = match self.durability {
            Durability::Instance => vec![self.root.join(folder)],
            Durability::None => Vec::new(),
        };
        Ok((relative, to_sync))
    }

    /// Makes a folder whose own entry survives a power cut before anything in it is counted on.
    fn make_folder(&self, folder: &str) -> Result<(), Error> {
        let mut made = self.folder_made.lock().unwrap_or_else(PoisonError::into_inner);
        if folder == REPORTS || *made == folder {
            return Ok(());
        }
        let path = self.root.join(folder);
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        if self.durability == Durability::Instance {
            Self::sync_folder(&self.root.join(INSTANCES))?;
        }
        folder.clone_into(&mut made);
        Ok(())
    }

    /// Makes a folder's entries survive a power cut.
    pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::flush(path))
    }

    /// Removes a file that nothing counts on; one that is gone already is no error.
    pub(crate) fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "a left-over file could not be removed");
        }
    }

    /// Every file below a folder of the spool, relative to the spool's root.
    pub(crate) fn files_below(&self, folder: &str) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
                let entry = entry.map_err(Error::io(&folder))?;
                let path = entry.path();
                if entry.file_type().map_err(Error::io(&path))?.is_dir() {
                    folders.push(path);
                } else if let Ok(relative) = path.strip_prefix(&self.root) {
                    found.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        Ok(found)
    }
}

/// Where a finished file stays.
#[derive(Clone, Copy)]
pub(crate) enum Home {
    Instances,
    /// With the extension that says what it is.
    Reports(&'static str),
}

const DATABASE: &str = "state.sqlite";
