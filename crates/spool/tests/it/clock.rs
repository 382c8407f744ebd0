//! A clock that goes back makes nothing wait.

use super::*;

const DAY: i64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn what_is_due_tomorrow_is_due_after_the_quiet_period_when_the_clock_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 0);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), DAY).await.unwrap();
    assert_eq!(spool.settle(9 * QUIET).await.unwrap(), 0, "it would wait for a day");
    spool.clock_went_back(9 * QUIET).await.unwrap();
    assert_eq!(spool.settle(10 * QUIET - 1).await.unwrap(), 0, "its senders get their quiet period");
    assert_eq!(spool.settle(10 * QUIET).await.unwrap(), 1);
    let claimed = claim(&spool).await;
    spool.written(&claimed, 1, "a".into(), "r".into(), text_sr(&spool, "1.2.9").await, DAY).await.unwrap();
    assert!(spool.due_deliveries("pacs", QUIET, 8).unwrap().is_empty());
    spool.clock_went_back(QUIET).await.unwrap();
    assert_eq!(spool.due_deliveries("pacs", QUIET, 8).unwrap().len(), 1);
}

#[tokio::test]
async fn a_start_after_the_clock_went_back_says_so_and_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, recovery) = open(dir.path(), 0);
    assert_eq!(recovery.clock_behind, None);
    store(&spool, None, &data_set("1.2.3", "1.2.3.1", "Acme", ""), DAY).await.unwrap();
    drop(spool);
    let (spool, recovery) = open(dir.path(), 1000);
    assert_eq!(recovery.clock_behind, Some(DAY - 1000));
    assert_eq!(spool.settle(1000 + QUIET).await.unwrap(), 1);
    drop(spool);
    let (_, recovery) = open(dir.path(), 2 * DAY);
    assert_eq!(recovery.clock_behind, None, "forward is fine");
}
