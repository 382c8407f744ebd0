//! kill -9 at any moment changes no outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{self, Instance},
    random::Random,
    samples,
    scp::Scp,
    scu::Scu,
    wait,
};

const SENDERS: usize = 4;
const STUDIES_PER_SENDER: usize = 10;
const IMAGES_PER_STUDY: usize = 5;
const KILLS_WHILE_SENDING: usize = 10;

#[test]
fn kill_9_at_ten_moments_loses_nothing_and_repeats_nothing() -> Result<()> {
    // Another seed kills at other moments.
    let seed = std::env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    let mut random = Random::seeded(seed);
    let work = studies(&mut random)?;
    let pacs = Scp::start("PACS")?;
    // Longer than a restart and a sender's new try: no study settles half.
    let mut daemon = Daemon::start(&Setup { quiet_period: "6s".into(), ..Setup::to("PACS", &pacs.address()) })?;
    let address = daemon.address();

    let acknowledged = Mutex::new(BTreeSet::new());
    let (count, allowed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let senders: Vec<_> = work
            .iter()
            .map(|instances| {
                scope.spawn(|| send_until_acknowledged(&address, instances, &acknowledged, &count, &allowed))
            })
            .collect();
        let total = SENDERS * STUDIES_PER_SENDER * IMAGES_PER_STUDY;
        let mut moments: Vec<u64> = (0..KILLS_WHILE_SENDING).map(|_| 4 + random.below(total as u64 - 16)).collect();
        moments.sort_unstable();
        for moment in moments {
            // However fast they are, there is something left to send when the daemon is killed.
            allowed.store(usize::try_from(moment)? + 8, Ordering::Relaxed);
            wait::until("the senders", Duration::from_secs(60), || {
                Ok((count.load(Ordering::Relaxed) as u64 >= moment).then_some(()))
            })?;
            thread::sleep(Duration::from_millis(random.below(15)));
            daemon.kill()?;
            ensure!(count.load(Ordering::Relaxed) < total, "killed too late: everything had been sent");
            daemon.start_again()?;
        }
        allowed.store(total, Ordering::Relaxed);
        for sender in senders {
            sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        Ok(())
    })?;
    let acknowledged = acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{} acknowledged, {:.1} s", acknowledged.len(), started.elapsed().as_secs_f64());
    assert_eq!(acknowledged.len(), SENDERS * STUDIES_PER_SENDER * IMAGES_PER_STUDY);

    // And while reports are being written and sent.
    for reports in [3, 12, 25] {
        wait::until("reports", Duration::from_secs(120), || Ok((pacs.received().len() >= reports).then_some(())))?;
        thread::sleep(Duration::from_millis(random.below(200)));
        daemon.kill()?;
        daemon.start_again()?;
    }
    let studies = SENDERS * STUDIES_PER_SENDER;
    let ended = wait::until("every study's report", Duration::from_secs(240), || {
        let queue = daemon.queue()?;
        let delivered = queue.iter().filter(|entry| entry["state"] == "delivered").count();
        Ok((delivered == studies).then_some(queue))
    });
    let ended = ended.with_context(|| format!("{:#?}", daemon.queue().unwrap_or_default()))?;
    assert_eq!(ended.len(), studies);
    eprintln!("all delivered after {:.1} s", started.elapsed().as_secs_f64());
    let reports = check_all(&daemon, &pacs, &work)?;

    // Once more from the start, with nothing to do: the same objects under the same UIDs, and nothing sent again.
    let sent_before = pacs.received().len();
    daemon.kill()?;
    daemon.start_again()?;
    thread::sleep(Duration::from_secs(8));
    assert_eq!(check_all(&daemon, &pacs, &work)?, reports);
    assert_eq!(pacs.received().len(), sent_before);
    Ok(())
}

