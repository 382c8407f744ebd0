//! Bad input: each a clear error, or a held study with its reason; the daemon serves on. What those try who mean harm is
//! in the modules, by what they have to get past; docs/THREATS.md has the list.

mod keeping;
mod network;
mod raw;
mod reading;
mod watched;

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{self, AE_TITLE, Daemon, Setup},
    instance::{Instance, Study},
    place,
    random::Random,
    samples,
    scp::Scp,
    scu::Scu,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Stores one instance on an association of its own.
fn store(daemon: &Daemon, instance: &Instance) -> Result<u16> {
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(instance))?;
    let status = scu.store(instance)?;
    scu.release()?;
    Ok(status)
}

/// Sends bytes that are no association request; the daemon must end the connection soon.
fn is_hung_up_on(daemon: &Daemon, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(daemon.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    stream.write_all(bytes)?;
    // A reset is as good an end as an orderly one; to go on waiting is none.
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            Err(error).context("the connection is still open after 40 s")
        }
        _ => Ok(()),
    }
}

#[test]
fn whatever_comes_to_the_dicom_port_the_daemon_serves_on() -> Result<()> {
    let mut daemon = Daemon::start(&Setup::default())?;
    is_hung_up_on(&daemon, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    is_hung_up_on(&daemon, b"This is a text file.\nIt has two lines.\n")?;
    // A TLS client hello, as from a PACS that was told the wrong port.
    is_hung_up_on(&daemon, &[0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x03])?;
    // An association request that announces 4 GB.
    is_hung_up_on(&daemon, &[0x01, 0x00, 0xff, 0xff, 0xff, 0xff, 0x00, 0x01])?;
    let mut random = Random::seeded(5);
    for _ in 0..20 {
        let noise: Vec<u8> = (0..64).flat_map(|_| random.bits().to_le_bytes()).collect();
        let mut stream = TcpStream::connect(daemon.address())?;
        // It may hang up while we write: that is what is wanted.
        let _ = stream.write_all(&noise);
        let _ = stream.shutdown(Shutdown::Both);
    }
    daemon.check_alive()?;
    assert_eq!(daemon.queue()?.len(), 0);
    Ok(())
}

#[test]
fn a_sender_that_goes_away_in_the_middle_leaves_nothing() -> Result<()> {
    let mut daemon = Daemon::start(&Setup::default())?;
    let whole = samples::all()?.swap_remove(0).instance;
    let mut half = whole.clone();
    // It says that its pixels go on and then stops: the sender that is gone before the last fragment.
    half.data_set.truncate(whole.data_set.len() / 2);
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(&half))?;
    scu.begin_store(&half)?;
    drop(scu);
    daemon.check_alive()?;
    assert_eq!(daemon.queue()?.len(), 0);
    assert_eq!(store(&daemon, &whole)?, 0);
    assert_eq!(daemon.queue()?.len(), 1);
    Ok(())
}

