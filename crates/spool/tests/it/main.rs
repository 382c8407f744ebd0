//! The spool from outside: what is acknowledged stays, and every study ends in one state.

// Marked as what they are, so that what they share may unwrap as the tests themselves may.
#[cfg(test)]
mod attempt;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod commitment;
#[cfg(test)]
mod decision;
#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod loss;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod withdrawal;

use std::{fs, path::Path, time::Duration};

use dataset::{Limits, part10::Meta};
use spool::{
    Arrival, Claim, Error, ObjectKind, Options, Prepared, ReportFile, Retention, Spool, Stored, StudyState,
    Verification,
};

const QUIET: i64 = 2_000;

fn open(dir: &Path, now: i64) -> (Spool, spool::Recovery) {
    Spool::open(dir, Options { reserve_bytes: 0, journal_bytes: 1 << 20, ..Options::default() }, now)
        .expect("the spool opens")
}

/// A data set in Explicit VR Little Endian with nothing but identity, a manufacturer and a comment.
fn data_set(study: &str, instance: &str, manufacturer: &str, comment: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut element = |group: u16, number: u16, vr: &[u8; 2], value: &str| {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        bytes.extend_from_slice(&group.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(vr);
        bytes.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_le_bytes());
        bytes.extend_from_slice(&value);
    };
    element(0x0008, 0x0016, b"UI", "1.2.840.10008.5.1.4.1.1.1");
    element(0x0008, 0x0018, b"UI", instance);
    element(0x0008, 0x0070, b"LO", manufacturer);
    element(0x0010, 0x4000, b"LO", comment);
    element(0x0020, 0x000d, b"UI", study);
    element(0x0020, 0x000e, b"UI", "1.2.3.9");
    bytes
}

async fn store_urgent(spool: &Spool, data_set: &[u8], priority: i64) {
    let meta = Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().expect("a UID"),
        source_ae_title: None,
    };
    let arrival = Arrival { association: None, source: "test".to_owned(), quiet: Duration::from_millis(QUIET as u64) };
    let mut receiving = spool.begin(arrival, &meta, 0).expect("the spool answers");
    receiving.write(data_set).expect("the spool answers");
    let header = receiving.header(&Limits::default()).expect("the spool answers").expect("the spool answers");
    receiving.commit(header, priority, 0).await.expect("the spool answers");
}

async fn store(spool: &Spool, association: Option<u64>, data_set: &[u8], now: i64) -> Result<Option<Stored>, Error> {
    let meta = Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().expect("a UID"),
        source_ae_title: Some("TEST".to_owned()),
    };
    let quiet = Duration::from_millis(QUIET as u64);
    let mut receiving = spool.begin(Arrival { association, source: "test".to_owned(), quiet }, &meta, now)?;
    for piece in data_set.chunks(7) {
        receiving.write(piece)?;
    }
    let header = receiving.header(&Limits::default())?.expect("the data set passes the gate");
    let stored = receiving.commit(header, 0, now).await?;
    if let Some(association) = association {
        spool.flush_association(association).await?;
    }
    Ok(stored)
}

fn state(spool: &Spool, study: &str) -> String {
    spool.study(study).expect("the study is there").study.state
}

async fn claim(spool: &Spool) -> Claim {
    spool.claim().await.expect("the spool answers").expect("a study has settled")
}

async fn text_sr(spool: &Spool, uid: &str) -> Prepared {
    let file = ReportFile {
        kind: ObjectKind::TextSr,
        uids: Some([uid.to_owned(), "1.2.840.10008.5.1.4.1.1.88.11".to_owned(), "1.2.3.10".to_owned()]),
        bytes: b"an SR".to_vec(),
        destinations: vec!["pacs".to_owned()],
    };
    spool.prepare(vec![file], 0).await.expect("the file is written")
}