/// What each sender has to send: real images under UIDs of their own.
fn studies(random: &mut Random) -> Result<Vec<Vec<Instance>>> {
    let images: Vec<Instance> = samples::all()?.into_iter().map(|sample| sample.instance).collect();
    let mut work = Vec::new();
    for _ in 0..SENDERS {
        let mut instances = Vec::new();
        for _ in 0..STUDIES_PER_SENDER {
            let image = &images[usize::try_from(random.below(images.len() as u64))?];
            let (study, series) = (random.uid(), random.uid());
            for _ in 0..IMAGES_PER_STUDY {
                instances.push(image.reissued(&study, &series, &random.uid())?);
            }
        }
        work.push(instances);
    }
    Ok(work)
}

/// Sends one instance after the other; each as often as it takes until it is acknowledged, and none while as many are as
/// are allowed.
fn send_until_acknowledged(
    address: &str,
    instances: &[Instance],
    acknowledged: &Mutex<BTreeSet<String>>,
    count: &AtomicUsize,
    allowed: &AtomicUsize,
) -> Result<()> {
    let mut association: Option<Scu> = None;
    let deadline = Instant::now() + Duration::from_secs(180);
    for instance in instances {
        loop {
            if Instant::now() > deadline {
                bail!("the sender is out of time");
            }
            if count.load(Ordering::Relaxed) >= allowed.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let open = match association.take() {
                Some(open) => Ok(open),
                None => Scu::for_instances(address, "MODALITY", AE_TITLE, instances),
            };
            let stored = open.and_then(|mut scu| {
                let status = scu.store(instance)?;
                Ok((scu, status))
            });
            match stored {
                Ok((scu, status)) => {
                    association = Some(scu);
                    ensure!(status == 0, "status {status:04x}");
                    break;
                }
                // The daemon is away: a moment later, the same again on a new association.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(instance.sop_instance_uid.clone());
        count.fetch_add(1, Ordering::Relaxed);
    }
    // Everything is acknowledged: should the daemon be killed now, the release has nobody to answer it.
    if let Some(scu) = association {
        let _ = scu.release();
    }
    Ok(())
}

/// Every instance is there as it was sent, and every study has one report. Returns its UID for each study.
fn check_all(daemon: &Daemon, pacs: &Scp, work: &[Vec<Instance>]) -> Result<BTreeMap<String, String>> {
    let mut by_study = BTreeMap::<&str, Vec<&Instance>>::new();
    for instance in work.iter().flatten() {
        by_study.entry(&instance.study_instance_uid).or_default().push(instance);
    }
    let mut reports = BTreeMap::new();
    for (study, sent) in by_study {
        let shown = daemon.show(study)?;
        let mut kept = BTreeMap::new();
        for entry in shown["instances"].as_array().context("no instances")? {
            let uid = entry["sop_instance_uid"].as_str().context("no UID")?;
            let path = entry["path"].as_str().context("no path")?;
            let file = fs::read(path).with_context(|| path.to_owned())?;
            ensure!(kept.insert(uid.to_owned(), file).is_none(), "{uid} is there twice");
        }
        ensure!(kept.len() == sent.len(), "{study}: {} instances of {}", kept.len(), sent.len());
        for instance in sent {
            let file = kept.get(&instance.sop_instance_uid).context("an acknowledged instance is lost")?;
            ensure!(instance::data_set(file)? == instance.data_set, "an instance is kept otherwise than it came");
        }
        // What is kept beside the document, the heat map for one, has no UID.
        let listed = shown["reports"].as_array().context("no reports")?;
        let listed: Vec<_> = listed.iter().filter(|report| report["sop_instance_uid"].is_string()).collect();
        ensure!(listed.len() == 1, "{study}: {} reports", listed.len());
        let uid = listed[0]["sop_instance_uid"].as_str().context("no UID")?;
        // A crash between the PACS's answer and our note of it repeats the delivery: of the same object.
        let received = pacs.stored_in(study);
        ensure!(!received.is_empty(), "{study}: nothing came");
        for one in &received {
            ensure!(one.instance.sop_instance_uid == uid, "{study}: two reports");
            ensure!(one.instance.data_set == received[0].instance.data_set, "{study}: one UID, two contents");
        }
        reports.insert(study.to_owned(), uid.to_owned());
    }
    Ok(reports)
}
