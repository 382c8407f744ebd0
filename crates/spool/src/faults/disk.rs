//! A disk that fails where a test says so, and forgets at a power cut what was not flushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    buffer::BLOCK,
    disk::{Disk, DiskFile, Free, Inodes},
};

/// What goes wrong at a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The call fails: the medium is bad.
    Io,
    /// The call fails: there is no room.
    Full,
    /// A write stops half way and fails.
    ShortWrite,
    /// A flush fails, and what it was to flush is lost for ever although later flushes succeed, as on Linux.
    FailedSync,
    /// The power goes: this call and all later ones fail.
    PowerCut,
}

impl Fault {
    fn can_hit(self, call: Call) -> bool {
        match self {
            Self::Io | Self::PowerCut => true,
            Self::Full => matches!(call, Call::Write | Call::Name),
            Self::ShortWrite => call == Call::Write,
            Self::FailedSync => call == Call::Sync,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Sync,
    /// What changes the names in a folder.
    Name,
}

/// The fault, and at which call from now on, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    pub(super) at: u64,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    flushed: Vec<u8>,
    /// A flush of it failed: what is in the cache is thought to be on the disk and is not.
    forgotten: bool,
}

type FileNumber = usize;

#[derive(Clone)]
enum Change {
    Create(PathBuf, FileNumber),
    Remove(PathBuf),
}

impl Change {
    fn is_in(&self, folder: &Path) -> bool {
        let in_folder = |path: &Path| path.parent() == Some(folder);
        match self {
            Self::Create(path, _) | Self::Remove(path) => in_folder(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, FileNumber>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

#[derive(Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, FileNumber>,
    flushed_names: BTreeMap<PathBuf, FileNumber>,
    /// Changes of names that a power cut may undo, each by itself.
    unflushed: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    calls: u64,
    plan: Option<Plan>,
    hit: bool,
    is_off: bool,
    /// How many files there may be, where that is counted.
    inodes: Option<u64>,
}

/// The disk. Clones are one.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a fault; calls are counted from here.
    pub(super) fn plan(&self, plan: Option<Plan>) {
        let mut state = self.state();
        (state.plan, state.calls, state.hit) = (plan, 0, false);
    }

    /// Says how many files there may be at a time; nothing for as many as there are bytes for.
    pub(super) fn limit_inodes(&self, inodes: Option<u64>) {
        self.state().inodes = inodes;
    }

    /// How many files there are.
    pub(super) fn files(&self) -> u64 {
        self.state().names.len() as u64
    }

    /// Whether the planned fault has happened.
    pub(super) fn was_hit(&self) -> bool {
        self.state().hit
    }

    /// Calls since the plan was made, up to the fault if it has happened.
    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The same disk below another folder.
    pub(super) fn moved(&self, from: &Path, to: &Path) -> Self {
        let state = self.state();
        let moved = |path: &PathBuf| path.strip_prefix(from).map_or_else(|_| path.clone(), |rest| to.join(rest));
        let names: BTreeMap<_, _> = state.names.iter().map(|(path, file)| (moved(path), *file)).collect();
        let folders = state.folders.iter().map(moved).collect();
        let contents = state.contents.clone();
        let state = State { contents, flushed_names: names.clone(), names, folders, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.contents[*state.names.get(path)?].now.clone())
    }

    /// What the disk holds after a power cut: what was flushed, and of the rest whatever the seed says, sector by sector
    /// and name by name.
    pub(super) fn after_power_cut(&self, random: &mut Random) -> Self {
        let state = self.state();
        let contents = state.contents.iter().map(|content| torn(content, random)).collect();
        let mut names = state.flushed_names.clone();
        for change in &state.unflushed {
            if random.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        let folders = state.folders.clone();
        let after = State { contents, flushed_names: names.clone(), names, folders, ..State::default() };
        Self(Arc::new(Mutex::new(after)))
    }
}

fn torn(content: &Content, random: &mut Random) -> Content {
    const SECTOR: usize = 512;
    let Content { now, flushed, .. } = content;
    let mut bytes = flushed.clone();
    if now != flushed {
        let (shorter, longer) = (now.len().min(flushed.len()), now.len().max(flushed.len()));
        let length = match random.below(3) {
            0 => flushed.len(),
            1 => now.len(),
            _ => shorter + usize::try_from(random.below((longer - shorter) as u64 + 1)).unwrap_or(0),
        };
        bytes.resize(length, 0);
        for (number, sector) in bytes.chunks_mut(SECTOR).enumerate() {
            let newer = now.get(number * SECTOR..).unwrap_or_default();
            let count = newer.len().min(sector.len());
            if random.below(2) == 0 {
                sector[..count].copy_from_slice(&newer[..count]);
            }
        }
    }
    Content { now: bytes.clone(), flushed: bytes, forgotten: false }
}

impl State {
    /// Counts a call. Answers the fault to apply to it, if it is one that needs applying.
    fn call(&mut self, call: Call) -> io::Result<Option<Fault>> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        if !self.hit {
            self.calls += 1;
        }
        match self.plan {
            Some(Plan { fault, at }) if !self.hit && self.calls >= at && fault.can_hit(call) => {
                self.hit = true;
                match fault {
                    Fault::Io => Err(io::Error::other("a bad medium")),
                    Fault::Full => Err(io::ErrorKind::StorageFull.into()),
                    Fault::PowerCut => {
                        self.is_off = true;
                        Err(io::Error::other("the power is cut"))
                    }
                    Fault::ShortWrite | Fault::FailedSync => Ok(Some(fault)),
                }
            }
            _ => Ok(None),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.unflushed.push(change);
    }

    fn number(&self, path: &Path) -> io::Result<FileNumber> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call(Call::Name)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.inodes.is_some_and(|inodes| state.names.len() as u64 >= inodes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = state.contents.len();
        state.contents.push(Content::default());
        state.change(Change::Create(path.to_owned(), number));
        Ok(Arc::new(FaultyFile { disk: self.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call(Call::Read)?;
        let number = state.number(path)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), number }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.call(Call::Read)?;
        Ok(state.names.contains_key(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Name)?;
        state.number(path)?;
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Name)?;
        state.folders.insert(path.to_owned());
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.call(Call::Sync)?;
        let (flushed, left): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut state.unflushed).into_iter().partition(|change| change.is_in(path));
        state.unflushed = left;
        if fault.is_some() {
            return Err(io::Error::other("a flush failed"));
        }
        for change in flushed {
            change.apply(&mut state.flushed_names);
        }
        Ok(())
    }

    fn files_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state();
        state.call(Call::Read)?;
        Ok(state.names.keys().filter(|path| path.starts_with(folder)).cloned().collect())
    }

    fn free(&self, _: &Path) -> io::Result<Free> {
        let mut state = self.state();
        state.call(Call::Read)?;
        let taken = state.names.len() as u64;
        let files = state.inodes.map(|all| Inodes { free: all.saturating_sub(taken), all });
        Ok(Free { bytes: u64::MAX, files })
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    number: FileNumber,
}

impl DiskFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.call(Call::Write)?;
        let bytes = if fault.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        let content = &mut state.contents[self.number].now;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        if fault.is_some() { Err(io::Error::other("a short write")) } else { Ok(()) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.call(Call::Read)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let from = state.contents[self.number].now.get(offset..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        let is_block = |number: usize| number.is_multiple_of(BLOCK);
        let in_blocks = blocks.as_ptr().align_offset(BLOCK) == 0 && is_block(blocks.len());
        assert!(in_blocks && offset.is_multiple_of(BLOCK as u64), "no disk takes that");
        self.write_all_at(blocks, offset)
    }

    fn read_blocks_at(&self, blocks: &mut [u8], offset: u64) -> io::Result<usize> {
        assert!(blocks.as_ptr().align_offset(BLOCK) == 0, "no disk gives that");
        self.read_at(blocks, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // A disk takes its time, and others go on.
        std::thread::yield_now();
        let mut state = self.disk.state();
        let fault = state.call(Call::Sync)?;
        let content = &mut state.contents[self.number];
        if fault.is_some() {
            content.forgotten = true;
            return Err(io::Error::other("a flush failed"));
        }
        if !content.forgotten {
            content.flushed = content.now.clone();
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.call(Call::Read)?;
        Ok(state.contents[self.number].now.len() as u64)
    }

    fn forget_cached(&self) {}
}
