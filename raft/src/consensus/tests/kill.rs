//! kill -9 of a process that appends, votes and truncates: what it acknowledged is there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use tempfile::TempDir;

use super::*;

const DIR: &str = "TROW_TEST_KILL_DIR";

/// Not a test of its own: what the child process does until it is killed.
#[tokio::test]
async fn child_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let mut log = open_log(&dir);
    let mut acked = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("acked")).unwrap();
    let mut next = log.get_log_state().await.unwrap().last_log_id.map_or(0, |id| id.index + 1);
    let term = log.read_vote().await.unwrap().map_or(1, |vote| vote.leader_id.term + 1);
    log.save_vote(&vote(term)).await.unwrap();
    // One write each: a kill leaves at most the last line unfinished.
    let mut ack = |line: String| acked.write_all(line.as_bytes()).unwrap();
    ack(format!("vote {term}\n"));
    loop {
        let count = 1 + next % 7;
        append(&mut log, (next..next + count).map(|index| entry(term, index, 500))).await;
        next += count;
        ack(format!("last {}\n", next - 1));
        if next % 5 == 0 {
            ack(format!("last {}\n", next - 2));
            log.truncate_after(Some(log_id(term, next - 2))).await.unwrap();
            next -= 1;
        }
    }
}

#[tokio::test]
async fn a_killed_process_lost_nothing_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    for round in 0..5 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "consensus::tests::kill::child_appends_until_it_is_killed"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let enough = 4000 * (round + 1);
        let start = Instant::now();
        while acked_bytes(dir.path()) < enough && start.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        check(dir.path()).await;
    }
}

fn acked_bytes(dir: &Path) -> u64 {
    std::fs::metadata(dir.join("acked")).map(|meta| meta.len()).unwrap_or(0)
}

async fn check(dir: &Path) {
    let acked = std::fs::read_to_string(dir.join("acked")).unwrap();
    let number = |prefix: &str| {
        let line = acked.lines().rev().find_map(|line| line.strip_prefix(prefix));
        line.map(|number| number.parse::<u64>().unwrap())
    };
    let mut log = open_log(dir);
    let last = log.get_log_state().await.unwrap().last_log_id.map(|id| id.index);
    assert!(last >= number("last "), "acknowledged {:?}, found {last:?}", number("last "));
    let term = log.read_vote().await.unwrap().map(|vote| vote.leader_id.term);
    assert!(term >= number("vote "), "acknowledged {:?}, found {term:?}", number("vote "));
    let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
    for (index, found) in entries.iter().enumerate() {
        assert_eq!(found.log_id.index, index as u64, "a hole");
        let expected = entry(found.log_id.leader_id.term, index as u64, 500);
        assert_eq!(*found, expected);
    }
    assert_eq!(entries.len() as u64, last.map_or(0, |last| last + 1));
    log.close();
}
