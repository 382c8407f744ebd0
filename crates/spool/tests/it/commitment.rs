//! Requests for storage commitment outlive everything until their results are with the peer.

use spool::{Commitment, CommitmentId, CommitmentOrder, Spool};

use crate::{data_set, open, store};

const DUPLICATE: u16 = 0x0131;

fn order(transaction: &str, instances: &[&str]) -> CommitmentOrder {
    CommitmentOrder {
        transaction_uid: transaction.to_owned(),
        peer: "ct".to_owned(),
        ae_title: "CT1".to_owned(),
        address: "10.1.2.3".to_owned(),
        instances: instances.iter().map(|uid| ("1.2.840.10008.5.1.4.1.1.1".to_owned(), (*uid).to_owned())).collect(),
    }
}

async fn take(spool: &Spool, order: CommitmentOrder, now: i64) -> CommitmentId {
    spool.take_commitment(order, DUPLICATE, now).await.expect("it is taken").expect("there is room")
}

fn due(spool: &Spool, now: i64) -> Vec<Commitment> {
    spool.due_commitments(&[], now, 100).expect("they are read")
}

#[tokio::test]
async fn a_request_is_due_until_it_is_reported_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let id = take(&spool, order("1.2.9", &["1.2.3.1", "1.2.3.2"]), 10).await;
    drop(spool);

    let (spool, _) = open(dir.path(), 20);
    let found = due(&spool, 20);
    assert_eq!((found.len(), found[0].id, found[0].requested_at, found[0].attempts), (1, id, 10, 0));
    assert_eq!(found[0].order, order("1.2.9", &["1.2.3.1", "1.2.3.2"]));
    assert_eq!(found[0].outcomes, None);
    assert!(spool.due_commitments(&[id], 20, 100).unwrap().is_empty(), "somebody is at it");
    spool.commitment_verified(id, vec![0, 0x0112]).await.unwrap();
    spool.commitment_failed(id, "nobody there".to_owned(), Some(500), 20).await.unwrap();
    drop(spool);

    let (spool, _) = open(dir.path(), 30);
    assert!(due(&spool, 499).is_empty());
    assert_eq!(spool.next_commitment_due(30).unwrap(), Some(500));
    let found = due(&spool, 500);
    assert_eq!((found[0].outcomes.clone(), found[0].attempts), (Some(vec![0, 0x0112]), 1));
    spool.commitment_reported(id, 510).await.unwrap();
    assert!(due(&spool, i64::MAX).is_empty());
    assert_eq!(spool.next_commitment_due(0).unwrap(), None);
}

#[tokio::test]
async fn a_person_sees_what_waits_and_what_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let seen = || -> Vec<(String, String, i64, Option<String>)> {
        let open = spool.open_commitments().unwrap();
        open.into_iter().map(|it| (it.transaction_uid, it.state, it.instances, it.last_error)).collect()
    };
    let of = |uid: &str, state: &str, instances: i64, error: Option<&str>| {
        (uid.to_owned(), state.to_owned(), instances, error.map(str::to_owned))
    };
    assert_eq!(seen(), []);
    let first = take(&spool, order("1.2.9", &["1.1", "1.2"]), 10).await;
    let second = take(&spool, order("1.2.10", &["1.1"]), 20).await;
    assert_eq!(seen(), [of("1.2.9", "waiting", 2, None), of("1.2.10", "waiting", 1, None)]);
    spool.commitment_failed(first, "nobody there".to_owned(), Some(500), 30).await.unwrap();
    spool.commitment_failed(second, "refused".to_owned(), None, 30).await.unwrap();
    assert_eq!(seen(), [of("1.2.9", "waiting", 2, Some("nobody there")), of("1.2.10", "given up", 1, Some("refused"))]);
    spool.commitment_reported(first, 40).await.unwrap();
    assert_eq!(seen(), [of("1.2.10", "given up", 1, Some("refused"))]);
}

#[tokio::test]
async fn what_is_given_up_or_reported_is_forgotten_later() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let (first, second) =
        (take(&spool, order("1.2.9", &["1.1"]), 0).await, take(&spool, order("1.2.10", &["1.1"]), 0).await);
    let third = take(&spool, order("1.2.11", &["1.1"]), 0).await;
    spool.commitment_reported(first, 100).await.unwrap();
    spool.commitment_failed(second, "nobody there".to_owned(), None, 200).await.unwrap();
    assert_eq!(due(&spool, i64::MAX).iter().map(|due| due.id).collect::<Vec<_>>(), [third]);
    assert_eq!(spool.forget_commitments(100).await.unwrap(), 0);
    assert_eq!(spool.forget_commitments(101).await.unwrap(), 1);
    assert_eq!(spool.forget_commitments(i64::MAX).await.unwrap(), 1, "what waits is never forgotten");
    assert_eq!(due(&spool, i64::MAX).len(), 1);
}

