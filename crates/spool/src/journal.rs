//! The journal: what is acknowledged is here first.
//!
//! An instance is written twice while it comes: to the file where it stays, which nobody waits for, and to the journal, a
//! ring of segments that were written before, so that one flush of bytes that change no length and no folder makes many
//! instances of many associations survive a power cut. Later, when a segment is full or nothing comes, a checkpoint
//! flushes the files themselves and the segment is free again. After a power cut the journal gives back what the files
//! lost (see [`crate::recover`]).
//!
//! Instances that grow beyond [`LONGEST_STREAM`] are not journaled to their end: their own file is flushed instead, which
//! for so many bytes costs little more, and writes them once.

mod record;

use std::{
    collections::HashMap,
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
pub(crate) use record::HEADER;
use record::{Header, Kind};

/// Bytes of an instance that go through the journal; a CT or MR slice stays below.
pub(crate) const LONGEST_STREAM: u64 = 1 << 20;
/// The ring: one segment is written, one or two are checkpointed, one is free.
const SEGMENTS: u64 = 4;
/// A segment has to hold the record of an instance, and many chunks.
pub(crate) const LEAST_SEGMENT: u64 = 256 << 10;

/// The segments and where the next record goes.
pub(crate) struct Journal {
    state: Mutex<State>,
    /// Wakes the checkpointer.
    work: Condvar,
    /// Wakes who waits for a free segment.
    freed: Notify,
    /// Who may flush now, and with which of a segment's handles.
    turns: Semaphore,
    free_turns: Mutex<Vec<usize>>,
    segment_bytes: u64,
}

/// Flushes at a time. One alone would let the disk wait for the next group of senders, and each of these for two flushes;
/// with many, each would serve few.
const FLUSHES: usize = 4;

struct State {
    segments: Vec<Segment>,
    active: Option<usize>,
    /// The newest epoch given to a segment.
    epoch: u64,
    next_stream: u64,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Free,
    Active,
    Sealed,
    Checkpointing,
}

/// An instance on its way through the journal.
pub(crate) struct Stream {
    number: u64,
    /// The epoch of its first chunk, once it has one.
    since: Option<u64>,
    bytes: u64,
}

/// What became of the wish to count an instance as kept.
pub(crate) enum Commit {
    /// Its record is in the journal; it is kept once that is flushed.
    Appended(Ticket),
    /// Its first chunks are gone by now: its file must be flushed by itself.
    Outlived,
    /// No segment is free; wait for [`Journal::freed`].
    Full,
}

/// Keeps the segment of a record from being freed until the record's row is in the database.
pub(crate) struct Ticket {
    journal: Arc<Journal>,
    segment: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.journal.lock();
        state.segments[self.segment].pending -= 1;
        drop(state);
        self.journal.work.notify_all();
    }
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
    chunks: Vec<(usize, u64, usize)>,
}

impl Journal {
    /// Opens the ring in `folder`, makes what is missing of it, and finds the records newer than epoch `after`, in order.
    pub(crate) fn open(
        disk: &dyn Disk,
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
            let file = open_segment(disk, &path, segment_bytes).map_err(Error::io(&path))?;
            let (epoch, records) = scan(&*file).map_err(Error::io(&path))?;
            if epoch > after {
                chains.push((epoch, segments.len(), records));
            }
            let phase = Phase::Free;
            let handles = (0..FLUSHES).map(|_| disk.open(&path)).collect::<io::Result<_>>();
            let for_flush = handles.map_err(Error::io(&path))?;
            let files = Vec::new();
            segments.push(Segment { path, file, for_flush, phase, epoch, used: 0, flushed: 0, pending: 0, files });
        }
        disk.sync_folder(folder).map_err(Error::flush(folder))?;
        chains.sort_by_key(|(epoch, ..)| *epoch);
        let epoch = segments.iter().map(|segment| segment.epoch).max().unwrap_or(0).max(after);
        let found = assemble(chains);
        let state = State {
            segments,
            active: None,
            epoch,
            next_stream: 0,
            appended: 0,
            flushed: 0,
            last_append: Instant::now(),
            closed: false,
        };
        let (work, freed) = (Condvar::new(), Notify::new());
        let (turns, free_turns) = (Semaphore::new(FLUSHES), Mutex::new((0..FLUSHES).collect()));
        Ok((Arc::new(Self { state: Mutex::new(state), work, freed, turns, free_turns, segment_bytes }), found))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest epoch in use: everything that was found at start is at most this old.
    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    pub(crate) fn stream(&self) -> Stream {
        let mut state = self.lock();
        state.next_stream += 1;
        Stream { number: state.next_stream, since: None, bytes: 0 }
    }

