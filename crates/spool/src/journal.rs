//! The journal: what is acknowledged is here first, and its file and its row follow.
//!
//! A ring of segments that were written before, so that one flush of bytes that change no length and no folder makes many
//! instances of many associations survive a power cut. An instance that is not too long is here with all its bytes, and
//! [`crate::filing`] makes its file of them when its association ends, or soon; of a long one the journal has the record
//! only, and its file was flushed before. A checkpoint flushes the files and frees a segment when too many are full or
//! nothing comes. A start takes up what was not filed (see [`crate::recover`]).

mod receipts;
mod record;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    AssociationId, Error,
    buffer::{BLOCK, Buffer},
    disk::{Disk, DiskFile},
};
pub(crate) use receipts::{Place, Receipt, Receipts};
use record::{HEADER, Header};

/// The ring: one segment is written; those that are full wait until half of them are, or until nothing comes, because a
/// checkpoint takes from the disk what senders are waiting for.
const SEGMENTS: u64 = 8;
const MOST_WAITING: usize = 4;
const LEAST_SEGMENT: u64 = 512 << 10;
/// The longest instance that is here with its bytes: for longer ones a file of their own costs less than writing twice.
const LONGEST: u64 = 1 << 20;
/// A longer one is written once while segments are short.
const LONGEST_UNDER_PRESSURE: usize = 256 << 10;
/// Room before an instance's bytes for the record, so that both are one write.
pub(crate) const RECORD_ROOM: usize = BLOCK;

/// How long an instance is here at the most before it is filed.
const FILED_AFTER: Duration = Duration::from_millis(500);
/// How long nothing has come before what is here is checkpointed.
const IDLE: Duration = Duration::from_secs(2);
/// How long a full disk is left alone.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The segments and where the next record goes.
pub(crate) struct Journal {
    receipts: Receipts,
    state: Mutex<State>,
    /// Held while a record is written: they follow each other without a hole, so that what is flushed is a whole chain.
    order: Mutex<()>,
    /// Wakes who files and checkpoints.
    work: Condvar,
    /// Wakes who waits for a free segment.
    freed: Condvar,
    /// Wakes who waits for a flush, or for a turn to flush.
    flushed: Condvar,
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
    /// Numbers the records of this life of the journal: the newest that is written, and the newest of which it is known that
    /// it and all before it are flushed.
    appended: u64,
    flushed: u64,
    /// What has neither a file nor a row of its own yet, in order.
    unfiled: VecDeque<Entry>,
    /// Who may flush now: which of a segment's handles.
    free_turns: Vec<usize>,
    last_append: Instant,
    /// The disk has no room to file in: nobody waits for a segment to become free.
    is_disk_full: bool,
    /// A flush failed.
    has_failed: bool,
    is_closed: bool,
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
    /// Records in this use of it.
    records: u32,
    /// How much of it is known to be flushed.
    flushed: u64,
    /// Records that are being written or are not filed.
    unfiled: usize,
    /// The newest of its records.
    newest: u64,
    /// Files that must be flushed before the segment is free.
    files: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    Active,
    Sealed,
}

/// An instance in the journal that is not filed yet.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) association: Option<AssociationId>,
    header: Header,
    segment: usize,
    at: u64,
    appended: Instant,
}

impl Entry {
    /// Bytes of the instance that are in the journal; 0 when it has a file already.
    pub(crate) fn data_bytes(&self) -> usize {
        self.header.data
    }
}

/// What is to be done with what is in the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// File what has waited for long enough.
    File,
    /// Free what is needed.
    FreeSome,
    /// Free everything.
    FreeAll,
    /// Nothing more, ever.
    End,
}

/// A segment to be freed.
pub(crate) struct Full {
    segment: usize,
    pub(crate) epoch: u64,
    /// The newest of its records: all up to it are to be filed first.
    pub(crate) newest: u64,
}

/// A record of an instance that was found at start, and where in the journal its bytes are.
pub(crate) struct Found {
    pub(crate) record: Vec<u8>,
    /// Whether there is a receipt of it, so that it was flushed with its bytes, and may have been acknowledged.
    pub(crate) was_flushed: bool,
    segment: usize,
    /// Where the record begins, and where the bytes do.
    record_at: u64,
    at: u64,
    length: usize,
}

