//! A journal that is gone, zeroed or damaged: what was acknowledged and is gone is counted and named, and what is left is
//! kept. The spool is copied while it runs, as a killed daemon leaves it.

use std::{collections::BTreeSet, path::PathBuf};

use super::*;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

const INSTANCES: usize = 6;

fn uid(number: usize) -> String {
    format!("1.2.3.{number}")
}

/// Acknowledges instances on an association that stays open, and answers a copy of the spool in which they are in the
/// journal alone.
async fn killed(dir: &Path, options: Options) -> PathBuf {
    let (spool, _) = Spool::open(&dir.join("live"), options, 0).unwrap();
    // The first study is filed and stays, whatever becomes of the journal.
    store(&spool, None, &data_set("1.2.9", "1.2.9.1", "Acme", ""), 0).await.unwrap();
    spool.checkpoint().await.unwrap();
    spool.association_opened(7, "test");
    for number in 0..INSTANCES {
        acknowledge(&spool, 7, &data_set("1.2.3", &uid(number), "Acme", &"x".repeat(6000))).await;
    }
    let to = dir.join("killed");
    copy(&dir.join("live"), &to);
    to
}

async fn acknowledge(spool: &Spool, association: u64, data_set: &[u8]) {
    let meta = Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().unwrap(),
        source_ae_title: None,
    };
    let quiet = Duration::from_millis(QUIET as u64);
    let arrival = Arrival { association: Some(association), source: "test".to_owned(), quiet };
    let mut receiving = spool.begin(arrival, &meta, 0).unwrap();
    receiving.write(data_set).unwrap();
    let header = receiving.header(&Limits::default()).unwrap().unwrap();
    assert!(receiving.commit(header, 0, 0).await.unwrap().is_none());
}

fn options() -> Options {
    Options { reserve_bytes: 0, journal_bytes: 1 << 20, ..Options::default() }
}

/// What a start finds after `damage` to the folder: how many of the instances are lost, by name, and whether more may be.
async fn check(what: &str, damage: impl Fn(&Path), lost: impl Fn(usize) -> bool, more: bool) {
    let dir = tempfile::tempdir().unwrap();
    let folder = killed(dir.path(), options()).await;
    damage(&folder);
    let (spool, recovery) = Spool::open(&folder, options(), 10).unwrap_or_else(|error| panic!("{what}: {error}"));
    let expected: BTreeSet<String> = (0..INSTANCES).filter(|number| lost(*number)).map(uid).collect();
    let named: BTreeSet<String> = recovery.lost.iter().filter_map(|lost| lost.sop_instance_uid.clone()).collect();
    assert_eq!(named, expected, "{what}: {:?}", recovery.lost);
    assert_eq!(recovery.lost.len(), expected.len() + usize::from(more), "{what}: {:?}", recovery.lost);
    assert_eq!(recovery.unfinished, 0, "{what}");
    let kept: BTreeSet<String> = spool.study("1.2.3").map_or_else(
        |_| BTreeSet::new(),
        |study| study.instances.into_iter().map(|instance| instance.sop_instance_uid).collect(),
    );
    let expected_kept: BTreeSet<String> = (0..INSTANCES).filter(|number| !more && !lost(*number)).map(uid).collect();
    assert_eq!(kept, expected_kept, "{what}");
    if !expected.is_empty() {
        let study = spool.study("1.2.3").unwrap().study;
        assert_eq!(study.state, "held", "{what}");
        assert!(study.reason.is_some_and(|reason| reason.contains("sent again")), "{what}");
    }
    assert_eq!(state(&spool, "1.2.9"), "received", "{what}: another study goes on");
    drop(spool);

    // It is a problem until it came again, and until a person knows of it.
    let (spool, recovery) = open(&folder, 20);
    assert!(recovery.lost.is_empty(), "{what}: it is found once");
    assert_eq!(spool.losses().unwrap().len(), expected.len() + usize::from(more), "{what}");
    if !expected.is_empty() {
        store(&spool, None, &data_set("1.2.3", "1.2.3.77", "Acme", ""), 25).await.unwrap();
        assert_eq!(state(&spool, "1.2.3"), "held", "{what}: another one does not make it whole");
    }
    for number in (0..INSTANCES).filter(|number| lost(*number)) {
        let bytes = data_set("1.2.3", &uid(number), "Acme", &"x".repeat(6000));
        store(&spool, None, &bytes, 30).await.unwrap();
    }
    assert_eq!(spool.losses().unwrap().len(), usize::from(more), "{what}: it came again");
    if !expected.is_empty() {
        assert_eq!(state(&spool, "1.2.3"), "received", "{what}: and is read");
    }
    assert_eq!(spool.confirm_losses(40).await.unwrap(), usize::from(more), "{what}");
    assert!(spool.losses().unwrap().is_empty(), "{what}");
}

