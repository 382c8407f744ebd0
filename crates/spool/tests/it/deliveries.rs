//! What is due where, in which order, and what becomes of it.

use spool::{Delivery, Failure, ObjectKind, ReportFile, Spool, StudyState};

use super::{QUIET, claim, data_set, open, state, store};

pub(crate) fn failure(error: &str, next_at: Option<i64>) -> Failure {
    Failure {
        error: error.to_owned(),
        comment: Some("said MADEUP^PATIENT".to_owned()),
        next_at,
        is_refusal: next_at.is_none(),
        may_be_there: false,
    }
}

const ALL: [&str; 2] = ["pacs", "archive"];

/// A version of a study's report: a text report and a PDF, for two destinations. Answers the study's number.
async fn a_version(spool: &Spool, version: i64) -> i64 {
    let now = version * 100 * QUIET;
    store(spool, None, &data_set("1.2.3", &format!("1.2.3.{version}"), "Acme", ""), now).await.unwrap();
    spool.settle(now + QUIET).await.unwrap();
    let claimed = claim(spool).await;
    let file = |kind, uid: i64| ReportFile {
        kind,
        uids: Some([format!("9.{version}.{uid}"), "1.2.840".to_owned(), format!("8.{version}.{uid}")]),
        bytes: b"an object".to_vec(),
        destinations: ALL.map(str::to_owned).to_vec(),
    };
    // The text report is not the first that is made.
    let files = spool.prepare(vec![file(ObjectKind::Pdf, 2), file(ObjectKind::TextSr, 1)], now).await.unwrap();
    assert!(spool.written(&claimed, version, version.to_string(), "r".into(), files, now + QUIET).await.unwrap());
    claimed.study
}

fn due(spool: &Spool, destination: &str, now: i64) -> Vec<Delivery> {
    spool.due_deliveries(destination, now, 8).unwrap()
}

fn uids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|it| it.sop_instance_uid.as_str()).collect()
}

const LATE: i64 = 1_000_000_000;

#[tokio::test]
async fn the_text_report_goes_first_and_what_follows_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let study = a_version(&spool, 1).await;
    let pacs = due(&spool, "pacs", LATE);
    assert_eq!(uids(&pacs), ["9.1.1", "9.1.2"]);
    spool.delivery_failed(&pacs[0], failure("busy", Some(LATE + 9))).await.unwrap();
    assert!(due(&spool, "pacs", LATE + 8).is_empty(), "the PDF does not overtake its report");
    assert_eq!(spool.next_delivery("pacs").unwrap(), Some(LATE + 9));
    assert_eq!(uids(&due(&spool, "archive", LATE)), ["9.1.1", "9.1.2"], "another destination has its own order");
    let pacs = due(&spool, "pacs", LATE + 9);
    assert_eq!((uids(&pacs).as_slice(), pacs[0].attempts), (["9.1.1", "9.1.2"].as_slice(), 1));
    spool.delivered(&pacs[0], None, LATE).await.unwrap();
    spool.delivery_failed(&pacs[1], failure("busy", Some(LATE + 99))).await.unwrap();
    assert!(due(&spool, "pacs", LATE + 98).is_empty());

    let shown = spool.study(&study.to_string()).unwrap();
    let waiting = &shown.study.waiting;
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    assert_eq!((waiting[1].destination.as_str(), waiting[1].objects, waiting[1].attempts), ("pacs", 1, 1));
    assert_eq!((waiting[1].next_try_at, waiting[1].given_up), (Some(LATE + 99), false));
    assert_eq!(shown.study.reason.as_deref(), Some("pacs: busy"));
    assert_eq!(spool.studies().unwrap()[0].waiting, *waiting);
    assert!(!format!("{:?}", spool.studies().unwrap()).contains("MADEUP"), "a list has no peer's words");
    let pdf = &shown.reports[0].deliveries;
    assert_eq!(pdf[1].comment.as_deref(), Some("said MADEUP^PATIENT"));
}

