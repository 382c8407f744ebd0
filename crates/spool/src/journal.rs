//! The journal: what is acknowledged is here first.
//!
//! A short instance is written twice: to the file where it stays, which nobody waits for, and to the journal, a ring of
//! segments that were written before, so that one flush of bytes that change no length and no folder makes many instances
//! of many associations survive a power cut. Later, when too many segments are full or nothing comes, a checkpoint flushes
//! the files themselves and the segments are free again. After a power cut the journal gives back what the files lost (see
//! [`crate::recover`]).
//!
//! Of a long instance the journal has the record only, and its file is flushed by itself: writing it twice would cost the
//! disk more than that.

mod record;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore};

use crate::{
    Error,
    disk::{Disk, DiskFile},
};
use record::{HEADER, Header};

/// The ring: one segment is written; those that are full wait until half of them are, or until nothing comes, because a
/// checkpoint takes from the disk what senders are waiting for, and by then the system has written most of it anyway.
const SEGMENTS: u64 = 8;
const MOST_WAITING: usize = 4;
/// A segment has to hold an instance and its record, and should hold a few.
const LEAST_SEGMENT: u64 = 512 << 10;

/// The segments and where the next record goes.
pub(crate) struct Journal {
    state: Mutex<State>,
    /// Wakes the checkpointer.
    work: Condvar,
    /// Wakes who waits for a free segment.
    freed: Notify,
    /// Who may flush now, and with which of a segment's handles.
    turns: Arc<Semaphore>,
    free_turns: Mutex<Vec<usize>>,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
}

/// Flushes at a time. One alone would let the disk wait for the next group of senders, and each of these for two flushes;
/// with many, each would serve few.
const FLUSHES: usize = 4;

struct State {
    segments: Vec<Segment>,
    /// Folders with entries that a flush is to bring along, and what was appended when the newest of them was made.
    folders: BTreeMap<PathBuf, u64>,
    active: Option<usize>,
    /// The newest epoch given to a segment.
    epoch: u64,
    /// Bytes appended in this life of the journal, and how many of them are known to be flushed.
    appended: u64,
    flushed: u64,
    last_append: Instant,
    closed: bool,
}

struct Segment {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// The same file once more for each turn: the system tells of a failed flush once to each handle, and must not tell
    /// only the other one of two that flush at the same time.
    for_flush: Vec<Arc<dyn DiskFile>>,
    phase: Phase,
    /// Which use of the segment this is; no two uses of any segments share one.
    epoch: u64,
    used: u64,
    /// How much of it is known to be flushed.
    flushed: u64,
    /// Instances whose record is here and whose row is not in the database yet.
    pending: usize,
    /// Files that must be flushed before the segment is free.
    files: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    Active,
    Sealed,
    Checkpointing,
}

/// Keeps the segment of a record from being freed until the record's row is in the database.
pub(crate) struct Ticket {
    journal: Arc<Journal>,
    segment: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.journal.lock();
        let segment = &mut state.segments[self.segment];
        segment.pending -= 1;
        if segment.pending == 0 && segment.phase == Phase::Sealed {
            self.journal.work.notify_all();
        }
    }
}

/// What the checkpointer has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Free what is needed.
    WhatIsTooMuch,
    /// Free everything.
    All,
    /// Nothing more, ever.
    End,
}

/// A segment to be checkpointed: once its files are flushed and the database is, it is free.
pub(crate) struct Checkpoint {
    segment: usize,
    pub(crate) epoch: u64,
    pub(crate) files: Vec<String>,
}

/// A record of an instance that was found at start, and where in the journal its bytes are.
pub(crate) struct Found {
    pub(crate) record: Vec<u8>,
    segment: usize,
    at: u64,
    length: usize,
}

