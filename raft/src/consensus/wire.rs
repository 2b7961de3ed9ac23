//! openraft's types to and from protobuf, as stored in the log and sent between members.
//!
//! Never does: trust. What does not decode is an error of the peer or the disk, with its name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::types::{Encoded, Entry, LogId, Membership, Payload, StoredMembership, Vote};
use crate::proto::raft as pb;
use openraft::vote::RaftLeaderId;

type LeaderId = openraft::alias::LeaderIdOf<super::types::TypeConfig>;

/// Bytes of a peer or the disk that mean nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("not the expected message: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("invalid membership: {0}")]
    Membership(String),
    #[error("an entry holds a field that this version does not know; run a newer one")]
    Newer,
}

impl From<WireError> for std::io::Error {
    fn from(error: WireError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

pub(crate) fn vote_to(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_from(vote: Option<pb::Vote>) -> Result<Vote, WireError> {
    let vote = vote.ok_or(WireError::Missing("vote"))?;
    Ok(Vote { leader_id: LeaderId::new(vote.term, vote.node), committed: vote.committed })
}

pub(crate) fn log_id_to(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id_from(id: pb::LogId) -> LogId {
    LogId { leader_id: LeaderId::new(id.term, id.node).to_committed(), index: id.index }
}

fn membership_to(membership: &Membership) -> pb::Membership {
    let set = |ids: &BTreeSet<u64>| pb::NodeSet { ids: ids.iter().copied().collect() };
    pb::Membership {
        voters: membership.get_joint_config().iter().map(set).collect(),
        nodes: membership.nodes().map(|(id, ())| *id).collect(),
    }
}

fn membership_from(membership: pb::Membership) -> Result<Membership, WireError> {
    let voters: Vec<BTreeSet<u64>> =
        membership.voters.into_iter().map(|set| set.ids.into_iter().collect()).collect();
    // Nobody could ever change it again.
    if voters.is_empty() || voters.iter().any(BTreeSet::is_empty) {
        return Err(WireError::Membership("it has no voters".to_owned()));
    }
    let nodes: BTreeMap<u64, ()> = membership.nodes.into_iter().map(|id| (id, ())).collect();
    Membership::new(voters, nodes).map_err(|error| WireError::Membership(error.to_string()))
}

pub(crate) fn stored_membership_to(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to),
        membership: Some(membership_to(stored.membership())),
    }
}

pub(crate) fn stored_membership_from(
    stored: Option<pb::StoredMembership>,
) -> Result<StoredMembership, WireError> {
    let Some(stored) = stored else { return Ok(StoredMembership::default()) };
    let membership = match stored.membership {
        // A node that was never a member has one without voters, which `new` would refuse.
        Some(membership) if membership.voters.is_empty() => Membership::default(),
        Some(membership) => membership_from(membership)?,
        None => Membership::default(),
    };
    Ok(StoredMembership::new(stored.log_id.map(log_id_from), membership))
}

/// The entry as the log holds it and as peers send it.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let message = pb::Entry {
        log_id: Some(log_id_to(&entry.log_id)),
        envelope: entry.payload.envelope.as_ref().map(|envelope| envelope.0.clone()),
        membership: entry.payload.membership.as_ref().map(membership_to),
    };
    message.encode_to_vec().into()
}

pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, WireError> {
    let len = bytes.len();
    let message = pb::Entry::decode(bytes)?;
    // prost drops what it does not know, and the entry would be passed on without it.
    if message.encoded_len() != len {
        return Err(WireError::Newer);
    }
    let log_id = log_id_from(message.log_id.ok_or(WireError::Missing("log_id"))?);
    let membership = message.membership.map(membership_from).transpose()?;
    Ok(Entry { log_id, payload: Payload { envelope: message.envelope.map(Encoded), membership } })
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    log_id_to(id).encode_to_vec().into()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, WireError> {
    Ok(log_id_from(pb::LogId::decode(bytes)?))
}

pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    stored_membership_to(stored).encode_to_vec().into()
}

pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, WireError> {
    stored_membership_from(Some(pb::StoredMembership::decode(bytes)?))
}
