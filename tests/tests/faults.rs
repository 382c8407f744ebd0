//! The daemon ends, or a system call of it fails, at every step of receiving: what was acknowledged is there afterwards.
//!
//! strace counts the calls of each thread and ends the process at the one that a case names, or makes it fail.

mod machine;

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{self, Instance, Study},
    scu::Scu,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn setup(durability: &str) -> Setup {
    Setup { when: "false".into(), quiet_period: "300ms".into(), durability: durability.into(), ..Setup::default() }
}

/// A daemon with a spool, in which `injection` goes wrong from now on. strace counts the calls of each thread by itself;
/// those that make a spool are over.
fn injected(durability: &str, injection: &str) -> Result<Daemon> {
    let mut daemon = Daemon::start(&setup(durability))?;
    daemon.terminate()?;
    daemon.start_injected(injection)?;
    Ok(daemon)
}

/// Two studies, and the last instance too long for the journal.
fn work() -> Result<Vec<Instance>> {
    let (mut one, mut two) = (Study::seeded(41), Study::seeded(42));
    let mut work = Vec::new();
    for number in 1..=6 {
        work.extend([one.image(number)?, two.image(number)?]);
    }
    work.push(two.long_image(7, 1_200 << 10)?);
    Ok(work)
}

/// Sends what can be sent; answers what was acknowledged, and the statuses of the rest.
fn send(daemon: &Daemon, work: &[Instance]) -> (Vec<Instance>, Vec<u16>) {
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    let Ok(mut scu) = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, work) else {
        return (acknowledged, refused);
    };
    for instance in work {
        match scu.store(instance) {
            Ok(0) => acknowledged.push(instance.clone()),
            Ok(status) => refused.push(status),
            Err(_) => return (acknowledged, refused),
        }
    }
    let _ = scu.release();
    (acknowledged, refused)
}

/// Every instance of `sent` is kept as it was sent, and nothing else takes room. What was refused while the disk was full is
/// removed by the next start.
fn check_only_kept(daemon: &mut Daemon, sent: &[Instance]) -> Result<()> {
    check_kept(daemon, sent)?;
    daemon.terminate()?;
    daemon.start_again()?;
    check_kept(daemon, sent)?;
    let files = files_below(&daemon.dir().join("spool/instances"))?;
    ensure!(files == sent.len(), "{files} files for {} instances", sent.len());
    Ok(())
}

/// Every instance of `sent` is kept as it was sent.
fn check_kept(daemon: &Daemon, sent: &[Instance]) -> Result<()> {
    let mut kept = BTreeMap::new();
    for study in daemon.queue()? {
        let shown = daemon.show(study["study_instance_uid"].as_str().context("no UID")?)?;
        for entry in shown["instances"].as_array().context("no instances")? {
            let uid = entry["sop_instance_uid"].as_str().context("no UID")?.to_owned();
            kept.insert(uid, fs::read(entry["path"].as_str().context("no path")?)?);
        }
    }
    for one in sent {
        let file = kept.get(&one.sop_instance_uid).context("an acknowledged instance is lost")?;
        ensure!(instance::data_set(file)? == one.data_set, "an acknowledged instance is kept otherwise than it came");
    }
    Ok(())
}

fn files_below(folder: &std::path::Path) -> Result<usize> {
    let mut count = 0;
    for day in fs::read_dir(folder)? {
        count += fs::read_dir(day?.path())?.count();
    }
    Ok(count)
}

/// Starts, sends, and after the fault starts again, looks, sends the rest, and waits for every study's end. Answers
/// whether the daemon ended by the fault.
fn survives(durability: &str, injection: &str, work: &[Instance]) -> Result<bool> {
    let mut daemon = injected(durability, injection)?;
    let (acknowledged, _) = send(&daemon, work);
    // Settling is a step too.
    let ended = wait::until("the fault", Duration::from_millis(1_200), || daemon.ended()).is_ok();
    if !ended {
        daemon.terminate()?;
    }
    daemon.start_again()?;
    check_kept(&daemon, &acknowledged)?;
    let (again, refused) = send(&daemon, work);
    ensure!(again.len() == work.len(), "after the fault {refused:04x?}");
    for study in daemon.queue()? {
        daemon.await_state(study["study_instance_uid"].as_str().context("no UID")?, "skipped", PATIENCE)?;
    }
    check_only_kept(&mut daemon, work)?;
    ensure!(daemon.queue()?.len() == 2, "two studies were sent");
    Ok(ended)
}

/// Ends the daemon at the calls of `steps`; at least `least` of them must end it.
fn check(durability: &str, call: &str, steps: impl Iterator<Item = u32>, least: usize) -> Result<()> {
    let work = work()?;
    let mut ended = 0;
    for step in steps {
        let injection = format!("{call}:signal=SIGKILL:when={step}");
        ended += usize::from(survives(durability, &injection, &work).with_context(|| injection.clone())?);
    }
    ensure!(ended >= least, "{call} ended the daemon {ended} times only");
    Ok(())
}

#[test]
fn kill_9_at_every_flush() -> Result<()> {
    check("instance", "fdatasync", 1..=6, 3)
}

#[test]
fn kill_9_at_writes() -> Result<()> {
    check("instance", "pwrite64", (1..=8).chain([11, 15, 20, 26, 33, 41]), 10)
}

#[test]
fn kill_9_at_every_answer_and_new_file() -> Result<()> {
    check("instance", "sendto", 2..=8, 5)?;
    check("instance", "openat", (8..=24).step_by(4), 1)
}