impl Journal {
    /// Opens the ring in `folder`, makes what is missing of it, and finds the records newer than epoch `after`, in order.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        bytes: u64,
        after: u64,
    ) -> Result<(Arc<Self>, Vec<Found>), Error> {
        disk.create_folder(folder).map_err(Error::io(folder))?;
        let segment_bytes = (bytes / SEGMENTS).max(LEAST_SEGMENT);
        let mut segments = Vec::new();
        let mut chains = Vec::new();
        for number in 0..SEGMENTS {
            let path = folder.join(number.to_string());
            let file = open_segment(&*disk, &path, segment_bytes).map_err(Error::io(&path))?;
            let (epoch, records) = scan(&*file, segments.len()).map_err(Error::io(&path))?;
            if epoch > after {
                chains.push((epoch, records));
            }
            let phase = Phase::Free;
            let handles = (0..FLUSHES).map(|_| disk.open(&path)).collect::<io::Result<_>>();
            let for_flush = handles.map_err(Error::io(&path))?;
            let files = Vec::new();
            segments.push(Segment { path, file, for_flush, phase, epoch, used: 0, flushed: 0, pending: 0, files });
        }
        disk.sync_folder(folder).map_err(Error::flush(folder))?;
        chains.sort_by_key(|(epoch, _)| *epoch);
        let epoch = segments.iter().map(|segment| segment.epoch).max().unwrap_or(0).max(after);
        let found = chains.into_iter().flat_map(|(_, records)| records).collect();
        let state = State {
            segments,
            folders: BTreeMap::new(),
            active: None,
            epoch,
            appended: 0,
            flushed: 0,
            last_append: Instant::now(),
            closed: false,
        };
        let (work, freed) = (Condvar::new(), Notify::new());
        let (turns, free_turns) = (Arc::new(Semaphore::new(FLUSHES)), Mutex::new((0..FLUSHES).collect()));
        Ok((Arc::new(Self { state: Mutex::new(state), work, freed, turns, free_turns, disk, segment_bytes }), found))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest epoch in use: everything that was found at start is at most this old.
    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Appends the record that makes an instance count. Of a short one it takes the bytes, and notes the file to be flushed
    /// later; of a long one it notes `folder`, for the next flush to bring along the file's entry. Nothing when no segment
    /// is free: wait for [`Journal::freed`].
    pub(crate) fn append(
        self: &Arc<Self>,
        file: &str,
        folder: &Path,
        record: &[u8],
        bytes: Option<&[u8]>,
    ) -> Result<Option<Ticket>, Error> {
        let mut state = self.lock();
        let data = bytes.unwrap_or_default();
        let Some(at) = self.place(&mut state, (HEADER + record.len() + data.len()) as u64) else { return Ok(None) };
        state.write(at, record, data)?;
        let appended = state.appended;
        let segment = &mut state.segments[at];
        segment.pending += 1;
        if bytes.is_some() {
            segment.files.push(file.to_owned());
        } else {
            state.folders.insert(folder.to_owned(), appended);
        }
        Ok(Some(Ticket { journal: Arc::clone(self), segment: at }))
    }

    /// The segment in which so many bytes can be written now.
    fn place(&self, state: &mut State, needed: u64) -> Option<usize> {
        if let Some(active) = state.active
            && state.segments[active].used + needed <= self.segment_bytes
        {
            return Some(active);
        }
        let next = state.segments.iter().position(|segment| segment.phase == Phase::Free)?;
        if let Some(full) = state.active.take() {
            state.segments[full].phase = Phase::Sealed;
            self.work.notify_all();
        }
        state.epoch += 1;
        let epoch = state.epoch;
        let segment = &mut state.segments[next];
        (segment.phase, segment.epoch, segment.used, segment.flushed) = (Phase::Active, epoch, 0, 0);
        state.active = Some(next);
        Some(next)
    }

    /// Resolves when a segment may have become free since this was called.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    /// Everything that was appended before this call survives a power cut when it answers.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<(), Error> {
        let appended = self.lock().appended;
        let permit = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Error::Stopped)?;
        if self.lock().flushed >= appended {
            return Ok(());
        }
        let journal = Arc::clone(self);
        let flush = move || {
            // Held to the end, also when nobody waits for it any more.
            let _permit = permit;
            journal.flush_in_turn()
        };
        tokio::task::spawn_blocking(flush).await.map_err(|_| Error::Stopped)?
    }

    fn flush_in_turn(&self) -> Result<(), Error> {
        let free_turns = || self.free_turns.lock().unwrap_or_else(PoisonError::into_inner);
        // There are as many as the semaphore lets in; a turn is not given back after an error, because nothing is flushed
        // after one.
        let turn = free_turns().pop().ok_or(Error::Stopped)?;
        self.flush_with(turn)?;
        free_turns().push(turn);
        Ok(())
    }

    fn flush_with(&self, turn: usize) -> Result<(), Error> {
        let state = self.lock();
        // What another turn is flushing is flushed again: it may not be done when this one is.
        let (appended, folders): (_, Vec<PathBuf>) = (state.appended, state.folders.keys().cloned().collect());
        let mut unflushed = Vec::new();
        for (number, segment) in state.segments.iter().enumerate() {
            if segment.flushed < segment.used {
                let file = Arc::clone(&segment.for_flush[turn]);
                unflushed.push((number, segment.epoch, segment.used, file, segment.path.clone()));
            }
        }
        drop(state);
        for folder in folders {
            self.disk.sync_folder(&folder).map_err(Error::flush(&folder))?;
        }
        for (number, epoch, used, file, path) in unflushed {
            file.sync().map_err(Error::flush(path))?;
            let segment = &mut self.lock().segments[number];
            if segment.epoch == epoch {
                segment.flushed = segment.flushed.max(used);
            }
        }
        let mut state = self.lock();
        state.flushed = state.flushed.max(appended);
        state.folders.retain(|_, needed| *needed > appended);
        Ok(())
    }

    /// Ends the active segment, so that what it holds is checkpointed. Answers the newest epoch that is ended.
    pub(crate) fn seal(&self) -> u64 {
        let mut state = self.lock();
        if let Some(active) = state.active.take() {
            state.segments[active].phase = Phase::Sealed;
        }
        self.work.notify_all();
        state.epoch
    }

    /// The oldest segment that can be checkpointed now and has to be, because all have to or too many wait.
    pub(crate) fn to_checkpoint(&self, all: bool) -> Option<Checkpoint> {
        let mut state = self.lock();
        let waiting = state.segments.iter().filter(|segment| segment.phase == Phase::Sealed).count();
        if !all && waiting <= MOST_WAITING {
            return None;
        }
        if state.segments.iter().any(|segment| segment.phase == Phase::Checkpointing) {
            return None;
        }
        let sealed = state.segments.iter_mut().enumerate().filter(|(_, segment)| segment.phase == Phase::Sealed);
        let (number, segment) = sealed.min_by_key(|(_, segment)| segment.epoch)?;
        if segment.pending > 0 {
            return None;
        }
        segment.phase = Phase::Checkpointing;
        Some(Checkpoint { segment: number, epoch: segment.epoch, files: std::mem::take(&mut segment.files) })
    }

    /// The files of a checkpoint and the database are flushed: the segment is free.
    pub(crate) fn checkpointed(&self, checkpoint: &Checkpoint) {
        self.lock().segments[checkpoint.segment].phase = Phase::Free;
        self.freed.notify_waiters();
        self.work.notify_all();
    }

    /// Whether nothing is left to be checkpointed of an epoch and those before it.
    pub(crate) fn is_free_of(&self, epoch: u64) -> bool {
        self.lock().segments.iter().all(|segment| segment.phase == Phase::Free || segment.epoch > epoch)
    }

    /// Waits until there may be something to checkpoint, and answers what. When nothing came for `idle`, the active segment
    /// is sealed too.
    pub(crate) fn wait_for_work(&self, idle: Duration) -> Work {
        let state = self.lock();
        let (state, waited) = self.work.wait_timeout(state, idle).unwrap_or_else(PoisonError::into_inner);
        let (closed, quiet) = (state.closed, waited.timed_out() && state.last_append.elapsed() >= idle);
        drop(state);
        if closed {
            return Work::End;
        }
        if quiet {
            self.seal();
            return Work::All;
        }
        Work::WhatIsTooMuch
    }

    /// Ends the checkpointer.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// The bytes of an instance that was found at start; nothing when only its record is here.
    pub(crate) fn bytes_of(&self, found: &Found) -> Result<Option<Vec<u8>>, Error> {
        if found.length == 0 {
            return Ok(None);
        }
        let state = self.lock();
        let segment = &state.segments[found.segment];
        let mut bytes = vec![0; found.length];
        read_exact_at(&*segment.file, &mut bytes, found.at).map_err(Error::io(&segment.path))?;
        Ok(Some(bytes))
    }
}

