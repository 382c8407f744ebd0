//! The shipped program: as a daemon of its own configuration, and as a command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::{child::Child, http, place, port::Port, scu::Scu, wait};

/// The daemon's own title in every test.
pub const AE_TITLE: &str = "PREREAD";

/// What differs between the configurations of the tests.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How long a study must be quiet, as the configuration writes it.
    pub quiet_period: String,
    /// Where reports go: title and `host:port`.
    pub destination: Option<(String, String)>,
    /// Which objects go there.
    pub objects: Vec<String>,
    /// The model's folder.
    pub model: PathBuf,
    /// Which studies are read, in CEL.
    pub when: String,
    /// What an acknowledgement promises: `instance`, `association` or `none`.
    pub durability: String,
    /// More keys of the section `[listen]`.
    pub listen: String,
    /// More keys of the section `[spool]`.
    pub spool: String,
    /// The spool's folder, if it is not one in the daemon's own.
    pub spool_dir: Option<PathBuf>,
    /// More keys of the section `[study]`.
    pub study: String,
    /// From where the one `[[peer]]` calls.
    pub address: String,
    /// More keys of it.
    pub peer: String,
    /// Written at the end of the configuration.
    pub more: String,
}

impl Default for Setup {
    /// A quiet period of two seconds, the embedded model for every radiograph, no destination.
    fn default() -> Self {
        Self {
            quiet_period: "2s".into(),
            destination: None,
            objects: vec!["text-sr".into()],
            model: place::model(),
            when: r#"modality in ["CR", "DX"]"#.into(),
            durability: "instance".into(),
            listen: String::new(),
            // Small, because it is written when a spool is made, and every test makes one.
            spool: r#"journal = "8MiB""#.into(),
            spool_dir: None,
            study: String::new(),
            address: "127.0.0.0/8".into(),
            peer: String::new(),
            more: String::new(),
        }
    }
}

impl Setup {
    /// As the default, and reports go to `ae_title` at `address`.
    pub fn to(ae_title: &str, address: &str) -> Self {
        Self { destination: Some((ae_title.into(), address.into())), ..Self::default() }
    }

    /// The configuration file.
    fn to_toml(&self, dir: &Path, dicom: &Port, admin: &Port) -> String {
        let Self { quiet_period, destination, objects, model, when, durability, listen, address, peer, .. } = self;
        let Self { spool, spool_dir, study, more, .. } = self;
        let folder = spool_dir.clone().unwrap_or_else(|| dir.join("spool"));
        let (dicom, admin) = (dicom.address(), admin.address());
        let mut toml = format!(
            r#"
[listen]
ae_title = "{AE_TITLE}"
address = "{dicom}"
{listen}

[spool]
dir = "{folder}"
durability = "{durability}"
{spool}

[study]
quiet_period = "{quiet_period}"
{study}

[admin]
address = "{admin}"

[[peer]]
name = "this machine"
address = ["{address}"]
{peer}

[[model]]
name = "phantom-cxr"
path = "{model}"
"#,
            folder = folder.display(),
            model = model.display(),
        );
        let mut destinations = "[]\nmode = \"shadow\"";
        if let Some((ae_title, address)) = destination {
            destinations = r#"["pacs"]"#;
            toml += &format!(
                r#"
[[destination]]
name = "pacs"
ae_title = "{ae_title}"
address = "{address}"
objects = {objects:?}
"#
            );
        }
        toml += &format!(
            r#"
[[rule]]
name = "radiographs"
when = '{when}'
model = "phantom-cxr"
destinations = {destinations}
"#
        );
        toml + more
    }
}

/// A running `preread serve` with a folder of its own.
pub struct Daemon {
    child: Child,
    dicom: Port,
    admin: Port,
    config: PathBuf,
    log: PathBuf,
    // The last field: the folder goes when everything that uses it is gone.
    dir: Folder,
}

