//! The machine fails in earnest: a file system without bytes or inodes, no file descriptors, and files of the spool that are
//! damaged, gone or no longer the same.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{Instance, Study},
    peers,
    scu::Scu,
    small_disk::{self, Filled, SmallDisk},
    wait,
};
use serde_json::Value;

use super::{PATIENCE, check_kept, send, setup};

const OUT_OF_RESOURCES: u16 = 0xA700;

/// Small instances of a study of their own.
fn instances(seed: u64, count: u32) -> Result<Vec<Instance>> {
    let mut study = Study::seeded(seed);
    (1..=count).map(|number| study.image(number)).collect()
}

/// Sends over an association that the end of the daemon breaks, so that nothing of it is filed before that end.
fn send_and_kill(daemon: &mut Daemon, work: &[Instance]) -> Result<()> {
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, work)?;
    for instance in work {
        ensure!(scu.store(instance)? == 0, "an instance is refused");
    }
    daemon.kill()
}

/// What `doctor --json` finds to be so bad that its exit code is 1.
fn problems(daemon: &Daemon, more: &[&str]) -> Result<Vec<String>> {
    let output = daemon.command(&[&["doctor", "--json"][..], more].concat())?;
    let findings: Value = serde_json::from_slice(&output.stdout)?;
    let of = |finding: &Value| format!("{}: {}", finding["what"].as_str().unwrap_or("?"), finding["message"]);
    let findings = findings.as_array().context("no list")?.iter();
    Ok(findings.filter(|finding| finding["found"] == "problem").map(of).collect())
}

/// A spool on a small file system.
fn on(disk: &SmallDisk) -> Setup {
    let spool = "journal = \"8MiB\"\nreserve = \"1MiB\"\nreserve_files = 16".into();
    Setup { spool, spool_dir: Some(disk.path().join("spool")), ..setup("instance") }
}

/// Nothing is received, and both the sender and who asks for health are told.
fn check_refuses(daemon: &mut Daemon, work: &[Instance], why: &str) -> Result<()> {
    daemon.check_alive()?;
    let (status, body) = daemon.health()?;
    ensure!(status == 503 && body.contains("nothing is received") && body.contains(why), "health: {status} {body}");
    let (acknowledged, refused) = send(daemon, work);
    ensure!(acknowledged.is_empty(), "{} were acknowledged without room", acknowledged.len());
    ensure!(
        refused.len() == work.len() && refused.iter().all(|status| *status == OUT_OF_RESOURCES),
        "the association did not go on: {refused:04x?}"
    );
    Ok(())
}

/// By itself everything is received again, and what was acknowledged before is there.
fn check_serves_again(daemon: &mut Daemon, acknowledged: &[Instance], work: &[Instance]) -> Result<()> {
    wait::until("everything to be acknowledged", PATIENCE, || {
        ensure!(daemon.ended()?.is_none(), "it ended\n{}", daemon.log());
        Ok((send(daemon, work).0.len() == work.len()).then_some(()))
    })?;
    let all = [acknowledged, work].concat();
    wait::until("everything to be filed", PATIENCE, || Ok(check_kept(daemon, &all).ok()))?;
    let health = || Ok(Some(daemon.health()?).filter(|(status, _)| *status == 200));
    wait::until("good health", PATIENCE, health).map(|_| ())
}

/// A daemon that had the disk of `options` to itself ends as `ends` does it; then something else fills the disk, and it
/// starts.
fn check_start_without(filled: Filled, ends: impl FnOnce(&mut Daemon, &[Instance]) -> Result<()>) -> Result<()> {
    let disk = SmallDisk::mount("size=64m,nr_inodes=400")?;
    let (before, after) = (instances(51, 30)?, instances(52, 10)?);
    let mut daemon = Daemon::start(&on(&disk))?;
    ends(&mut daemon, &before)?;
    disk.fill(filled)?;
    daemon.start_again()?;
    check_refuses(&mut daemon, &after, "")?;
    // It refuses for as long as it takes, and a stop is a stop.
    ensure!(daemon.terminate()?.success(), "a stop without room is no failure\n{}", daemon.log());
    daemon.start_again()?;
    check_refuses(&mut daemon, &after, "")?;
    disk.make_room()?;
    check_serves_again(&mut daemon, &before, &after)
}

