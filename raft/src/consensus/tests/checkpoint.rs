//! Checkpoints beside what goes on meanwhile.

use std::time::Duration;

use futures::poll;
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn a_checkpoint_whose_asker_went_away_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    let state = dir.path().join("state");
    let mut machine = Machine::open(&state, log.flushed(), Planted::NONE, None).unwrap();
    append(&mut log, [membership(0)]).await;
    apply(&mut machine, [membership(0)]).await;
    for index in 1..=20 {
        append(&mut log, [entry(1, index, 10)]).await;
        apply(&mut machine, [entry(1, index, 10)]).await;
        {
            let mut given_up = std::pin::pin!(machine.checkpoint());
            // All locks are free: it comes to where the file is being written.
            drop(poll!(&mut given_up));
        }
        let saved = machine.checkpoint().await.expect("the log is flushed");
        assert_eq!(saved.applied().unwrap(), index);
    }
}

#[tokio::test]
async fn entries_that_come_during_a_checkpoint_are_in_the_next() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=40).map(|index| entry(1, index, 10))).await;
    let state = dir.path().join("state");
    let mut machine = Machine::open(&state, log.flushed(), Planted::NONE, None).unwrap();
    apply(&mut machine, [membership(0)]).await;
    for index in 1..=40 {
        apply(&mut machine, [entry(1, index, 10)]).await;
        let before = *machine.applied().borrow();
        let checkpoint = tokio::spawn({
            let machine = machine.clone();
            async move { machine.checkpoint().await }
        });
        tokio::task::yield_now().await;
        if index % 2 == 0 && index < 40 {
            continue;
        }
        let saved = checkpoint.await.unwrap().expect("the log is flushed");
        assert!(saved.applied().unwrap() >= before);
    }
    let last = machine.checkpoint().await.unwrap();
    assert_eq!(last.applied().unwrap(), 40);
    assert_eq!(last.state_hash().unwrap(), machine.view().state_hash().unwrap());
}

/// Applied and never flushed up to: a member whose disk is slower than the others'.
#[tokio::test]
async fn a_checkpoint_is_made_on_a_disk_that_never_catches_up() {
    let dir = TempDir::new().unwrap();
    let flushed = tokio::sync::watch::Sender::new(0);
    let mut machine = Machine::open(dir.path(), flushed.subscribe(), Planted::NONE, None).unwrap();
    apply(&mut machine, [membership(0)]).await;
    for index in (1..=50).map(|turn| 2 * turn) {
        apply(&mut machine, [entry(1, index, 10)]).await;
        let mut checkpoint = std::pin::pin!(machine.checkpoint());
        assert!(poll!(&mut checkpoint).is_pending(), "the log does not have it");
        // The next entry comes before the log has this one.
        let mut applying = machine.clone();
        apply(&mut applying, [entry(1, index + 1, 10)]).await;
        flushed.send_replace(index + 1);
        let saved = tokio::time::timeout(Duration::from_secs(10), checkpoint).await.expect("in time");
        assert_eq!(saved.unwrap().applied().unwrap(), index);
    }
}
