//! README.md as a newcomer follows it: every block of code is run as it is printed, or held against what it speaks of.
//! Only the ports and the folder of the spool are others than the printed ones.

use std::{
    env, fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    child::Child,
    daemon::{Daemon, Setup},
    orthanc::{ORTHANC, Orthanc},
    peers, place,
    port::Port,
    readme::{self, Block},
    samples, wait,
};
use serde_json::Value;
use tempfile::TempDir;

fn blocks() -> Result<Vec<Block>> {
    readme::blocks(&place::root().join("README.md"))
}

/// A newcomer's folder: the checkout's models beside the files that the commands make.
struct Newcomer {
    dicom: Port,
    pacs: Port,
    admin: Port,
    servers: Vec<Child>,
    // The last field: the folder goes when everything that uses it is gone.
    dir: TempDir,
}

impl Newcomer {
    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("preread-e2e-readme-").tempdir()?;
        symlink(place::root().join("models"), dir.path().join("models"))?;
        fs::create_dir(dir.path().join("reports-of-the-pacs"))?;
        Ok(Self { dicom: Port::free()?, pacs: Port::free()?, admin: Port::free()?, servers: Vec::new(), dir })
    }

    /// The shell that runs a line, with the program on its path.
    fn shell(&self, line: &str) -> Result<Command> {
        let line = line
            .replace("11112", &self.dicom.number().to_string())
            .replace("11113", &self.pacs.number().to_string())
            .replace("-od reports ", "-od reports-of-the-pacs ");
        let program = place::preread()?;
        let folder = program.parent().context("the program is in no folder")?;
        let path = env::var("PATH").unwrap_or_default();
        let mut shell = place::as_installed(Command::new("bash"))?;
        // A server becomes the process that is ended with the test; a line with a redirection is the shell's own.
        let line = if line.contains('>') { line } else { format!("exec {line}") };
        shell.args(["-euo", "pipefail", "-c", &line]);
        shell.current_dir(self.dir.path()).stdin(Stdio::null());
        shell.env("PATH", format!("{}:/usr/sbin:{path}", folder.display()));
        shell.env("PREREAD__LISTEN__ADDRESS", self.dicom.address());
        shell.env("PREREAD__ADMIN__ADDRESS", self.admin.address());
        shell.env("PREREAD__SPOOL__DIR", self.dir.path().join("spool"));
        shell.env("PREREAD__STUDY__QUIET_PERIOD", "2s");
        shell.env("ORT_DYLIB_PATH", place::root().join("target/onnxruntime/libonnxruntime.so"));
        shell.env("TCP_NODELAY", "1");
        Ok(shell)
    }

    fn start(&mut self, line: &str, port: u16) -> Result<()> {
        let log = self.dir.path().join(format!("server-{}.log", self.servers.len()));
        let mut server = Child::start(&mut self.shell(line)?, &log)?;
        wait::until(line, Duration::from_secs(60), || {
            if let Some(status) = server.ended()? {
                bail!("{line} ended with {status}:\n{}", server.log());
            }
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(|_| ()))
        })?;
        self.servers.push(server);
        Ok(())
    }

    fn run(&self, line: &str) -> Result<String> {
        let output = self.shell(line)?.output().with_context(|| line.to_owned())?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "`{line}` ended with {}:\n{said}", output.status);
        Ok(said)
    }

    /// A line as a person would type it, and wait for what it is about.
    fn type_in(&mut self, line: &str) -> Result<()> {
        let line = line.trim();
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] | ["storescp", ..] => Ok(()),
            ["cargo", "xtask", what, ..] => {
                let xtask = place::root().join("target/debug/xtask");
                let known = Command::new(&xtask).args([*what, "--help"]).output()?;
                ensure!(known.status.success(), "`{line}`: xtask has no such command");
                Ok(())
            }
            // Compiling everything a second time shows nothing about the line.
            ["cargo", "build", "--release", "--package", package] => {
                ensure!(place::root().join("crates").join(package).is_dir(), "`{line}`: there is no such package");
                Ok(())
            }
            ["preread", "serve", ..] => self.start(line, self.dicom.number()),
            ["dcmsend", ..] => {
                self.run(line)?;
                self.await_reports(samples::all()?.len())
            }
            _ => self.run(line).map(|_| ()),
        }
    }

    fn await_reports(&self, count: usize) -> Result<()> {
        let mut last = String::new();
        let delivered = wait::until("a report of each sample", Duration::from_secs(120), || {
            last = self.run("preread queue ls --json --config preread.toml")?;
            let studies: Value = serde_json::from_str(&last)?;
            let states: Vec<_> = studies.as_array().into_iter().flatten().map(|study| &study["state"]).collect();
            Ok((states.len() == count && states.iter().all(|state| *state == "delivered")).then_some(()))
        });
        delivered.with_context(|| last)
    }
}

#[test]
fn every_command_of_the_readme_runs_as_printed() -> Result<()> {
    peers::program("dcmsend", "dcmtk")?;
    let blocks = blocks()?;
    let commands = || blocks.iter().filter(|block| block.language == "sh").flat_map(|block| block.text.lines());
    let mut newcomer = Newcomer::new()?;
    // Who follows the page has a PACS already.
    let pacs = commands().find(|line| line.starts_with("storescp ")).context("the page starts no storescp")?;
    newcomer.start(pacs, newcomer.pacs.number())?;
    for block in blocks.iter().filter(|block| block.language == "sh") {
        for line in block.text.lines() {
            newcomer.type_in(line).with_context(|| format!("README.md, the block of line {}", block.line))?;
        }
    }
    let received = fs::read_dir(newcomer.dir.path().join("reports-of-the-pacs"))?.count();
    assert!(received >= samples::all()?.len(), "the PACS has {received} objects");
    Ok(())
}

/// What no test runs would be a block that nobody notices.
#[test]
fn every_block_of_the_readme_is_of_a_kind_that_is_tried() -> Result<()> {
    for Block { language, line, .. } in blocks()? {
        assert!(["sh", "json", "lua", "text"].contains(&language.as_str()), "line {line}: nobody tries a {language}");
    }
    Ok(())
}

#[test]
fn orthanc_routes_by_the_lines_of_the_readme() -> Result<()> {
    let blocks = blocks()?;
    let one = |language: &str| {
        let found = blocks.iter().find(|block| block.language == language);
        found.map(|block| block.text.clone()).with_context(|| format!("README.md has no block of {language}"))
    };
    let settings: Value = serde_json::from_str(&one("json")?)?;
    let modality = &settings["DicomModalities"]["preread"];
    assert_eq!((&modality[0], &modality[2]), (&"PREREAD".into(), &11112.into()), "the title and port of the example");

    let ready = Orthanc::prepare()?;
    let daemon = Daemon::start(&Setup::to(ORTHANC, &ready.address()))?;
    let orthanc = ready.route_by(&one("lua")?, daemon.port())?;
    for sample in samples::all()?.iter().take(3) {
        orthanc.upload(&sample.file)?;
    }
    let mut last = Vec::new();
    let read = wait::until("a report of each study", Duration::from_secs(90), || {
        last = daemon.queue()?;
        Ok((last.len() == 3 && last.iter().all(|study| study["state"] == "delivered")).then_some(()))
    });
    read.with_context(|| format!("{last:#?}\nOrthanc's log:\n{}", orthanc.log()))
}