fn send_and_stop(daemon: &mut Daemon, work: &[Instance]) -> Result<()> {
    ensure!(send(daemon, work).0.len() == work.len(), "not everything was acknowledged");
    daemon.terminate().map(|_| ())
}

#[test]
fn a_start_on_a_full_disk_refuses_until_there_is_room() -> Result<()> {
    if !small_disk::may_mount("faults::machine::a_start_on_a_full_disk_refuses_until_there_is_room")? {
        return Ok(());
    }
    for filled in [Filled::Bytes, Filled::Inodes] {
        check_start_without(filled, send_and_kill).with_context(|| format!("{filled:?}, killed"))?;
        check_start_without(filled, send_and_stop).with_context(|| format!("{filled:?}, stopped"))?;
    }
    Ok(())
}

#[test]
fn a_first_start_on_a_full_disk_refuses_until_there_is_room() -> Result<()> {
    if !small_disk::may_mount("faults::machine::a_first_start_on_a_full_disk_refuses_until_there_is_room")? {
        return Ok(());
    }
    for filled in [Filled::Bytes, Filled::Inodes] {
        let disk = SmallDisk::mount("size=64m,nr_inodes=400")?;
        let work = instances(53, 10)?;
        disk.fill(filled)?;
        let mut daemon = Daemon::start(&on(&disk)).with_context(|| format!("{filled:?}"))?;
        check_refuses(&mut daemon, &work, "")?;
        disk.make_room()?;
        check_serves_again(&mut daemon, &[], &work)?;
    }
    Ok(())
}

#[test]
fn what_runs_out_while_receiving_is_refused_and_what_was_acknowledged_is_filed() -> Result<()> {
    if !small_disk::may_mount(
        "faults::machine::what_runs_out_while_receiving_is_refused_and_what_was_acknowledged_is_filed",
    )? {
        return Ok(());
    }
    // What is too long to be taken leaves room for what is shorter.
    check_runs_out("size=32m,nr_inodes=4000", &[300 << 10, 64 * 64], "B free").context("bytes")?;
    check_runs_out("size=64m,nr_inodes=300", &[64 * 64], "inodes").context("inodes")
}

/// Sends instances of such lengths, until nothing is taken any more by a file system with `options`, which is said to lack
/// what is `called` so.
fn check_runs_out(options: &str, lengths: &[usize], called: &str) -> Result<()> {
    let disk = SmallDisk::mount(options)?;
    let mut daemon = Daemon::start(&on(&disk))?;
    let mut study = Study::seeded(54);
    let (mut acknowledged, mut last) = (Vec::new(), Vec::new());
    for length in lengths {
        let mut work: Vec<_> = (1..=320).map(|number| study.long_image(number, *length)).collect::<Result<_>>()?;
        // What is being filed takes more than what is filed: there may be some room once more.
        wait::until("nothing to be taken any more", PATIENCE, || {
            let (taken, refused) = send(&daemon, &work);
            ensure!(taken.len() + refused.len() == work.len(), "the association did not go on");
            ensure!(refused.iter().all(|status| *status == OUT_OF_RESOURCES), "{refused:04x?}");
            work.retain(|instance| taken.iter().all(|taken| taken.sop_instance_uid != instance.sop_instance_uid));
            let none_taken = taken.is_empty();
            acknowledged.extend(taken);
            Ok((none_taken && check_kept(&daemon, &acknowledged).is_ok()).then_some(()))
        })?;
        ensure!(!acknowledged.is_empty() && !work.is_empty(), "{} were taken", acknowledged.len());
        last = work;
    }
    last.truncate(1);
    check_refuses(&mut daemon, &last, called)?;
    let found = problems(&daemon, &[])?;
    ensure!(found.len() == 1 && found[0].contains("space") && found[0].contains(called), "doctor finds {found:#?}");
    // A start needs no more than there is, and loses nothing.
    daemon.kill()?;
    daemon.start_again()?;
    check_kept(&daemon, &acknowledged)?;
    check_refuses(&mut daemon, &last, called)
}