#[tokio::test]
async fn an_instance_is_kept_once_and_another_one_under_its_uid_is_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let first = data_set("1.2.3", "1.2.3.1", "Acme", "first");
    let other = data_set("1.2.3", "1.2.3.1", "Acme", "other");
    assert!(matches!(store(&spool, None, &first, 0).await, Ok(Some(Stored::New(_)))));
    assert!(matches!(store(&spool, None, &first, 1).await, Ok(Some(Stored::Again(_)))));
    assert!(matches!(store(&spool, None, &other, 2).await, Ok(Some(Stored::Conflict(_)))));
    assert!(matches!(store(&spool, None, &other, 3).await, Ok(Some(Stored::Again(_)))));

    let study = spool.study("1.2.3").unwrap();
    assert_eq!((study.instances.len(), study.quarantined.len()), (1, 1));
    let kept = fs::read(&study.instances[0].path).unwrap();
    assert_eq!(kept[kept.len() - first.len()..], first);
    assert_eq!(i64::try_from(kept.len()).unwrap(), study.instances[0].bytes);
    let quarantined = fs::read(&study.quarantined[0].path).unwrap();
    assert_eq!(quarantined[quarantined.len() - other.len()..], other);
    let day = study.instances[0].path.parent().unwrap();
    assert_eq!(fs::read_dir(day).unwrap().count(), 2, "what came again left nothing");
}

#[tokio::test]
async fn a_study_settles_when_it_is_quiet_and_its_associations_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    spool.association_opened(7, "test");
    store(&spool, Some(7), &data_set("1.2.3", "1.2.3.1", "Acme", ""), 100).await.unwrap();
    assert_eq!(spool.next_due(100).unwrap(), Some(100 + QUIET / 4), "it may be read ahead");
    assert_eq!(spool.next_due(100 + QUIET / 4).unwrap(), Some(100 + QUIET));
    assert_eq!(spool.settle(100 + QUIET - 1).await.unwrap(), 0, "not quiet for long enough");
    assert_eq!(spool.settle(100 + QUIET).await.unwrap(), 0, "an association is open");
    let reason = spool.study("1.2.3").unwrap().study.reason.unwrap();
    assert!(reason.contains("waits for the association of peer \"test\""), "{reason}");
    spool.association_closed(7);
    assert_eq!(spool.settle(100 + QUIET).await.unwrap(), 1);
    assert_eq!(spool.study("1.2.3").unwrap().study.reason, None);
    assert_eq!(claim(&spool).await.instances.len(), 1);
    assert!(spool.claim().await.unwrap().is_none(), "one study is read once");
}

#[tokio::test]
async fn nobody_keeps_a_study_from_settling_for_ever() {
    /// What an association that stays open brings, and when: an instance of the study by its number.
    async fn check(brought: &[(u8, i64)], always: Option<Duration>, settles_after: i64) {
        let dir = tempfile::tempdir().unwrap();
        let patience = spool::Patience { always };
        let options = Options { reserve_bytes: 0, journal_bytes: 1 << 20, patience, ..Options::default() };
        let (spool, _) = Spool::open(dir.path(), options, 0).unwrap();
        spool.association_opened(7, "test");
        for (number, at) in brought {
            let instance = data_set("1.2.3", &format!("1.2.3.{number}"), "Acme", "");
            store(&spool, Some(7), &instance, *at).await.unwrap();
        }
        assert_eq!(spool.settle(settles_after).await.unwrap(), 0, "{brought:?}: early");
        assert_eq!(spool.settle(settles_after + 1).await.unwrap(), 1, "{brought:?}: late");
    }
    // Four quiet periods are less than ten seconds.
    check(&[(1, 0)], None, 9_999).await;
    check(&[(1, 0), (2, 5_000)], None, 14_999).await;
    // The same instance again and again is no new one.
    check(&[(1, 0), (1, 5_000), (1, 8_000)], None, 9_999).await;
    check(&[(1, 0)], Some(Duration::from_secs(30)), 29_999).await;
    check(&[(1, 0)], Some(Duration::ZERO), QUIET - 1).await;

    // An association that repeats what another one brought.
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let instance = data_set("1.2.3", "1.2.3.1", "Acme", "");
    store(&spool, None, &instance, 0).await.unwrap();
    for again in 0..20 {
        spool.association_opened(again, "test");
        store(&spool, Some(again), &instance, i64::try_from(again).unwrap() * QUIET).await.unwrap();
    }
    assert_eq!(spool.settle(QUIET + 9_999).await.unwrap(), 0);
    assert_eq!(spool.settle(QUIET + 10_000).await.unwrap(), 1);
}

