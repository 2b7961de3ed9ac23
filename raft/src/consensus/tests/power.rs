//! Power cuts, on a disk that forgets what was not synced.
//!
//! Each schedule acknowledges something, cuts the power and looks for it. The planted rules that
//! leave an fsync out must lose it.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use openraft::RaftLogReader;
use openraft::storage::{RaftLogStorage, StorageHelper};
use redb::StorageBackend;
use tempfile::TempDir;

use super::reopen::copy;
use super::*;
#[cfg(feature = "planted")]
use crate::planted::Variant;

/// A disk in memory. `durable` is what a power cut leaves.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<(Mutex<Image>, Condvar)>);

#[derive(Debug, Default)]
struct Image {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// While set, a sync does not come back.
    stuck: bool,
}

impl Disk {
    fn stick(&self, stuck: bool) {
        self.0.0.lock().unwrap().stuck = stuck;
        self.0.1.notify_all();
    }

    fn after_power_cut(&self) -> Disk {
        let durable = self.0.0.lock().unwrap().durable.clone();
        Disk(Arc::new((Mutex::new(Image { cached: durable.clone(), durable, stuck: false }), Condvar::new())))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().unwrap().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.0.0.lock().unwrap();
        out.copy_from_slice(&image.cached[offset as usize..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.0.lock().unwrap().cached.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut image = self.0.1.wait_while(self.0.0.lock().unwrap(), |image| image.stuck).unwrap();
        image.durable = image.cached.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.0.lock().unwrap().cached[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// A log with entries (1, 0) to (1, 3), all durable, whatever is planted.
async fn filled(disk: &Disk, planted: Planted) -> LogStore {
    let mut log = LogStore::open_on(disk.clone(), Planted::NONE).unwrap();
    append(&mut log, (0..=3).map(|index| entry(1, index, 10))).await;
    log.save_vote(&vote(1)).await.unwrap();
    log.close();
    drop(log);
    LogStore::open_on(disk.clone(), planted).unwrap()
}

async fn an_acknowledged_append(planted: Planted) -> Result<(), String> {
    let disk = Disk::default();
    let mut log = filled(&disk, planted).await;
    append(&mut log, [entry(1, 4, 10)]).await;
    let mut left = LogStore::open_on(disk.after_power_cut(), planted).unwrap();
    match left.get_log_state().await.unwrap().last_log_id {
        Some(last) if last == log_id(1, 4) => Ok(()),
        last => Err(format!("entry 4 was acknowledged, the log ends with {last:?}")),
    }
}

async fn an_acknowledged_vote(planted: Planted) -> Result<(), String> {
    let disk = Disk::default();
    let mut log = filled(&disk, planted).await;
    log.save_vote(&vote(2)).await.unwrap();
    let mut left = LogStore::open_on(disk.after_power_cut(), planted).unwrap();
    match left.read_vote().await.unwrap() {
        Some(found) if found == vote(2) => Ok(()),
        found => Err(format!("a vote in term 2 was given, the disk says {found:?}: it may vote twice")),
    }
}

async fn an_acknowledged_truncation(planted: Planted) -> Result<(), String> {
    let disk = Disk::default();
    let mut log = filled(&disk, planted).await;
    log.truncate_after(Some(log_id(1, 1))).await.unwrap();
    let mut left = LogStore::open_on(disk.after_power_cut(), planted).unwrap();
    match left.get_log_state().await.unwrap().last_log_id {
        Some(last) if last == log_id(1, 1) => Ok(()),
        last => Err(format!("the log was truncated to 1 and ends with {last:?} again")),
    }
}

/// C5: a follower truncates, applies an entry before its own disk has it, and loses power.
async fn a_state_ahead_of_its_log(planted: Planted) -> Result<(), String> {
    let disk = Disk::default();
    let dir = TempDir::new().unwrap();
    let mut log = LogStore::open_on(disk.clone(), planted).unwrap();
    let mut machine = Machine::open(dir.path(), log.flushed(), planted, None).unwrap();
    log.save_vote(&vote(1)).await.unwrap();
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=12).map(|index| entry(1, index, 10))).await;
    apply(&mut machine, [membership(0)]).await;
    apply(&mut machine, (1..=9).map(|index| entry(1, index, 10))).await;
    // The leader of term 2 has another entry 10. The others commit it; this disk is slow.
    log.save_vote(&vote(2)).await.unwrap();
    log.truncate_after(Some(log_id(1, 9))).await.unwrap();
    disk.stick(true);
    let callback = openraft::storage::IOFlushed::noop();
    log.append([entry(2, 10, 10)], callback).await.unwrap();
    apply(&mut machine, [entry(2, 10, 10)]).await;
    // It waits for the disk, or writes what the log does not have.
    let mut checkpoint = std::pin::pin!(machine.checkpoint());
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), &mut checkpoint).await;

    let (left, state) = (disk.after_power_cut(), copy(dir.path()));
    disk.stick(false);
    let mut log = LogStore::open_on(left, Planted::NONE).unwrap();
    let mut machine = Machine::open(state.path(), log.flushed(), Planted::NONE, None).unwrap();
    let mut helper = StorageHelper::new(&mut log, &mut machine).with_id(1);
    helper.get_initial_state().await.map_err(|error| format!("the node does not start: {error}"))?;
    Ok(())
}

async fn a_durable_checkpoint(planted: Planted) -> Result<(), String> {
    let dir = TempDir::new().unwrap();
    let (_, flushed) = tokio::sync::watch::channel(u64::MAX);
    let mut machine = Machine::open(dir.path(), flushed.clone(), planted, None).unwrap();
    apply(&mut machine, (0..=3).map(|index| entry(1, index, 10))).await;
    assert!(machine.checkpoint().await.is_some());
    let state = copy(dir.path());
    let mut left = Machine::open(state.path(), flushed, Planted::NONE, None).unwrap();
    match openraft::storage::RaftStateMachine::applied_state(&mut left).await.unwrap().0 {
        Some(applied) if applied == log_id(1, 3) => Ok(()),
        applied => Err(format!("the checkpoint of 3 left {applied:?}")),
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    an_acknowledged_append(Planted::NONE).await.unwrap();
    an_acknowledged_vote(Planted::NONE).await.unwrap();
    an_acknowledged_truncation(Planted::NONE).await.unwrap();
    a_durable_checkpoint(Planted::NONE).await.unwrap();
}

#[tokio::test]
async fn c5_the_state_on_disk_never_runs_ahead_of_the_log() {
    a_state_ahead_of_its_log(Planted::NONE).await.unwrap();
}

#[cfg(feature = "planted")]
#[tokio::test]
async fn an_fsync_left_out_of_the_log_is_caught() {
    an_acknowledged_append(Planted::new(Variant::SkipFsyncLogAppend)).await.unwrap_err();
    an_acknowledged_vote(Planted::new(Variant::SkipFsyncVote)).await.unwrap_err();
    an_acknowledged_truncation(Planted::new(Variant::SkipFsyncTruncate)).await.unwrap_err();
}

#[cfg(feature = "planted")]
#[tokio::test]
async fn c5_a_checkpoint_ahead_of_the_log_is_caught() {
    a_state_ahead_of_its_log(Planted::new(Variant::C5CheckpointAhead)).await.unwrap_err();
}
