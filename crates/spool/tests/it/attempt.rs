//! A reading that ends the process is known at the next start.

use super::*;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("the spool answers")
        .block_on(work)
}

/// What happens to a study between two starts.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// Its reading ends the process, in the middle of a reading ahead or of a claimed one.
    Dies { ahead: bool },
    /// A person stops the daemon in the middle of a reading.
    Stopped,
    /// A reading ends as it should, ahead or claimed.
    Ends { ahead: bool },
    /// It is given back.
    GivenBack,
    /// A person says to try again.
    Retried,
    /// Another instance of the study comes.
    Another,
}

/// Where the study stands after each of `lives`, each followed by a start.
fn after(lives: &[Life]) -> Vec<String> {
    let (dir, mut now) = (tempfile::tempdir().expect("the spool answers"), 1_000);
    let mut states = Vec::new();
    run(async {
        let (spool, _) = open(dir.path(), now);
        store(&spool, None, &data_set("1.2.3", "1.2.3.1", "A", ""), now).await.expect("the spool answers");
        drop(spool);
        for (number, life) in lives.iter().enumerate() {
            now += 10 * QUIET;
            let (spool, _) = open(dir.path(), now);
            live(&spool, *life, number, now).await;
            drop(spool);
            let (spool, _) = open(dir.path(), now);
            states.push(state(&spool, "1.2.3"));
        }
    });
    states
}