#[tokio::test]
async fn a_quiet_study_is_offered_to_be_read_ahead_and_the_claim_tells_whether_it_saw_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    spool.association_opened(7, "test");
    store(&spool, Some(7), &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    assert!(spool.unsettled(&[], QUIET / 2).unwrap().is_none(), "an association is open");
    spool.association_closed(7);
    assert!(spool.unsettled(&[], QUIET / 4 - 1).unwrap().is_none(), "it was not quiet for long enough");
    let ahead = spool.unsettled(&[], QUIET / 4).unwrap().expect("it is offered");
    assert!(spool.unsettled(&[ahead.study], QUIET / 2).unwrap().is_none(), "once");
    assert_eq!(state(&spool, "1.2.3"), "received");

    spool.settle(QUIET).await.unwrap();
    assert!(claim(&spool).await.saw_the_same(&ahead));
    store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), QUIET).await.unwrap();
    spool.settle(9 * QUIET).await.unwrap();
    assert!(!claim(&spool).await.saw_the_same(&ahead));
}

#[tokio::test]
async fn a_report_that_did_not_see_every_instance_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let early = claim(&spool).await;
    store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), QUIET).await.unwrap();
    let written =
        spool.written(&early, 1, "a".into(), "rule".into(), text_sr(&spool, "1.2.9").await, QUIET).await.unwrap();
    assert!(!written);
    assert_eq!(state(&spool, "1.2.3"), "received");
    assert_eq!(fs::read_dir(dir.path().join("reports")).unwrap().count(), 0);

    spool.settle(3 * QUIET).await.unwrap();
    let whole = claim(&spool).await;
    assert_eq!(whole.instances.len(), 2);
    assert!(spool.written(&whole, 1, "b".into(), "rule".into(), text_sr(&spool, "1.2.9").await, QUIET).await.unwrap());
}

#[tokio::test]
async fn a_report_is_delivered_once_and_our_own_object_coming_back_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    spool.written(&claimed, 1, "a".into(), "chest".into(), text_sr(&spool, "1.2.9").await, QUIET).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "written");

    let due = spool.due_deliveries("pacs", QUIET, 8).unwrap();
    spool.delivery_failed(&due[0], deliveries::failure("away", Some(QUIET + 500))).await.unwrap();
    assert!(spool.due_deliveries("pacs", QUIET, 8).unwrap().is_empty(), "it waits for its next attempt");
    assert_eq!(spool.study("1.2.3").unwrap().study.reason.as_deref(), Some("pacs: away"));
    let due = spool.due_deliveries("pacs", QUIET + 500, 8).unwrap();
    assert_eq!(due[0].attempts, 1);
    spool.delivered(&due[0], None, QUIET + 500).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "delivered");

    store(&spool, None, &data_set("1.2.3", "1.2.9", dataset::MANUFACTURER, ""), 9 * QUIET).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    let lineage = spool.lineage(claimed.study).unwrap();
    assert_eq!((lineage.next_version, lineage.inputs_digest.as_deref()), (2, Some("a")));
    let [text] = lineage.predecessors.as_slice() else { panic!("{lineage:?}") };
    assert_eq!((text.kind, text.version, text.sop_instance_uid.as_str()), (ObjectKind::TextSr, 1, "1.2.9"));
}

async fn objects(spool: &Spool, uids: &[(ObjectKind, &str)]) -> Prepared {
    let file = |(kind, uid): &(ObjectKind, &str)| ReportFile {
        kind: *kind,
        uids: Some([(*uid).to_owned(), "1.2.840".to_owned(), format!("{uid}.1")]),
        bytes: b"an object".to_vec(),
        destinations: vec!["pacs".to_owned()],
    };
    spool.prepare(uids.iter().map(file).collect(), 0).await.expect("the files are written")
}

#[tokio::test]
async fn the_newest_object_of_each_kind_is_what_a_new_one_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let versions: [&[(ObjectKind, &str)]; 3] = [
        &[(ObjectKind::TextSr, "1.1"), (ObjectKind::MeasurementsSr, "1.2"), (ObjectKind::KeyObjects, "1.3")],
        &[(ObjectKind::TextSr, "2.1"), (ObjectKind::KeyObjects, "2.3")],
        &[(ObjectKind::TextSr, "3.1")],
    ];
    let mut study = 0;
    for (version, made) in (1..).zip(versions) {
        let instance = format!("1.2.3.{version}");
        store(&spool, None, &data_set("1.2.3", &instance, "Acme", ""), version * 10 * QUIET).await.unwrap();
        spool.settle((version * 10 + 2) * QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        study = claimed.study;
        let made = objects(&spool, made).await;
        assert!(spool.written(&claimed, version, version.to_string(), "r".into(), made, QUIET).await.unwrap());
        let json =
            ReportFile { kind: ObjectKind::ReportJson, uids: None, bytes: b"{}".to_vec(), destinations: Vec::new() };
        let json = spool.prepare(vec![json], 0).await.unwrap();
        spool.attach(study, version, json, QUIET).await.unwrap();
    }
    let lineage = spool.lineage(study).unwrap();
    assert_eq!(lineage.next_version, 4);
    let mut newest: Vec<_> =
        lineage.predecessors.iter().map(|it| (it.kind, it.version, it.sop_instance_uid.as_str())).collect();
    newest.sort();
    assert_eq!(
        newest,
        [(ObjectKind::TextSr, 3, "3.1"), (ObjectKind::MeasurementsSr, 1, "1.2"), (ObjectKind::KeyObjects, 2, "2.3")]
    );
    assert!(lineage.predecessors.iter().all(|it| it.series_instance_uid == format!("{}.1", it.sop_instance_uid)));
}

