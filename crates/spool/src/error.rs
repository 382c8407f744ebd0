use std::{io, path::PathBuf};

use rusqlite::ErrorCode;
use rustix::io::Errno;

/// Why the spool refused or failed. Each variant is an action that somebody takes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system is down to its reserve: free space, or lower `spool.reserve`. Peers are told 0xA700.
    #[error(
        "{dir}: {} free is below the reserve of {}; free space or change spool.reserve", in_words(*.free), in_words(*.reserve)
    )]
    Full {
        /// The spool's folder.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// The file system is down to its reserve of inodes, each of which is one file: remove files, or lower
    /// `spool.reserve_files`. Peers are told 0xA700.
    #[error(
        "{dir}: {free} files (inodes) free is below the reserve of {reserve}; remove files from this file system, make it \
         with more inodes, or change spool.reserve_files"
    )]
    NoFiles {
        /// The spool's folder.
        dir: PathBuf,
        /// Inodes free.
        free: u64,
        /// Inodes that must stay free.
        reserve: u64,
    },
    /// The system found no room for a file, by bytes, inodes or a quota of its own. Make room; peers are told 0xA700.
    #[error("{path}: {source}; make room on this file system (df, df -i, quota)")]
    NoRoom {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This process or the system has no file descriptor left. Nothing is wrong with the disk; peers are told 0xA700.
    #[error("{path}: {source}: raise LimitNOFILE in the unit (ulimit -n), or lower listen.max_associations")]
    NoDescriptors {
        /// What was to be opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The received instances take what they may: raise `spool.quota`, or let `[retention]` remove earlier. Peers are told
    /// 0xA700.
    #[error(
        "{dir}: received instances would take {} of a quota of {}; see spool.quota and [retention]",
        in_words(*.used), in_words(*.quota)
    )]
    Quota {
        /// The spool's folder.
        dir: PathBuf,
        /// Bytes that they would take.
        used: u64,
        /// Bytes that they may take.
        quota: u64,
    },
    /// The state database or the journal found no room. Free space; peers are told 0xA700.
    #[error("the disk is full: the spool's state could not be written")]
    DatabaseFull,
    /// A file or folder could not be written or read.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A flush to the disk failed. It is not tried again: the daemon stops, and the next start recovers (promise 1).
    #[error("{path} could not be flushed to the disk: {source}")]
    Flush {
        /// What was flushed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state database refused.
    #[error("spool database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The state database does not hold together. Nothing is received on it.
    #[error(
        "{path} is damaged ({what}): put a backup of it back, or rescue what is in it with `sqlite3 state.sqlite .recover`, \
         or move the whole folder away, start with an empty one and have the studies sent again; what was received is still \
         in instances/"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Another process has the spool open as its daemon.
    #[error("{0}: another preread daemon uses this spool; stop it, or give this one its own spool.dir")]
    InUse(PathBuf),
    /// There is no spool here.
    #[error("{0}: no spool here; has `preread serve` run with this spool.dir?")]
    Absent(PathBuf),
    /// There may be a spool, but whoever asks may not look.
    #[error(
        "{0}: permission denied; run the command as the user that `preread serve` runs as, for instance `sudo -u preread preread …`"
    )]
    Denied(PathBuf),
    /// The database was made by a later version.
    #[error("the spool's schema is version {found}, this preread knows {known}; install the later preread")]
    Schema {
        /// Found in the file.
        found: i64,
        /// Known to this binary.
        known: i64,
    },
    /// There are received instances, and nothing that says what they are.
    #[error(
        "{dir}: {files} received files and no state.sqlite beside them; put state.sqlite back, or move the files away and \
         send them again"
    )]
    StateLost {
        /// The spool's folder.
        dir: PathBuf,
        /// How many files there are.
        files: usize,
    },
    /// The schema is one of the time before the first release.
    #[error("the spool was made by an unreleased preread (schema {found}); start with an empty spool.dir")]
    Unreleased {
        /// Found in the file.
        found: i64,
    },
    /// An earlier fsync failed, so nothing more is acknowledged until a restart recovers (promise 1).
    #[error("the spool stopped after a failed write to the disk; restart preread to recover")]
    Stopped,
    /// A record of the journal cannot be read or written, which no disk can cause: its check was right.
    #[error("a record of the spool's journal is not understood: {0}")]
    Record(String),
    /// The study is not in a state that allows this.
    #[error("study {study} is {state}: {why}")]
    WrongState {
        /// The study's id.
        study: i64,
        /// Its state.
        state: String,
        /// Why it does not go.
        why: &'static str,
    },
    /// No such study.
    #[error("no study {0} in the spool; `preread queue ls` shows what there is")]
    NoStudy(String),
}