enum Folder {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

/// How long the daemon may take until it answers C-ECHO.
const START: Duration = Duration::from_secs(30);

impl Daemon {
    /// Writes the configuration and starts the daemon; it answers C-ECHO when this returns.
    ///
    /// # Errors
    /// When it ends or does not answer; what it printed is part of the message.
    pub fn start(setup: &Setup) -> Result<Self> {
        Self::start_in(setup, Folder::Temporary(tempfile::Builder::new().prefix("preread-e2e-").tempdir()?))
    }

    /// As [`Self::start`], in a folder that stays: `dir` is made new.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_keeping(setup: &Setup, dir: &Path) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir)?;
        Self::start_in(setup, Folder::Kept(dir.to_owned()))
    }

    /// As [`Self::start_keeping`], for a daemon that may end before it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_dying(setup: &Setup, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        Self::spawn(setup, Folder::Kept(dir.to_owned()), program()?)
    }

    /// Starts it again as [`Self::start_again`] does, with a system call that goes wrong: `injection` is one of strace's,
    /// such as `fdatasync:error=EIO:when=3`. It need not get as far as answering C-ECHO.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_injected(&mut self, injection: &str) -> Result<()> {
        let (call, _) = injection.split_once(':').context("an injection names a system call first")?;
        // The tracer is a child of the daemon's, so that the process we started is the daemon itself.
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={injection}")]).arg(program()?.get_program());
        strace.current_dir(place::root());
        self.child = serve(strace, &self.config, &self.log)?;
        match self.await_echo() {
            Err(error) if self.child.ended()?.is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// As [`Self::start`], by `program`, which is preread with something around it, such as a tracer.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_by(setup: &Setup, program: Command) -> Result<Self> {
        let dir = Folder::Temporary(tempfile::Builder::new().prefix("preread-e2e-").tempdir()?);
        let mut daemon = Self::spawn(setup, dir, program)?;
        daemon.await_echo()?;
        Ok(daemon)
    }

    fn start_in(setup: &Setup, dir: Folder) -> Result<Self> {
        let mut daemon = Self::spawn(setup, dir, program()?)?;
        daemon.await_echo()?;
        Ok(daemon)
    }

    fn spawn(setup: &Setup, dir: Folder, program: Command) -> Result<Self> {
        let (dicom, admin) = (Port::free()?, Port::free()?);
        let config = dir.path().join("preread.toml");
        fs::write(&config, setup.to_toml(dir.path(), &dicom, &admin))?;
        let log = dir.path().join("preread.log");
        let child = serve(program, &config, &log)?;
        Ok(Self { child, dicom, admin, config, log, dir })
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.ended()
    }

    /// The process id; another after each start.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it receives, as `host:port`.
    pub fn address(&self) -> String {
        self.dicom.address()
    }

    /// Where it listens for DICOM, as a number.
    pub fn port(&self) -> u16 {
        self.dicom.number()
    }

    /// Its admin interface, as `host:port`.
    pub fn admin_address(&self) -> String {
        self.admin.address()
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it printed so far, over all its starts.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()
    }

    /// Starts it again after [`Self::kill`] or [`Self::terminate`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.child = serve(program()?, &self.config, &self.log)?;
        self.await_echo()
    }

    /// Asks it to read its certificates again.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn hang_up(&self) -> Result<()> {
        self.child.signal("HUP")
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it does not end within ten seconds.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.child.terminate(Duration::from_secs(10))
    }

    /// Fails unless it is running and answers C-ECHO.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_alive(&mut self) -> Result<()> {
        self.await_echo()
    }

    /// Memory that it holds in RAM now, in bytes (`VmRSS`).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn resident_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// What `GET /health` answers: the status, and the body as text.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn health(&self) -> Result<(u16, String)> {
        http::get(&self.admin.address(), "/health")
    }

    /// `preread queue ls --json`.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn queue(&self) -> Result<Vec<Value>> {
        let json = json(&self.command(&["queue", "ls", "--json"])?)?;
        json.as_array().cloned().context("queue ls --json is not a list")
    }

    /// The entry of one study in `queue ls`, if there is one.
    ///
    /// # Errors
    /// As [`Self::queue`].
    pub fn study(&self, study_instance_uid: &str) -> Result<Option<Value>> {
        Ok(self.queue()?.into_iter().find(|entry| entry["study_instance_uid"] == study_instance_uid))
    }

    /// `preread queue show ID --json` of one study.
    ///
    /// # Errors
    /// When there is no such study, or the command fails.
    pub fn show(&self, study_instance_uid: &str) -> Result<Value> {
        let entry = self.study(study_instance_uid)?.with_context(|| format!("no study {study_instance_uid}"))?;
        json(&self.command(&["queue", "show", &entry["id"].to_string(), "--json"])?)
    }

    /// What is kept beside a study's report, such as `heatmap-png`. It may come a moment after the report was sent.
    ///
    /// # Errors
    /// When it is not there within ten seconds.
    pub fn kept_beside_report(&self, study_instance_uid: &str, kind: &str) -> Result<Vec<u8>> {
        let path = wait::until(kind, Duration::from_secs(10), || {
            let shown = self.show(study_instance_uid)?;
            let found = shown["reports"].as_array().into_iter().flatten().find(|report| report["kind"] == kind);
            Ok(found.and_then(|report| report["path"].as_str().map(str::to_owned)))
        })?;
        fs::read(&path).with_context(|| path.clone())
    }

    /// Waits until a study is in `state`; returns its entry.
    ///
    /// # Errors
    /// When it is not within `limit`, with the state it is in.
    pub fn await_state(&self, study_instance_uid: &str, state: &str, limit: Duration) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::until(&format!("the state {state}"), limit, || {
            last = self.study(study_instance_uid)?.unwrap_or_default();
            Ok((last["state"] == state).then(|| last.clone()))
        });
        found.with_context(|| format!("the study is {last}; the daemon's log:\n{}", tail(&self.log())))
    }

    /// A command that reads this daemon's configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        let config = self.config.to_string_lossy().into_owned();
        let mut all = arguments.to_vec();
        all.extend(["--config", &config]);
        command(&all)
    }

    fn await_echo(&mut self) -> Result<()> {
        let address = self.dicom.address();
        let echo = || Scu::connect(&address, "E2E", AE_TITLE)?.echo();
        let child = &mut self.child;
        let outcome = wait::until("an answer to C-ECHO", START, || {
            if let Some(status) = child.ended()? {
                bail!("preread serve ended with {status}");
            }
            Ok(echo().ok().filter(|status| *status == 0))
        });
        outcome.map(|_| ()).with_context(|| format!("the daemon's log:\n{}", tail(&self.child.log())))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", tail(&self.log()));
        }
    }
}

fn serve(mut program: Command, config: &Path, log: &Path) -> Result<Child> {
    Child::start(program.args(["serve", "--config"]).arg(config), log)
}

/// Runs `preread` to its end.
///
/// # Errors
/// When it cannot be started.
pub fn command(arguments: &[&str]) -> Result<Output> {
    program()?.args(arguments).stdin(Stdio::null()).output().context("cannot start preread")
}

fn program() -> Result<Command> {
    let mut command = place::as_installed(Command::new(place::preread()?))?;
    command.current_dir(place::root());
    // What the caller's environment says about logs and configuration is not what is tested.
    for (name, _) in std::env::vars() {
        if name == "RUST_LOG" || name.starts_with("PREREAD__") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// The one JSON document that a command with `--json` prints.
///
/// # Errors
/// When the command failed or printed something else; what it said on standard error is part of the message.
pub fn json(output: &Output) -> Result<Value> {
    if !output.status.success() {
        bail!("preread ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("standard output is not one JSON document: {}", String::from_utf8_lossy(&output.stdout))
    })
}

/// The end of a log, enough to see what went wrong.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