#[tokio::test]
async fn the_same_request_is_one_and_a_transaction_that_is_taken_commits_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let first = take(&spool, order("1.2.9", &["1.1", "1.2"]), 0).await;
    spool.commitment_verified(first, vec![0, 0x0112]).await.unwrap();
    spool.commitment_failed(first, "nobody there".to_owned(), Some(9_000), 0).await.unwrap();
    assert_eq!(take(&spool, order("1.2.9", &["1.1", "1.2"]), 50).await, first);
    let found = due(&spool, 50);
    assert_eq!((found.len(), found[0].attempts, found[0].outcomes.clone()), (1, 0, None), "it is looked at again");
    spool.commitment_reported(first, 60).await.unwrap();
    assert_eq!(take(&spool, order("1.2.9", &["1.1", "1.2"]), 70).await, first, "and reported again");
    spool.commitment_reported(first, 80).await.unwrap();

    let other = take(&spool, order("1.2.9", &["1.1", "1.3"]), 90).await;
    assert_ne!(other, first);
    assert_eq!(due(&spool, 90)[0].outcomes, Some(vec![DUPLICATE; 2]));
    assert_eq!(take(&spool, order("1.2.9", &["1.1", "1.3"]), 91).await, other);
    assert_eq!(due(&spool, 91)[0].outcomes, Some(vec![DUPLICATE; 2]));
    // Two AE titles may choose the same UID.
    let elsewhere = CommitmentOrder { ae_title: "CT2".to_owned(), ..order("1.2.9", &["1.1", "1.4"]) };
    let elsewhere = take(&spool, elsewhere, 92).await;
    assert_eq!(due(&spool, 92).iter().find(|due| due.id == elsewhere).unwrap().outcomes, None);
}

#[tokio::test]
async fn a_peer_that_asks_is_there_for_what_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let waiting = take(&spool, order("1.2.9", &["1.1"]), 0).await;
    let of_another = CommitmentOrder { ae_title: "CT2".to_owned(), ..order("1.2.9", &["1.1"]) };
    let of_another = take(&spool, of_another, 0).await;
    for id in [waiting, of_another] {
        spool.commitment_failed(id, "nobody there".to_owned(), Some(9_000), 0).await.unwrap();
    }
    let new = take(&spool, order("1.2.10", &["1.1"]), 100).await;
    assert_eq!(due(&spool, 100).iter().map(|due| due.id).collect::<Vec<_>>(), [waiting, new]);
}

#[tokio::test]
async fn a_peer_that_takes_no_results_cannot_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    let many: Vec<String> = (0..100_000).map(|number| format!("1.2.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for transaction in 0..10 {
        take(&spool, order(&format!("1.2.9.{transaction}"), &many), 0).await;
    }
    let more = order("1.2.10", &["1.1"]);
    assert_eq!(spool.take_commitment(more.clone(), DUPLICATE, 0).await.unwrap(), None);
    let of_another = CommitmentOrder { peer: "mr".to_owned(), ..more.clone() };
    take(&spool, of_another, 0).await;
    let first = due(&spool, 0)[0].id;
    spool.commitment_reported(first, 0).await.unwrap();
    take(&spool, more, 0).await;
}

#[tokio::test]
async fn an_instance_of_which_two_versions_came_is_in_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    for (instance, comment) in [("1.2.3.1", "first"), ("1.2.3.1", "other"), ("1.2.3.2", "only")] {
        store(&spool, None, &data_set("1.2.3", instance, "Acme", comment), 0).await.unwrap();
    }
    assert!(spool.is_in_conflict("1.2.3.1").unwrap());
    assert!(!spool.is_in_conflict("1.2.3.2").unwrap());
    assert!(!spool.is_in_conflict("1.2.3.3").unwrap());
}

#[tokio::test]
async fn a_peer_has_a_bound_of_requests_that_others_do_not_feel() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    for number in 0..1000 {
        take(&spool, order(&format!("1.{number}"), &["1.2.3"]), 0).await;
    }
    let refused = spool.take_commitment(order("2.1", &["1.2.3"]), DUPLICATE, 1).await.unwrap();
    assert!(refused.is_none(), "one more is refused");
    take(&spool, order("1.7", &["1.2.3"]), 1).await;
    take(&spool, CommitmentOrder { peer: "mr".to_owned(), ..order("2.1", &["1.2.3"]) }, 1).await;
    let id = due(&spool, 1)[0].id;
    spool.commitment_reported(id, 2).await.unwrap();
    take(&spool, order("2.1", &["1.2.3"]), 3).await;
    let again = spool.take_commitment(order("1.0", &["1.2.3"]), DUPLICATE, 4).await.unwrap();
    assert!(again.is_none(), "one that was reported waits anew, which is one more");
}

#[tokio::test]
async fn a_request_makes_few_of_those_that_wait_due_and_each_result_some_more() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    for number in 0..40 {
        take(&spool, order(&format!("1.{number}"), &["1.2.3"]), 0).await;
    }
    for (at, waiting) in (0..).zip(due(&spool, 0)) {
        spool.commitment_failed(waiting.id, "away".to_owned(), Some(1_000_000 + at), 0).await.unwrap();
    }
    assert!(due(&spool, 10).is_empty());
    take(&spool, order("2.1", &["1.2.3"]), 10).await;
    assert_eq!(due(&spool, 10).len(), 1 + 8, "itself, and those that wait longest");
    let mut reported = 0;
    while let Some(one) = due(&spool, 20).first() {
        spool.commitment_reported(one.id, 20).await.unwrap();
        reported += 1;
    }
    assert_eq!(reported, 41, "a peer that takes its results gets all of them");
}
