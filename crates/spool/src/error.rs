use std::path::PathBuf;

/// Why the spool refused or failed. Each variant is an action that somebody takes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system is down to its reserve: free space, or lower `spool.reserve`. Peers are told 0xA700.
    #[error("{dir}: {free} bytes free is below the reserve of {reserve} bytes; free space or change spool.reserve")]
    Full {
        /// The spool's folder.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// The received instances take what they may: raise `spool.quota`, or let `[retention]` remove earlier. Peers are told
    /// 0xA700.
    #[error("{dir}: received instances would take {used} bytes of a quota of {quota}; see spool.quota and [retention]")]
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
        source: std::io::Error,
    },
    /// A flush to the disk failed. It is not tried again: the daemon stops, and the next start recovers (promise 1).
    #[error("{path} could not be flushed to the disk: {source}")]
    Flush {
        /// What was flushed.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The state database refused.
    #[error("spool database: {0}")]
    Database(#[from] rusqlite::Error),
    /// Another process has the spool open as its daemon.
    #[error("{0}: another preread daemon uses this spool; stop it, or give this one its own spool.dir")]
    InUse(PathBuf),
    /// There is no spool here.
    #[error("{0}: no spool here; has `preread serve` run with this spool.dir?")]
    Absent(PathBuf),
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
    /// Whether there was no room, so that a peer should try again later.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Quota { .. } | Self::DatabaseFull => true,
            Self::Database(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }

    pub(crate) fn flush(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Flush { path, source }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
