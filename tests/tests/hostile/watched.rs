//! A daemon that is watched: whatever comes to it, it must be afterwards what it was before.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{Instance, Study},
    scu::Scu,
    wait,
};

/// Memory that a daemon which only receives may hold more after everything than before: buffers, the allocator's slack.
const GROWN_BY_RECEIVING: u64 = 16 << 20;
/// The same of one that reads: the model, which is loaded for the first study, is most of it.
const GROWN_BY_READING: u64 = 96 << 20;
/// Threads that may be there besides those from before: the model's, and those of the runtime that come and go.
const MOST_THREADS: usize = 10;
/// The same of file descriptors.
const MOST_FILES: usize = 6;

/// A running daemon, and what it held when it had served its first peer.
pub(super) struct Watched {
    pub(super) daemon: Daemon,
    memory: u64,
    threads: usize,
    files: usize,
    /// What is in its folder.
    names: BTreeSet<PathBuf>,
    served: u64,
    most_grown: u64,
}

impl Watched {
    /// Starts a daemon and lets it serve a peer.
    pub(super) fn start(setup: &Setup) -> Result<Self> {
        let daemon = Daemon::start(setup)?;
        let mut watched = Self {
            daemon,
            memory: 0,
            threads: 0,
            files: 0,
            names: BTreeSet::new(),
            served: 0,
            most_grown: GROWN_BY_READING,
        };
        watched.serve_next()?;
        watched.memory = watched.daemon.resident_memory()?;
        watched.threads = watched.count("task")?;
        watched.files = watched.count("fd")?;
        watched.names = names_in(watched.daemon.dir())?;
        Ok(watched)
    }

    /// A daemon that receives and reads nothing.
    pub(super) fn receiving() -> Result<Self> {
        let watched = Self::start(&Setup { when: "false".into(), ..Setup::default() })?;
        Ok(Self { most_grown: GROWN_BY_RECEIVING, ..watched })
    }

    /// The next peer: a good instance, which must be kept.
    fn serve_next(&mut self) -> Result<()> {
        self.served += 1;
        let status = self.store(&Study::seeded(900_000 + self.served).image(1)?)?;
        ensure!(status == 0, "the next peer got status {status:04x}");
        Ok(())
    }

    /// Stores one instance on an association of its own; the status.
    pub(super) fn store(&self, instance: &Instance) -> Result<u16> {
        let instances = std::slice::from_ref(instance);
        let mut scu = Scu::for_instances(&self.daemon.address(), "MODALITY", AE_TITLE, instances)?;
        let status = scu.store(instance)?;
        scu.release()?;
        Ok(status)
    }

    /// How many entries a folder of its process has: `fd` for file descriptors, `task` for threads.
    pub(super) fn count(&self, folder: &str) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/{folder}", self.daemon.id()))?.count())
    }

    /// Fails unless the daemon is what it was: it serves the next peer, holds no more memory, threads or file descriptors,
    /// has started no process and made nothing outside of its spool, and nothing in there is named by a peer.
    pub(super) fn check(&mut self) -> Result<()> {
        self.daemon.check_alive()?;
        self.serve_next()?;
        wait::until("threads and file descriptors to be as before", Duration::from_secs(20), || {
            let (threads, files) = (self.count("task")?, self.count("fd")?);
            let flat = threads <= self.threads + MOST_THREADS && files <= self.files + MOST_FILES;
            Ok(flat.then_some(()))
        })?;
        let grown = self.daemon.resident_memory()?.saturating_sub(self.memory);
        let (threads, files) = (self.count("task")?, self.count("fd")?);
        eprintln!("threads {}→{threads}, files {}→{files}, {} KiB more", self.threads, self.files, grown >> 10);
        ensure!(grown < self.most_grown, "grown by {grown} bytes");
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.daemon.id()))?;
        ensure!(children.trim().is_empty(), "it has started processes: {children}");
        let names = names_in(self.daemon.dir())?;
        ensure!(names == self.names, "{names:?} and not only {:?}", self.names);
        check_spool(&self.daemon.dir().join("spool"))
    }
}

fn names_in(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    Ok(fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

/// Every name in the spool is ours.
fn check_spool(folder: &Path) -> Result<()> {
    for path in names_in(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name.len() <= 40 && !name.contains("planted") && !name.starts_with("2.25.");
        ensure!(ours && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{name:?}");
        if path.is_dir() {
            check_spool(&path)?;
        }
    }
    Ok(())
}