#[test]
fn kill_9_when_the_release_is_what_is_flushed() -> Result<()> {
    check("association", "fdatasync", 1..=2, 1)?;
    check("association", "pwrite64", [3, 9, 14, 22].into_iter(), 3)
}

fn much_work(seed: u64) -> Result<Vec<Instance>> {
    let mut study = Study::seeded(seed);
    (1..=60).map(|number| study.image(number)).collect()
}

#[test]
fn a_flush_that_fails_ends_the_daemon_and_nothing_it_covered_is_acknowledged() -> Result<()> {
    // More calls than a start makes; with so much work every thread that flushes makes as many.
    for step in [20, 33] {
        let mut daemon = injected("instance", &format!("fdatasync:error=EIO:when={step}+"))?;
        let (mut acknowledged, mut work) = (Vec::new(), Vec::new());
        for seed in 44..64 {
            work = much_work(seed)?;
            let (some, _) = send(&daemon, &work);
            let all = some.len() == work.len();
            acknowledged.extend(some);
            if !all {
                break;
            }
        }
        ensure!(!acknowledged.is_empty(), "it failed before anything was sent:\n{}", daemon.log());
        ensure!(!acknowledged.ends_with(&work), "everything was acknowledged by a disk that fails");
        let status = wait::until("the daemon to stop by itself", PATIENCE, || daemon.ended())?;
        ensure!(!status.success(), "it ended as if nothing were wrong");
        let log = daemon.log();
        ensure!(log.contains("could not be flushed to the disk"), "the log does not say why:\n{log}");
        daemon.start_again()?;
        check_kept(&daemon, &acknowledged)?;
        let (again, refused) = send(&daemon, &work);
        ensure!(again.len() == work.len(), "after the fault {refused:04x?}");
        check_kept(&daemon, &work)?;
    }
    Ok(())
}

#[test]
fn a_full_disk_is_out_of_resources_and_the_association_goes_on() -> Result<()> {
    let mut daemon = injected("instance", "pwrite64:error=ENOSPC:when=40..42")?;
    let (mut acknowledged, mut work, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    // Each thread that writes has its own three full moments, and the first to have them may be one that answers nobody.
    for seed in 44..64 {
        let sent = much_work(seed)?;
        let (kept, statuses) = send(&daemon, &sent);
        ensure!(kept.len() + statuses.len() == sent.len(), "the association did not go on: {statuses:04x?}");
        acknowledged.extend(kept);
        refused.extend(statuses);
        work.extend(sent);
        if !refused.is_empty() {
            break;
        }
    }
    ensure!(!refused.is_empty() && !acknowledged.is_empty(), "{refused:04x?}\n{}", daemon.log());
    ensure!(refused.iter().all(|status| *status == 0xA700), "{refused:04x?}");
    daemon.check_alive()?;
    // What is acknowledged may be in the journal alone while there is no room for its file.
    wait::until("what was acknowledged to be filed", PATIENCE, || Ok(check_kept(&daemon, &acknowledged).ok()))?;
    // Another thread may meet its three full moments later.
    wait::until("everything to be acknowledged", PATIENCE, || {
        Ok((send(&daemon, &work).0.len() == work.len()).then_some(()))
    })?;
    wait::until("everything to be filed", PATIENCE, || Ok(check_kept(&daemon, &work).ok()))?;
    check_only_kept(&mut daemon, &work)
}

#[test]
fn beyond_the_quota_is_out_of_resources_and_the_association_goes_on() -> Result<()> {
    let spool = r#"journal = "8MiB"
quota = "1MiB""#;
    let daemon = Daemon::start(&Setup { spool: spool.into(), ..setup("instance") })?;
    let mut study = Study::seeded(43);
    let work = vec![study.image(1)?, study.long_image(2, 2 << 20)?, study.image(3)?];
    let (acknowledged, refused) = send(&daemon, &work);
    ensure!(refused == [0xA700] && acknowledged.len() == 2, "{refused:04x?}");
    check_kept(&daemon, &acknowledged)?;
    ensure!(daemon.log().contains("spool.quota"), "the log does not say what to do");
    Ok(())
}

#[test]
fn doctor_finds_what_the_disk_has_damaged() -> Result<()> {
    let mut daemon = Daemon::start(&setup("instance"))?;
    let work = work()?;
    ensure!(send(&daemon, &work).0.len() == work.len(), "not everything was acknowledged");
    let scrub = |daemon: &Daemon| -> Result<(Option<i32>, Vec<String>)> {
        let output = daemon.command(&["doctor", "--scrub", "--json"])?;
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let found =
            |finding: &serde_json::Value| format!("{}: {}: {}", finding["found"], finding["what"], finding["message"]);
        Ok((output.status.code(), findings.as_array().context("no list")?.iter().map(found).collect()))
    };
    let (code, findings) = scrub(&daemon)?;
    ensure!(code == Some(0), "{findings:#?}");
    ensure!(findings.iter().any(|line| line.contains("13 instances hold what was received")), "{findings:#?}");

    let shown = daemon.show(&work[0].study_instance_uid)?;
    let path = shown["instances"][0]["path"].as_str().context("no path")?;
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes)?;
    let (code, findings) = scrub(&daemon)?;
    ensure!(code == Some(1), "{findings:#?}");
    let problems: Vec<_> = findings.iter().filter(|line| line.contains("problem")).collect();
    ensure!(problems.len() == 1 && problems[0].contains(path), "{findings:#?}");
    daemon.check_alive()
}
