//! A small file system of a test's own, to be filled for real.

use std::{
    env,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// Set in a process that has mount points of its own.
const MAY_MOUNT: &str = "PREREAD_E2E_MAY_MOUNT";

/// Whether this process may mount. If not, the test of this name, which is to be the caller, is run once more in a process
/// that may, because it has mount points of its own that nobody else sees and that end with it; then there is nothing left to
/// do for the caller. A line says so where users may not have that.
///
/// # Errors
/// When that other run fails, or is none of a test.
pub fn may_mount(test: &str) -> Result<bool> {
    if env::var_os(MAY_MOUNT).is_some() {
        return Ok(true);
    }
    let in_namespace = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount"]).stdin(Stdio::null());
        unshare
    };
    let try_it = in_namespace().args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null()).status();
    if !try_it.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a user may not mount a file system of its own here (unshare --map-root-user --mount)");
        return Ok(false);
    }
    let mut again = in_namespace();
    again.arg(env::current_exe()?).args([test, "--exact", "--nocapture"]).env(MAY_MOUNT, "1");
    let output = again.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("1 passed"), "{test}, with mount points of its own: {said}");
    Ok(false)
}

/// A file system in memory.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

/// What of a file system is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// Every byte.
    Bytes,
    /// Every inode: no file can be made.
    Inodes,
}

const BALLAST: &str = "ballast";
const MOST_FILES: usize = 100_000;

impl SmallDisk {
    /// A file system with the options of a tmpfs, such as `size=64m,nr_inodes=300`, in a process that [`may_mount`].
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(options: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("preread-e2e-disk-").tempdir()?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status()?;
        ensure!(mounted.success(), "a tmpfs with {options} cannot be mounted");
        Ok(Self(dir))
    }

    /// Its root folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Uses up all that there is of something.
    ///
    /// # Errors
    /// When something else than that comes in between.
    pub fn fill(&self, what: Filled) -> Result<()> {
        let ballast = self.path().join(BALLAST);
        fs::create_dir(&ballast)?;
        for number in 0..MOST_FILES {
            let made = File::create(ballast.join(number.to_string())).and_then(|file| match what {
                Filled::Bytes => write_without_end(file),
                Filled::Inodes => Ok(()),
            });
            match made {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("the disk cannot be filled"),
            }
        }
        bail!("the disk is not full after {MOST_FILES} files")
    }

    /// Gives back what [`Self::fill`] used.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.path().join(BALLAST))?)
    }
}

fn write_without_end(mut file: File) -> io::Result<()> {
    loop {
        file.write_all(&[0; 4096])?;
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