/// How many files a running daemon may have open.
fn allowed_files(daemon: &Daemon) -> Result<u64> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id()))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no such limit")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

/// Sets how many files a running daemon may have open from now on.
fn allow_files(daemon: &Daemon, files: u64) -> Result<()> {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &daemon.id().to_string(), &format!("--nofile={files}:")]);
    ensure!(prlimit.status().context("cannot start prlimit")?.success(), "prlimit failed");
    Ok(())
}

#[test]
fn a_daemon_without_file_descriptors_refuses_and_goes_on() -> Result<()> {
    let mut daemon = Daemon::start(&setup("instance"))?;
    let (before, during, after) = (instances(55, 5)?, instances(56, 20)?, instances(57, 5)?);
    ensure!(send(&daemon, &before).0.len() == before.len(), "not everything was acknowledged");
    // An association that is open already, and has another file to make for each instance.
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, &during)?;
    let long = Study::seeded(58).long_image(1, 1_200 << 10)?;
    let mut scu_of_long = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(&long))?;
    let allowed = allowed_files(&daemon)?;
    allow_files(&daemon, 8)?;
    let mut acknowledged = before.clone();
    for instance in &during {
        match scu.store(instance)? {
            0 => acknowledged.push(instance.clone()),
            status => ensure!(status == OUT_OF_RESOURCES, "{status:04x}"),
        }
    }
    ensure!(scu_of_long.store(&long)? == OUT_OF_RESOURCES, "a file was made without a descriptor");
    // Nobody is let in, and nobody who tries ends it.
    let strangers: Vec<_> = (0..60).filter_map(|_| TcpStream::connect(daemon.address()).ok()).collect();
    std::thread::sleep(std::time::Duration::from_secs(3));
    ensure!(daemon.ended()?.is_none(), "it ended\n{}", daemon.log());
    drop(strangers);
    allow_files(&daemon, allowed)?;
    ensure!(scu_of_long.store(&long)? == 0, "a file cannot be made with descriptors");
    acknowledged.push(long);
    check_serves_again(&mut daemon, &acknowledged, &after)?;
    scu.release()?;
    scu_of_long.release()?;
    ensure!(daemon.log().contains("Too many open files"), "nothing was missing:\n{}", daemon.log());
    Ok(())
}

/// Puts everything in a spool back as it was.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "cp failed");
    Ok(())
}

const PAGE: usize = 4096;

/// A stopped daemon whose state database has many pages, a copy of its spool, and the database.
fn with_a_large_database() -> Result<(Daemon, PathBuf, PathBuf)> {
    let mut daemon = Daemon::start(&setup("instance"))?;
    let mut work = Vec::new();
    for seed in 3000..3150 {
        work.extend(instances(seed, 1)?);
    }
    ensure!(send(&daemon, &work).0.len() == work.len(), "not everything was acknowledged");
    ensure!(daemon.terminate()?.success());
    let (spool, kept) = (daemon.dir().join("spool"), daemon.dir().join("kept"));
    let database = spool.join("state.sqlite");
    // What is in the log of SQLite as well would be taken from there.
    peers::python("sql.py", &[&database.to_string_lossy(), "PRAGMA wal_checkpoint(TRUNCATE)"])?;
    copy(&spool, &kept)?;
    Ok((daemon, kept, database))
}

