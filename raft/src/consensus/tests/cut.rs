//! The log is cut up to a state on disk; a crash comes before, between, or after.

use openraft::storage::{RaftLogStorage, RaftStateMachine, StorageHelper};
use tempfile::TempDir;

use super::reopen::copy;
use super::*;
use crate::consensus::align;
use crate::consensus::snapshot::SnapshotData;

/// Starts on what a crash left in the directories of log and state: what is applied then, and what follows.
async fn starts(log: &Path, state: &Path) -> Result<(Option<LogId>, Option<LogId>), String> {
    let (left, state) = (TempDir::new().unwrap(), copy(state));
    std::fs::copy(log.join("log.redb"), left.path().join("log.redb")).unwrap();
    let mut log = open_log(left.path());
    let mut machine = Machine::open(state.path(), log.flushed(), Planted::NONE, None).unwrap();
    align::drop_what_was_replaced(&mut log, &mut machine).await.unwrap();
    let mut helper = StorageHelper::new(&mut log, &mut machine).with_id(1);
    helper.get_initial_state().await.map_err(|error| error.to_string())?;
    Ok((machine.applied_state().await.unwrap().0, log.get_log_state().await.unwrap().last_log_id))
}

#[tokio::test]
async fn a_crash_at_any_step_of_cutting_the_log_loses_nothing() {
    let (log_dir, state_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut log = open_log(log_dir.path());
    let mut machine = Machine::open(state_dir.path(), log.flushed(), Planted::NONE, None).unwrap();
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=20).map(|index| entry(1, index, 10))).await;
    log.save_committed(Some(log_id(1, 20))).await.unwrap();
    append(&mut log, [entry(1, 21, 10)]).await;
    apply(&mut machine, [membership(0)]).await;
    apply(&mut machine, (1..=15).map(|index| entry(1, index, 10))).await;
    let (all, last) = (Some(log_id(1, 20)), Some(log_id(1, 21)));
    assert_eq!(starts(log_dir.path(), state_dir.path()).await, Ok((all, last)), "before the checkpoint");
    assert!(machine.checkpoint().await.is_some());
    apply(&mut machine, (16..=20).map(|index| entry(1, index, 10))).await;
    assert_eq!(starts(log_dir.path(), state_dir.path()).await, Ok((all, last)), "before the cut");
    log.purge(log_id(1, 15)).await.unwrap();
    assert_eq!(starts(log_dir.path(), state_dir.path()).await, Ok((all, last)), "after the cut");
}

#[tokio::test]
async fn a_crash_between_an_install_and_the_cut_of_a_log_of_a_later_term_is_started_from() {
    let (leader, log_dir, state_dir) =
        (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    // The leader of term 3 gave entry 11 to this node alone; nobody else ever had it.
    let mut log = open_log(log_dir.path());
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=10).map(|index| entry(1, index, 10))).await;
    append(&mut log, [entry(3, 11, 10)]).await;
    let mut machine = Machine::open(state_dir.path(), log.flushed(), Planted::NONE, None).unwrap();
    // The others go on from the leader of term 2, and their state stands at one of its entries.
    let mut theirs = Machine::open(leader.path(), log.flushed(), Planted::NONE, None).unwrap();
    apply(&mut theirs, [membership(0)]).await;
    apply(&mut theirs, (1..=10).map(|index| entry(1, index, 10))).await;
    for last in [11, 12] {
        apply(&mut theirs, [entry(2, last, 10)]).await;
        let sent = theirs.get_current_snapshot().await.unwrap().unwrap();
        let SnapshotData::Rows(rows) = sent.snapshot else { panic!("rows") };
        let file = machine.scratch("incoming");
        crate::state::Import::copy(&rows, &file).unwrap();
        machine.install_snapshot(&sent.meta, SnapshotData::File(file)).await.unwrap();
        let ends = Some(log_id(2, last));
        assert_eq!(starts(log_dir.path(), state_dir.path()).await, Ok((ends, ends)), "at entry {last}");
    }
}
