//! One UID for two things: each is visible in its own study, and a person decides which counts.

use spool::{Compared, Decision, Keep};

use super::*;

/// Keeps data sets, one after another; the comment tells them apart.
async fn keep(spool: &Spool, data_sets: &[(&str, &str, &str)], now: i64) {
    for (study, instance, comment) in data_sets {
        store(spool, None, &data_set(study, instance, "Acme", comment), now).await.unwrap();
    }
}

async fn compare(spool: &Spool, found: Compared) {
    for pair in spool.uncompared(99).unwrap() {
        spool.compared(&pair, found.clone()).await.unwrap();
    }
}

fn differs() -> Compared {
    Compared::Differs("PatientID".to_owned())
}

async fn report(spool: &Spool, claimed: &Claim, version: i64, uid: &str, patient: &str) {
    let made = text_sr(spool, uid).await.filed_under(patient.to_owned());
    assert!(spool.written(claimed, version, uid.to_owned(), "rule".to_owned(), made, 0).await.unwrap());
    for delivery in spool.due_deliveries("pacs", i64::MAX, 9).unwrap() {
        spool.delivered(&delivery, None, 0).await.unwrap();
    }
}

/// What the file of an instance that is to be read says.
fn comments(claimed: &Claim) -> Vec<String> {
    let comment = |path: &Path| {
        let file = fs::read(path).unwrap();
        let found = ["first", "second", "third", "only"]
            .into_iter()
            .find(|word| file.windows(word.len()).any(|window| window == word.as_bytes()));
        found.unwrap_or_default().to_owned()
    };
    claimed.instances.iter().map(|instance| comment(&instance.path)).collect()
}

