//! What was sent is called back from where it is, or may be, and from nowhere else.

use spool::{Delivery, DeliveryState};

use super::{deliveries::failure, *};

const LATE: i64 = 1_000_000_000;

async fn file(spool: &Spool, kind: ObjectKind, uid: &str, destinations: &[&str]) -> Prepared {
    let file = ReportFile {
        kind,
        uids: Some([uid.to_owned(), "1.2.840".to_owned(), format!("{uid}.8")]),
        bytes: b"an object".to_vec(),
        destinations: destinations.iter().map(|&name| name.to_owned()).collect(),
    };
    spool.prepare(vec![file], 0).await.unwrap()
}

/// A study with one report for four destinations.
async fn written(spool: &Spool) -> Claim {
    store(spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(spool).await;
    let report = file(spool, ObjectKind::TextSr, "9.1", &["has", "may have", "refused", "waits"]).await;
    assert!(spool.written(&claimed, 1, "a".into(), "r".into(), report, 0).await.unwrap());
    claimed
}

fn due(spool: &Spool, destination: &str) -> Vec<Delivery> {
    spool.due_deliveries(destination, LATE, 8).unwrap()
}

#[tokio::test]
async fn a_withdrawal_reaches_whoever_may_have_the_report_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let study = written(&spool).await.study;
    spool.delivered(&due(&spool, "has")[0], None, 1).await.unwrap();
    // Cut off in the middle: nobody knows what became of it.
    let cut = due(&spool, "may have");
    spool.begin_deliveries(&cut).await.unwrap();
    spool.delivery_failed(&due(&spool, "refused")[0], failure("refused", None)).await.unwrap();
    let waiting = due(&spool, "waits");

    let beside = Spool::open_beside(dir.path()).unwrap();
    let withdrawn = beside.withdraw(study, "wrong".to_owned(), 5).await.unwrap();
    assert_eq!((withdrawn.versions, withdrawn.destinations.join(", ")), (1, "has, may have".to_owned()));
    assert!(matches!(beside.withdraw(study, "again".to_owned(), 5).await, Err(Error::WrongState { .. })));
    assert!(spool.begin_deliveries(&waiting).await.unwrap().is_empty(), "it is not sent any more");
    assert_eq!(state(&spool, "1.2.3"), "written");
    drop((spool, beside));

    let (spool, _) = open(dir.path(), 0);
    let [withdrawal] = spool.open_withdrawals().unwrap().try_into().unwrap();
    let [object] = withdrawal.objects.as_slice() else { panic!("{withdrawal:?}") };
    assert_eq!((object.sop_instance_uid.as_str(), object.destinations.join(", ")), ("9.1", "has, may have".to_owned()));
    let note = file(&spool, ObjectKind::RejectionNote, "9.2", &["has", "may have"]).await;
    spool.note_withdrawal(&withdrawal, vec![(1, note)], 6).await.unwrap();
    assert!(spool.open_withdrawals().unwrap().is_empty());
    // The answer that was not known comes after all.
    spool.delivered(&cut[0], None, 7).await.unwrap();
    assert_eq!(spool.withdrawn_at(study, "may have").unwrap(), ["9.1"]);
    assert_eq!(spool.withdrawn_at(study, "waits").unwrap(), Vec::<String>::new());
    for destination in ["has", "may have"] {
        let notes = due(&spool, destination);
        assert_eq!((notes.len(), notes[0].kind), (1, ObjectKind::RejectionNote), "{destination}");
        assert_eq!(state(&spool, "1.2.3"), "written");
        spool.delivered(&notes[0], None, 8).await.unwrap();
    }
    assert!(due(&spool, "refused").is_empty() && due(&spool, "waits").is_empty());
    let shown = spool.study("1.2.3").unwrap();
    assert_eq!((shown.study.state.as_str(), shown.study.reason.as_deref()), ("delivered", Some("withdrawn: wrong")));
    assert_eq!(shown.study.withdrawn.as_deref(), Some("wrong"));
    let states: Vec<_> = shown.reports[0].deliveries.iter().map(|it| it.state).collect();
    let [delivered, cancelled] = [DeliveryState::Delivered, DeliveryState::Withdrawn];
    assert_eq!(states, [delivered, delivered, cancelled, cancelled]);

    // It can be read again, as if it never had been, but under another version.
    let lineage = spool.lineage(study).unwrap();
    assert_eq!((lineage.next_version, lineage.inputs_digest, lineage.predecessors.len()), (2, None, 0));
    assert_eq!(spool.retry(study).await.unwrap(), StudyState::Settled);
    let again = claim(&spool).await;
    let report = file(&spool, ObjectKind::TextSr, "9.3", &["has"]).await;
    assert!(spool.written(&again, 2, "a".into(), "r".into(), report, 9).await.unwrap());
    spool.delivered(&due(&spool, "has")[0], None, 9).await.unwrap();
    let shown = spool.study("1.2.3").unwrap().study;
    assert_eq!((shown.state.as_str(), shown.reason, shown.withdrawn), ("delivered", None, None));
}