#[tokio::test]
async fn a_destination_that_does_not_take_an_object_gets_another_of_the_same_report() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    let both = [(ObjectKind::MeasurementsSr, "1.1"), (ObjectKind::ComprehensiveMeasurementsSr, "1.2")];
    let files = both.map(|(kind, uid)| ReportFile {
        kind,
        uids: Some([uid.to_owned(), "1.2.840".to_owned(), format!("{uid}.1")]),
        bytes: b"an object".to_vec(),
        destinations: if kind == ObjectKind::MeasurementsSr { vec!["pacs".to_owned()] } else { Vec::new() },
    });
    let made = spool.prepare(files.to_vec(), 0).await.unwrap();
    spool.written(&claimed, 1, "a".into(), "r".into(), made, 0).await.unwrap();

    let due = spool.due_deliveries("pacs", 0, 8).unwrap();
    assert_eq!((due.len(), due[0].kind), (1, ObjectKind::MeasurementsSr));
    let none = spool.deliver_instead(&due[0], ObjectKind::Pdf, "refused".to_owned(), 1).await.unwrap();
    assert!(
        !none && spool.due_deliveries("pacs", 1, 8).unwrap()[0].id == due[0].id,
        "there is no PDF: nothing changes"
    );
    let other = ObjectKind::ComprehensiveMeasurementsSr;
    assert!(spool.deliver_instead(&due[0], other, "refused".to_owned(), 1).await.unwrap());
    let due = spool.due_deliveries("pacs", 1, 8).unwrap();
    assert_eq!((due.len(), due[0].kind, due[0].sop_instance_uid.as_str()), (1, other, "1.2"));
    assert_eq!(state(&spool, "1.2.3"), "written");
    spool.delivered(&due[0], None, 2).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    let reports = spool.study("1.2.3").unwrap().reports;
    assert_eq!(reports[0].replaced, [("pacs".to_owned(), Some("refused".to_owned()))]);
    assert!(reports[0].pending.is_empty() && reports[1].delivered_to == ["pacs"]);
}

#[tokio::test]
async fn a_delivery_given_up_holds_its_study_until_somebody_retries() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    spool.written(&claimed, 1, "a".into(), "chest".into(), text_sr(&spool, "1.2.9").await, 0).await.unwrap();
    let due = spool.due_deliveries("pacs", 0, 8).unwrap();
    spool.delivery_failed(&due[0], deliveries::failure("refused", None)).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "held");

    let beside = Spool::open_beside(dir.path()).unwrap();
    assert_eq!(beside.retry(claimed.study).await.unwrap(), StudyState::Written);
    assert_eq!(spool.due_deliveries("pacs", 5, 8).unwrap().len(), 1);
    assert!(matches!(Spool::open(dir.path(), Options::default(), 0), Err(Error::InUse(_))));
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_only_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    store(&spool, None, &data_set("1.2.4", "1.2.4.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let reading = claim(&spool).await;
    let instance = spool.study("1.2.4").unwrap().instances[0].path.clone();
    spool.checkpoint().await.unwrap();
    drop(spool);
    fs::write(instance.with_file_name("half-received.dcm"), b"half an instance").unwrap();
    fs::remove_file(&instance).unwrap();

    // The writer thread of the first spool holds the lock file open until it has seen its channel close.
    let (spool, recovery) = open(dir.path(), 50 * QUIET);
    assert_eq!((recovery.orphans, recovery.readings, recovery.missing.len()), (1, 1, 1));
    assert_eq!(state(&spool, &reading.study_instance_uid), "settled");
    assert_eq!(state(&spool, "1.2.4"), "held");
}

#[tokio::test]
async fn a_full_disk_is_said_before_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), Options { reserve_bytes: u64::MAX, ..Options::default() }, 0).unwrap();
    let refused = store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await;
    assert!(matches!(refused, Err(Error::Full { .. })));
}

