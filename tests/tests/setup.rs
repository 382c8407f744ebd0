//! From nothing to a daemon: `config`, `init`, `doctor` and `route explain`, as somebody meets them who installs preread.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{Daemon, Setup, command},
    place, samples,
};
use serde_json::Value;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn the_printed_example_passes_its_own_check_on_a_machine_where_nothing_is_installed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("preread.toml");
    fs::write(&file, command(&["config", "example"])?.stdout)?;
    let check = command(&["config", "check", "--config", &text(&file)])?;
    ensure!(check.status.code() == Some(0), "{}", said(&check));
    ensure!(
        Path::new("/usr/share/preread/models").exists() || said(&check).contains("is not there"),
        "{}",
        said(&check)
    );
    // And `serve` makes no spool before it has seen that its model is not there.
    let spool = dir.path().join("spool");
    let example =
        fs::read_to_string(&file)?.replace("/var/lib/preread", &text(&spool)).replace("/usr/share", "/nowhere");
    fs::write(&file, example)?;
    let serve = command(&["serve", "--config", &text(&file)])?;
    ensure!(!serve.status.success() && said(&serve).contains("/nowhere"), "{}", said(&serve));
    ensure!(!spool.exists(), "the spool was made");
    Ok(())
}

#[test]
fn every_mistake_is_told_at_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("preread.toml");
    fs::write(
        &file,
        "[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1:11112\"\nmax_associations = \"many\"\n[spool]\ndir = \"spool\"\n\
         colour = \"blue\"\n[study]\nquiet_period = \"soon\"\n[[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\n\
         address = \"127.0.0.1\"\n",
    )?;
    for command_line in ["config check", "serve"] {
        let mut arguments: Vec<&str> = command_line.split(' ').collect();
        let file = text(&file);
        arguments.extend(["--config", &file]);
        let output = command(&arguments)?;
        ensure!(output.status.code() == Some(2), "{}", said(&output));
        for part in ["line 4", "a whole number", "line 7", "colour", "line 9", "soon", "line 13", "host and port"] {
            ensure!(said(&output).contains(part), "{part:?} is not told: {}", said(&output));
        }
    }
    Ok(())
}

#[test]
fn a_daemon_with_too_few_descriptors_says_how_many_it_needs_and_does_not_start() -> Result<()> {
    let start = |files: u64| {
        let mut limited = place::as_installed(Command::new("bash"))?;
        limited
            .args(["-c", "ulimit -n \"$1\" && exec \"$0\" \"${@:2}\""])
            .arg(place::preread()?)
            .arg(files.to_string());
        Daemon::start_by(&Setup::default(), limited)
    };
    let refused = |files| {
        let error = start(files).err().with_context(|| format!("it starts with {files} files"))?;
        Ok::<_, anyhow::Error>(format!("{error:#}"))
    };
    let said = refused(256)?;
    let wanted = said.split("are none yet, need ").nth(1).and_then(|rest| rest.split(':').next());
    let wanted: u64 = wanted.with_context(|| said.clone())?.parse()?;
    ensure!(said.contains("LimitNOFILE") && said.contains("64 associations"), "{said}");
    refused(wanted - 1)?;
    start(wanted)?.check_alive()
}

#[test]
fn a_rule_wider_than_its_model_is_a_warning() -> Result<()> {
    let daemon = Daemon::start(&Setup { when: "true".into(), ..Setup::default() })?;
    let check = daemon.command(&["config", "check"])?;
    ensure!(check.status.success(), "{}", said(&check));
    for part in ["warning: rule \"radiographs\" is wider than its model", "CT", "KNEE", "body_part in [\"CHEST\"]"] {
        ensure!(said(&check).contains(part) || part == "KNEE", "{part:?}: {}", said(&check));
    }
    Ok(())
}