async fn live(spool: &Spool, life: Life, number: usize, now: i64) {
    // A start gives the whole quiet period again.
    let due = now + QUIET;
    match life {
        Life::Retried => {
            let id = spool.study("1.2.3").expect("the spool answers").study.id;
            spool.retry(id).await.expect("the spool answers");
        }
        Life::Another => {
            store(spool, None, &data_set("1.2.3", &format!("1.2.3.9.{number}"), "A", ""), now)
                .await
                .expect("the spool answers");
        }
        Life::Dies { ahead: true } | Life::Ends { ahead: true } => {
            let claim = spool.unsettled(&[], due).expect("the spool answers").expect("it may be read ahead");
            assert!(spool.begin_ahead(&claim).await.expect("the spool answers"));
            assert_eq!(
                spool.study("1.2.3").expect("the spool answers").study.reason.as_deref(),
                Some("being read ahead")
            );
            if matches!(life, Life::Ends { .. }) {
                spool.end_ahead(&claim).await.expect("the spool answers");
            }
        }
        _ => {
            spool.settle(due).await.expect("the spool answers");
            let claim = claim(spool).await;
            match life {
                Life::Ends { .. } => {
                    assert!(
                        spool.end(&claim, StudyState::Skipped, String::new(), None).await.expect("the spool answers")
                    );
                }
                Life::GivenBack => assert!(spool.release(&claim).await.expect("the spool answers")),
                Life::Stopped => spool.forget_attempts().await.expect("the spool answers"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_study_that_ends_the_process_twice_is_held() {
    use Life::{Another, Dies, Ends, GivenBack, Retried, Stopped};
    let check = |lives: &[Life], expected: &[&str]| assert_eq!(after(lives), expected, "{lives:?}");
    let (ahead, claimed) = (Dies { ahead: true }, Dies { ahead: false });
    check(&[claimed, claimed], &["settled", "held"]);
    check(&[ahead, claimed], &["received", "held"]);
    check(&[claimed, Another, claimed], &["settled", "received", "held"]);
    // What comes of a study that is held for it does not start it again; a person does, and has two tries.
    check(&[claimed, claimed, Another], &["settled", "held", "held"]);
    check(&[claimed, claimed, Retried, claimed, claimed], &["settled", "held", "settled", "settled", "held"]);
    // A stop by a person is no death, nor is a claim that was given back.
    check(&[Stopped, Stopped, Stopped], &["settled"; 3]);
    check(&[claimed, GivenBack, Stopped], &["settled"; 3]);
    check(&[claimed, GivenBack, claimed], &["settled", "settled", "held"]);
    check(&[Ends { ahead: true }, Ends { ahead: true }], &["received"; 2]);
    // A reading that ends wipes out an earlier death.
    check(&[claimed, Ends { ahead: false }, Retried, claimed], &["settled", "skipped", "settled", "settled"]);
}

#[test]
fn what_ended_the_process_is_read_after_all_others_and_not_ahead() {
    let dir = tempfile::tempdir().expect("the spool answers");
    run(async {
        let (spool, _) = open(dir.path(), 0);
        store(&spool, None, &data_set("1.2.3", "1.2.3.1", "A", ""), 0).await.expect("the spool answers");
        spool.settle(QUIET).await.expect("the spool answers");
        let first = claim(&spool).await;
        drop(spool);
        let (spool, recovery) = open(dir.path(), QUIET);
        assert_eq!(recovery.deaths, [spool::Death { study: first.study, deaths: 1, held: false }]);
        let reason = spool.study("1.2.3").expect("the spool answers").study.reason.expect("the spool answers");
        assert!(reason.contains("ended preread"), "{reason}");
        store(&spool, None, &data_set("1.2.4", "1.2.4.1", "A", ""), QUIET).await.expect("the spool answers");
        spool.settle(10 * QUIET).await.expect("the spool answers");
        let (second, third) = (claim(&spool).await, claim(&spool).await);
        assert_eq!([&second.study_instance_uid, &third.study_instance_uid], ["1.2.4", "1.2.3"]);
        assert_eq!(third.deaths, 1);
        spool.release(&third).await.expect("the spool answers");
        store(&spool, None, &data_set("1.2.3", "1.2.3.2", "A", ""), 10 * QUIET).await.expect("the spool answers");
        assert!(
            spool.unsettled(&[], 20 * QUIET).expect("the spool answers").is_none(),
            "it is not read ahead any more"
        );
    });
}

/// What is decided of two data sets under one UID after each of `lives`, each followed by a start.
fn compared_after(lives: &[Life]) -> Vec<Option<spool::Decision>> {
    let dir = tempfile::tempdir().expect("the spool answers");
    let mut decisions = Vec::new();
    run(async {
        let (spool, _) = open(dir.path(), 0);
        for comment in ["first", "second"] {
            let data_set = data_set("1.2.3", "1.2.3.1", "A", comment);
            store(&spool, None, &data_set, 0).await.expect("the spool answers");
        }
        drop(spool);
        for life in lives {
            let (spool, _) = open(dir.path(), 0);
            if let Some(pair) = spool.uncompared(9).expect("the spool answers").first() {
                assert!(spool.begin_comparison(pair).await.expect("the spool answers"));
                match life {
                    Life::Ends { .. } => {
                        spool.compared(pair, spool::Compared::Same).await.expect("the spool answers");
                        assert!(!spool.begin_comparison(pair).await.expect("the spool answers"), "it was compared");
                    }
                    Life::Stopped => spool.forget_attempts().await.expect("the spool answers"),
                    _ => {}
                }
            }
            drop(spool);
            let (spool, _) = open(dir.path(), 0);
            decisions.push(spool.study("1.2.3").expect("the spool answers").quarantined[0].decision);
        }
    });
    decisions
}

#[test]
fn a_comparison_that_ends_the_process_twice_is_left_to_a_person() {
    use Life::{Dies, Ends, Stopped};
    use spool::Decision::{Open, Same};
    let check =
        |lives: &[Life], expected: &[Option<spool::Decision>]| assert_eq!(compared_after(lives), expected, "{lives:?}");
    let (dies, ends) = (Dies { ahead: false }, Ends { ahead: false });
    check(&[dies, dies, dies], &[None, Some(Open), Some(Open)]);
    check(&[dies, Stopped, dies], &[None, None, Some(Open)]);
    check(&[Stopped, Stopped, Stopped], &[None; 3]);
    check(&[dies, ends, dies], &[None, Some(Same), Some(Same)]);
}

#[test]
fn a_study_whose_comparison_ended_the_process_is_looked_at_again_and_its_pair_compared_last() {
    let dir = tempfile::tempdir().expect("the spool answers");
    run(async {
        let (spool, _) = open(dir.path(), 0);
        for (uid, comment) in [("1.2.3.1", "a"), ("1.2.3.1", "b"), ("1.2.3.2", "a"), ("1.2.3.2", "b")] {
            store(&spool, None, &data_set("1.2.3", uid, "A", comment), 0).await.expect("the spool answers");
        }
        spool.settle(QUIET).await.expect("the spool answers");
        let claimed = claim(&spool).await;
        assert!(spool.end(&claimed, StudyState::Skipped, String::new(), None).await.expect("the spool answers"));
        let pairs = spool.uncompared(9).expect("the spool answers");
        assert_eq!(pairs[0].sop_instance_uid, "1.2.3.1");
        assert!(spool.begin_comparison(&pairs[0]).await.expect("the spool answers"));
        drop(spool);
        let (spool, recovery) = open(dir.path(), QUIET);
        let death = |deaths, held| spool::Death { study: claimed.study, deaths, held };
        assert_eq!(recovery.deaths_of_comparisons, [death(1, false)]);
        assert_eq!(state(&spool, "1.2.3"), "skipped");
        let pairs = spool.uncompared(9).expect("the spool answers");
        let order: Vec<&str> = pairs.iter().map(|pair| pair.sop_instance_uid.as_str()).collect();
        assert_eq!(order, ["1.2.3.2", "1.2.3.1"]);
        assert!(spool.begin_comparison(&pairs[1]).await.expect("the spool answers"));
        drop(spool);
        let (spool, recovery) = open(dir.path(), QUIET);
        assert_eq!(recovery.deaths_of_comparisons, [death(2, true)]);
        assert_eq!(state(&spool, "1.2.3"), "received");
        assert_eq!(spool.uncompared(9).expect("the spool answers").len(), 1);
    });
}

#[test]
fn a_model_whose_loading_ended_the_process_waits_for_its_first_study() {
    let dir = tempfile::tempdir().expect("the spool answers");
    let begins = |died: bool| {
        run(async {
            let (spool, _) = open(dir.path(), 0);
            let begins = spool.begin_preload("digest").await.expect("the spool answers");
            if begins && !died {
                spool.end_preload("digest").await.expect("the spool answers");
            }
            begins
        })
    };
    assert!(begins(false));
    assert!(begins(true));
    assert!(!begins(true));
    assert!(!begins(true));
    run(async { open(dir.path(), 0).0.forget_attempts().await.expect("the spool answers") });
    assert!(begins(false), "after a stop by a person it is tried again");
}
