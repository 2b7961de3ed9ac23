//! The consensus half of [`crate::fuzzing`].

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;
use prost::Message as _;

use super::incoming;
use super::types::{LogId, TypeConfig};
use super::wire;
use crate::codec;
use crate::proto::raft as pb;

/// A log entry as the log holds it; whether it is one.
pub(crate) fn entry(bytes: Bytes) -> bool {
    if let Ok(id) = wire::decode_log_id(&bytes) {
        assert_eq!(wire::decode_log_id(&wire::encode_log_id(&id)).ok(), Some(id));
    }
    if let Ok(stored) = wire::decode_stored_membership(&bytes) {
        let again = wire::decode_stored_membership(&wire::encode_stored_membership(&stored));
        assert_eq!(again.ok(), Some(stored));
    }
    let Ok(entry) = wire::decode_entry(bytes) else { return false };
    let again = wire::decode_entry(wire::encode_entry(&entry));
    assert_eq!(again.ok().as_ref(), Some(&entry));
    true
}

/// A request of the kind numbered `kind`; whether consensus would hear of it.
pub(crate) fn request(kind: u8, bytes: Bytes) -> bool {
    match kind % 5 {
        0 => pb::AppendRequest::decode(bytes).is_ok_and(append),
        1 => pb::VoteRequest::decode(bytes).is_ok_and(|request| {
            let Ok(rpc) = incoming::candidacy(request) else { return false };
            assert!(!rpc.vote.committed && rpc.vote.leader_id.term.checked_add(1 << 62).is_some());
            assert!(rpc.last_log_id.is_none_or(|id| id.leader_id.term <= rpc.vote.leader_id.term));
            true
        }),
        2 => pb::TransferRequest::decode(bytes).is_ok_and(|request| {
            let Ok(rpc) = incoming::transfer(request) else { return false };
            assert!(rpc.from_leader().committed);
            true
        }),
        3 => pb::SnapshotHeader::decode(bytes).is_ok_and(|header| {
            let Ok((vote, meta)) = incoming::snapshot(header) else { return false };
            let last = meta.last_log_id.expect("a snapshot stands somewhere");
            assert!(last.leader_id.term <= vote.leader_id.term);
            assert!(meta.last_membership.log_id().is_none_or(|id| id <= last));
            true
        }),
        _ => pb::ProposeRequest::decode(bytes)
            .is_ok_and(|request| codec::decode_envelope(request.envelope).is_ok()),
    }
}

fn append(request: pb::AppendRequest) -> bool {
    let Ok(rpc) = incoming::append(request.clone()) else { return false };
    assert_eq!(rpc.entries.len(), request.entries.len());
    consecutive(&rpc);
    // As if some of it were committed here: what is, is not looked at again.
    let ids = || rpc.prev_log_id.into_iter().chain(rpc.entries.iter().map(|entry| entry.log_id));
    let elsewhere = |id: LogId| LogId { index: id.index.saturating_sub(1), ..id };
    for committed in ids().chain(ids().map(elsewhere)) {
        let again = incoming::append(request.clone()).expect("it was taken before");
        let Ok(rest) = incoming::beyond(Some(committed), again) else { continue };
        consecutive(&rest);
        assert!(rest.entries.iter().all(|entry| entry.log_id.index > committed.index));
        assert!(rest.prev_log_id.is_some_and(|prev| prev.index >= committed.index));
    }
    true
}

fn consecutive(rpc: &AppendEntriesRequest<TypeConfig>) {
    let first = rpc.prev_log_id.map_or(0, |id| id.index + 1);
    for (index, entry) in (first..).zip(&rpc.entries) {
        assert_eq!(entry.log_id.index, index);
        assert!(entry.log_id.leader_id.term <= rpc.vote.leader_id.term);
    }
}