#[tokio::test]
async fn what_a_person_stops_stays_stopped_until_it_is_retried() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    let study = spool.studies().unwrap()[0].id;
    spool.hold(study, "wait".to_owned()).await.unwrap();
    store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), QUIET).await.unwrap();
    assert_eq!(spool.settle(9 * QUIET).await.unwrap(), 0);
    assert_eq!(state(&spool, "1.2.3"), "held");
    spool.retry(study).await.unwrap();
    let claimed = claim(&spool).await;
    assert_eq!(claimed.instances.len(), 2);

    // While it is read: the report is not kept.
    spool.drop_study(study, "not this one".to_owned()).await.unwrap();
    let report = text_sr(&spool, "1.2.9").await;
    assert!(!spool.written(&claimed, 1, "a".into(), "rule".into(), report, 0).await.unwrap());
    assert_eq!(state(&spool, "1.2.3"), "skipped");
    assert!(spool.due_deliveries("pacs", 99 * QUIET, 8).unwrap().is_empty());
}

#[tokio::test]
async fn beyond_the_quota_instances_are_refused_until_retention_made_room() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let instance = |study: &str, number: usize| data_set(study, &format!("{study}.{number}"), "Acme", "");
    store(&spool, None, &instance("1.2.3", 1), 0).await.unwrap();
    store(&spool, None, &instance("1.2.3", 2), 0).await.unwrap();
    let used = spool.room().unwrap().used_bytes;
    drop(spool);
    let quota_bytes = used + used / 4;
    let options = Options { reserve_bytes: 0, journal_bytes: 1 << 20, quota_bytes, ..Options::default() };
    // What counts is what is kept, also after a restart.
    let (spool, _) = Spool::open(dir.path(), options, 0).unwrap();
    assert_eq!(spool.room().unwrap().used_bytes, used);
    let refused = store(&spool, None, &instance("1.2.4", 1), 0).await;
    assert!(matches!(refused, Err(Error::Quota { .. })), "{refused:?}");
    assert_eq!(spool.room().unwrap().used_bytes, used, "what was refused takes no room");

    let retention = Retention { skipped: Some(Duration::from_millis(10)), ..Retention::default() };
    spool.settle(QUIET).await.unwrap();
    assert_eq!(spool.retain(&retention, 9 * QUIET).await.unwrap().files, 0, "it is settled, not skipped");
    let claimed = claim(&spool).await;
    spool.end(&claimed, StudyState::Skipped, "no rule".to_owned(), None).await.unwrap();
    let removed = spool.retain(&retention, 9 * QUIET).await.unwrap();
    assert_eq!((removed.studies, removed.files, removed.bytes), (1, 2, used));
    assert!(spool.study("1.2.3").unwrap().study.removed_at.is_some());
    assert!(store(&spool, None, &instance("1.2.4", 1), 9 * QUIET).await.is_ok());
}

#[tokio::test]
async fn retention_removes_nothing_that_is_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let all = Some(Duration::ZERO);
    let retention = Retention { delivered: all, skipped: all, held: all };
    let removed = async |now| spool.retain(&retention, now).await.unwrap().files;
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    assert_eq!(removed(QUIET).await, 0, "received");
    spool.settle(QUIET).await.unwrap();
    assert_eq!(removed(QUIET).await, 0, "settled");
    let claimed = claim(&spool).await;
    assert_eq!(removed(QUIET).await, 0, "reading");
    spool.written(&claimed, 1, "a".into(), "chest".into(), text_sr(&spool, "1.2.9").await, QUIET).await.unwrap();
    assert_eq!(removed(QUIET).await, 0, "written");
    let due = spool.due_deliveries("pacs", QUIET, 8).unwrap();
    spool.delivery_failed(&due[0], deliveries::failure("refused", None)).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "held");
    assert_eq!(removed(9 * QUIET).await, 0, "held, and not delivered");
    spool.retry(claimed.study).await.unwrap();
    spool.delivered(&spool.due_deliveries("pacs", 9 * QUIET, 8).unwrap()[0], None, 10 * QUIET).await.unwrap();
    let too_early = Retention { delivered: Some(Duration::from_millis(100)), ..Retention::default() };
    assert_eq!(spool.retain(&too_early, 10 * QUIET + 99).await.unwrap().files, 0, "it counts from the delivery");
    assert_eq!(removed(10 * QUIET).await, 1);
    assert_eq!(spool.study("1.2.3").unwrap().reports.len(), 1, "the report stays");
}