#[tokio::test]
async fn what_differs_is_decided_by_a_person_and_read_again() {
    let check = async |keep_which: Keep, counts: &str, decision: Decision| {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        keep(&spool, &[("1.2.3", "1.2.3.1", "first"), ("1.2.3", "1.2.3.2", "only")], 0).await;
        spool.settle(QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        report(&spool, &claimed, 1, "1.2.9", "somebody").await;
        let study = claimed.study;
        assert!(spool.accept(study, keep_which).await.is_err(), "nothing is open");

        keep(&spool, &[("1.2.3", "1.2.3.1", "second"), ("1.2.3", "1.2.3.1", "third")], QUIET).await;
        assert_eq!(state(&spool, "1.2.3"), "delivered", "until it is known that they differ");
        assert!(spool.is_in_conflict("1.2.3.1").unwrap());
        assert_eq!(spool.uncompared_under("1.2.3.1").unwrap().len(), 2);
        assert!(spool.uncompared_under("1.2.3.2").unwrap().is_empty());
        compare(&spool, differs()).await;
        assert_eq!(state(&spool, "1.2.3"), "received");
        assert!(spool.accept(study, keep_which).await.is_err(), "more may be coming");
        assert_eq!(spool.settle(QUIET).await.unwrap(), 0, "it is quiet for as long as after any instance");
        spool.settle(2 * QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        assert_eq!(claimed.quarantined.len(), 2);
        assert!(claimed.quarantined.iter().all(|it| it.decision == Some(Decision::Open)));
        assert!(spool.end(&claimed, StudyState::Held, "two".to_owned(), None).await.unwrap());

        assert_eq!(spool.accept(study, keep_which).await.unwrap(), 2);
        assert!(!spool.is_in_conflict("1.2.3.1").unwrap());
        let claimed = claim(&spool).await;
        assert_eq!(comments(&claimed), [counts, "only"]);
        assert!(claimed.quarantined.iter().all(|it| it.decision == Some(decision) && !it.of_another_series));
        let verified = spool.verify_instance("1.2.840.10008.5.1.4.1.1.1", "1.2.3.1").await.unwrap();
        assert_eq!(verified, Verification::Intact);
        assert_eq!(spool.lineage(study).unwrap().predecessors[0].patient.as_deref(), Some("somebody"));
        // Nothing that came is new any more, but what counted once.
        report(&spool, &claimed, 2, "1.2.10", "somebody").await;
        keep(&spool, &[("1.2.3", "1.2.3.1", "third"), ("1.2.3", "1.2.3.1", counts)], 9).await;
        assert_eq!((state(&spool, "1.2.3"), spool.uncompared(9).unwrap().len()), ("delivered".to_owned(), 0));
        assert_eq!(spool.study("1.2.3").unwrap().study.conflicts, 2, "they stay visible");
    };
    check(Keep::Newer, "third", Decision::Superseded).await;
    check(Keep::Older, "first", Decision::Aside).await;
}

#[tokio::test]
async fn a_correction_that_is_taken_back_is_a_correction_and_a_decision_can_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    keep(&spool, &[("1.2.3", "1.2.3.1", "first"), ("1.2.3", "1.2.3.1", "second")], 0).await;
    compare(&spool, differs()).await;
    let now = std::cell::Cell::new(QUIET);
    /// Reads what has settled, and answers which data set counted.
    async fn read(spool: &Spool, now: &std::cell::Cell<i64>) -> String {
        now.set(now.get() + 9 * QUIET);
        spool.settle(now.get()).await.unwrap();
        let claimed = claim(spool).await;
        let counts = comments(&claimed).remove(0);
        assert!(spool.end(&claimed, StudyState::Held, "so".to_owned(), None).await.unwrap());
        counts
    }
    let decide = async |keep: Keep, counts: &str| {
        assert_eq!(spool.accept(1, keep).await.unwrap(), 1, "{keep:?}: {counts}");
        assert_eq!(read(&spool, &now).await, counts, "{keep:?}");
    };
    assert_eq!(read(&spool, &now).await, "first");
    decide(Keep::Newer, "second").await;
    // A person takes it back, and thinks again.
    decide(Keep::Older, "first").await;
    assert!(spool.accept(1, Keep::Older).await.is_err(), "there is nothing before it");
    decide(Keep::Newer, "second").await;
    // The archive sends again what it sent first: not what counts any more.
    keep(&spool, &[("1.2.3", "1.2.3.1", "first")], now.get()).await;
    assert_eq!(spool.uncompared(9).unwrap().len(), 1, "it is looked at");
    keep(&spool, &[("1.2.3", "1.2.3.1", "first")], now.get()).await;
    assert_eq!(spool.uncompared(9).unwrap().len(), 1, "once");
    compare(&spool, differs()).await;
    assert_eq!(read(&spool, &now).await, "second", "until a person decides");
    decide(Keep::Newer, "first").await;
    drop(spool);
    // What the journal gives back at a start is nothing that came.
    let (spool, _) = open(dir.path(), now.get());
    assert!(spool.uncompared(9).unwrap().is_empty());
}

#[tokio::test]
async fn the_same_values_and_documents_change_nothing() {
    for (found, conflicts) in [(Compared::Same, 0), (Compared::Document, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        keep(&spool, &[("1.2.3", "1.2.3.1", "first")], 0).await;
        spool.settle(QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        report(&spool, &claimed, 1, "1.2.9", "somebody").await;
        keep(&spool, &[("1.2.3", "1.2.3.1", "second")], QUIET).await;
        compare(&spool, found.clone()).await;
        let shown = spool.study("1.2.3").unwrap();
        assert_eq!(
            (shown.study.state.as_str(), shown.study.conflicts, shown.study.attempts),
            ("delivered", conflicts, 1)
        );
        assert_eq!(shown.quarantined.len(), 1, "its file is kept");
        assert!(spool.accept(claimed.study, Keep::Newer).await.is_err());
        assert_eq!(spool.is_in_conflict("1.2.3.1").unwrap(), found == Compared::Document);
    }
}

#[tokio::test]
async fn a_document_that_says_something_under_a_uid_that_was_there_is_looked_at_and_decided_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    keep(&spool, &[("1.2.3", "1.2.3.1", "first")], 0).await;
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    report(&spool, &claimed, 1, "1.2.9", "somebody").await;
    keep(&spool, &[("1.2.3", "1.2.3.1", "second")], QUIET).await;
    compare(&spool, Compared::Says).await;
    assert_eq!(state(&spool, "1.2.3"), "received");
    spool.settle(2 * QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    let decisions: Vec<_> = claimed.quarantined.iter().map(|it| it.decision).collect();
    assert_eq!(decisions, [Some(Decision::Document)]);
    assert!(spool.unchanged(&claimed).await.unwrap());
    assert!(spool.accept(claimed.study, Keep::Newer).await.is_err());
}

#[tokio::test]
async fn after_an_end_for_good_nothing_more_is_sent() {
    let check = async |is_sent: bool, expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 0);
        keep(&spool, &[("1.2.3", "1.2.3.1", "first")], 0).await;
        spool.settle(QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        if is_sent {
            report(&spool, &claimed, 1, "1.2.9", "somebody").await;
        } else {
            let made = text_sr(&spool, "1.2.9").await;
            assert!(spool.written(&claimed, 1, "a".to_owned(), "rule".to_owned(), made, 0).await.unwrap());
        }
        keep(&spool, &[("1.2.3", "1.2.3.2", "second")], QUIET).await;
        spool.settle(9 * QUIET).await.unwrap();
        let claimed = claim(&spool).await;
        assert!(spool.end_for_good(&claimed, "why".to_owned()).await.unwrap());
        let shown = spool.study("1.2.3").unwrap().study;
        assert_eq!((shown.state.as_str(), shown.reason.as_deref()), (expected, Some("why")));
        assert!(spool.due_deliveries("pacs", i64::MAX, 9).unwrap().is_empty());
        assert!(!spool.end_for_good(&claimed, "again".to_owned()).await.unwrap(), "it is not being read");
    };
    check(true, "delivered").await;
    check(false, "skipped").await;
}

#[tokio::test]
async fn an_instance_is_in_a_study_of_its_own_whatever_became_of_its_uid_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    keep(&spool, &[("1.2.3", "1.2.3.1", "first"), ("1.2.4", "1.2.3.1", "second"), ("1.2.4", "1.2.4.1", "only")], 0)
        .await;
    let shown = spool.study("1.2.4").unwrap();
    assert_eq!((shown.instances.len(), shown.study.conflicts), (2, 1));
    assert_eq!(shown.instances[0].decision, Some(Decision::Open));
    assert_eq!(spool.study("1.2.3").unwrap().study.conflicts, 0, "the first study has what it had");
    assert!(spool.is_in_conflict("1.2.3.1").unwrap());

    spool.settle(QUIET).await.unwrap();
    let (first, second) = (claim(&spool).await, claim(&spool).await);
    assert_eq!(
        (comments(&first), comments(&second)),
        (vec!["first".to_owned()], vec!["second".to_owned(), "only".to_owned()])
    );
    for claimed in [&first, &second] {
        assert!(spool.end(claimed, StudyState::Held, "a reason".to_owned(), None).await.unwrap());
    }
    assert_eq!(spool.accept(second.study, Keep::Older).await.unwrap(), 1);
    assert_eq!(claim(&spool).await.instances[0].decision, Some(Decision::Aside));
    assert!(!spool.is_in_conflict("1.2.3.1").unwrap(), "the first one is meant");
    assert!(spool.accept(first.study, Keep::Older).await.is_err(), "it never was open there");
    let verified = spool.verify_instance("1.2.840.10008.5.1.4.1.1.1", "1.2.3.1").await.unwrap();
    assert_eq!(verified, Verification::Intact);
}

#[tokio::test]
async fn whose_images_count_is_kept_with_the_study_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    keep(&spool, &[("1.2.3", "1.2.3.1", "first")], 0).await;
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    assert_eq!(claimed.accepted, None);
    assert!(spool.accept_group(claimed.study, "a word".to_owned()).await.is_err(), "it is being read");
    spool.end(&claimed, StudyState::Held, "two patients".to_owned(), None).await.unwrap();
    spool.accept_group(claimed.study, "a word".to_owned()).await.unwrap();
    drop(spool);
    let (spool, _) = open(dir.path(), 0);
    assert_eq!(claim(&spool).await.accepted.as_deref(), Some("a word"));
}

