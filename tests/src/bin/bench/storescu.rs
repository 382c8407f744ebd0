//! DCMTK's sender as it is: files from the disk, no variable in its environment.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use e2e::peers;

use crate::{
    light::{CALLING, Sent},
    load::Template,
};

/// What one process may take: `timeout` ends it then.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder of files for each sender.
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Writes `shares[n]` files for the sender `n`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write(dir: &Path, template: &Template, shares: &[usize]) -> Result<Self> {
        for (sender, share) in shares.iter().enumerate() {
            let folder = dir.join(sender.to_string());
            fs::create_dir_all(&folder)?;
            for number in 0..*share {
                fs::write(folder.join(number.to_string()), template.file(sender, number)?)?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Sends the first `shares[n]` files of each sender `n`, a process for each, all at once. The clock runs from the
    /// start of the first to the end of the last.
    ///
    /// # Errors
    /// When a sender ends with a failure; what it printed is part of the message.
    pub(crate) fn send(&self, port: &str, called: &str, shares: &[usize]) -> Result<Sent> {
        let program = peers::program("storescu", "dcmtk")?;
        let begin = Instant::now();
        let mut processes = Vec::new();
        for (sender, share) in shares.iter().enumerate() {
            let dir = self.dir.join(sender.to_string());
            let said = dir.join("said");
            let out = File::create(&said)?;
            let process = Command::new("timeout")
                .arg(PATIENCE.as_secs().to_string())
                .arg(&program)
                .args(["-aet", CALLING, "-aec", called, "127.0.0.1", port])
                .args((0..*share).map(|number| number.to_string()))
                .env_remove("TCP_NODELAY")
                .env_remove("TCP_BUFFER_LENGTH")
                .current_dir(&dir)
                .stdin(Stdio::null())
                .stdout(out.try_clone()?)
                .stderr(out)
                .spawn()
                .context("cannot start timeout (coreutils)")?;
            processes.push((process, said));
        }
        let mut failures = Vec::new();
        for (mut process, said) in processes {
            let status = process.wait()?;
            let said = fs::read_to_string(said).unwrap_or_default();
            // It ends with 0 also when a file was refused.
            if !status.success() || said.lines().any(|line| line.starts_with("E:") || line.starts_with("F:")) {
                failures.push(format!("storescu ended with {status}: {}", said.lines().next().unwrap_or_default()));
            }
        }
        let time = begin.elapsed();
        if let Some(failure) = failures.first() {
            bail!("{} of {} senders failed; {failure}", failures.len(), shares.len());
        }
        Ok(Sent { images: shares.iter().sum(), time, answers: Vec::new() })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
