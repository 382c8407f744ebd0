//! Nothing stops the daemon, and nobody keeps a study from being read: readings that end the process, senders that never
//! end their association, rows and files that somebody changed, and stops by a person.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{Instance, Study},
    peers, place, samples,
    scp::Scp,
    scu::Scu,
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

/// A field of a message in protocol buffers' encoding.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.extend((length & 0x7f | 0x80).to_le_bytes().first());
        length >>= 7;
    }
    bytes.extend(length.to_le_bytes().first());
    [bytes, content.to_vec()].concat()
}

/// A whole number without dimensions, or with one, among the constants of a graph (`TensorProto`): `element` is the number of
/// its type.
fn constant(name: &str, element: u8, dimensions: &[u8], value: &[u8]) -> Vec<u8> {
    let dimensions: Vec<u8> = dimensions.iter().flat_map(|dimension| [0x08, *dimension]).collect();
    field(5, &[&dimensions, &[0x10, element][..], &field(8, name.as_bytes()), &field(9, value)].concat())
}

/// An operation of a graph (`NodeProto`), with what its attributes are encoded as.
fn operation(kind: &str, inputs: &[&str], outputs: &[&str], attributes: &[u8]) -> Vec<u8> {
    let names = |number: u8, names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| field(number, name.as_bytes())).collect()
    };
    let own = [names(1, inputs), names(2, outputs), names(3, outputs), names(4, &[kind]), attributes.to_vec()];
    field(1, &own.concat())
}

/// A copy of the embedded model whose decoder has `more` in its graph.
fn model_with(more: &[u8]) -> Result<TempDir> {
    let dir = tempfile::tempdir()?;
    for entry in fs::read_dir(place::model())? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::write(dir.path().join(name), fs::read(&path)?)?;
        }
    }
    let decoder = dir.path().join("decoder_model_merged.onnx");
    // What is appended to a message is merged into it.
    fs::write(&decoder, [fs::read(&decoder)?, field(7, more)].concat())?;
    Ok(dir)
}

/// The embedded model with one more operation in a graph: the least whole number divided by minus one, which ONNX Runtime
/// hands to a processor that ends the process for it (SIGFPE). Nothing where the processor does not.
fn model_that_kills() -> Result<Option<TempDir>> {
    let number = |name: &str, value: i32| constant(name, 6, &[1], &value.to_le_bytes());
    let division = operation("Div", &["least", "minus"], &["never"], &[]);
    let dir = model_with(&[number("least", i32::MIN), number("minus", -1), division].concat())?;
    let tried = e2e::daemon::command(&["model", "check", &dir.path().to_string_lossy()])?;
    if tried.status.signal().is_none() {
        eprintln!("skipped: this processor divides what others end the process for");
        return Ok(None);
    }
    Ok(Some(dir))
}

/// The embedded model with one more operation in a graph, which does not come to an end: a loop of 2^62 rounds.
fn model_that_never_ends() -> Result<TempDir> {
    const INT64: u8 = 7;
    const BOOL: u8 = 9;
    let scalar = |number: u8, name: &str, element: u8| {
        let kind = field(2, &field(1, &[&[0x08, element][..], &field(2, &[])].concat()));
        field(number, &[field(1, name.as_bytes()), kind].concat())
    };
    let body = [
        operation("Identity", &["goes_on"], &["still_goes_on"], &[]),
        operation("Add", &["sum", "sum"], &["next_sum"], &[]),
        field(2, b"for ever"),
        scalar(11, "round", INT64),
        scalar(11, "goes_on", BOOL),
        scalar(11, "sum", INT64),
        scalar(12, "still_goes_on", BOOL),
        scalar(12, "next_sum", INT64),
    ];
    // The attribute's type (20) is that of a graph (5).
    let body = field(5, &[&field(1, b"body"), &field(6, &body.concat()), &[0xa0, 0x01, 5][..]].concat());
    model_with(
        &[
            constant("rounds", INT64, &[], &(1_i64 << 62).to_le_bytes()),
            constant("begins", BOOL, &[], &[1]),
            constant("zero", INT64, &[], &0_i64.to_le_bytes()),
            operation("Loop", &["rounds", "begins", "zero"], &["the last sum"], &body),
        ]
        .concat(),
    )
}