#[test]
fn a_study_without_an_image_is_skipped_with_its_reason() -> Result<()> {
    let daemon = Daemon::start(&Setup { when: "true".into(), ..Setup::default() })?;
    let mut study = Study::seeded(31);
    assert_eq!(store(&daemon, &study.document(1)?)?, 0);
    let entry = daemon.await_state(&study.uid, "skipped", PATIENCE)?;
    let reason = entry["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("image"), "the reason is: {reason}");
    Ok(())
}

#[test]
fn an_instance_without_a_study_is_refused_or_held() -> Result<()> {
    let mut daemon = Daemon::start(&Setup::default())?;
    let status = store(&daemon, &Study::seeded(32).image_without_study(1)?)?;
    if status == 0 {
        let queue = daemon.queue()?;
        let held = queue.iter().any(|entry| entry["state"] == "held" && entry["reason"].as_str().is_some());
        assert!(held, "it was taken and is nowhere: {queue:#?}");
    } else {
        // Data set does not match SOP class, or cannot understand (PS3.4 table B.2-1).
        assert!(matches!(status, 0xA900..=0xA9FF | 0xC000..=0xCFFF), "status {status:04x}");
    }
    daemon.check_alive()?;
    assert_eq!(store(&daemon, &Study::seeded(33).image(1)?)?, 0);
    Ok(())
}

#[test]
fn the_same_uid_with_other_bytes_does_not_replace_the_first() -> Result<()> {
    let daemon = Daemon::start(&Setup { when: "false".into(), ..Setup::default() })?;
    let first = Study::seeded(34).image(1)?;
    let mut second = first.clone();
    let last = second.data_set.len() - 1;
    second.data_set[last] ^= 0xff;
    assert_eq!(store(&daemon, &first)?, 0);
    // Promised: quarantined and visible. Which status it gets is the daemon's choice.
    let _ = store(&daemon, &second)?;
    let shown = daemon.show(&first.study_instance_uid)?;
    let path = shown["instances"][0]["path"].as_str().context("no path")?;
    assert!(e2e::instance::data_set(&fs::read(path)?)? == first.data_set, "the first was replaced");
    Ok(())
}

#[test]
fn a_model_that_lacks_a_graph_is_named_before_anything_is_received() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    copy_folder(&place::model(), &model)?;
    fs::remove_file(model.join("decoder_model_merged.onnx"))?;
    let check = daemon::command(&["model", "check", &model.to_string_lossy()])?;
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    assert!(said.contains("decoder_model_merged.onnx"), "{said}");
    let Err(error) = Daemon::start(&Setup { model, ..Setup::default() }) else { panic!("it serves without a model") };
    let error = format!("{error:#}");
    assert!(error.contains("decoder_model_merged.onnx is missing"), "{error}");
    Ok(())
}

#[test]
fn a_model_that_loses_a_graph_holds_its_studies_until_it_is_mended() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    copy_folder(&place::model(), &model)?;
    let graph = model.join("decoder_model_merged.onnx");
    let pacs = Scp::start("PACS")?;
    let mut daemon = Daemon::start(&Setup { model, ..Setup::to("PACS", &pacs.address()) })?;
    fs::remove_file(&graph)?;

    let instance = samples::all()?.swap_remove(0).instance;
    let study = &instance.study_instance_uid;
    assert_eq!(store(&daemon, &instance)?, 0);
    let entry = daemon.await_state(study, "held", PATIENCE)?;
    assert!(entry["reason"].to_string().contains("decoder_model"), "{entry}");
    daemon.check_alive()?;

    fs::copy(place::model().join("decoder_model_merged.onnx"), &graph)?;
    let retry = daemon.command(&["queue", "retry", &entry["id"].to_string()])?;
    assert!(retry.status.success(), "{}", String::from_utf8_lossy(&retry.stderr));
    pacs.text_report(study, PATIENCE)?;
    daemon.await_state(study, "delivered", PATIENCE)?;
    Ok(())
}

#[test]
fn malformed_data_sets_are_refused_or_kept_and_cost_little_memory() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    // So that each gets as far as its pixels.
    let folder = tempfile::tempdir()?;
    let model = place::model_made_for(folder.path(), "")?;
    let mut daemon = Daemon::start(&Setup { when: "true".into(), model, ..Setup::default() })?;
    let before = daemon.resident_memory()?;
    let mut sent = 0;
    for file in place::dicom_files(&shared.join("dicom/malformed"))? {
        // Only the file meta information is read here: the data set is for the daemon to be careful with.
        let Ok(instance) = Instance::read_unparsed(&file) else { continue };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match store(&daemon, &instance) {
            Ok(status) => eprintln!("{name}: {status:04x}"),
            Err(error) => eprintln!("{name}: {error:#}"),
        }
        daemon.check_alive().with_context(|| name.to_string())?;
        sent += 1;
    }
    ensure!(sent > 5, "only {sent} files could be sent");
    // They settle, are read, and end in a state each.
    e2e::wait::until("every study to end", PATIENCE, || {
        let open =
            |entry: &serde_json::Value| !matches!(entry["state"].as_str(), Some("held" | "skipped" | "delivered"));
        Ok((!daemon.queue()?.iter().any(open)).then_some(()))
    })?;
    daemon.check_alive()?;
    let grown = daemon.resident_memory()?.saturating_sub(before) / (1 << 20);
    assert!(grown < 400, "grown by {grown} MiB");
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