    /// Appends a chunk of an instance, which has [`HEADER`] bytes of room before it. False when it does not go through the journal any more: it grew too long, or the
    /// last free segment is needed for records.
    pub(crate) fn append(&self, stream: &mut Stream, room_and_chunk: &mut [u8]) -> Result<bool, Error> {
        let length = room_and_chunk.len() - HEADER;
        stream.bytes += length as u64;
        if stream.bytes > LONGEST_STREAM.min(self.segment_bytes / 2) {
            return Ok(false);
        }
        let mut state = self.lock();
        let Some(at) = self.place(&mut state, length, 1) else { return Ok(false) };
        state.write(at, Kind::Chunk, stream.number, room_and_chunk)?;
        stream.since.get_or_insert(state.segments[at].epoch);
        Ok(true)
    }

    /// Appends the record that makes an instance count, and notes the file to be flushed later. Without a stream the file
    /// has been flushed already.
    pub(crate) fn commit(
        self: &Arc<Self>,
        stream: Option<&Stream>,
        file: &str,
        record: &[u8],
    ) -> Result<Commit, Error> {
        let mut state = self.lock();
        if let Some(since) = stream.and_then(|stream| stream.since)
            && !state.holds(since)
        {
            return Ok(Commit::Outlived);
        }
        let Some(at) = self.place(&mut state, record.len(), 0) else { return Ok(Commit::Full) };
        let mut room_and_record = [&[0; HEADER], record].concat();
        state.write(at, Kind::Record, stream.map_or(0, |stream| stream.number), &mut room_and_record)?;
        let segment = &mut state.segments[at];
        segment.pending += 1;
        if let Some(stream) = stream {
            let since = stream.since.unwrap_or(segment.epoch);
            let holder = state.segments.iter_mut().find(|segment| segment.epoch == since);
            // `holds` said so, and making a place frees nothing.
            holder.into_iter().for_each(|segment| segment.files.push(file.to_owned()));
        }
        Ok(Commit::Appended(Ticket { journal: Arc::clone(self), segment: at }))
    }