fn each_file(folder: &Path, work: impl Fn(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        work(&entry.unwrap().path());
    }
}

/// The segment that the records are in, and its bytes.
fn written_segment(folder: &Path) -> (PathBuf, Vec<u8>) {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if bytes.windows(9).any(|window| window == b"\"1.2.3.0\"") {
            found.push((path, bytes));
        }
    }
    found.pop().expect("the records are in a segment")
}

/// Changes bytes of record `number`: those of its header, or those of its instance.
fn flip(folder: &Path, number: usize, within: usize) {
    let (path, mut bytes) = written_segment(folder);
    // Each record is a block of header and record, and two of the instance.
    let heads: Vec<usize> = (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"PRJ3")).collect();
    bytes[heads[number] + within] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_journal_as_it_was_left_loses_nothing() {
    check("nothing", |_| {}, |_| false, false).await;
}

#[tokio::test]
async fn a_journal_that_is_gone_is_counted_and_named() {
    check("files gone", |dir| each_file(&dir.join("journal"), |path| fs::remove_file(path).unwrap()), |_| true, false)
        .await;
    check("folder gone", |dir| fs::remove_dir_all(dir.join("journal")).unwrap(), |_| true, false).await;
    let zeroed = |path: &Path| fs::write(path, vec![0; fs::read(path).unwrap().len()]).unwrap();
    check("zeroed", |dir| each_file(&dir.join("journal"), zeroed), |_| true, false).await;
    check("emptied", |dir| each_file(&dir.join("journal"), |path| fs::write(path, b"").unwrap()), |_| true, false)
        .await;
}

#[tokio::test]
async fn a_damaged_record_is_named_and_intact_ones_after_it_are_kept() {
    check("a header", |dir| flip(dir, 2, 0), |number| number == 2, false).await;
    check("the first header", |dir| flip(dir, 0, 5), |number| number == 0, false).await;
    check("a record", |dir| flip(dir, 3, 100), |number| number == 3, false).await;
    check("an instance's bytes", |dir| flip(dir, 4, 4096 + 2000), |number| number == 4, false).await;
    let cut = |dir: &Path| {
        let (path, mut bytes) = written_segment(dir);
        let heads: Vec<usize> = (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"PRJ3")).collect();
        bytes.truncate(heads[3]);
        fs::write(path, bytes).unwrap();
    };
    check("cut short", cut, |number| number >= 3, false).await;
}

#[tokio::test]
async fn without_receipts_it_is_said_that_nobody_can_tell() {
    let both = |dir: &Path| {
        fs::remove_dir_all(dir.join("journal")).unwrap();
        fs::remove_dir_all(dir.join("receipts")).unwrap();
    };
    check("journal and receipts", both, |_| false, true).await;
}

#[tokio::test]
async fn an_orderly_end_needs_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.close().await.unwrap();
    drop(spool);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    fs::remove_dir_all(dir.path().join("receipts")).unwrap();
    let (spool, recovery) = open(dir.path(), 10);
    assert!(recovery.lost.is_empty(), "{:?}", recovery.lost);
    assert_eq!(spool.study("1.2.3").unwrap().instances.len(), 1);
}

#[tokio::test]
async fn a_long_instance_is_given_back_by_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(&dir.path().join("live"), 0);
    spool.association_opened(7, "test");
    let bytes = data_set("1.2.3", "1.2.3.1", "Acme", &"x".repeat(60_000));
    let long = [bytes.as_slice(), &[0xfd, 0x7f, 0x10, 0x00, b'O', b'B', 0, 0, 0, 0, 32, 0], &vec![7; 2 << 20]].concat();
    acknowledge(&spool, 7, &long).await;
    let folder = dir.path().join("killed");
    copy(&dir.path().join("live"), &folder);
    fs::remove_dir_all(folder.join("journal")).unwrap();
    let (spool, recovery) = open(&folder, 10);
    assert!(recovery.lost.is_empty() && recovery.restored == 1, "{recovery:?}");
    let kept = spool.study("1.2.3").unwrap().instances;
    assert!(fs::read(&kept[0].path).unwrap().ends_with(&long));
}

#[tokio::test]
async fn a_person_may_have_a_study_read_without_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = killed(dir.path(), options()).await;
    flip(&folder, 2, 0);
    let (spool, _) = open(&folder, 10);
    let study = spool.study("1.2.3").unwrap().study;
    assert_eq!(spool.retry(study.id).await.unwrap(), StudyState::Settled);
    assert!(spool.losses().unwrap().is_empty());
    store(&spool, None, &data_set("1.2.3", "1.2.3.77", "Acme", ""), 30).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "received", "what comes later is read, too");
}
