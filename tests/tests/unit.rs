//! The systemd unit: what our documents say of it is in it, and a failure does not shut the port for good.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use e2e::{daemon, place};

/// The names of systemd's directives that a document of ours could mean: of systemd.service(5), systemd.exec(5),
/// systemd.resource-control(5) and systemd.unit(5).
const DIRECTIVES: &str = "
    AmbientCapabilities AppArmorProfile BindPaths BindReadOnlyPaths CapabilityBoundingSet ConditionPathExists CPUAffinity
    CPUQuota CPUWeight DeviceAllow DevicePolicy DynamicUser Environment EnvironmentFile ExecReload ExecStart ExecStartPost
    ExecStartPre ExecStop ExecStopPost InaccessiblePaths IOWeight IPAddressAllow IPAddressDeny KeyringMode KillMode
    LimitAS LimitCORE LimitMEMLOCK LimitNOFILE LimitNPROC LoadCredential LockPersonality LogRateLimitBurst
    LogRateLimitIntervalSec LogsDirectory MemoryDenyWriteExecute MemoryHigh MemoryMax MemoryMin MemorySwapMax Nice
    NoExecPaths NoNewPrivileges NotifyAccess OnFailure OOMPolicy OOMScoreAdjust PrivateDevices PrivateIPC PrivateMounts
    PrivateNetwork PrivateTmp PrivateUsers ProcSubset ProtectClock ProtectControlGroups ProtectHome ProtectHostname
    ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem ReadOnlyPaths ReadWritePaths
    RemoveIPC RequiresMountsFor Restart RestartPreventExitStatus RestartSec RestrictAddressFamilies RestrictNamespaces
    RestrictRealtime RestrictSUIDSGID RootDirectory RuntimeDirectory SecureBits StandardError StandardOutput
    StartLimitBurst StartLimitIntervalSec StateDirectory StateDirectoryMode SupplementaryGroups SystemCallArchitectures
    SystemCallErrorNumber SystemCallFilter TasksMax TemporaryFileSystem TimeoutStartSec TimeoutStopSec UMask
    WatchdogSec WorkingDirectory";

fn systemd() -> PathBuf {
    place::root().join("deploy/systemd")
}

/// The unit and its drop-ins, each with its name.
fn units() -> Result<Vec<(String, String)>> {
    let mut units = vec![systemd().join("preread.service")];
    for entry in fs::read_dir(systemd().join("preread.service.d-examples"))? {
        units.push(entry?.path());
    }
    let text = |path: PathBuf| Ok((path.display().to_string(), fs::read_to_string(path)?));
    units.into_iter().map(text).collect()
}

/// `Name=value` of every directive that is set, comments left out.
fn settings(unit: &str) -> impl Iterator<Item = (&str, &str)> {
    unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
}

/// The documents that a person reads: those in the checkout's root, in docs, and the commented configuration.
fn documents() -> Result<Vec<(String, String)>> {
    let mut paths = vec![place::root().join("deploy/preread.toml")];
    for folder in [place::root(), place::root().join("docs")] {
        for entry in fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md" || extension == "toml"));
    let text = |path: PathBuf| Ok((path.display().to_string(), fs::read_to_string(path)?));
    paths.into_iter().map(text).collect()
}

/// The directives that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let known: BTreeSet<&str> = DIRECTIVES.split_whitespace().collect();
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| known.contains(word)).collect()
}

/// Words of the language that are directives too: `Restart preread`.
const WORDS: [&str; 3] = ["Environment", "Restart", "Nice"];