#[tokio::test]
async fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    for number in 1..=4 {
        store(&spool, None, &data_set("1.2.3", &format!("1.2.3.{number}"), "Acme", ""), 0).await.unwrap();
    }
    let instances = spool.study("1.2.3").unwrap().instances;
    let damage = |number: usize, work: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&instances[number].path).unwrap();
        work(&mut bytes);
        fs::write(&instances[number].path, bytes).unwrap();
    };
    damage(1, &|bytes| *bytes.last_mut().unwrap() ^= 1);
    damage(2, &|bytes| {
        let at = bytes.windows(17).position(|window| window == b"1.2.840.10008.1.2").expect("the transfer syntax");
        bytes[at] = b'9';
    });
    fs::remove_file(&instances[3].path).unwrap();

    const CLASS: &str = "1.2.840.10008.5.1.4.1.1.1";
    let found = async |class: &str, uid: &str| spool.verify_instance(class, uid).await.unwrap();
    assert_eq!(found(CLASS, "1.2.3.1").await, Verification::Intact);
    assert_eq!(found(CLASS, "1.2.3.2").await, Verification::Damaged, "a byte of the data set");
    assert_eq!(found(CLASS, "1.2.3.4").await, Verification::Damaged, "gone");
    assert_eq!(found("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1").await, Verification::OtherClass);
    assert_eq!(found(CLASS, "1.2.3.5").await, Verification::Absent);
    let mut scrubbed = Vec::new();
    spool.scrub(|one| scrubbed.push(one.found == Verification::Intact)).unwrap();
    assert_eq!(scrubbed, [true, false, false, false], "a byte of the file meta information counts too");
}

#[tokio::test]
async fn only_the_owner_may_read_what_the_spool_makes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("var/spool");
    let (spool, _) = open(&root, 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    drop(text_sr(&spool, "1.2.9").await);
    let (mut folders, mut seen) = (vec![dir.path().join("var")], Vec::new());
    while let Some(folder) = folders.pop() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    for name in ["lock", "state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "0"] {
        assert!(seen.iter().any(|seen| seen == name), "{name} is not among {seen:?}");
    }
}

#[tokio::test]
async fn what_is_urgent_is_read_first_and_what_ended_the_process_last() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    // Each study by its instances' priorities; the highest counts, whenever it came.
    for (study, priorities) in [("1", &[0][..]), ("2", &[1]), ("3", &[0, 1]), ("4", &[0]), ("5", &[1, 0])] {
        for (number, priority) in priorities.iter().enumerate() {
            let uid = format!("1.2.3.{study}");
            store_urgent(&spool, &data_set(&uid, &format!("{uid}.{number}"), "A", ""), *priority).await;
        }
    }
    spool.settle(QUIET).await.unwrap();
    let mut order = String::new();
    while let Some(claim) = spool.claim().await.unwrap() {
        order += claim.study_instance_uid.rsplit('.').next().unwrap();
    }
    assert_eq!(order, "23514");
}

#[tokio::test]
async fn a_reading_ahead_counts_until_something_else_happens_to_its_study() {
    for (what, counts) in [("nothing", true), ("settled", true), ("more", false), ("held", false), ("dropped", false)] {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        store(&spool, None, &data_set("1.2.3", "1.2.3.1", "A", ""), 0).await.unwrap();
        let ahead = spool.unsettled(&[], QUIET / 4).unwrap().unwrap();
        let id = ahead.study;
        match what {
            "settled" => assert_eq!(spool.settle(QUIET).await.unwrap(), 1),
            "more" => {
                store(&spool, None, &data_set("1.2.3", "1.2.3.2", "A", ""), 1).await.unwrap();
            }
            "held" => spool.hold(id, String::new()).await.unwrap(),
            "dropped" => spool.drop_study(id, String::new()).await.unwrap(),
            _ => {}
        }
        assert_eq!(spool.is_waiting(&ahead).unwrap(), counts, "{what}");
        assert_eq!(spool.begin_ahead(&ahead).await.unwrap(), what == "nothing", "{what}");
    }
}
