//! Retention frees every study that has nothing left to deliver, whatever way its deliveries ended.

use super::{deliveries::failure, *};

/// A study whose report was written, with one measurement report for one destination and another form of it beside.
async fn written(spool: &Spool) -> Claim {
    store(spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(spool).await;
    let kinds = [(ObjectKind::MeasurementsSr, "1.1"), (ObjectKind::ComprehensiveMeasurementsSr, "1.2")];
    let files = kinds.map(|(kind, uid)| ReportFile {
        kind,
        uids: Some([uid.to_owned(), "1.2.840".to_owned(), format!("{uid}.1")]),
        bytes: b"an object".to_vec(),
        destinations: if kind == ObjectKind::MeasurementsSr { vec!["pacs".to_owned()] } else { Vec::new() },
    });
    let report = spool.prepare(files.to_vec(), 0).await.unwrap();
    assert!(spool.written(&claimed, 1, "a".into(), "r".into(), report, 0).await.unwrap());
    claimed
}

async fn removed(spool: &Spool) -> usize {
    let all = Some(Duration::ZERO);
    let retention = Retention { delivered: all, skipped: all, held: all };
    spool.retain(&retention, 9 * QUIET).await.unwrap().files
}

#[tokio::test]
async fn a_study_one_of_whose_objects_was_replaced_is_freed() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    written(&spool).await;
    let due = spool.due_deliveries("pacs", 0, 8).unwrap();
    let other = ObjectKind::ComprehensiveMeasurementsSr;
    assert!(spool.deliver_instead(&due[0], other, "refused".to_owned(), 1).await.unwrap());
    assert_eq!(removed(&spool).await, 0, "the other form is not delivered yet");
    spool.delivered(&spool.due_deliveries("pacs", 1, 8).unwrap()[0], None, 2).await.unwrap();
    assert_eq!((state(&spool, "1.2.3").as_str(), removed(&spool).await), ("delivered", 1));
}

#[tokio::test]
async fn a_retry_does_not_send_what_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let claimed = written(&spool).await;
    let other = ObjectKind::ComprehensiveMeasurementsSr;
    let due = spool.due_deliveries("pacs", 0, 8).unwrap();
    assert!(spool.deliver_instead(&due[0], other, "refused".to_owned(), 1).await.unwrap());
    spool.delivery_failed(&spool.due_deliveries("pacs", 1, 8).unwrap()[0], failure("full", None)).await.unwrap();
    spool.retry(claimed.study).await.unwrap();
    let kinds: Vec<ObjectKind> = spool.due_deliveries("pacs", 5, 8).unwrap().iter().map(|due| due.kind).collect();
    assert_eq!(kinds, [other]);
}

#[tokio::test]
async fn a_study_that_a_person_dropped_after_a_failed_delivery_is_freed() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let claimed = written(&spool).await;
    spool.delivery_failed(&spool.due_deliveries("pacs", 0, 8).unwrap()[0], failure("refused", None)).await.unwrap();
    assert_eq!(removed(&spool).await, 0, "held, and not delivered");
    spool.drop_study(claimed.study, "by a person".to_owned()).await.unwrap();
    assert_eq!((state(&spool, "1.2.3").as_str(), removed(&spool).await), ("skipped", 1));
}