impl Error {
    /// Whether something ran out, the disk's room or file descriptors, so that a peer should try again later.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoFiles { .. } | Self::NoRoom { .. } => true,
            Self::Quota { .. } | Self::DatabaseFull | Self::NoDescriptors { .. } => true,
            Self::Database(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            _ => false,
        }
    }

    /// Whether the file system is read-only for this process: mounted so, or made so by systemd (`ProtectSystem=`).
    pub fn is_read_only(&self) -> bool {
        self.source_kind() == Some(io::ErrorKind::ReadOnlyFilesystem)
            || matches!(self, Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly))
    }

    /// Whether this process may not do it by the owner and the mode of a file or folder.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
            || self.source_kind() == Some(io::ErrorKind::PermissionDenied)
            || matches!(self, Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::PermissionDenied))
    }

    fn source_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } | Self::Flush { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// Whether the state database does not hold together, so that nothing it says may be relied on.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Database(error) => is_damage(error),
            _ => false,
        }
    }

    /// What a row holds that this version does not understand; nothing for every other error.
    ///
    /// Of such a row only its own study suffers.
    pub fn not_understood(&self) -> Option<String> {
        let Self::Database(error) = self else { return None };
        is_of_a_value(error).then(|| match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, why) => why.to_string(),
            _ => error.to_string(),
        })
    }

    /// A flush that failed; but what could not be opened for want of descriptors was not flushed in vain.
    pub(crate) fn flush(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::NoDescriptors { path, source },
            _ => Self::Flush { path, source },
        }
    }

    /// A call that failed: for want of room or of descriptors, or for another reason.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match (source.raw_os_error().map(Errno::from_raw_os_error), source.kind()) {
            (Some(Errno::MFILE | Errno::NFILE), _) => Self::NoDescriptors { path, source },
            (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Self::NoRoom { path, source },
            _ => Self::Io { path, source },
        }
    }
}

/// A number of bytes as a person reads it, in the units of the configuration: `68.0 GiB`.
pub fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, None);
    for name in UNITS {
        if tenths < 10 * 1024 {
            break;
        }
        // Rounded, but not up to the next unit.
        (tenths, unit) = (tenths / 1024, Some(name));
    }
    match unit {
        None => format!("{bytes} bytes"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// Whether SQLite says that the database does not hold together.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether a value could not be read as what it should be.
pub(crate) fn is_of_a_value(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as Sql;
    matches!(
        error,
        Sql::FromSqlConversionFailure(..)
            | Sql::IntegralValueOutOfRange(..)
            | Sql::InvalidColumnType(..)
            | Sql::Utf8Error(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(made: fn(PathBuf, io::Error) -> Error, errno: Errno, out_of_resources: bool, words: &str) {
        let error = made("/spool/x".into(), errno.into());
        assert_eq!(error.is_full_disk(), out_of_resources, "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn sizes_are_for_a_person() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (13_207_990, "12.5 MiB"),
            (72_998_567_936, "67.9 GiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(in_words(bytes), expected);
        }
    }

    #[test]
    fn what_is_read_only_is_told_from_what_is_not_allowed() {
        for (errno, read_only, denied) in [
            (Errno::ROFS, true, false),
            (Errno::ACCESS, false, true),
            (Errno::PERM, false, true),
            (Errno::IO, false, false),
        ] {
            for made in [Error::io("/spool")(errno.into()), Error::flush("/spool")(errno.into())] {
                assert_eq!((made.is_read_only(), made.is_denied()), (read_only, denied), "{made}");
            }
        }
    }

    #[test]
    fn what_ran_out_is_told_from_what_is_broken() {
        let io = |path, error| Error::io(path)(error);
        let flush = |path, error| Error::flush(path)(error);
        for errno in [Errno::MFILE, Errno::NFILE] {
            check(io, errno, true, "LimitNOFILE");
            check(flush, errno, true, "LimitNOFILE");
        }
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            check(io, errno, true, "make room");
            check(flush, errno, false, "could not be flushed");
        }
        check(io, Errno::IO, false, "/spool/x");
        check(flush, Errno::IO, false, "could not be flushed");
    }
}