fn send(address: &str, instance: &Instance) -> Result<()> {
    let mut scu = Scu::for_instances(address, "SENDER", AE_TITLE, std::slice::from_ref(instance))?;
    let status = scu.store(instance)?;
    ensure!(status == 0, "C-STORE is answered with {status:#06x}");
    scu.release()
}

/// Starts the daemon again whenever it has ended, as systemd does; true when it had ended by a signal.
fn keep_alive(daemon: &mut Daemon, deaths: &mut usize) -> Result<()> {
    while let Some(status) = daemon.ended()? {
        ensure!(status.signal().is_some(), "it ended by itself: {status}\n{}", daemon.log());
        *deaths += 1;
        ensure!(*deaths < 10, "it ends again and again\n{}", daemon.log());
        // It may end again before it is seen to listen.
        let _ = daemon.start_again();
    }
    Ok(())
}

#[test]
fn a_study_that_kills_is_held_after_two_deaths_and_200_others_are_read_meanwhile() -> Result<()> {
    const OTHERS: usize = 200;
    let Some(killer) = model_that_kills()? else { return Ok(()) };
    let more = format!(
        "\n[[model]]\nname = \"killer\"\npath = \"{}\"\n[[rule]]\nname = \"poison\"\nwhen = 'rows > 64'\nmodel = \"killer\"\nmode = \"shadow\"\n",
        killer.path().display()
    );
    let setup = Setup { quiet_period: "1s".into(), when: "rows == 64".into(), more, ..Setup::default() };
    let (mut daemon, mut deaths) = (Daemon::start(&setup)?, 0);
    let mut poison = Study::seeded(666);
    let mut to_send = vec![poison.long_image(1, 64 * 128)?];
    for number in 0..OTHERS {
        to_send.push(Study::seeded(1000 + number as u64).image(1)?);
    }
    let until = Instant::now() + Duration::from_secs(270);
    while let Some(instance) = to_send.first() {
        ensure!(Instant::now() < until, "{} instances could not be sent", to_send.len());
        keep_alive(&mut daemon, &mut deaths)?;
        if send(&daemon.address(), instance).is_ok() {
            to_send.remove(0);
        }
    }
    loop {
        keep_alive(&mut daemon, &mut deaths)?;
        let queue = daemon.queue()?;
        let in_state = |state: &str| queue.iter().filter(|study| study["state"] == state).count();
        if in_state("delivered") == OTHERS && in_state("held") == 1 {
            break;
        }
        ensure!(
            Instant::now() < until,
            "{deaths} deaths, {} delivered, {} held of {}\n{}",
            in_state("delivered"),
            in_state("held"),
            queue.len(),
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(deaths == 2, "it died {deaths} times");
    let held = daemon.study(&poison.uid)?.context("the study is gone")?;
    let reason = held["reason"].as_str().unwrap_or_default();
    ensure!(held["state"] == "held" && reason.contains("ended 2 times") && reason.contains("queue retry"), "{held}");
    daemon.check_alive()?;

    // A person tries again: it kills again, and is held again.
    let id = held["id"].to_string();
    ensure!(daemon.command(&["queue", "retry", &id])?.status.success());
    wait::until("two more deaths", PATIENCE, || {
        keep_alive(&mut daemon, &mut deaths)?;
        Ok((deaths >= 4 && daemon.study(&poison.uid)?.is_some_and(|study| study["state"] == "held")).then_some(()))
    })?;
    ensure!(deaths == 4, "it died {deaths} times");
    Ok(())
}

#[test]
fn loading_a_model_ahead_cannot_close_the_port_for_good() -> Result<()> {
    let Some(killer) = model_that_kills()? else { return Ok(()) };
    let more = format!("\n[[model]]\nname = \"killer\"\npath = \"{}\"\npreload = true\n", killer.path().display());
    let setup = Setup { quiet_period: "1s".into(), more, ..Setup::default() };
    // It may die before it answers for the first time: then the start fails, and the folder with it.
    let dir = tempfile::tempdir()?;
    let mut daemon = Daemon::start_dying(&setup, &dir.path().join("daemon"))?;
    let mut deaths = 0;
    wait::until("the first death", PATIENCE, || daemon.ended())?;
    keep_alive(&mut daemon, &mut deaths)?;
    let sample = samples::all()?.swap_remove(0).instance;
    send(&daemon.address(), &sample)?;
    daemon.await_state(&sample.study_instance_uid, "delivered", PATIENCE)?;
    ensure!(deaths == 1 && daemon.ended()?.is_none(), "it died {deaths} times");
    ensure!(daemon.log().contains("loading this model ended preread before"), "{}", daemon.log());
    Ok(())
}

#[test]
fn a_graph_without_an_end_is_held_at_the_deadline_and_others_are_read() -> Result<()> {
    let endless = model_that_never_ends()?;
    let more = format!(
        "\n[[model]]\nname = \"endless\"\npath = \"{}\"\n[[rule]]\nname = \"endless\"\nwhen = 'rows > 64'\nmodel = \"endless\"\nmode = \"shadow\"\n",
        endless.path().display()
    );
    let study = "deadline = \"8s\"".into();
    let setup = Setup { quiet_period: "1s".into(), when: "rows == 64".into(), study, more, ..Setup::default() };
    let mut daemon = Daemon::start(&setup)?;
    // The second one finds the model as the first one left it.
    for seed in [667, 668] {
        let (mut never, mut other) = (Study::seeded(seed), Study::seeded(seed + 1000));
        send(&daemon.address(), &never.long_image(1, 64 * 128)?)?;
        send(&daemon.address(), &other.image(1)?)?;
        daemon.await_state(&other.uid, "delivered", PATIENCE)?;
        let held = daemon.await_state(&never.uid, "held", PATIENCE)?;
        ensure!(held["reason"].as_str().is_some_and(|reason| reason.contains("8 s (study.deadline)")), "{held}");
    }
    let never = Study::seeded(669).long_image(1, 64 * 128)?;
    send(&daemon.address(), &never)?;
    wait::until("the model to be at it", PATIENCE, || {
        Ok(daemon.study(&never.study_instance_uid)?.filter(|study| study["state"] == "reading"))
    })?;
    ensure!(daemon.terminate()?.success(), "a stop does not end it");
    Ok(())
}

/// A daemon that is in the middle of a long reading of a sample: the model runs again and again with a part covered.
fn in_the_middle_of_a_reading() -> Result<(Daemon, String)> {
    let more = "[rule.evidence]\nsaliency = [32, 32]\n".into();
    let daemon = Daemon::start(&Setup { quiet_period: "2s".into(), more, ..Setup::default() })?;
    let sample = samples::all()?.swap_remove(0).instance;
    send(&daemon.address(), &sample)?;
    await_reading(&daemon, &sample.study_instance_uid, 1)?;
    Ok((daemon, sample.study_instance_uid))
}

/// Waits until the model is at work after so many starts, and `queue ls` says so.
fn await_reading(daemon: &Daemon, study: &str, starts: usize) -> Result<()> {
    wait::until("the study to be read", PATIENCE, || {
        let entry = daemon.study(study)?.unwrap_or_default();
        let is_read = entry["state"] == "reading" || entry["reason"] == "being read ahead";
        Ok((is_read && daemon.log().matches("model loaded").count() == starts).then_some(()))
    })?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

#[test]
fn a_stop_in_the_middle_of_a_reading_is_quiet_and_no_death() -> Result<()> {
    let (mut daemon, study) = in_the_middle_of_a_reading()?;
    ensure!(daemon.log().contains("reading began"), "{}", daemon.log());
    for starts in 2..5 {
        let status = daemon.terminate()?;
        ensure!(status.success(), "{status}");
        daemon.start_again()?;
        await_reading(&daemon, &study, starts)?;
    }
    let log = daemon.log();
    ensure!(!log.contains("ERROR"), "{log}");

    // What a person does counts as nothing; what the system does counts.
    daemon.kill()?;
    daemon.start_again()?;
    await_reading(&daemon, &study, 5)?;
    daemon.kill()?;
    daemon.start_again()?;
    let held = daemon.await_state(&study, "held", PATIENCE)?;
    ensure!(held["reason"].as_str().is_some_and(|reason| reason.contains("ended 2 times")), "{held}");
    Ok(())
}

#[test]
fn an_association_that_stays_open_does_not_keep_a_study() -> Result<()> {
    let mut daemon = Daemon::start(&Setup { quiet_period: "1s".into(), ..Setup::default() })?;
    let sample = samples::all()?.swap_remove(0).instance;
    let mut scu = Scu::for_instances(&daemon.address(), "ROUTER", AE_TITLE, std::slice::from_ref(&sample))?;
    ensure!(scu.store(&sample)? == 0);
    let waits = wait::until("the reason why it waits", PATIENCE, || {
        ensure!(scu.echo()? == 0, "C-ECHO is refused");
        let entry = daemon.study(&sample.study_instance_uid)?.unwrap_or_default();
        Ok(entry["reason"].as_str().map(str::to_owned))
    })?;
    ensure!(waits.contains("waits for the association of peer \"this machine\""), "{waits}");
    wait::until("its report", PATIENCE, || {
        ensure!(scu.echo()? == 0, "C-ECHO is refused");
        // The same instance again is nothing new.
        ensure!(scu.store(&sample)? == 0);
        std::thread::sleep(Duration::from_millis(300));
        Ok(daemon.study(&sample.study_instance_uid)?.filter(|study| study["state"] == "delivered"))
    })?;
    daemon.check_alive()
}

/// The files of a daemon's instances, by their study.
fn file_of(daemon: &Daemon, study: &str) -> Result<PathBuf> {
    let shown = daemon.show(study)?;
    Ok(shown["instances"][0]["path"].as_str().context("no path")?.into())
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut bytes = fs::read(file)?;
    change(&mut bytes);
    Ok(fs::write(file, bytes)?)
}

fn find(bytes: &[u8], what: &[u8]) -> Result<usize> {
    bytes.windows(what.len()).position(|window| window == what).context("not there")
}

#[test]
fn damaged_and_swapped_bytes_are_never_read() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let mut daemon = Daemon::start(&Setup { quiet_period: "3s".into(), ..Setup::to("PACS", &pacs.address()) })?;
    let samples: Vec<Instance> = samples::all()?.into_iter().map(|sample| sample.instance).take(8).collect();
    samples.iter().try_for_each(|sample| send(&daemon.address(), sample))?;
    daemon.terminate()?;
    let files: Vec<PathBuf> =
        samples.iter().map(|sample| file_of(&daemon, &sample.study_instance_uid)).collect::<Result<_>>()?;
    change(&files[0], |bytes| {
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
    })?;
    change(&files[1], |bytes| {
        let at = bytes.len() - 501;
        bytes[at] ^= 0x40;
    })?;
    let name = find(&fs::read(&files[2])?, b"\x10\x00\x10\x00PN")? + 8;
    change(&files[2], |bytes| bytes[name] = b'Z')?;
    change(&files[3], |bytes| bytes.truncate(bytes.len() / 2))?;
    change(&files[4], |bytes| bytes.extend([0; 2]))?;
    let (five, six) = (fs::read(&files[5])?, fs::read(&files[6])?);
    fs::write(&files[5], six)?;
    fs::write(&files[6], five)?;
    // The last one is read; it shows that the others would have been.
    daemon.start_again()?;
    for sample in &samples[..7] {
        let held = daemon.await_state(&sample.study_instance_uid, "held", PATIENCE)?;
        let reason = held["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("damaged on the disk") && reason.contains("queue retry"), "{held}");
    }
    daemon.await_state(&samples[7].study_instance_uid, "delivered", PATIENCE)?;
    ensure!(pacs.received().len() == 1, "{} reports were sent", pacs.received().len());

    // What is put back is read.
    change(&files[2], |bytes| bytes[name] = samples[2].data_set[name - (bytes.len() - samples[2].data_set.len())])?;
    let id = daemon.study(&samples[2].study_instance_uid)?.context("no study")?["id"].to_string();
    ensure!(daemon.command(&["queue", "retry", &id])?.status.success());
    daemon.await_state(&samples[2].study_instance_uid, "delivered", PATIENCE)?;
    Ok(())
}

/// Changes the spool's database, as a later version or a damage would.
fn sql(daemon: &Daemon, statements: &str) -> Result<Value> {
    let database = daemon.dir().join("spool/state.sqlite");
    peers::python("sql.py", &[&database.to_string_lossy(), statements])
}

#[test]
fn a_row_that_is_not_understood_holds_its_study_and_nothing_else() -> Result<()> {
    let mut daemon = Daemon::start(&Setup { quiet_period: "1s".into(), ..Setup::default() })?;
    let samples: Vec<Instance> = samples::all()?.into_iter().map(|sample| sample.instance).take(6).collect();
    let (last, bad) = samples.split_last().context("no samples")?;
    for sample in bad {
        send(&daemon.address(), sample)?;
    }
    for sample in bad {
        daemon.await_state(&sample.study_instance_uid, "delivered", PATIENCE)?;
    }
    daemon.terminate()?;
    let of_study =
        "report_id IN (SELECT report.id FROM report JOIN study ON study.id = study_id WHERE study_instance_uid";
    let [unknown_kind, no_uid, unknown_state, no_number, no_text] = bad else { return Err(anyhow::anyhow!("five")) };
    sql(
        &daemon,
        &format!(
            "UPDATE study SET state = 'settled';
             UPDATE object SET kind = 'hologram' WHERE {of_study} = '{}');
             UPDATE object SET series_instance_uid = 'none' WHERE {of_study} = '{}');
             UPDATE study SET state = 'dreaming' WHERE study_instance_uid = '{}';
             UPDATE study SET generation = 'many' WHERE study_instance_uid = '{}';
             UPDATE instance SET digest = x'00ff' WHERE study_id =
                 (SELECT id FROM study WHERE study_instance_uid = '{}');",
            unknown_kind.study_instance_uid,
            no_uid.study_instance_uid,
            unknown_state.study_instance_uid,
            no_number.study_instance_uid,
            no_text.study_instance_uid,
        ),
    )?;
    daemon.start_again()?;
    for sample in bad {
        let held = daemon.await_state(&sample.study_instance_uid, "held", PATIENCE)?;
        let reason = held["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("not understood") || reason.contains("not known"), "{held}");
    }
    send(&daemon.address(), last)?;
    daemon.await_state(&last.study_instance_uid, "delivered", PATIENCE)?;
    ensure!(daemon.ended()?.is_none());
    Ok(())
}

#[test]
fn a_report_of_an_unknown_kind_delays_no_other() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    pacs.answer(0xa700);
    let mut daemon = Daemon::start(&Setup { quiet_period: "1s".into(), ..Setup::to("PACS", &pacs.address()) })?;
    let samples: Vec<Instance> = samples::all()?.into_iter().map(|sample| sample.instance).take(3).collect();
    for sample in &samples[..2] {
        send(&daemon.address(), sample)?;
        daemon.await_state(&sample.study_instance_uid, "written", PATIENCE)?;
    }
    let kind = format!(
        "UPDATE object SET kind = 'hologram' WHERE sop_instance_uid IS NOT NULL AND report_id IN (SELECT report.id FROM report
         JOIN study ON study.id = study_id WHERE study_instance_uid = '{}')",
        samples[0].study_instance_uid
    );
    // Once under the daemon's feet, and then at its start.
    sql(&daemon, &kind)?;
    pacs.answer(0);
    let second = daemon.study(&samples[1].study_instance_uid)?.context("no study")?["id"].to_string();
    ensure!(daemon.command(&["queue", "retry", &second])?.status.success());
    daemon.await_state(&samples[1].study_instance_uid, "delivered", PATIENCE)?;
    daemon.terminate()?;
    daemon.start_again()?;
    let held = daemon.await_state(&samples[0].study_instance_uid, "held", PATIENCE)?;
    ensure!(held["reason"].as_str().is_some_and(|reason| reason.contains("kind")), "{held}");
    send(&daemon.address(), &samples[2])?;
    daemon.await_state(&samples[2].study_instance_uid, "delivered", PATIENCE)?;
    ensure!(daemon.ended()?.is_none());
    Ok(())
}

#[test]
fn a_rule_in_shadow_mode_sends_nothing() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let shadow =
        Setup { quiet_period: "1s".into(), more: "mode = \"shadow\"\n".into(), ..Setup::to("PACS", &pacs.address()) };
    let daemon = Daemon::start(&shadow)?;
    let sample = samples::all()?.swap_remove(1).instance;
    send(&daemon.address(), &sample)?;
    daemon.await_state(&sample.study_instance_uid, "delivered", PATIENCE)?;
    let shown = daemon.show(&sample.study_instance_uid)?;
    let reports = shown["reports"].as_array().context("no reports")?;
    ensure!(reports.iter().any(|report| report["kind"] == "text-sr"), "the report is not kept: {shown}");
    for report in reports {
        ensure!(report["delivered_to"] == serde_json::json!([]), "{report}");
    }
    // Another study, read and delivered after it, would let a delivery of the first one come as well.
    let second = samples::all()?.swap_remove(2).instance;
    send(&daemon.address(), &second)?;
    daemon.await_state(&second.study_instance_uid, "delivered", PATIENCE)?;
    ensure!(pacs.received().is_empty(), "{} objects were sent", pacs.received().len());
    Ok(())
}
