//! What the suite never does: open the files a second time.

use futures::StreamExt;
use openraft::RaftLogReader;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use tempfile::TempDir;

use super::*;
use crate::limits::BATCH_MAX;

#[tokio::test]
async fn a_reopened_log_has_what_it_had() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    log.save_vote(&vote(3)).await.unwrap();
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=20).map(|index| entry(1, index, 10))).await;
    log.truncate_after(Some(log_id(1, 15))).await.unwrap();
    append(&mut log, (16..=18).map(|index| entry(3, index, 10))).await;
    log.purge(log_id(1, 4)).await.unwrap();
    log.save_committed(Some(log_id(3, 17))).await.unwrap();
    append(&mut log, [entry(3, 19, 10)]).await;
    let before = log.try_get_log_entries(0..100).await.unwrap();
    let state = log.get_log_state().await.unwrap();
    log.close();
    drop(log);

    let mut log = open_log(dir.path());
    assert!(log.is_used());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote(3)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 17)));
    assert_eq!(log.get_log_state().await.unwrap(), state);
    assert_eq!(log.try_get_log_entries(0..100).await.unwrap(), before);
    assert_eq!(before.first().map(|entry| entry.log_id), Some(log_id(1, 5)));
    assert_eq!(*log.flushed().borrow(), 20);
}

#[tokio::test]
async fn a_reopened_log_knows_its_length_and_offers_nothing_new_for_cutting() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, (0..40).map(|index| entry(1, index, 1 << 20))).await;
    let (bytes, kept) = (log.bytes(), log.newest_from().unwrap());
    assert!(bytes > 40 << 20 && (20..40).contains(&kept), "{bytes} bytes, kept from {kept}");
    log.close();
    drop(log);

    let mut log = open_log(dir.path());
    assert_eq!(log.bytes(), bytes);
    append(&mut log, [entry(1, 40, 10)]).await;
    assert_eq!(log.newest_from(), None, "the entries of the last minutes would be cut");
    append(&mut log, (41..60).map(|index| entry(1, index, 1 << 20))).await;
    assert!(log.newest_from().is_some_and(|from| (41..60).contains(&from)));
    log.purge(log_id(1, 45)).await.unwrap();
    let bytes = log.bytes();
    assert!(bytes < 16 << 20, "{bytes}");
    log.close();
    drop(log);
    assert_eq!(open_log(dir.path()).bytes(), bytes);
}

#[tokio::test]
async fn a_log_cut_up_to_an_installed_state_ends_there_whatever_its_terms_were() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, (0..=10).map(|index| entry(1, index, 10))).await;
    append(&mut log, [entry(3, 11, 10)]).await;
    // The state of a later leader that never had entry 11 of term 3.
    log.purge(log_id(2, 12)).await.unwrap();
    for reopened in [false, true] {
        let state = log.get_log_state().await.unwrap();
        let ends = Some(log_id(2, 12));
        assert_eq!((state.last_purged_log_id, state.last_log_id), (ends, ends), "reopened: {reopened}");
        log.close();
        drop(log);
        log = open_log(dir.path());
    }
    append(&mut log, [entry(4, 13, 10)]).await;
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(4, 13)));
}

#[tokio::test]
async fn committed_costs_no_fsync_of_its_own() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, [membership(0)]).await;
    let before = log.fsyncs();
    log.save_committed(Some(log_id(0, 0))).await.unwrap();
    assert_eq!(log.fsyncs(), before);
}

#[tokio::test]
async fn reads_are_bounded_and_complete_beyond_the_cache() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    let size = 1 << 20;
    for first in (0..40).step_by(8) {
        append(&mut log, (first..first + 8).map(|index| entry(1, index, size))).await;
    }
    let mut reader = log.get_log_reader().await;
    let limited = reader.limited_get_log_entries(0, 40).await.unwrap();
    let bytes: usize = limited.iter().map(|entry| entry.payload.envelope.as_ref().unwrap().0.len()).sum();
    assert!(!limited.is_empty() && bytes <= BATCH_MAX, "{} entries of {bytes} bytes", limited.len());
    // One entry above any limit still travels.
    append(&mut log, [entry(1, 40, BATCH_MAX + 1)]).await;
    assert_eq!(reader.limited_get_log_entries(40, 41).await.unwrap().len(), 1);
    let streamed: Vec<u64> =
        reader.entries_stream(0..41).await.map(|entry| entry.unwrap().log_id.index).collect().await;
    assert_eq!(streamed, (0..41).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_state_that_was_not_checkpointed_is_applied_again() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=9).map(|index| entry(1, index, 10))).await;
    let state = dir.path().join("state");
    let mut machine = Machine::open(&state, log.flushed(), Planted::NONE, None).unwrap();
    apply(&mut machine, [membership(0)]).await;
    apply(&mut machine, (1..=5).map(|index| entry(1, index, 10))).await;
    assert!(machine.checkpoint().await.is_some());
    apply(&mut machine, (6..=9).map(|index| entry(1, index, 10))).await;
    // A process that is killed closes nothing; the copy is what it leaves.
    let left = copy(&state);
    let mut again = Machine::open(left.path(), log.flushed(), Planted::NONE, None).unwrap();
    let (applied, members) = again.applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(1, 5)));
    assert_eq!(members.membership().voter_ids().collect::<Vec<_>>(), [1, 2]);
    apply(&mut again, (6..=9).map(|index| entry(1, index, 10))).await;
    assert_eq!(again.view().time().unwrap(), machine.view().time().unwrap());
}

/// The files of `dir` as a crash leaves them.
pub(super) fn copy(dir: &std::path::Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}