/// What a daemon on a damaged database does: it ends with a sentence that says what to do, or refuses, or everything that
/// it acknowledges is read. Answers whether the damage was found.
fn check_honest(daemon: &mut Daemon, seed: u64, said_before: usize) -> Result<bool> {
    let work = instances(seed, 1)?;
    let (acknowledged, _) = send(daemon, &work);
    let mut state = Value::Null;
    let found = wait::until("an end, a refusal, or a reading", PATIENCE, || {
        if let Some(status) = daemon.ended()? {
            ensure!(!status.success(), "it ended as if nothing were wrong");
            return Ok(Some(true));
        }
        if daemon.health().is_ok_and(|(status, _)| status == 503) {
            // Said at once, and acted on soon: nobody may be told 0x0000 for ever.
            return Ok(send(daemon, &work).0.is_empty().then_some(true));
        }
        state = daemon.study(&work[0].study_instance_uid).ok().flatten().unwrap_or_default();
        Ok((state["state"] == "skipped" || acknowledged.is_empty()).then_some(false))
    });
    let found = found.with_context(|| format!("acknowledged, and then {state}:\n{}", daemon.log()))?;
    let log = daemon.log();
    let said = log.get(said_before..).unwrap_or_default();
    ensure!(
        !found || said.contains("state.sqlite .recover") || said.contains("malformed"),
        "it does not say so:\n{said}"
    );
    Ok(found)
}

#[test]
fn a_damaged_page_of_the_state_database_is_found_or_harmless() -> Result<()> {
    let (mut daemon, kept, database) = with_a_large_database()?;
    let pages = usize::try_from(fs::metadata(&database)?.len())? / PAGE;
    ensure!(pages > 20, "the database has {pages} pages only");
    let mut found = 0;
    let damaged: Vec<_> = (0..pages).step_by(pages / 12).collect();
    for page in &damaged {
        copy(&kept, &daemon.dir().join("spool"))?;
        let mut bytes = fs::read(&database)?;
        bytes[page * PAGE..(page + 1) * PAGE].fill(0x5a);
        fs::write(&database, bytes)?;
        let said = daemon.log().len();
        // It may end before it answers.
        let _ = daemon.start_again();
        let was_found = check_honest(&mut daemon, 4000 + *page as u64, said);
        found += usize::from(was_found.with_context(|| format!("page {page} of {pages}"))?);
        let _ = daemon.terminate();
    }
    ensure!(found * 2 > damaged.len(), "{found} of {} damages were found", damaged.len());
    Ok(())
}

#[test]
fn a_state_database_that_is_damaged_under_the_daemon_is_noticed() -> Result<()> {
    let (mut daemon, _, database) = with_a_large_database()?;
    daemon.start_again()?;
    let mut bytes = fs::read(&database)?;
    bytes[PAGE..].fill(0x5a);
    // Into the same file, which is open.
    fs::write(&database, bytes)?;
    let mut seed = 5000;
    let found = wait::until("the damage to be noticed", PATIENCE, || {
        seed += 1;
        check_honest(&mut daemon, seed, 0).map(|found| found.then_some(()))
    });
    found.with_context(|| daemon.log())
}

#[test]
fn a_second_daemon_does_not_start_though_the_lock_file_is_gone() -> Result<()> {
    let mut daemon = Daemon::start(&setup("instance"))?;
    let spool = daemon.dir().join("spool");
    let second = Setup { spool_dir: Some(spool.clone()), ..setup("instance") };
    for removed in [false, true] {
        if removed {
            fs::remove_file(spool.join("lock"))?;
        }
        let started = Daemon::start(&second).map(|_| ());
        let said = started.err().map(|error| format!("{error:#}")).context("two daemons have one spool")?;
        ensure!(said.contains("another preread daemon uses this spool"), "lock removed: {removed}: {said}");
        let work = instances(60 + u64::from(removed), 3)?;
        ensure!(send(&daemon, &work).0.len() == work.len(), "the first one does not go on");
        check_kept(&daemon, &work)?;
    }
    daemon.terminate()?;
    daemon.start_again()
}