#[tokio::test]
async fn what_was_not_sent_needs_no_note_and_what_is_being_read_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
    let nothing = spool.withdraw(1, "early".to_owned(), 0).await;
    assert!(matches!(nothing, Err(Error::WrongState { why, .. }) if why.contains("no report")));
    let study = written(&spool).await.study;
    // A second version is being made, which would follow the first.
    store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), 9 * QUIET).await.unwrap();
    spool.settle(99 * QUIET).await.unwrap();
    let reading = claim(&spool).await;
    assert_eq!(spool.withdraw(study, "wrong".to_owned(), 0).await.unwrap().destinations, Vec::<String>::new());
    let report = file(&spool, ObjectKind::TextSr, "9.2", &["has"]).await;
    assert!(!spool.written(&reading, 2, "b".into(), "r".into(), report, 0).await.unwrap());
    assert_eq!(claim(&spool).await.study, study);
    let [withdrawal] = spool.open_withdrawals().unwrap().try_into().unwrap();
    assert!(withdrawal.objects.is_empty());
    spool.note_withdrawal(&withdrawal, Vec::new(), 0).await.unwrap();
    assert!(spool.open_withdrawals().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_note_rejects_is_marked_once_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let study = written(&spool).await.study;
    spool.delivered(&due(&spool, "has")[0], None, 1).await.unwrap();
    let uids = || vec!["9.1".to_owned(), "1.2.3.1".to_owned()];
    assert_eq!(spool.reject_objects(study, uids(), "Rejected".to_owned()).await.unwrap(), 1);
    assert_eq!(spool.reject_objects(study, uids(), "Rejected".to_owned()).await.unwrap(), 0);
    assert!(due(&spool, "waits").is_empty(), "it is not sent any more");
    let lineage = spool.lineage(study).unwrap();
    assert_eq!(
        (lineage.inputs_digest.as_deref(), lineage.predecessors.len()),
        (Some("a"), 0),
        "the same is not made anew"
    );
    assert_eq!(spool.study("1.2.3").unwrap().reports[0].withdrawn.as_deref(), Some("Rejected"));
}

/// A study whose report was sent to "has" and is withdrawn; with its note, or before that is made.
async fn withdrawn(spool: &Spool, with_note: bool) -> i64 {
    let study = written(spool).await.study;
    spool.delivered(&due(spool, "has")[0], None, 1).await.unwrap();
    spool.withdraw(study, "wrong".to_owned(), 5).await.unwrap();
    if with_note {
        make_note(spool).await;
    }
    study
}

async fn make_note(spool: &Spool) {
    let [withdrawal] = spool.open_withdrawals().unwrap().try_into().unwrap();
    let note = file(spool, ObjectKind::RejectionNote, "9.2", &["has"]).await;
    spool.note_withdrawal(&withdrawal, vec![(1, note)], 6).await.unwrap();
}

#[tokio::test]
async fn a_rejection_note_goes_its_way_whatever_a_person_stops_and_a_withdrawn_study_can_be_held() {
    let check = async |with_note: bool, drops: bool, on_its_way: &str, expected: (&str, &str)| {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        let study = withdrawn(&spool, with_note).await;
        let stop = async || {
            let reason = "by a person".to_owned();
            if drops { spool.drop_study(study, reason).await } else { spool.hold(study, reason).await }
        };
        stop().await.unwrap();
        assert_eq!(state(&spool, "1.2.3"), on_its_way);
        if !with_note {
            make_note(&spool).await;
        }
        let [note] = due(&spool, "has").try_into().unwrap();
        spool.delivered(&note, None, 8).await.unwrap();
        let shown = || spool.study("1.2.3").unwrap().study;
        assert_eq!((shown().state.as_str(), shown().reason.as_deref()), (expected.0, Some(expected.1)));
        assert_eq!(shown().withdrawn.as_deref(), Some("wrong"));
        // Nor does a late image make a report now; and what was said of a delivered study is not said of this one.
        store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), 9 * QUIET).await.unwrap();
        assert_eq!(state(&spool, "1.2.3"), expected.0);
        stop().await.unwrap();
    };
    for with_note in [true, false] {
        check(with_note, true, "written", ("delivered", "withdrawn: wrong")).await;
        check(with_note, false, "held", ("held", "by a person")).await;
    }
}

#[tokio::test]
async fn a_rejection_note_that_was_given_up_is_done_with_when_a_person_drops_its_study() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let study = withdrawn(&spool, true).await;
    spool.delivery_failed(&due(&spool, "has")[0], failure("refused", None)).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "held");
    spool.drop_study(study, "deleted by hand".to_owned()).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    assert!(due(&spool, "has").is_empty());
}

#[tokio::test]
async fn a_study_that_waits_for_a_decision_waits_for_it_after_a_withdrawal_too() {
    let check = async |is_to_be_decided: bool, cannot_be_noted: bool, expected: (&str, &str)| {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        let study = written(&spool).await.study;
        for destination in ["has", "may have"] {
            spool.delivered(&due(&spool, destination)[0], None, 1).await.unwrap();
        }
        for destination in ["refused", "waits"] {
            spool.delivery_failed(&due(&spool, destination)[0], failure("refused", None)).await.unwrap();
        }
        assert_eq!(state(&spool, "1.2.3"), "held");
        if is_to_be_decided {
            store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), 9 * QUIET).await.unwrap();
            spool.settle(99 * QUIET).await.unwrap();
            let claimed = claim(&spool).await;
            assert!(spool.end(&claimed, StudyState::Held, "two patients".to_owned(), None).await.unwrap());
        }
        spool.withdraw(study, "wrong".to_owned(), 5).await.unwrap();
        if cannot_be_noted {
            let [withdrawal] = spool.open_withdrawals().unwrap().try_into().unwrap();
            spool.withdrawal_failed(&withdrawal, "no note".to_owned(), 6).await.unwrap();
        } else {
            make_note(&spool).await;
            spool.delivered(&due(&spool, "has")[0], None, 8).await.unwrap();
        }
        let shown = spool.study("1.2.3").unwrap().study;
        assert_eq!((shown.state.as_str(), shown.reason.as_deref()), (expected.0, Some(expected.1)));
    };
    check(true, false, ("held", "two patients")).await;
    check(true, true, ("held", "two patients; no note")).await;
    check(false, false, ("delivered", "withdrawn: wrong")).await;
    check(false, true, ("held", "no note")).await;
}
