//! The receivers that are compared, each started anew with an empty folder on the same file system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use e2e::{
    child::Child,
    daemon::{self, Daemon, Setup},
    peers, place,
    port::Port,
    scu::Scu,
    wait,
};

use crate::{
    light::{CALLING, Line},
    load::Template,
};

/// A receiver and how it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Preread,
    PrereadNone,
    DcmtkTuned,
    DcmtkBitPreserving,
    DcmtkShipped,
    OrthancTuned,
    OrthancShipped,
    DicomRs,
    Pynetdicom,
    Floor,
    Discard,
}

impl Server {
    /// Every one, in the order of the tables.
    pub(crate) const ALL: [Self; 11] = [
        Self::Preread,
        Self::PrereadNone,
        Self::DcmtkTuned,
        Self::DcmtkBitPreserving,
        Self::DcmtkShipped,
        Self::OrthancTuned,
        Self::OrthancShipped,
        Self::DicomRs,
        Self::Pynetdicom,
        Self::Floor,
        Self::Discard,
    ];
    /// What `--quick` compares.
    pub(crate) const QUICK: [Self; 5] =
        [Self::Preread, Self::PrereadNone, Self::DcmtkTuned, Self::DcmtkBitPreserving, Self::Floor];

    /// Its name in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Preread => "preread, durable",
            Self::PrereadNone => "preread, none",
            Self::DcmtkTuned => "DCMTK, tuned",
            Self::DcmtkBitPreserving => "DCMTK, tuned, +B",
            Self::DcmtkShipped => "DCMTK, as shipped",
            Self::OrthancTuned => "Orthanc, TCP_NODELAY=1",
            Self::OrthancShipped => "Orthanc, as shipped",
            Self::DicomRs => "dicom-rs",
            Self::Pynetdicom => "pynetdicom",
            Self::Floor => "the floor",
            Self::Discard => "nothing kept",
        }
    }

    /// How it is configured, for the reader of the tables.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Preread => {
                "`durability = \"instance\"`, the default; no rule takes what comes, so that no model runs"
            }
            Self::PrereadNone => "`durability = \"none\"`, otherwise the same",
            Self::DcmtkTuned => "`storescp --fork --max-pdu 131072`, `TCP_NODELAY=1` in its environment",
            Self::DcmtkBitPreserving => "the same with `--bit-preserving`: it writes what comes, as preread does",
            Self::DcmtkShipped => "`storescp --fork`, as Debian ships it",
            Self::OrthancTuned => "as below, with `TCP_NODELAY=1` in its environment, which its DICOM library obeys",
            Self::OrthancShipped => "as Debian ships it; set are ports, AE title and folder",
            Self::DicomRs => "`dicom-storescp --non-blocking --promiscuous --max-pdu-length 131072`",
            Self::Pynetdicom => "`python -m pynetdicom storescp`, as it ships",
            Self::Floor => {
                "per connection a thread that writes a new file, flushes it (fdatasync) and answers one byte"
            }
            Self::Discard => "answers every C-STORE with success and keeps nothing: what a sender can do at most",
        }
    }

    /// The version that was measured.
    pub(crate) fn version(self) -> Result<String> {
        let mut command = match self {
            Self::Preread | Self::PrereadNone => Command::new(place::preread()?),
            Self::DcmtkTuned | Self::DcmtkBitPreserving | Self::DcmtkShipped => {
                Command::new(peers::program("storescp", "dcmtk")?)
            }
            Self::OrthancTuned | Self::OrthancShipped => Command::new(peers::program("Orthanc", "orthanc")?),
            Self::DicomRs => Command::new(dicom_storescp()?),
            Self::Pynetdicom => {
                let mut python = Command::new(peers::python_program()?);
                python.args(["-m", "pynetdicom", "storescp"]);
                python
            }
            Self::Floor | Self::Discard => return Ok(String::new()),
        };
        let output = command.arg("--version").output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = said.lines().next().unwrap_or_default();
        let is_version = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
        Ok(line.split_whitespace().find(is_version).unwrap_or(line).trim_start_matches('v').to_owned())
    }

    /// Whether it makes a process for each association.
    pub(crate) fn forks(self) -> bool {
        matches!(self, Self::DcmtkTuned | Self::DcmtkBitPreserving | Self::DcmtkShipped)
    }

    /// How many associations it takes at a time, where that is less than anybody wants.
    pub(crate) fn most_associations(self) -> Option<usize> {
        (self == Self::Pynetdicom).then_some(10)
    }

    /// Whether it takes an image in tens of milliseconds.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::DcmtkShipped | Self::OrthancShipped | Self::Pynetdicom)
    }

    /// Starts it in `dir`, which is made new. It takes associations when this returns.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub(crate) fn start(self, dir: &Path) -> Result<Running> {
        if let Self::Preread | Self::PrereadNone = self {
            let durability = if self == Self::Preread { "instance" } else { "none" };
            let setup = Setup {
                when: "false".into(),
                quiet_period: "1h".into(),
                durability: durability.into(),
                // The shipped journal, not the small one of the tests.
                spool: String::new(),
                ..Setup::default()
            };
            let daemon = Daemon::start_keeping(&setup, dir)?;
            return Ok(Running {
                server: self,
                address: daemon.address(),
                dir: dir.to_owned(),
                process: daemon.into(),
            });
        }
        let stored = dir.join("stored");
        fs::create_dir_all(&stored)?;
        let port = Port::free()?;
        let address = port.address();
        let child = Child::start(&mut self.command(&port, &stored, dir)?, &dir.join("log"))?;
        let mut running =
            Running { server: self, address, dir: dir.to_owned(), process: Process::Other { child, _port: port } };
        running.await_answer().with_context(|| format!("{}: {}", self.name(), running.log()))?;
        Ok(running)
    }

    fn command(self, port: &Port, stored: &Path, dir: &Path) -> Result<Command> {
        let number = port.number().to_string();
        let mut command = match self {
            Self::Preread | Self::PrereadNone => bail!("the daemon is started otherwise"),
            Self::DcmtkTuned | Self::DcmtkBitPreserving | Self::DcmtkShipped => {
                let mut storescp = Command::new(peers::program("storescp", "dcmtk")?);
                storescp.arg("--fork");
                if self != Self::DcmtkShipped {
                    storescp.args(["--max-pdu", "131072"]);
                }
                if self == Self::DcmtkBitPreserving {
                    storescp.arg("--bit-preserving");
                }
                storescp.arg("-od").arg(stored).arg(&number);
                storescp
            }
            Self::OrthancTuned | Self::OrthancShipped => {
                let config = dir.join("orthanc.json");
                let settings = serde_json::json!({
                    "StorageDirectory": stored,
                    "IndexDirectory": stored,
                    "HttpServerEnabled": false,
                    "DicomPort": port.number(),
                    "DicomAet": self.ae_title(),
                });
                fs::write(&config, settings.to_string())?;
                let mut orthanc = Command::new(peers::program("Orthanc", "orthanc")?);
                orthanc.arg(&config);
                orthanc
            }
            Self::DicomRs => {
                let mut storescp = Command::new(dicom_storescp()?);
                storescp.args(["--non-blocking", "--promiscuous", "--max-pdu-length", "131072", "-p", &number, "-o"]);
                storescp.arg(stored);
                storescp
            }
            Self::Pynetdicom => {
                let mut python = Command::new(peers::python_program()?);
                python.args(["-m", "pynetdicom", "storescp", &number, "--quiet", "-od"]).arg(stored);
                python
            }
            Self::Floor => {
                let mut floor = Command::new(std::env::current_exe()?);
                floor.args(["floor", &number]).arg(stored);
                floor
            }
            Self::Discard => {
                let mut discard = Command::new(std::env::current_exe()?);
                discard.args(["discard", &number]);
                discard
            }
        };
        command.env_remove("TCP_NODELAY").env_remove("TCP_BUFFER_LENGTH");
        if let Self::DcmtkTuned | Self::DcmtkBitPreserving | Self::OrthancTuned = self {
            command.env("TCP_NODELAY", "1");
        }
        Ok(command)
    }

    fn ae_title(self) -> &'static str {
        match self {
            Self::Preread | Self::PrereadNone => daemon::AE_TITLE,
            _ => "RECEIVER",
        }
    }
}

