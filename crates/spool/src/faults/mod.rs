//! Every fault of the disk at every call: what was acknowledged stays, and the spool opens again.
//!
//! SQLite is on the machine's own disk here. A power cut takes it back to any transaction since its last flush, which is
//! what SQLite promises of a write-ahead log.

mod decisions;
mod disk;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dataset::{Limits, part10::Meta};

use crate::{
    Arrival, Durability, Error, ObjectKind, Options, ReportFile, Retention, Spool, Stored, Timestamp, Verification,
    buffer::Buffer,
    database::Observer,
    journal::{Journal, RECORD_ROOM},
};
use disk::{Fault, FaultyDisk, Plan, Random};

const QUIET: Timestamp = 2_000;
const CLASS: &str = "1.2.840.10008.5.1.4.1.1.1";

/// The state database after each of its transactions.
#[derive(Clone, Default)]
struct Snapshots(Arc<Mutex<Vec<Snapshot>>>);

struct Snapshot {
    /// Whether a power cut cannot take it back.
    flushed: bool,
    bytes: Vec<u8>,
}

impl Snapshots {
    fn observer(&self) -> Observer {
        let snapshots = self.clone();
        Box::new(move |connection, flushed| {
            let bytes = connection.serialize(rusqlite::MAIN_DB)?.to_vec();
            snapshots.0.lock().unwrap_or_else(PoisonError::into_inner).push(Snapshot { flushed, bytes });
            Ok(())
        })
    }

    /// The database that a power cut leaves: of the last flush, or of any transaction after it.
    fn after_power_cut(&self, random: &mut Random) -> Option<Vec<u8>> {
        let snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = snapshots.iter().rposition(|snapshot| snapshot.flushed)?;
        let later = usize::try_from(random.below((snapshots.len() - flushed) as u64)).unwrap_or(0);
        Some(snapshots[flushed + later].bytes.clone())
    }
}

/// A machine: a disk, and a folder for the database.
struct Machine {
    disk: FaultyDisk,
    dir: tempfile::TempDir,
    snapshots: Snapshots,
    durability: Durability,
}

impl Machine {
    fn new(durability: Durability) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self { disk: FaultyDisk::default(), dir, snapshots: Snapshots::default(), durability }
    }

    fn open(&self, now: Timestamp) -> Result<Spool, Error> {
        let options =
            Options { reserve_bytes: 0, journal_bytes: 2 << 20, durability: self.durability, ..Options::default() };
        let disk = Arc::new(self.disk.clone());
        let (spool, recovery) = Spool::open_on(disk, self.dir.path(), &options, Some(self.snapshots.observer()), now)?;
        if !recovery.missing.is_empty() {
            return Err(Error::Record(format!("rows without a file: {:?}", recovery.missing)));
        }
        // Whatever was not acknowledged is no loss, and what was is there.
        if !recovery.lost.is_empty() {
            return Err(Error::Record(format!("said to be lost: {:?}", recovery.lost)));
        }
        Ok(spool)
    }

    /// The database of a machine that was cut off while it recovered: each of those transactions is flushed.
    fn recovered_database(&self) -> Option<Vec<u8>> {
        let path = self.dir.path().join("state.sqlite");
        let connection = path.is_file().then(|| rusqlite::Connection::open(path).expect("the database"))?;
        Some(connection.serialize(rusqlite::MAIN_DB).expect("its bytes").to_vec())
    }

    /// The same machine after its power was cut and came back.
    fn after_power_cut(self, random: &mut Random) -> Self {
        let disk = self.disk.after_power_cut(random);
        let dir = tempfile::tempdir().expect("a folder");
        if let Some(database) = self.snapshots.after_power_cut(random).or_else(|| self.recovered_database()) {
            std::fs::write(dir.path().join("state.sqlite"), database).expect("the database is written");
        }
        // Paths below the old folder are paths below the new one.
        let disk = disk.moved(&canonical(self.dir.path()), &canonical(dir.path()));
        let snapshots = Snapshots::default();
        Self { disk, dir, snapshots, durability: self.durability }
    }
}

fn canonical(path: &Path) -> std::path::PathBuf {
    path.canonicalize().expect("the folder is there")
}