impl State {
    /// Writes under the lock, so that records follow each other without a hole: what is flushed is a whole chain.
    fn write(&mut self, at: usize, record: &[u8], data: &[u8]) -> Result<(), Error> {
        let segment = &mut self.segments[at];
        let header = Header { epoch: segment.epoch, record: record.len(), data: data.len() };
        let head = [&header.to_bytes(record), record].concat();
        let written = segment.file.write_all_at(&head, segment.used);
        let written = written.and_then(|()| segment.file.write_all_at(data, segment.used + head.len() as u64));
        written.map_err(|error| match error.kind() {
            // Segments were written before, but some file systems need room for each write.
            io::ErrorKind::StorageFull => Error::DatabaseFull,
            _ => Error::io(&segment.path)(error),
        })?;
        let bytes = (head.len() + data.len()) as u64;
        segment.used += bytes;
        self.appended += bytes;
        self.last_append = Instant::now();
        Ok(())
    }
}

/// Opens a segment, or makes one: its bytes are written once, so that later flushes change neither length nor extents.
fn open_segment(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
        other => other?,
    };
    let zeros = vec![0; 256 << 10];
    let mut length = file.length()?;
    if length < bytes {
        while length < bytes {
            let count = usize::try_from(bytes - length).map_or(zeros.len(), |left| left.min(zeros.len()));
            file.write_all_at(&zeros[..count], length)?;
            length += count as u64;
        }
        file.sync()?;
    }
    Ok(file)
}

/// The unbroken chain of records at the beginning of a segment, and its epoch; 0 when there is none.
fn scan(file: &dyn DiskFile, segment: usize) -> io::Result<(u64, Vec<Found>)> {
    let length = file.length()?;
    let (mut at, mut epoch, mut found) = (0, 0, Vec::new());
    while at + HEADER as u64 <= length {
        let mut bytes = [0; HEADER];
        read_exact_at(file, &mut bytes, at)?;
        at += HEADER as u64;
        let Some(header) = Header::parse(&bytes) else { break };
        let follows = (header.record + header.data) as u64;
        if follows > length - at || (epoch != 0 && header.epoch != epoch) {
            break;
        }
        let mut record = vec![0; header.record];
        read_exact_at(file, &mut record, at)?;
        if !header.is_intact(&bytes, &record) {
            break;
        }
        epoch = header.epoch;
        found.push(Found { record, segment, at: at + header.record as u64, length: header.data });
        at += follows;
    }
    Ok((epoch, found))
}

fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                buffer = &mut buffer[count..];
                at += count as u64;
            }
        }
    }
    Ok(())
}