/// dicom-rs's own receiver, built by cargo from the package registry.
///
/// # Errors
/// When it is not there.
fn dicom_storescp() -> Result<PathBuf> {
    let program = place::root().join("target/peers/dicom-rs/bin/dicom-storescp");
    if !program.is_file() {
        bail!("{} is missing. Get it: cargo xtask bench receive", program.display());
    }
    Ok(program)
}

/// A receiver that takes associations, or the floor that takes connections.
pub(crate) struct Running {
    server: Server,
    address: String,
    process: Process,
    dir: PathBuf,
}

enum Process {
    Preread(Box<Daemon>),
    Other { child: Child, _port: Port },
}

impl From<Daemon> for Process {
    fn from(daemon: Daemon) -> Self {
        Self::Preread(Box::new(daemon))
    }
}

impl Running {
    /// The process id; of a server that forks, the parent's.
    pub(crate) fn id(&self) -> u32 {
        match &self.process {
            Process::Preread(daemon) => daemon.id(),
            Process::Other { child, .. } => child.id(),
        }
    }

    /// The port, as a command line takes it.
    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// Its own title.
    pub(crate) fn ae_title(&self) -> &'static str {
        self.server.ae_title()
    }

    /// Opens `count` connections for the template's images.
    ///
    /// # Errors
    /// When one is refused.
    pub(crate) fn lines(&self, count: usize, template: &Template) -> Result<Vec<Line>> {
        let open = |_| match self.server {
            Server::Floor => Line::floor(&self.address),
            _ => Line::dicom(&self.address, self.ae_title(), template),
        };
        (0..count).map(open).collect()
    }

    /// Waits until the files of its folder hold so many bytes, because a receiver that answers and keeps nothing would be
    /// the fastest of all. What is not the instances' own file does not count.
    ///
    /// # Errors
    /// When they do not in the end.
    pub(crate) fn await_stored(&self, bytes: u64) -> Result<()> {
        let folder = match self.server {
            Server::Discard => return Ok(()),
            Server::Preread | Server::PrereadNone => self.dir.join("spool/instances"),
            _ => self.dir.clone(),
        };
        let holds = || Ok((bytes_below(&folder)? >= bytes).then_some(()));
        wait::until("files of all that was answered for", Duration::from_secs(10), holds)
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        let log = match &self.process {
            Process::Preread(daemon) => daemon.log(),
            Process::Other { child, .. } => child.log(),
        };
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn await_answer(&mut self) -> Result<()> {
        let (address, title) = (self.address.clone(), self.ae_title());
        let server = self.server;
        let Process::Other { child, .. } = &mut self.process else { return Ok(()) };
        wait::until("an answer", Duration::from_secs(30), || {
            if let Some(status) = child.ended()? {
                bail!("ended with {status}");
            }
            let answers = match server {
                Server::Floor => Line::floor(&address).is_ok(),
                _ => Scu::connect(&address, CALLING, title).is_ok_and(|mut scu| {
                    let echoed = scu.echo().is_ok();
                    let _ = scu.release();
                    echoed
                }),
            };
            Ok(answers.then_some(()))
        })
    }

    /// Ends it and removes its folder.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub(crate) fn end(self) -> Result<()> {
        let dir = self.dir.clone();
        drop(self);
        // A child process of a server that forks may still be writing.
        wait::until("the server's folder to go", Duration::from_secs(10), || Ok(fs::remove_dir_all(&dir).ok()))
    }
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() { bytes_below(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}
