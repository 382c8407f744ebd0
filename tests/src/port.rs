//! Ports on the loopback interface that nobody else uses while we hold them.

use std::{
    fs::File,
    net::TcpListener,
    process,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::random::Random;

/// A port kept for its owner by a lock on a file, so that tests that run side by side never meet, not even while a
/// server is down between two starts. The range ends below the ports that the system gives to outgoing connections.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

impl Port {
    /// A port that is free now and stays ours until this value is dropped.
    ///
    /// # Errors
    /// When none is found within ten seconds.
    pub fn free() -> Result<Self> {
        let folder = std::env::temp_dir().join("preread-e2e-ports");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut random = Random::seeded(u64::from(process::id()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let number = FIRST + u16::try_from(random.below(u64::from(COUNT)))?;
            let lock = File::create(folder.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on the loopback interface, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
