//! The disk as the spool sees it: few operations, each of which can fail, and a clear line between what is written and
//! what a power cut would leave.

mod open_files;

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

pub use open_files::allow_open_files;

/// A disk. There are two: the machine's, and one for tests that fails, cuts the power and forgets.
pub(crate) trait Disk: Send + Sync {
    /// Makes a new file that only its owner may read; an existing one is an error of kind `AlreadyExists`.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file to read and to overwrite.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Whether there is a file or a folder of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder that only its owner may enter, and those above it; an existing one is no error and stays as it is.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder survive a power cut.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The files of a folder and of the folders below it, as full paths.
    fn files_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// What is free on the file system of a folder.
    fn free(&self, folder: &Path) -> io::Result<Free>;
}

/// What is free on a file system, for who is not its administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Inodes; nothing where the file system does not count them (btrfs, FAT).
    pub(crate) files: Option<Inodes>,
}

/// The inodes of a file system: each file takes one, however short it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inodes {
    /// Free ones.
    pub(crate) free: u64,
    /// All there are.
    pub(crate) all: u64,
}

/// An open file. Reads and writes say where, so that several may go on at a time.
pub(crate) trait DiskFile: Send + Sync {
    /// Writes all bytes at an offset.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads at an offset; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// [`Self::write_all_at`] past the page cache, where the system can: for what is not read again soon. Address, length
    /// and offset are multiples of [`crate::buffer::BLOCK`].
    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()>;
    /// [`Self::read_at`] past the page cache, under the same conditions.
    fn read_blocks_at(&self, blocks: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes the file's bytes and length survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn length(&self) -> io::Result<u64>;
    /// Forgets what is cached, so that the next read comes from the disk itself, as far as the system obeys.
    fn forget_cached(&self);
}

/// A file as a stream, for what reads from its beginning to its end.
pub(crate) struct Stream<'a> {
    file: &'a dyn DiskFile,
    length: u64,
    offset: u64,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self { length: file.length()?, file, offset: 0 })
    }
}

impl io::Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl io::Seek for Stream<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::End(by) => self.length.checked_add_signed(by),
            io::SeekFrom::Current(by) => self.offset.checked_add_signed(by),
        };
        self.offset = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}

/// Every file here may hold a patient's data, whatever umask preread was started with.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// Makes a folder and those above it, mode 0700; an existing one is no error and stays as it is.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)
}

/// Opens a file to write to, and makes it with mode 0600 when there is none.
pub(crate) fn open_or_create_private(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE_FILE).open(path)
}

/// Makes an empty file with mode 0600; an existing one is no error, stays as it is, and is not opened: closing it again
/// would drop the locks that SQLite has on it in this process.
pub(crate) fn make_private_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().create_new(true).write(true).mode(PRIVATE_FILE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The machine's own disk.
pub(crate) struct MachineDisk;

impl Disk for MachineDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.create_new(true).read(true).write(true).mode(PRIVATE_FILE).open(path)?;
        Ok(MachineFile::opened(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(MachineFile::opened(path, OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        create_private_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn files_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        Ok(found)
    }

    fn free(&self, folder: &Path) -> io::Result<Free> {
        let stat = rustix::fs::statvfs(folder)?;
        // A file system that makes inodes as it needs them says that it has none at all.
        let files = (stat.f_files > 0).then_some(Inodes { free: stat.f_favail, all: stat.f_files });
        Ok(Free { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files })
    }
}

/// A file, and the same file once more for what goes past the page cache.
///
/// A new page of the cache costs more than the copy into it, and both cost more than handing the disk the memory that is
/// there already; what was received is not read before its study is complete.
struct MachineFile {
    path: PathBuf,
    file: fs::File,
    /// Opened when first needed; nothing where the file system has no such thing.
    direct: OnceLock<Option<fs::File>>,
}

impl MachineFile {
    fn opened(path: &Path, file: fs::File) -> Arc<dyn DiskFile> {
        Arc::new(Self { path: path.to_owned(), file, direct: OnceLock::new() })
    }

    fn direct(&self) -> Option<&fs::File> {
        const FLAG: i32 = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let open = || OpenOptions::new().read(true).write(true).custom_flags(FLAG).open(&self.path).ok();
        self.direct.get_or_init(open).as_ref()
    }
}

impl DiskFile for MachineFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        match self.direct().map(|direct| direct.write_all_at(blocks, offset)) {
            // Some file systems say only now that they cannot.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => self.write_all_at(blocks, offset),
            Some(written) => written,
            None => self.write_all_at(blocks, offset),
        }
    }

    fn read_blocks_at(&self, blocks: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.direct().map(|direct| direct.read_at(blocks, offset)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => self.read_at(blocks, offset),
            Some(read) => read,
            None => self.read_at(blocks, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn forget_cached(&self) {
        // Only a hint: what cannot be forgotten is read from the cache, which holds what the disk was given.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }
}