#[tokio::test]
async fn nothing_follows_a_text_report_that_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let study = a_version(&spool, 1).await;
    let pacs = due(&spool, "pacs", LATE);
    spool.delivery_failed(&pacs[0], failure("refused", None)).await.unwrap();
    assert!(due(&spool, "pacs", i64::MAX).is_empty(), "the PDF does not go alone");
    assert!(spool.begin_deliveries(&pacs[1..]).await.unwrap().is_empty(), "nor where it was looked up before");
    assert_eq!(uids(&due(&spool, "archive", LATE)), ["9.1.1", "9.1.2"], "another destination has its own order");
    for delivery in due(&spool, "archive", LATE) {
        spool.delivered(&delivery, None, LATE).await.unwrap();
    }
    let shown = spool.study("1.2.3").unwrap();
    let reason = shown.study.reason.unwrap();
    assert!(shown.study.state == "held" && reason.contains("refused") && reason.contains("not sent"), "{reason}");
    spool.retry(study).await.unwrap();
    assert_eq!(uids(&due(&spool, "pacs", spool::AT_ONCE)), ["9.1.1", "9.1.2"], "a person has both tried again");
}

#[tokio::test]
async fn what_follows_goes_with_a_text_report_of_another_class() {
    for first_is_there in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), 0).await.unwrap();
        spool.settle(QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        let kinds = [ObjectKind::TextSr, ObjectKind::EnhancedTextSr, ObjectKind::AiResultsSr];
        let files = kinds.map(|kind| ReportFile {
            kind,
            uids: Some([format!("9.{}", kind as u8), "1.2.840".to_owned(), format!("8.{}", kind as u8)]),
            bytes: b"an object".to_vec(),
            destinations: vec!["pacs".to_owned()],
        });
        let made = spool.prepare(files.to_vec(), 0).await.unwrap();
        spool.written(&claimed, 1, "a".into(), "r".into(), made, 0).await.unwrap();
        let waiting = due(&spool, "pacs", LATE);
        if first_is_there {
            spool.delivered(&waiting[0], None, LATE).await.unwrap();
        } else {
            spool.delivery_failed(&waiting[0], failure("refused", None)).await.unwrap();
            assert_eq!(due(&spool, "pacs", LATE).len(), 2, "the other class may be taken");
        }
        spool.delivery_failed(&waiting[1], failure("refused", None)).await.unwrap();
        assert_eq!(due(&spool, "pacs", LATE).len(), usize::from(first_is_there));
    }
}

#[tokio::test]
async fn a_version_that_has_a_successor_is_not_sent_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    a_version(&spool, 1).await;
    let pacs = due(&spool, "pacs", LATE);
    spool.delivered(&pacs[0], None, LATE).await.unwrap();
    // On its way there while the next version is written; the archive is away, and gave one up.
    assert_eq!(spool.begin_deliveries(&pacs[1..]).await.unwrap(), [pacs[1].id]);
    let archive = due(&spool, "archive", LATE);
    spool.delivery_failed(&archive[0], failure("refused", None)).await.unwrap();
    a_version(&spool, 2).await;
    drop(spool);

    let (spool, _) = open(dir.path(), 0);
    assert_eq!(uids(&due(&spool, "pacs", LATE)), ["9.2.1", "9.2.2"]);
    assert_eq!(uids(&due(&spool, "archive", LATE)), ["9.2.1", "9.2.2"]);
    assert!(spool.begin_deliveries(&archive).await.unwrap().is_empty(), "it was looked up before");
    spool.delivered(&pacs[1], None, LATE).await.unwrap();
    let first = |kind: &str| {
        let reports = spool.study("1.2.3").unwrap().reports;
        let of = reports.into_iter().find(|it| it.version == 1 && it.kind == kind).unwrap();
        of.deliveries.into_iter().map(|it| (it.destination, it.state.as_str())).collect::<Vec<_>>()
    };
    let at = |a: &'static str, b: &'static str| vec![("archive".to_owned(), a), ("pacs".to_owned(), b)];
    assert_eq!(first("text-sr"), at("superseded", "delivered"));
    assert_eq!(first("pdf"), at("superseded", "delivered"), "what was on its way arrived");
    for destination in ALL {
        for delivery in due(&spool, destination, LATE) {
            spool.delivered(&delivery, None, LATE).await.unwrap();
        }
    }
    assert_eq!(state(&spool, "1.2.3"), "delivered");
}