#[test]
fn init_writes_a_configuration_that_passes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = text(&dir.path().join("preread.toml"));
    let model = text(&place::model());
    let init = |more: &[&str]| {
        let mut arguments = vec!["init", "--model", &model, "--out", &out];
        arguments.extend(more);
        command(&arguments)
    };
    let nothing = init(&[])?;
    ensure!(nothing.status.code() == Some(2) && said(&nothing).contains("--pacs"), "{}", said(&nothing));
    let wrong = init(&["--pacs", "pacs"])?;
    ensure!(wrong.status.code() == Some(2) && said(&wrong).contains("AE@host:port"), "{}", said(&wrong));
    let written = init(&["--pacs", "ORTHANC@127.0.0.1:4242"])?;
    ensure!(written.status.success(), "{}", said(&written));
    let check = command(&["config", "check", "--config", &out])?;
    ensure!(check.status.success() && !said(&check).contains("warning"), "{}", said(&check));
    let first = fs::read_to_string(&out)?;
    ensure!(first.lines().filter(|line| !line.trim().is_empty()).count() <= 32, "{first}");
    let again = init(&["--pacs", "OTHER@127.0.0.1:4243"])?;
    ensure!(again.status.code() == Some(2) && said(&again).contains("--force"), "{}", said(&again));
    ensure!(fs::read_to_string(&out)? == first);
    let forced = init(&["--pacs", "OTHER@127.0.0.1:4243", "--force", "--from", "10.1.2.0/24"])?;
    ensure!(forced.status.success() && fs::read_to_string(&out)?.contains("10.1.2.0/24"), "{}", said(&forced));
    Ok(())
}

/// The findings as `found: what: message`.
fn findings(daemon: &Daemon) -> Result<Vec<String>> {
    let output = daemon.command(&["doctor", "--json"])?;
    let findings: Value = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
    let line = |it: &Value| format!("{}: {}: {}", it["found"], it["what"], it["message"]).replace('"', "");
    Ok(findings.as_array().context("no list")?.iter().map(line).collect())
}

#[test]
fn doctor_runs_what_the_daemon_would_run() -> Result<()> {
    let mut daemon = Daemon::start(&Setup::default())?;
    let check = |daemon: &Daemon, expected: &[&str]| -> Result<()> {
        let findings = findings(daemon)?;
        for part in expected {
            ensure!(findings.iter().any(|line| line.contains(part)), "{part:?} is not in {findings:#?}");
        }
        Ok(())
    };
    check(
        &daemon,
        &[
            "ok: daemon: preread serve runs",
            "ok: model phantom-cxr:",
            "reads an image in",
            "preread serve listens on",
            "ok: rights:",
        ],
    )?;
    daemon.terminate()?;
    check(&daemon, &["warning: daemon: preread serve does not run", "is free"])?;
    let port = TcpListener::bind(daemon.address())?;
    check(&daemon, &["problem: port", "is held by"])?;
    drop(port);
    fs::set_permissions(daemon.config(), fs::Permissions::from_mode(0o666))?;
    check(&daemon, &["warning: permissions:", "chmod go-w"])?;

    // A library that was cut short ends who loads it by a signal; one of something else is no ONNX Runtime.
    let dir = tempfile::tempdir()?;
    let library = place::root().join("target/onnxruntime/libonnxruntime.so");
    if !library.is_file() {
        eprintln!("skipped: {} is not here", library.display());
        return Ok(());
    }
    let config = fs::read_to_string(daemon.config())?;
    let mut bytes = fs::read(&library)?;
    bytes.truncate(bytes.len() / 2);
    for (name, bytes) in [("cut.so", bytes.as_slice()), ("text.so", b"no library")] {
        let copy = dir.path().join(name);
        fs::write(&copy, bytes)?;
        fs::write(daemon.config(), format!("[runtime]\nlibrary = {:?}\n{config}", text(&copy)))?;
        check(&daemon, &["problem: model phantom-cxr:"])?;
    }
    Ok(())
}

#[test]
fn route_explain_judges_as_the_daemon_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = place::model_made_for(dir.path(), "body_part = ['HAND']")?;
    let daemon = Daemon::start(&Setup { when: "source == \"ct\"".into(), model, ..Setup::default() })?;
    let sample = text(&samples::all()?[0].file);
    let explain = |more: &[&str]| {
        let mut arguments = vec!["route", "explain", sample.as_str()];
        arguments.extend(more);
        daemon.command(&arguments)
    };
    let elsewhere = explain(&[])?;
    for part in ["--source", "does not take it", "=> skipped: no rule takes", "frames = 1"] {
        ensure!(said(&elsewhere).contains(part), "{part:?}: {}", said(&elsewhere));
    }
    let from_ct = explain(&["--source", "ct"])?;
    for part in ["takes it, but its model does not read it", "its body part is CHEST", "=> skipped"] {
        ensure!(said(&from_ct).contains(part), "{part:?}: {}", said(&from_ct));
    }
    Ok(())
}
