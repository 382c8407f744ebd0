//! One daemon a spool.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use crate::{Error, disk};

/// The right to be the spool's daemon, until it is dropped.
pub(super) struct Lock {
    /// The folder itself: a file in it may be removed, and a lock on another file of the same name would be another lock.
    _folder: Option<File>,
    /// What a preread of before looks at.
    _file: File,
}

impl Lock {
    /// Takes the lock of the spool in `root`. Errors with [`Error::InUse`] when another process has it.
    pub(super) fn take(root: &Path, dir: &Path) -> Result<Self, Error> {
        let folder = File::open(root).map_err(Error::io(root))?;
        let in_use = || Error::InUse(dir.to_owned());
        let folder = match folder.try_lock() {
            Ok(()) => Some(folder),
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            // Some network file systems lock files only.
            Err(TryLockError::Error(_)) => None,
        };
        let path = root.join("lock");
        let file = disk::open_or_create_private(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _folder: folder, _file: file }),
            Err(TryLockError::WouldBlock) => Err(in_use()),
            Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
        }
    }
}
