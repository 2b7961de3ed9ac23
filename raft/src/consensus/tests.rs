//! The log and the state machine against openraft's suite, restarts, kills and power cuts.

mod checkpoint;
mod cut;
mod files;
mod full_disk;
mod kill;
mod power;
mod reopen;
mod suite;

use std::path::Path;

use bytes::Bytes;
use futures::stream;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft::vote::RaftLeaderId;

use super::log_store::LogStore;
use super::machine::Machine;
use super::reserve::Reserve;
use super::types::{Encoded, Entry, LogId, Membership, Payload, TypeConfig, Vote};
use crate::codec;
use crate::command::{Command, Envelope, LEVEL};
use crate::id::NodeId;
use crate::planted::Planted;

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: openraft::alias::LeaderIdOf::<TypeConfig>::new(term, term).to_committed(), index }
}

/// The vote for the leader of `term`, who is the node of that number.
fn vote(term: u64) -> Vote {
    Vote::new_committed(term, term)
}

/// A command of `bytes` bytes and a few more.
fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    entry_of(term, index, "x".repeat(bytes), Command::Tick { elapsed: 1 })
}

fn entry_of(term: u64, index: u64, actor: String, command: Command) -> Entry {
    let envelope =
        Envelope { node: NodeId(1), boot: 1, seq: index + 1, now: 0, actor, level: LEVEL, command };
    let envelope = Some(Encoded(Bytes::from(codec::encode_envelope(&envelope).to_vec())));
    Entry::new(log_id(term, index), Payload { envelope, membership: None })
}

fn membership(index: u64) -> Entry {
    let members = Membership::new_with_defaults(vec![[1, 2].into()], []);
    Entry::new(log_id(0, index), Payload { envelope: None, membership: Some(members) })
}

fn open_log(dir: &Path) -> LogStore {
    let reserve = Reserve::open(&dir.join("reserve")).unwrap();
    LogStore::open(&dir.join("log.redb"), reserve.into(), Planted::NONE).unwrap()
}

async fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry> + Send) {
    let entries: Vec<Entry> = entries.into_iter().collect();
    log.blocking_append(entries).await.unwrap();
}

async fn apply(machine: &mut Machine, entries: impl IntoIterator<Item = Entry>) {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    machine.apply(stream::iter(entries)).await.unwrap();
}