    /// The segment in which `length` bytes can be written now, if `spare` others stay free.
    fn place(&self, state: &mut State, length: usize, spare: usize) -> Option<usize> {
        let needed = (HEADER + length) as u64;
        if let Some(active) = state.active
            && state.segments[active].used + needed <= self.segment_bytes
        {
            return Some(active);
        }
        let free = |segment: &Segment| segment.phase == Phase::Free;
        if state.segments.iter().filter(|segment| free(segment)).count() <= spare {
            return None;
        }
        let next = state.segments.iter().position(free)?;
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
        let _turn = self.turns.acquire().await.map_err(|_| Error::Stopped)?;
        if self.lock().flushed >= appended {
            return Ok(());
        }
        let journal = Arc::clone(self);
        tokio::task::spawn_blocking(move || journal.flush_in_turn()).await.map_err(|_| Error::Stopped)?
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
        let (mut unflushed, appended) = (Vec::new(), self.lock().appended);
        for (number, segment) in self.lock().segments.iter().enumerate() {
            if segment.flushed < segment.used {
                let file = Arc::clone(&segment.for_flush[turn]);
                unflushed.push((number, segment.epoch, segment.used, file, segment.path.clone()));
            }
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

    /// The oldest segment that can be checkpointed now. Nobody counts on its chunks from here on.
    pub(crate) fn to_checkpoint(&self) -> Option<Checkpoint> {
        let mut state = self.lock();
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

    /// Waits until there may be something to checkpoint. Seals the active segment when nothing came for `idle`. False
    /// once the journal is closed.
    pub(crate) fn wait_for_work(&self, idle: Duration) -> bool {
        let state = self.lock();
        let (state, waited) = self.work.wait_timeout(state, idle).unwrap_or_else(PoisonError::into_inner);
        let quiet = waited.timed_out() && state.active.is_some() && state.last_append.elapsed() >= idle;
        let open = !state.closed;
        drop(state);
        if quiet {
            self.seal();
        }
        open
    }

    /// Ends the checkpointer.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// The bytes of an instance that was found at start, or nothing when not all of them are here.
    pub(crate) fn bytes_of(&self, found: &Found, length: u64) -> Result<Option<Vec<u8>>, Error> {
        let here: usize = found.chunks.iter().map(|(.., length)| *length).sum();
        if here as u64 != length {
            return Ok(None);
        }
        let state = self.lock();
        let mut bytes = vec![0; here];
        let mut rest = bytes.as_mut_slice();
        for &(segment, at, length) in &found.chunks {
            let (chunk, next) = rest.split_at_mut(length);
            let segment = &state.segments[segment];
            read_exact_at(&*segment.file, chunk, at).map_err(Error::io(&segment.path))?;
            rest = next;
        }
        Ok(Some(bytes))
    }
}

impl State {
    /// Whether the chunks of an epoch can still be counted on.
    fn holds(&self, epoch: u64) -> bool {
        let live = |segment: &Segment| matches!(segment.phase, Phase::Active | Phase::Sealed);
        self.segments.iter().any(|segment| segment.epoch == epoch && live(segment))
    }

    /// Writes under the lock, so that records follow each other without a hole: what is flushed is a whole chain.
    fn write(&mut self, at: usize, kind: Kind, stream: u64, room_and_payload: &mut [u8]) -> Result<(), Error> {
        let segment = &mut self.segments[at];
        let (room, payload) = room_and_payload.split_at_mut(HEADER);
        let header = Header { epoch: segment.epoch, stream, kind, length: payload.len() };
        room.copy_from_slice(&header.to_bytes(payload));
        segment.file.write_all_at(room_and_payload, segment.used).map_err(|error| match error.kind() {
            // Segments were written before, but some file systems need room for each write.
            io::ErrorKind::StorageFull => Error::DatabaseFull,
            _ => Error::io(&segment.path)(error),
        })?;
        segment.used += room_and_payload.len() as u64;
        self.appended += room_and_payload.len() as u64;
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

/// A record met in a segment: its header, where its payload begins and, for what is no chunk, the payload.
struct Met {
    header: Header,
    at: u64,
    payload: Vec<u8>,
}

/// The unbroken chain of records at the beginning of a segment, and its epoch; 0 when there is none.
fn scan(file: &dyn DiskFile) -> io::Result<(u64, Vec<Met>)> {
    let length = file.length()?;
    let (mut at, mut epoch, mut met) = (0, 0, Vec::new());
    while at + HEADER as u64 <= length {
        let mut bytes = [0; HEADER];
        read_exact_at(file, &mut bytes, at)?;
        let Some(header) = Header::parse(&bytes) else { break };
        at += HEADER as u64;
        let fits = header.length as u64 <= length - at;
        if !fits || (epoch != 0 && header.epoch != epoch) || header.length as u64 > LONGEST_STREAM {
            break;
        }
        let mut payload = Vec::new();
        if header.kind == Kind::Record {
            payload.resize(header.length, 0);
            read_exact_at(file, &mut payload, at)?;
        }
        if !header.is_intact(&bytes, &payload) {
            break;
        }
        epoch = header.epoch;
        let next = at + header.length as u64;
        met.push(Met { header, at, payload });
        at = next;
    }
    Ok((epoch, met))
}

/// Brings the records and the chunks of each stream together. Chains come in the order of their epochs.
fn assemble(chains: Vec<(u64, usize, Vec<Met>)>) -> Vec<Found> {
    let mut streams: HashMap<u64, Vec<(usize, u64, usize)>> = HashMap::new();
    let mut found = Vec::new();
    for (_, segment, records) in chains {
        for Met { header, at, payload } in records {
            match header.kind {
                Kind::Chunk => streams.entry(header.stream).or_default().push((segment, at, header.length)),
                Kind::Record => {
                    let chunks = streams.remove(&header.stream).unwrap_or_default();
                    found.push(Found { record: payload, chunks });
                }
            }
        }
    }
    found
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
