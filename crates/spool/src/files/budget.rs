//! Who may take how much of the file system: bytes and inodes alike, because a file of few bytes takes an inode all the
//! same.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Error, Options,
    disk::{Disk, Free, Inodes, MachineDisk},
};

/// Of a file system's inodes a twentieth stays free by default, within these bounds: for reports, folders and SQLite's own
/// files, and for whoever else writes there.
const RESERVED_PART: u64 = 20;
const LEAST_RESERVED: u64 = 16;
const MOST_RESERVED: u64 = 1000;

/// What is taken and what must stay free.
pub(crate) struct Budget {
    reserve_bytes: u64,
    reserve_files: Option<u64>,
    quota_bytes: u64,
    /// Bytes of received instances, those still coming included.
    used_bytes: AtomicU64,
    /// Those of them that are in the journal and will need room for a file.
    unfiled_bytes: AtomicU64,
    /// Files that are still to be made: of instances that are coming, and of those that are in the journal.
    coming_files: AtomicU64,
}

impl Budget {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            reserve_bytes: options.reserve_bytes,
            reserve_files: options.reserve_files,
            quota_bytes: options.quota_bytes,
            used_bytes: AtomicU64::new(0),
            unfiled_bytes: AtomicU64::new(0),
            coming_files: AtomicU64::new(0),
        }
    }

    pub(super) fn claim(
        &self,
        bytes: u64,
        root: &Path,
        free: impl FnOnce() -> Result<Free, Error>,
    ) -> Result<(), Error> {
        let used = self.used_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let result = if used > self.quota_bytes {
            Err(Error::Quota { dir: root.to_owned(), used, quota: self.quota_bytes })
        } else {
            self.require_reserve(root, free)
        };
        result.inspect_err(|_| self.give_back(bytes))
    }

    pub(super) fn claim_file(&self, root: &Path, free: impl FnOnce() -> Result<Free, Error>) -> Result<(), Error> {
        self.coming_files.fetch_add(1, Ordering::Relaxed);
        self.claim(0, root, free).inspect_err(|_| self.file_made())
    }

    /// Gives bytes back that were claimed.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A file that was claimed is there, or will never be.
    pub(crate) fn file_made(&self) {
        self.coming_files.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes bytes that will need room for a file.
    pub(crate) fn unfiled(&self, bytes: u64) {
        self.unfiled_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that bytes have got their room.
    pub(crate) fn filed(&self, bytes: u64) {
        self.unfiled_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of received instances, those still coming included.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// What recovery found the instances to take.
    pub(crate) fn set_used_bytes(&self, bytes: u64) {
        self.used_bytes.store(bytes, Ordering::Relaxed);
    }

    fn require_reserve(&self, root: &Path, free: impl FnOnce() -> Result<Free, Error>) -> Result<(), Error> {
        let mut free = free()?;
        free.bytes = free.bytes.saturating_sub(self.unfiled_bytes.load(Ordering::Relaxed));
        if let Some(files) = &mut free.files {
            // Who claims has one of them himself: so many files may be made, and the reserve is still there.
            files.free = files.free.saturating_sub(self.coming_files.load(Ordering::Relaxed));
        }
        self.shortage(root, free).map_or(Ok(()), Err)
    }

    /// Which of the reserves is not there any more, if one is not.
    pub(super) fn shortage(&self, root: &Path, free: Free) -> Option<Error> {
        if free.bytes < self.reserve_bytes {
            return Some(Error::Full { dir: root.to_owned(), free: free.bytes, reserve: self.reserve_bytes });
        }
        let files = free.files?;
        let reserve = reserve_files(self.reserve_files, files);
        (files.free < reserve).then(|| Error::NoFiles { dir: root.to_owned(), free: files.free, reserve })
    }
}

/// Inodes that stay free: as configured, or by the size of the file system.
pub(crate) fn reserve_files(configured: Option<u64>, inodes: Inodes) -> u64 {
    configured.unwrap_or_else(|| (inodes.all / RESERVED_PART).clamp(LEAST_RESERVED, MOST_RESERVED))
}

/// Less is not enough for the files that SQLite makes beside its database.
const NO_ROOM: u64 = 256 << 10;

/// What an error of opening a spool means where its file system is full: SQLite says of that only that it cannot open.
pub(crate) fn without_room(dir: &Path, error: Error) -> Error {
    let is_unclear = match &error {
        Error::Database(_) | Error::Io { .. } => !error.is_full_disk() && !error.is_damage(),
        _ => false,
    };
    let Ok(free) = MachineDisk.free(dir) else { return error };
    if is_unclear && (free.bytes < NO_ROOM || free.files.is_some_and(|files| files.free == 0)) {
        let source = io::Error::new(io::ErrorKind::StorageFull, error.to_string());
        return Error::NoRoom { path: dir.to_owned(), source };
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of one claim of a file: with so many bytes and inodes free, and so many files on their way before it.
    fn check(bytes: u64, files: Option<Inodes>, coming: u64, expected: Result<(), &str>) {
        let budget = Budget::new(&Options { reserve_bytes: 1000, ..Options::default() });
        let free = Free { bytes, files };
        let none_counted = || Ok(Free { bytes: u64::MAX, files: None });
        for _ in 0..coming {
            budget.claim_file(Path::new("/spool"), none_counted).unwrap();
        }
        let claimed = budget.claim_file(Path::new("/spool"), || Ok(free)).map_err(|error| error.to_string());
        match expected {
            Ok(()) => assert_eq!(claimed, Ok(()), "{free:?}, {coming} coming"),
            Err(words) => assert!(claimed.is_err_and(|said| said.contains(words)), "{free:?}, {coming}: {words}"),
        }
        // What was refused holds nothing.
        let held = coming + u64::from(expected.is_ok());
        assert_eq!(budget.coming_files.load(Ordering::Relaxed), held);
    }

    #[test]
    fn inodes_are_counted_like_bytes() {
        let of = |free, all| Some(Inodes { free, all });
        check(1000, None, 0, Ok(()));
        check(999, None, 0, Err("999 bytes free is below the reserve of 1000 bytes"));
        check(5000, of(31, 600), 0, Ok(()));
        check(5000, of(30, 600), 0, Err("29 files (inodes) free is below the reserve of 30"));
        check(5000, of(0, 600), 0, Err("0 files (inodes) free"));
        check(5000, of(40, 600), 9, Ok(()));
        check(5000, of(40, 600), 10, Err("29 files (inodes) free"));
        check(5000, of(16, 80), 0, Err("15 files (inodes) free is below the reserve of 16"));
        check(5000, of(1001, 1 << 40), 0, Ok(()));
        check(5000, of(1000, 1 << 40), 0, Err("the reserve of 1000"));
    }
}
