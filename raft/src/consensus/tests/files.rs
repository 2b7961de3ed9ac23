//! The directory of state files, damaged or given a wrong file.

use openraft::storage::RaftStateMachine;
use tempfile::TempDir;

use super::*;
use crate::consensus::snapshot::SnapshotData;
use crate::consensus::types::SnapshotMeta;

/// A machine in `<dir>/state` that has applied five entries and closed its files.
async fn filled(dir: &Path) -> std::path::PathBuf {
    let mut log = open_log(dir);
    append(&mut log, [membership(0)]).await;
    append(&mut log, (1..=5).map(|index| entry(1, index, 10))).await;
    let state = dir.join("state");
    let mut machine = Machine::open(&state, log.flushed(), Planted::NONE, None).unwrap();
    apply(&mut machine, [membership(0)]).await;
    apply(&mut machine, (1..=5).map(|index| entry(1, index, 10))).await;
    assert!(machine.checkpoint().await.is_some());
    state
}

fn open(state: &Path) -> Result<Machine, crate::consensus::snapshot::FilesError> {
    Machine::open(state, tokio::sync::watch::Sender::new(6).subscribe(), Planted::NONE, None)
}

#[tokio::test]
async fn a_damaged_current_is_refused_and_deletes_nothing() {
    let dir = TempDir::new().unwrap();
    let state = filled(dir.path()).await;
    std::fs::write(state.join("state-7.redb"), b"").unwrap();
    std::fs::write(dir.path().join("evil.redb"), b"x").unwrap();
    let only = std::fs::read(state.join("state-0.redb")).unwrap();
    for wrong in ["", "state-3.redb", "state-7.redb", "../evil.redb", "state-00.redb", "state-.redb"] {
        std::fs::write(state.join("CURRENT"), wrong).unwrap();
        let Err(error) = open(&state) else { panic!("{wrong:?} was accepted") };
        assert!(error.to_string().contains("empty the data directory"), "{error}");
        assert_eq!(std::fs::read(state.join("state-0.redb")).unwrap(), only, "{wrong:?}");
        assert!(!state.join("state-3.redb").exists(), "made for {wrong:?}");
    }
    // A file that is no state is refused before the others are deleted.
    std::fs::write(state.join("state-7.redb"), b"no database").unwrap();
    std::fs::write(state.join("CURRENT"), "state-7.redb").unwrap();
    assert!(open(&state).is_err());
    std::fs::remove_file(state.join("CURRENT")).unwrap();
    assert!(open(&state).is_err(), "a lost CURRENT");
    std::fs::write(state.join("CURRENT"), "state-0.redb\n").unwrap();
    let mut machine = open(&state).unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 5)));
    assert!(!state.join("state-7.redb").exists(), "left over");
}

#[tokio::test]
async fn a_received_state_that_stands_elsewhere_is_deleted_and_the_old_one_kept() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut source = open(&filled(other.path()).await).unwrap();
    let sent = source.get_current_snapshot().await.unwrap().unwrap();
    let SnapshotData::Rows(rows) = sent.snapshot else { panic!("rows") };
    let mut machine =
        Machine::open(dir.path(), open_log(other.path()).flushed(), Planted::NONE, None).unwrap();
    let receive = |machine: &Machine, name| {
        let path = machine.scratch(name);
        crate::state::Import::copy(&rows, &path).unwrap();
        path
    };
    let wrong = SnapshotMeta { last_log_id: Some(log_id(1, 9)), ..sent.meta.clone() };
    let file = SnapshotData::File(receive(&machine, "incoming"));
    machine.install_snapshot(&wrong, file).await.expect_err("it stands at 5");
    let files = || {
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(files(), ["CURRENT", "state-0.redb"]);
    assert_eq!(machine.applied_state().await.unwrap().0, None);

    // Files under construction outlive an installation.
    let (file, under_way) = (receive(&machine, "incoming"), receive(&machine, "export"));
    machine.install_snapshot(&sent.meta, SnapshotData::File(file)).await.unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 5)));
    assert!(under_way.exists(), "a file under construction was deleted");
    assert_eq!(files().len(), 3, "{:?}", files());
}

#[tokio::test]
async fn an_installed_snapshot_voids_what_readers_kept() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (name, digest) = ("r".parse().unwrap(), crate::digest::Digest::sha256(b"m"));
    let mut source = open(&filled(other.path()).await).unwrap();
    let sent = source.get_current_snapshot().await.unwrap().unwrap();
    let flushed = tokio::sync::watch::Sender::new(9).subscribe();
    let mut machine = Machine::open(&dir.path().join("state"), flushed, Planted::NONE, None).unwrap();
    apply(&mut machine, [membership(0), entry(1, 1, 10)]).await;
    let before = machine.view().stamp(&name, None, &digest).unwrap();
    assert!(before.holds());
    machine.install_snapshot(&sent.meta, sent.snapshot).await.unwrap();
    assert!(!before.holds());
    assert!(machine.view().stamp(&name, None, &digest).unwrap().holds());
}