#[tokio::test]
async fn what_destinations_have_is_neither_dropped_nor_held() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    keep(&spool, &[("1.2.3", "1.2.3.1", "first")], 0).await;
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    report(&spool, &claimed, 1, "1.2.9", "somebody").await;
    assert!(spool.drop_study(claimed.study, "no".to_owned()).await.is_err());
    assert!(spool.hold(claimed.study, "no".to_owned()).await.is_err());
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    // What comes later is no longer looked at once a person has ended it, and the report is where it was.
    keep(&spool, &[("1.2.3", "1.2.3.2", "second")], 0).await;
    spool.drop_study(claimed.study, "enough".to_owned()).await.unwrap();
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    keep(&spool, &[("1.2.3", "1.2.3.3", "third")], 0).await;
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    assert_eq!(spool.retry(claimed.study).await.unwrap(), StudyState::Settled);
}

#[tokio::test]
async fn our_own_object_that_an_archive_changed_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    keep(&spool, &[("1.2.3", "1.2.3.1", "first")], 0).await;
    spool.settle(QUIET).await.unwrap();
    let claimed = claim(&spool).await;
    report(&spool, &claimed, 1, "1.2.9", "somebody").await;
    // Without our name in it, and then changed once more.
    keep(&spool, &[("1.2.3", "1.2.9", "second"), ("1.2.3", "1.2.9", "third")], 0).await;
    assert_eq!(state(&spool, "1.2.3"), "delivered");
    assert!(spool.uncompared(9).unwrap().iter().all(|pair| pair.own));
}