#[test]
fn every_directive_that_a_document_names_is_in_the_unit_or_in_a_drop_in() -> Result<()> {
    let units = units()?;
    let set: BTreeSet<&str> = units.iter().flat_map(|(_, unit)| settings(unit)).map(|(name, _)| name.trim()).collect();
    ensure!(named("The unit's `MemoryMax` is the last word; PatientID").contains("MemoryMax"), "the test sees nothing");
    let mut seen = 0;
    for (document, text) in documents()? {
        for name in named(&text).into_iter().filter(|name| !WORDS.contains(name)) {
            ensure!(set.contains(name), "{document} names {name}, which neither the unit nor a drop-in sets");
            seen += 1;
        }
    }
    ensure!(seen > 10, "the documents name {seen} directives");
    // What a drop-in overrides is right in the unit, so that a misspelt name does not pass as one of its own.
    let known = named(DIRECTIVES);
    for (name, _) in units.iter().flat_map(|(_, unit)| settings(unit)) {
        let usual = ["Description", "Documentation", "Wants", "After", "Type", "User", "Group", "WantedBy"];
        ensure!(known.contains(name) || usual.contains(&name), "{name} is no directive that this test knows");
    }
    Ok(())
}

#[test]
fn a_failure_does_not_shut_the_port_for_good() -> Result<()> {
    let (_, unit) = &units()?[0];
    let all: Vec<(&str, &str)> = settings(unit).collect();
    for expected in [
        ("StartLimitIntervalSec", "0"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("MemoryMax", "80%"),
        ("Environment", "ORT_DISABLE_TELEMETRY=1"),
    ] {
        ensure!(all.contains(&expected), "the unit has no {}={}", expected.0, expected.1);
    }
    // A control process that fails is started again for ever, whatever its exit code.
    ensure!(all.iter().all(|(name, _)| *name != "ExecStartPre"), "a wrong configuration would be tried for ever");
    Ok(())
}

#[test]
fn systemd_reads_the_unit_with_every_drop_in() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The program need not be installed where the unit says.
    let (_, unit) = &units()?[0];
    let installed = unit.replace("/usr/bin/preread", &place::preread()?.display().to_string());
    fs::write(dir.path().join("preread.service"), installed.replace("User=preread\nGroup=preread\n", ""))?;
    let drop_ins = dir.path().join("preread.service.d");
    fs::create_dir(&drop_ins)?;
    for (path, text) in &units()?[1..] {
        fs::write(drop_ins.join(PathBuf::from(path).file_name().context("a name")?), text)?;
    }
    let verify = Command::new("systemd-analyze").arg("verify").arg(dir.path().join("preread.service")).output();
    let Ok(verify) = verify else {
        eprintln!("systemd-analyze is not here: not tried");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("preread.service")).collect();
    ensure!(ours.is_empty(), "systemd-analyze verify:\n{said}");
    Ok(())
}

#[test]
fn serve_says_once_why_it_ends_and_2_means_the_configuration() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("preread.toml");
    let serve = |toml: &str| -> Result<(Option<i32>, String)> {
        fs::write(&config, toml)?;
        let output = daemon::command(&["serve", "--config", &config.display().to_string()])?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let spool = dir.path().join("spool");
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let good = |address: &str| {
        format!(
            "[listen]\nae_title = \"PREREAD\"\naddress = \"{address}\"\n[spool]\ndir = {spool:?}\njournal = \"8MiB\"\n\
             [log]\nformat = \"json\"\n"
        )
    };
    for mistake in ["[listen]\nae_titel = \"X\"\n", &(good("127.0.0.1:0") + "level = \"no,such=level\"\n")] {
        let (code, said) = serve(mistake)?;
        ensure!(code == Some(2), "{mistake}: {code:?}: {said}");
    }
    let (code, said) = serve(&good(&taken.local_addr()?.to_string()))?;
    ensure!(code == Some(1), "a port that is taken is no mistake in the configuration: {code:?}: {said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("in use")).collect();
    ensure!(lines.len() == 1 && lines[0].contains("ERROR"), "it is said {} times: {said}", lines.len());
    ensure!(lines[0].matches("os error 98").count() == 1, "the system's words stand there twice: {said}");
    Ok(())
}