/// What a start finds in the journal.
#[derive(Default)]
pub(crate) struct Contents {
    /// The records, in order.
    pub(crate) found: Vec<Found>,
    /// Receipts of records that are not there.
    pub(crate) gone: Vec<Receipt>,
    /// Whether segments were missing or cut short.
    pub(crate) is_broken: bool,
    /// Whether receipts were missing, so that more may be gone than has one.
    pub(crate) lacks_receipts: bool,
}

/// A record that was appended.
#[derive(Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) number: u64,
    pub(crate) place: Place,
}

impl Journal {
    /// Opens the ring in `folder` and its receipts in `beside`, makes what is missing of them, and finds the records newer
    /// than epoch `after`.
    pub(crate) fn open(
        disk: &dyn Disk,
        folder: &Path,
        beside: &Path,
        bytes: u64,
        after: u64,
    ) -> Result<(Self, Contents), Error> {
        disk.create_folder(folder).map_err(Error::io(folder))?;
        let (receipts, receipted) = Receipts::open(disk, beside, SEGMENTS, after)?;
        let mut contents = Contents { lacks_receipts: !receipted.is_whole, ..Contents::default() };
        let segment_bytes = (bytes / SEGMENTS).max(LEAST_SEGMENT).next_multiple_of(BLOCK as u64);
        let mut segments = Vec::new();
        let mut chains = Vec::new();
        for number in 0..SEGMENTS {
            let path = folder.join(number.to_string());
            let (file, was_whole) = open_segment(disk, &path, segment_bytes).map_err(Error::io(&path))?;
            contents.is_broken |= !was_whole;
            let number = segments.len();
            let (epoch, records) = scan(&*file, number).map_err(Error::io(&path))?;
            if epoch > after {
                chains.push((epoch, records));
            }
            for receipt in receipted.receipts.iter().filter(|receipt| receipt.place.segment == number) {
                let chain = chains.last_mut().filter(|(_, chain)| chain.iter().any(|it| it.segment == number));
                match found_at(&*file, receipt).map_err(Error::io(&path))? {
                    None => contents.gone.push(receipt.clone()),
                    Some(found) => match chain {
                        None => chains.push((receipt.place.epoch, vec![found])),
                        Some((_, chain)) => match chain.iter_mut().find(|it| it.record_at == found.record_at) {
                            Some(known) => known.was_flushed = true,
                            // One before it is damaged, which ended the chain.
                            None => chain.push(found),
                        },
                    },
                }
            }
            let handles = (0..FLUSHES).map(|_| disk.open(&path)).collect::<io::Result<_>>();
            let for_flush = handles.map_err(Error::io(&path))?;
            segments.push(Segment {
                path,
                file,
                for_flush,
                phase: Phase::Free,
                epoch,
                used: 0,
                records: 0,
                flushed: 0,
                unfiled: 0,
                newest: 0,
                files: Vec::new(),
            });
        }
        disk.sync_folder(folder).map_err(Error::flush(folder))?;
        chains.sort_by_key(|(epoch, _)| *epoch);
        let epochs = segments.iter().map(|segment| segment.epoch);
        let epoch = epochs.chain(receipted.receipts.iter().map(|it| it.place.epoch)).max().unwrap_or(0).max(after);
        contents.found = chains
            .into_iter()
            .flat_map(|(_, mut records)| {
                records.sort_by_key(|record| record.record_at);
                records
            })
            .collect();
        let state = State {
            segments,
            active: None,
            epoch,
            appended: 0,
            flushed: 0,
            unfiled: VecDeque::new(),
            free_turns: (0..FLUSHES).collect(),
            last_append: Instant::now(),
            is_disk_full: false,
            has_failed: false,
            is_closed: false,
        };
        let (work, freed, flushed) = (Condvar::new(), Condvar::new(), Condvar::new());
        let (state, order) = (Mutex::new(state), Mutex::default());
        Ok((Self { receipts, state, order, work, freed, flushed, segment_bytes }, contents))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest epoch in use: everything that was found at start is at most this old.
    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Bytes of the longest instance that the journal takes whole, a multiple of [`BLOCK`].
    pub(crate) fn longest(&self) -> usize {
        let longest = usize::try_from(LONGEST.min(self.segment_bytes / 4)).unwrap_or(0);
        longest - longest % BLOCK
    }

    /// Whether an instance of so many bytes should be here whole, rather than in a file that is flushed at once.
    pub(crate) fn should_take(&self, bytes: usize) -> bool {
        bytes <= LONGEST_UNDER_PRESSURE.min(self.longest()) || {
            let state = self.lock();
            bytes <= self.longest() && state.segments.iter().filter(|it| it.phase == Phase::Free).count() > 1
        }
    }

    /// Appends the record that makes an instance count, with the instance's bytes if it has no file: those of `buffer` from
    /// [`RECORD_ROOM`] on. Waits for a free segment; blocks. Answers the record's number and place.
    pub(crate) fn append(
        &self,
        record: &[u8],
        buffer: &mut Buffer,
        association: Option<AssociationId>,
    ) -> Result<Appended, Error> {
        let data = buffer.len().saturating_sub(RECORD_ROOM);
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut header = Header { epoch: 0, record: record.len(), data };
        let (number, file, path, at);
        {
            let mut state = self.lock();
            number = loop {
                if state.has_failed || state.is_closed {
                    return Err(Error::Stopped);
                }
                if let Some(place) = self.place(&mut state, header.total() as u64) {
                    break place;
                }
                if state.is_disk_full {
                    return Err(Error::DatabaseFull);
                }
                state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            let segment = &mut state.segments[number];
            // From here on it is not freed.
            segment.unfiled += 1;
            header.epoch = segment.epoch;
            (file, path, at) = (Arc::clone(&segment.file), segment.path.clone(), segment.used);
        }
        let written = write(&*file, at, header, record, buffer);
        let mut state = self.lock();
        if let Err(error) = written {
            state.segments[number].unfiled -= 1;
            return Err(match error.kind() {
                // Segments were written before, but some file systems need room for each write.
                io::ErrorKind::StorageFull => Error::DatabaseFull,
                _ => Error::io(path)(error),
            });
        }
        state.appended += 1;
        let (newest, now) = (state.appended, Instant::now());
        state.last_append = now;
        let segment = &mut state.segments[number];
        let place = Place { segment: number, epoch: header.epoch, ordinal: segment.records, at };
        segment.used += header.total() as u64;
        segment.records += 1;
        segment.newest = newest;
        if state.unfiled.is_empty() {
            self.work.notify_all();
        }
        state.unfiled.push_back(Entry { number: newest, association, header, segment: number, at, appended: now });
        Ok(Appended { number: newest, place })
    }

    /// Flushes a record, and writes its receipt. What this answers for may be acknowledged. Blocks.
    pub(crate) fn flush_with_receipt(&self, appended: &Appended, record: &[u8]) -> Result<(), Error> {
        self.flush(appended.number)?;
        self.receipts.write(appended.place, record);
        Ok(())
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
        segment.records = 0;
        state.active = Some(next);
        Some(next)
    }

    /// The number of the newest record.
    pub(crate) fn newest(&self) -> u64 {
        self.lock().appended
    }

    /// A record and all before it survive a power cut when this answers. Blocks.
    pub(crate) fn flush(&self, number: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let turn = loop {
            if state.flushed >= number {
                return Ok(());
            }
            if state.has_failed {
                return Err(Error::Stopped);
            }
            if let Some(turn) = state.free_turns.pop() {
                break turn;
            }
            state = self.flushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        // What another turn is flushing is flushed again: it may not be done when this one is.
        let appended = state.appended;
        let mut unflushed = Vec::new();
        for (number, segment) in state.segments.iter().enumerate() {
            if segment.flushed < segment.used {
                let file = Arc::clone(&segment.for_flush[turn]);
                unflushed.push((number, segment.epoch, segment.used, file, segment.path.clone()));
            }
        }
        drop(state);
        let synced = unflushed.iter().try_for_each(|(.., file, path)| file.sync().map_err(Error::flush(path)));
        let mut state = self.lock();
        match &synced {
            Ok(()) => {
                state.flushed = state.flushed.max(appended);
                state.free_turns.push(turn);
            }
            // The turn is not given back: nothing is flushed after this.
            Err(_) => state.has_failed = true,
        }
        for (number, epoch, used, ..) in unflushed {
            let segment = &mut state.segments[number];
            if synced.is_ok() && segment.epoch == epoch {
                segment.flushed = segment.flushed.max(used);
            }
        }
        self.flushed.notify_all();
        synced
    }

    /// The oldest instances that are to be filed, none newer than `number`.
    pub(crate) fn unfiled(&self, number: u64, most: usize) -> Vec<Entry> {
        self.lock().unfiled.iter().take_while(|entry| entry.number <= number).take(most).copied().collect()
    }

    /// Reads a record into `buffer`, with the instance's bytes; answers where in the buffer each of both is. Blocks.
    pub(crate) fn read(
        &self,
        entry: &Entry,
        buffer: &mut Buffer,
    ) -> Result<(std::ops::Range<usize>, std::ops::Range<usize>), Error> {
        let (file, path) = {
            let state = self.lock();
            let segment = &state.segments[entry.segment];
            (Arc::clone(&segment.file), segment.path.clone())
        };
        let total = entry.header.total();
        if buffer.capacity() < total {
            *buffer = Buffer::new(total);
        }
        buffer.set_len(total);
        let mut done = 0;
        while done < total {
            match file.read_blocks_at(&mut buffer.bytes_mut()[done..], entry.at + done as u64) {
                Ok(0) => return Err(Error::io(path)(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => done += count,
                Err(error) => return Err(Error::io(path)(error)),
            }
        }
        let data_at = entry.header.data_at();
        Ok((HEADER..HEADER + entry.header.record, data_at..data_at + entry.header.data))
    }

    /// The oldest entry has a row; `file` must be flushed before its segment is free.
    pub(crate) fn filed(&self, entry: &Entry, file: Option<String>) {
        let mut state = self.lock();
        debug_assert_eq!(state.unfiled.front().map(|oldest| oldest.number), Some(entry.number));
        state.unfiled.pop_front();
        let segment = &mut state.segments[entry.segment];
        segment.unfiled -= 1;
        segment.files.extend(file);
    }

    /// Ends the active segment, so that what it holds can be checkpointed. Answers the newest epoch that is ended.
    pub(crate) fn seal(&self) -> u64 {
        let mut state = self.lock();
        if let Some(active) = state.active.take() {
            state.segments[active].phase = Phase::Sealed;
        }
        state.epoch
    }

    /// The oldest segment that is full or ended and not of a later epoch than `up_to`.
    pub(crate) fn oldest_full(&self, up_to: u64) -> Option<Full> {
        let state = self.lock();
        let full = state.segments.iter().enumerate();
        let full = full.filter(|(_, segment)| segment.phase == Phase::Sealed && segment.epoch <= up_to);
        let (number, segment) = full.min_by_key(|(_, segment)| segment.epoch)?;
        Some(Full { segment: number, epoch: segment.epoch, newest: segment.newest })
    }

    /// Whether more segments are full than should wait.
    pub(crate) fn is_pressed(&self) -> bool {
        self.lock().is_pressed()
    }

    /// The files of a segment whose records are all filed; nothing when one is still being written.
    pub(crate) fn files_of(&self, full: &Full) -> Option<Vec<String>> {
        let mut state = self.lock();
        let segment = &mut state.segments[full.segment];
        (segment.unfiled == 0).then(|| std::mem::take(&mut segment.files))
    }

    /// The files of a segment and the database are flushed: it is free.
    pub(crate) fn free(&self, full: &Full) {
        self.lock().segments[full.segment].phase = Phase::Free;
        self.freed.notify_all();
    }

    /// Waits until there is something to do, and answers what.
    pub(crate) fn wait_for_work(&self) -> Work {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return Work::End;
            }
            if state.is_pressed() {
                return Work::FreeSome;
            }
            let now = Instant::now();
            let file_at = state.unfiled.front().map(|oldest| oldest.appended + FILED_AFTER);
            let is_empty = state.segments.iter().all(|segment| segment.phase == Phase::Free);
            let free_at = (!is_empty).then(|| state.last_append + IDLE);
            if free_at.is_some_and(|at| at <= now) {
                return Work::FreeAll;
            }
            if file_at.is_some_and(|at| at <= now) {
                return Work::File;
            }
            state = match file_at.into_iter().chain(free_at).min() {
                Some(at) => self.work.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Says whether the disk has room to file in; waits before it may be tried again.
    pub(crate) fn disk_is_full(&self, is_full: bool) {
        let mut state = self.lock();
        state.is_disk_full = is_full;
        self.freed.notify_all();
        if is_full && !state.is_closed {
            drop(self.work.wait_timeout_while(state, TRY_AGAIN, |state| !state.is_closed));
        }
    }

    /// Nothing is appended any more, and who waits is told.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_all();
        self.freed.notify_all();
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

impl Found {
    fn of(header: Header, record: Vec<u8>, segment: usize, at: u64) -> Self {
        let bytes_at = at + header.data_at() as u64;
        Self { record, was_flushed: false, segment, record_at: at, at: bytes_at, length: header.data }
    }
}

impl State {
    fn is_pressed(&self) -> bool {
        self.segments.iter().filter(|segment| segment.phase == Phase::Sealed).count() > MOST_WAITING
    }
}

/// Writes a record, and the bytes that it has room before, as one.
fn write(file: &dyn DiskFile, at: u64, header: Header, record: &[u8], buffer: &mut Buffer) -> io::Result<()> {
    let head = [&header.to_bytes(record), record].concat();
    if head.len() <= RECORD_ROOM {
        buffer.set_len(RECORD_ROOM + header.data);
        let room = &mut buffer.bytes_mut()[..RECORD_ROOM];
        room[..head.len()].copy_from_slice(&head);
        room[head.len()..].fill(0);
        return file.write_blocks_at(buffer.blocks(), at);
    }
    let mut longer = Buffer::new(header.total());
    longer.fill(&head);
    longer.fill(&vec![0; header.data_at() - head.len()]);
    longer.fill(buffer.bytes().get(RECORD_ROOM..).unwrap_or_default());
    file.write_blocks_at(longer.blocks(), at)
}

/// Opens a segment, or makes one: its bytes are written once, so that later flushes change neither length nor extents.
/// Answers whether it was whole, too.
fn open_segment(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<(Arc<dyn DiskFile>, bool)> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
        other => other?,
    };
    let mut zeros = Buffer::new(256 << 10);
    zeros.set_len(zeros.capacity());
    let mut length = file.length()? / BLOCK as u64 * BLOCK as u64;
    // One of a smaller journal was whole, too.
    let was_whole = length >= LEAST_SEGMENT;
    if length < bytes {
        while length < bytes {
            let count = usize::try_from(bytes - length).map_or(zeros.len(), |left| left.min(zeros.len()));
            file.write_blocks_at(&zeros.bytes()[..count], length)?;
            length += count as u64;
        }
        file.sync()?;
    }
    Ok((file, was_whole))
}

/// The unbroken chain of records at the beginning of a segment, and its epoch; 0 when there is none.
fn scan(file: &dyn DiskFile, segment: usize) -> io::Result<(u64, Vec<Found>)> {
    let length = file.length()?;
    let (mut at, mut epoch, mut found) = (0, 0, Vec::new());
    while at + HEADER as u64 <= length {
        let mut bytes = [0; HEADER];
        read_exact_at(file, &mut bytes, at)?;
        let Some(header) = Header::parse(&bytes) else { break };
        if epoch != 0 && header.epoch != epoch {
            break;
        }
        let Some(record) = intact(file, header, &bytes, at)? else { break };
        epoch = header.epoch;
        found.push(Found::of(header, record, segment, at));
        at += header.total() as u64;
    }
    Ok((epoch, found))
}

/// The record that a receipt speaks of, where it says; nothing when it is not there.
fn found_at(file: &dyn DiskFile, receipt: &Receipt) -> io::Result<Option<Found>> {
    let Place { segment, epoch, at, .. } = receipt.place;
    if at.saturating_add(HEADER as u64) > file.length()? {
        return Ok(None);
    }
    let mut bytes = [0; HEADER];
    read_exact_at(file, &mut bytes, at)?;
    let Some(header) = Header::parse(&bytes).filter(|header| header.epoch == epoch) else { return Ok(None) };
    let record = intact(file, header, &bytes, at)?;
    let record = record.filter(|record| *blake3::hash(record).as_bytes() == receipt.digest);
    Ok(record.map(|record| Found { was_flushed: true, ..Found::of(header, record, segment, at) }))
}

/// The record after a header, if both are as they were written.
fn intact(file: &dyn DiskFile, header: Header, bytes: &[u8; HEADER], at: u64) -> io::Result<Option<Vec<u8>>> {
    if header.total() as u64 > file.length()? - at {
        return Ok(None);
    }
    let mut record = vec![0; header.record];
    read_exact_at(file, &mut record, at + HEADER as u64)?;
    Ok(header.is_intact(bytes, &record).then_some(record))
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