#[tokio::test]
async fn a_report_is_not_sent_while_its_study_is_held() {
    /// How a person, and the reading after that, end it; whether the report that waited is sent then.
    async fn check(ends: StudyState, is_sent: bool) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        let study = a_version(&spool, 1).await;
        let looked_up = due(&spool, "pacs", LATE);
        // A late image, which raises a question about all of the study; the archive has refused its report before.
        let refused = due(&spool, "archive", LATE);
        spool.delivery_failed(&refused[0], failure("refused", None)).await.unwrap();
        store(&spool, None, &data_set("1.2.3", "1.2.3.2", "Acme", ""), LATE).await.unwrap();
        spool.settle(LATE + QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        assert!(spool.end(&claimed, StudyState::Held, "whose is it".to_owned(), None).await.unwrap());
        drop(spool);
        let (spool, _) = open(dir.path(), 0);
        assert_eq!((due(&spool, "pacs", LATE).len(), spool.next_delivery("pacs").unwrap()), (0, None), "{ends}");
        assert!(spool.begin_deliveries(&looked_up).await.unwrap().is_empty(), "{ends}: it was looked up before");
        let waiting = &spool.study("1.2.3").unwrap().study.waiting;
        assert!(waiting.iter().any(|it| it.last_error.as_deref() == Some("not sent while its study is held")));
        // That a person asks for it again decides nothing: it is read first.
        assert_eq!(spool.retry(study).await.unwrap(), StudyState::Settled);
        assert!(due(&spool, "pacs", LATE).is_empty(), "{ends}");
        let claimed = claim(&spool).await;
        match ends {
            StudyState::Written => assert!(spool.unchanged(&claimed).await.unwrap()),
            _ => assert!(spool.end(&claimed, ends, "so".to_owned(), None).await.unwrap()),
        }
        assert_eq!(!due(&spool, "pacs", LATE).is_empty(), is_sent, "{ends}");
        assert_eq!(state(&spool, "1.2.3"), ends.as_str());
    }
    check(StudyState::Written, true).await;
    check(StudyState::Held, false).await;
    check(StudyState::Skipped, false).await;
}

#[tokio::test]
async fn a_destination_that_is_away_waits_as_a_whole_but_for_what_a_person_asks() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let study = a_version(&spool, 1).await;
    spool.destination_away("pacs", "no answer", true, LATE, LATE + 50).await.unwrap();
    assert!(due(&spool, "pacs", LATE + 49).is_empty());
    assert_eq!(due(&spool, "archive", LATE).len(), 2);
    assert_eq!(spool.study("1.2.3").unwrap().study.reason.as_deref(), Some("pacs: no answer"));
    spool.retry(study).await.unwrap();
    assert_eq!(uids(&due(&spool, "pacs", spool::AT_ONCE)), ["9.1.1", "9.1.2"]);

    let known = ["pacs".to_owned()];
    let others = spool.deliveries_to_others(&known, 8).unwrap();
    assert_eq!(others.iter().map(|it| it.destination.as_str()).collect::<Vec<_>>(), ["archive"; 2]);
    assert_eq!(spool.deliveries_to_others(&known, 1).unwrap().len(), 1);
}

#[tokio::test]
async fn a_spool_of_version_2_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(dir.path().join("state.sqlite")).unwrap();
    database.execute_batch(include_str!("../data/version_2.sql")).unwrap();
    database
        .execute_batch(
            "PRAGMA user_version = 2;
             INSERT INTO installation (id) VALUES ('abc');
             INSERT INTO study (id, study_instance_uid, state, quiet_ms, due_at, received_at, last_received_at)
             VALUES (7, '1.2.3', 'written', 1, 1, 1, 1);
             INSERT INTO report (id, study_id, version, inputs_digest, written_at) VALUES (3, 7, 1, 'a', 1);
             INSERT INTO object (id, report_id, kind, sop_instance_uid, sop_class_uid, series_instance_uid, path)
             VALUES (4, 3, 'text-sr', '1.2.9', '1.2.840', '1.2.8', 'reports/a.dcm');
             INSERT INTO delivery (object_id, destination, state, attempts, next_at, last_error)
             VALUES (4, 'pacs', 'pending', 5, 1, 'away');",
        )
        .unwrap();
    drop(database);
    std::fs::create_dir_all(dir.path().join("reports")).unwrap();
    std::fs::write(dir.path().join("reports/a.dcm"), b"an SR").unwrap();
    let (spool, recovery) = open(dir.path(), 0);
    assert!(recovery.missing.is_empty(), "{recovery:?}");
    let pacs = due(&spool, "pacs", 1);
    assert_eq!((uids(&pacs).as_slice(), pacs[0].attempts, pacs[0].begun), (["1.2.9"].as_slice(), 5, false));
    spool.delivered(&pacs[0], None, 2).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    drop(spool);
    let (spool, _) = open(dir.path(), 0);
    assert_eq!(state(&spool, "1.2.3"), "delivered", "and only once");
}