/// A data set in Explicit VR Little Endian: identity, and so many bytes of something like pixels.
fn data_set(study: &str, instance: &str, pixels: usize, fill: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut element = |group: u16, number: u16, value: &str| {
        let mut value = value.as_bytes().to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        bytes.extend_from_slice(&[group.to_le_bytes(), number.to_le_bytes()].concat());
        bytes.extend_from_slice(b"UI");
        bytes.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_le_bytes());
        bytes.extend_from_slice(&value);
    };
    element(0x0008, 0x0016, CLASS);
    element(0x0008, 0x0018, instance);
    element(0x0020, 0x000d, study);
    element(0x0020, 0x000e, "1.2.3.9");
    bytes.extend_from_slice(&[0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
    bytes.extend_from_slice(&u32::try_from(pixels).expect("few pixels").to_le_bytes());
    bytes.extend((0..pixels).map(|index| fill ^ index.to_le_bytes()[0] ^ index.to_le_bytes()[1]));
    bytes
}

/// What was promised to the outside.
#[derive(Default)]
struct Promises {
    /// SOP Instance UID and data set of what was acknowledged.
    kept: Vec<(&'static str, Vec<u8>)>,
    quarantined: Vec<Vec<u8>>,
    report: bool,
    removal: Removal,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Removal {
    #[default]
    NotAsked,
    Asked,
    Done,
}

async fn store(spool: &Spool, association: u64, data_set: &[u8], now: Timestamp) -> Result<Option<Stored>, Error> {
    let meta = Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().expect("a UID"),
        source_ae_title: Some("TEST".to_owned()),
    };
    let quiet = Duration::from_millis(QUIET as u64);
    let arrival = Arrival { association: Some(association), source: "test".to_owned(), quiet };
    let mut receiving = spool.begin(arrival, &meta, now)?;
    for piece in data_set.chunks(30_001) {
        receiving.write(piece)?;
    }
    let header = receiving.header(&Limits::default())?.map_err(|error| Error::Record(error.to_string()))?;
    receiving.commit(header, 0, now).await
}

/// What a day brings: instances of all sizes, the same again, another one under a UID that is taken, a checkpoint, more
/// instances, a reading and its report, and perhaps the removal of what is done. A step that fails is left at that, as a
/// daemon would.
async fn a_day(spool: &Spool, removal: bool) -> Promises {
    let mut promises = Promises::default();
    let first = data_set("1.2.3", "1.2.3.1", 3_000, 1);
    let morning = [
        ("1.2.3.1", first.clone()),
        ("1.2.3.2", data_set("1.2.3", "1.2.3.2", 120_000, 4)),
        ("1.2.3.3", data_set("1.2.3", "1.2.3.3", 300_000, 5)),
        ("1.2.3.1", first),
    ];
    promises.kept.extend(an_association(spool, 1, &morning, 100).await);
    if promises.kept.iter().any(|(uid, _)| *uid == "1.2.3.1") {
        let other = [("1.2.3.1", data_set("1.2.3", "1.2.3.1", 3_000, 3))];
        promises.quarantined.extend(an_association(spool, 2, &other, 150).await.into_iter().map(|(_, bytes)| bytes));
    }
    let _ = spool.checkpoint().await;
    let evening = [("1.2.3.4", 6), ("1.2.3.5", 7)].map(|(uid, fill)| (uid, data_set("1.2.3", uid, 40_000, fill)));
    promises.kept.extend(an_association(spool, 3, &evening, 200).await);
    let _ = spool.settle(200 + QUIET).await;
    promises.report = a_report(spool).await.unwrap_or(false);
    for delivery in spool.due_deliveries("pacs", 400, 8).unwrap_or_default() {
        let _ = spool.delivered(&delivery, None, 400).await;
    }
    if removal {
        let retention = Retention { delivered: Some(Duration::from_secs(1)), ..Retention::default() };
        let removed = spool.retain(&retention, 1_000_000).await;
        promises.removal = if removed.is_ok_and(|removed| removed.files > 0) { Removal::Done } else { Removal::Asked };
    }
    promises
}

/// Stores instances on an association and releases it; answers what was promised to be kept.
async fn an_association(
    spool: &Spool,
    association: u64,
    instances: &[(&'static str, Vec<u8>)],
    now: Timestamp,
) -> Vec<(&'static str, Vec<u8>)> {
    spool.association_opened(association, "test");
    let mut acknowledged = Vec::new();
    for (uid, bytes) in instances {
        if store(spool, association, bytes, now).await.is_ok() {
            acknowledged.push((*uid, bytes.clone()));
        }
    }
    let released = spool.flush_association(association).await;
    spool.association_closed(association);
    // An association that is aborted instead promises nothing when it is the release that does.
    if released.is_ok() { acknowledged } else { Vec::new() }
}

async fn a_report(spool: &Spool) -> Result<bool, Error> {
    let Some(claim) = spool.claim().await? else { return Ok(false) };
    let file = ReportFile {
        kind: ObjectKind::TextSr,
        uids: Some(["1.2.9", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.10"].map(str::to_owned)),
        bytes: b"an SR".to_vec(),
        destinations: vec!["pacs".to_owned()],
    };
    let report = spool.prepare(vec![file], 300).await?;
    spool.written(&claim, 1, "inputs".to_owned(), "rule".to_owned(), report, 300).await
}

/// Opens the spool again and looks whether every promise was kept; then that it goes on.
async fn check(machine: &Machine, promises: &Promises, what: &str) {
    let spool = machine.open(10_000_000).unwrap_or_else(|error| panic!("{what}: it does not open again: {error}"));
    let studies = spool.studies().expect("the studies");
    assert!(studies.len() <= 1, "{what}");
    let (mut instances, mut quarantined, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(study) = studies.first() {
        let detail = spool.study(&study.study_instance_uid).expect("the study");
        (instances, quarantined, reports) = (detail.instances, detail.quarantined, detail.reports);
    }
    let holds = |path: &Path, data_set: &[u8]| machine.disk.bytes(path).is_some_and(|bytes| bytes.ends_with(data_set));
    for instance in &instances {
        let found = spool.verify_instance(CLASS, &instance.sop_instance_uid).await.expect("it is looked at");
        assert_eq!(found, Verification::Intact, "{what}: {}", instance.sop_instance_uid);
    }
    for (uid, bytes) in &promises.kept {
        let kept = instances.iter().find(|instance| instance.sop_instance_uid == *uid);
        match promises.removal {
            Removal::NotAsked => assert!(kept.is_some_and(|kept| holds(&kept.path, bytes)), "{what}: {uid} is lost"),
            Removal::Asked => {}
            Removal::Done => assert!(kept.is_none(), "{what}: {uid} is back"),
        }
    }
    if promises.removal == Removal::NotAsked {
        for bytes in &promises.quarantined {
            let kept = quarantined.iter().any(|kept| holds(&kept.path, bytes));
            assert!(kept, "{what}: what was quarantined is lost");
        }
    }
    for report in &reports {
        assert!(holds(&report.path, b"an SR"), "{what}: a report's file is lost");
    }
    assert!(!promises.report || reports.len() == 1, "{what}: {} reports", reports.len());

    let next = data_set("1.2.4", "1.2.4.1", 3_000, 9);
    assert!(store(&spool, 4, &next, 10_000_001).await.is_ok(), "{what}: nothing can be stored any more");
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(work)
}

/// A day with one fault, then the power is cut, then everything is looked at. Answers at which call the fault came.
fn a_day_with(durability: Durability, removal: bool, plan: Option<Plan>, seed: u64) -> Option<u64> {
    let what = format!("{plan:?}, seed {seed}");
    let mut random = Random(seed);
    let machine = Machine::new(durability);
    machine.disk.plan(plan);
    let promises = run(async {
        match machine.open(0) {
            Ok(spool) => a_day(&spool, removal).await,
            // It does not start: nothing is promised.
            Err(_) => Promises::default(),
        }
    });
    let hit = machine.disk.was_hit().then(|| machine.disk.calls());
    if plan.is_none() {
        let whole = promises.kept.len() == 6 && promises.quarantined.len() == 1 && promises.report;
        assert!(whole, "the undisturbed day is not whole");
        assert_eq!(promises.removal == Removal::Done, removal);
    }
    machine.disk.plan(None);
    let machine = machine.after_power_cut(&mut random);

    // The power may go again while it recovers.
    let again = Plan { fault: Fault::PowerCut, at: 1 + random.below(60) };
    machine.disk.plan(Some(again));
    let _ = run(async { machine.open(5_000_000).map(|_| ()) });
    let machine = if machine.disk.was_hit() { machine.after_power_cut(&mut random) } else { machine };
    machine.disk.plan(None);
    run(check(&machine, &promises, &what));
    hit
}

/// The fault at every call that it can hit.
fn at_every_call(fault: Fault, durability: Durability, removal: bool) {
    let mut at = 1;
    let mut hits = 0;
    while let Some(hit) = a_day_with(durability, removal, Some(Plan { fault, at }), at * 7 + fault as u64) {
        at = hit + 1;
        hits += 1;
    }
    println!("{fault:?}: {hits} calls");
    assert!(hits > 10, "{fault:?} hit {hits} calls only");
}

#[test]
fn a_power_cut_after_a_day_without_a_fault_loses_nothing() {
    for seed in 0..20 {
        a_day_with(Durability::Instance, seed % 2 == 0, None, seed);
        a_day_with(Durability::Association, seed % 2 == 1, None, seed);
    }
}

#[test]
fn a_bad_medium_at_any_call() {
    at_every_call(Fault::Io, Durability::Instance, false);
}

#[test]
fn a_full_disk_at_any_call() {
    at_every_call(Fault::Full, Durability::Instance, false);
}

#[test]
fn a_short_write_at_any_call() {
    at_every_call(Fault::ShortWrite, Durability::Instance, false);
}

#[test]
fn a_failing_flush_at_any_call() {
    at_every_call(Fault::FailedSync, Durability::Instance, false);
}

#[test]
fn a_power_cut_at_any_call() {
    at_every_call(Fault::PowerCut, Durability::Instance, false);
}

#[test]
fn a_power_cut_at_any_call_with_associations_flushed_at_their_release() {
    at_every_call(Fault::PowerCut, Durability::Association, true);
}

#[test]
fn a_power_cut_while_many_flush_at_a_time() {
    const SENDERS: usize = 6;
    let (folder, beside) = (Path::new("/journal"), Path::new("/receipts"));
    let mut cut_short = 0;
    for seed in 0..100 {
        let mut random = Random(seed);
        let disk = FaultyDisk::default();
        let (journal, _) = Journal::open(&disk, folder, beside, 0, 0).expect("a journal");
        disk.plan(Some(Plan { fault: Fault::PowerCut, at: 1 + random.below(200) }));
        let promised = Mutex::new(Vec::new());
        let send = |sender: usize| {
            for number in 0..10 {
                let name = format!("{sender}.{number}");
                let mut buffer = Buffer::new(RECORD_ROOM + 8_192);
                buffer.set_len(RECORD_ROOM);
                buffer.fill(&name.as_bytes().repeat(1_000));
                let appended = journal.append(name.as_bytes(), &mut buffer, None);
                let flushed = appended.and_then(|appended| journal.flush_with_receipt(&appended, name.as_bytes()));
                if flushed.is_err() {
                    return;
                }
                promised.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            }
        };
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                scope.spawn(move || send(sender));
            }
        });
        let disk = disk.after_power_cut(&mut random);
        let (journal, contents) = Journal::open(&disk, folder, beside, 0, 0).expect("the journal again");
        assert!(contents.gone.is_empty(), "seed {seed}: a receipt speaks of what was not flushed");
        let promised = promised.into_inner().unwrap_or_else(PoisonError::into_inner);
        for name in &promised {
            let kept = contents.found.iter().find(|found| found.record == name.as_bytes());
            let bytes = kept.map(|kept| journal.bytes_of(kept).expect("its bytes"));
            assert_eq!(bytes, Some(Some(name.as_bytes().repeat(1_000))), "seed {seed}: {name} is lost");
        }
        cut_short += usize::from(promised.len() < SENDERS * 10);
    }
    assert!(cut_short > 50, "the power went too late {cut_short} times");
}

#[test]
fn without_inodes_nothing_is_acknowledged_that_cannot_be_filed() {
    let machine = Machine::new(Durability::Instance);
    run(async {
        let spool = machine.open(0).expect("the spool");
        // So many files more may be there until the reserve is touched.
        const ROOM: u64 = 5;
        let reserve = 16;
        machine.disk.limit_inodes(Some(machine.disk.files() + ROOM + reserve));
        spool.association_opened(1, "test");
        let (mut acknowledged, mut refused) = (Vec::new(), 0);
        for number in 0..40 {
            let uid = format!("1.2.3.{number}");
            // Some are too long for the journal and have a file at once.
            let bytes = data_set("1.2.3", &uid, if number % 3 == 0 { 300_000 } else { 3_000 }, 1);
            match store(&spool, 1, &bytes, 100).await {
                Ok(_) => acknowledged.push(uid),
                Err(Error::NoFiles { free, reserve: 16, .. }) if free < 16 => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(
            (acknowledged.len() as u64, refused),
            (ROOM, 40 - ROOM),
            "it is refused before the journal holds more"
        );
        assert!(matches!(spool.refusal(), Ok(Some(Error::NoFiles { .. }))));
        spool.flush_association(1).await.expect("there is room to file what was acknowledged");
        let kept = spool.study("1.2.3").expect("the study").instances;
        assert_eq!(kept.len(), acknowledged.len());
        machine.disk.limit_inodes(None);
        assert!(matches!(spool.refusal(), Ok(None)), "a file system that counts none has enough");
        store(&spool, 1, &data_set("1.2.3", "1.2.3.99", 3_000, 1), 200).await.expect("there is room again");
    });
}

#[test]
fn a_start_without_inodes_is_tried_again_and_loses_nothing() {
    let machine = Machine::new(Durability::Instance);
    let mut random = Random(7);
    run(async {
        let spool = machine.open(0).expect("the spool");
        spool.association_opened(1, "test");
        for number in 0..6 {
            store(&spool, 1, &data_set("1.2.3", &format!("1.2.3.{number}"), 3_000, 1), 100).await.expect("room");
        }
    });
    let machine = machine.after_power_cut(&mut random);
    machine.disk.limit_inodes(Some(machine.disk.files() + 2));
    for _ in 0..3 {
        assert!(machine.open(200).is_err_and(|error| error.is_full_disk()), "it cannot recover, and says why");
    }
    machine.disk.limit_inodes(None);
    let spool = machine.open(300).expect("there is room");
    assert_eq!(spool.study("1.2.3").expect("the study").instances.len(), 6);
}