/// Every segment of a journal, changed by `change`; it answers nothing for a segment that is to go.
fn change_journal(spool: &Path, change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) -> Result<()> {
    for segment in fs::read_dir(spool.join("journal"))? {
        let path = segment?.path();
        match change(fs::read(&path)?) {
            Some(bytes) => fs::write(&path, bytes)?,
            None => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// Acknowledges instances that are in the journal alone, kills the daemon, damages the journal and starts again: what is gone
/// is counted and named, its study is held, and doctor is not content before a person or the sender has seen to it.
fn check_loss(change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) -> Result<()> {
    let mut daemon = Daemon::start(&setup("instance"))?;
    let work = instances(70, 20)?;
    send_and_kill(&mut daemon, &work)?;
    change_journal(&daemon.dir().join("spool"), change)?;
    daemon.start_again()?;
    let lost: Vec<&Instance> =
        work.iter().filter(|one| check_kept(&daemon, std::slice::from_ref(*one)).is_err()).collect();
    ensure!(!lost.is_empty(), "nothing was lost");
    let log = daemon.log();
    let counted = format!("{} acknowledged instances are gone", lost.len());
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    ensure!(errors.iter().any(|line| line.contains(&counted)), "{counted}: {errors:#?}");
    let named = |text: &str| lost.iter().filter(|one| text.contains(&one.sop_instance_uid)).count();
    ensure!(named(&errors.join("\n")) == lost.len(), "the log does not name all {}: {errors:#?}", lost.len());
    let found = problems(&daemon, &[])?;
    ensure!(named(&found.join("\n")) == lost.len(), "doctor does not name all {}: {found:#?}", lost.len());
    let held = daemon.await_state(&work[0].study_instance_uid, "held", PATIENCE)?;
    ensure!(held["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{held}");

    // A restart forgets nothing; what comes again is no loss any more, and a person ends the rest.
    daemon.terminate()?;
    daemon.start_again()?;
    ensure!(!problems(&daemon, &[])?.is_empty(), "doctor forgot it");
    let (some, rest) = lost.split_at(lost.len() / 2);
    let again: Vec<Instance> = some.iter().map(|one| (*one).clone()).collect();
    ensure!(send(&daemon, &again).0.len() == again.len(), "what is gone cannot be sent again");
    wait::until("what came again to be no problem", PATIENCE, || {
        let found = problems(&daemon, &[])?.join("\n");
        let still: BTreeSet<_> = lost
            .iter()
            .filter(|one| found.contains(&one.sop_instance_uid))
            .collect::<Vec<_>>()
            .iter()
            .map(|one| one.sop_instance_uid.clone())
            .collect();
        let expected: BTreeSet<_> = rest.iter().map(|one| one.sop_instance_uid.clone()).collect();
        Ok((still == expected).then_some(()))
    })?;
    daemon.terminate()?;
    daemon.command(&["doctor", "--confirm-loss"])?;
    let found = problems(&daemon, &[])?;
    ensure!(!found.iter().any(|problem| problem.starts_with("lost")), "{found:#?}");
    daemon.start_again()
}

#[test]
fn a_journal_that_is_gone_or_damaged_is_no_empty_one() -> Result<()> {
    check_loss(|_| None).context("deleted")?;
    check_loss(|bytes| Some(vec![0; bytes.len()])).context("zeroed")?;
    check_loss(|mut bytes| {
        bytes.iter_mut().skip(5_000).step_by(20_000).for_each(|byte| *byte ^= 1);
        Some(bytes)
    })
    .context("damaged here and there")?;
    check_loss(|mut bytes| {
        bytes.truncate(30_000);
        Some(bytes)
    })
    .context("cut off")
}
