//! What is handed on while a snapshot is being installed.

use super::*;
use crate::consensus::types::{Entry, Payload};

fn append(vote: Vote, entries: Vec<Entry>) -> AppendEntriesRequest<TypeConfig> {
    let commit = wire::log_id_from(pb::LogId { term: 1, index: 9, node: 1 });
    AppendEntriesRequest { vote, prev_log_id: None, entries, leader_commit: Some(commit) }
}

fn entry() -> Entry {
    let log_id = wire::log_id_from(pb::LogId { term: 1, index: 0, node: 1 });
    Entry { log_id, payload: Payload { envelope: None, membership: None } }
}

#[tokio::test]
async fn a_leader_commits_nothing_while_its_snapshot_is_installed() {
    let (installing, leader, other) =
        (Installing::default(), Vote::new_committed(3, 1), Vote::new_committed(4, 2));
    let mut before = append(leader, vec![entry()]);
    drop(installing.beside(&mut before).await.expect("nothing is being installed"));
    assert!(before.leader_commit.is_some());

    *installing.0.write().await = Some(leader);
    let refused = installing.beside(&mut append(leader, vec![entry()])).await;
    assert_eq!(refused.expect_err("entries").code(), tonic::Code::Unavailable);
    let mut heartbeat = append(leader, vec![]);
    drop(installing.beside(&mut heartbeat).await.expect("it keeps the node from standing for election"));
    assert_eq!(heartbeat.leader_commit, None);
    let mut others = append(other, vec![entry()]);
    drop(installing.beside(&mut others).await.expect("consensus turns one of the two down"));
    assert!(others.leader_commit.is_some() && others.entries.len() == 1);
}
