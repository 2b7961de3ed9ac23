//! Between the protobuf messages of the control service and the types used here.

use std::collections::BTreeSet;

use trow_raft::proto::control as pb;
use trow_raft::{ClusterId, Generation, Member, MemberState, NodeId};

use super::hello::{Card, HelloAnswer};
use super::status::{PeerAudit, PeerDisk, PeerStatus, PeerUploads};

pub(super) fn node_to(node: &Member) -> pb::Node {
    pb::Node {
        id: node.id.0,
        name: node.name.clone(),
        zone: node.zone.clone(),
        client: node.client.clone(),
        peer: node.peer.clone(),
        generation: node.generation.0,
        max_level: node.max_level,
        weight: node.weight,
    }
}

/// A node that presents itself is taken for a joining one: its state is the cluster's to say.
pub(super) fn node_from(node: pb::Node) -> Member {
    Member {
        id: NodeId(node.id),
        name: node.name,
        zone: node.zone,
        state: MemberState::Joining,
        generation: Generation(node.generation),
        max_level: node.max_level,
        weight: node.weight.max(1),
        client: node.client,
        peer: node.peer,
    }
}

fn set_to(set: &BTreeSet<NodeId>) -> pb::NodeSet {
    pb::NodeSet { ids: set.iter().map(|id| id.0).collect() }
}

fn set_from(set: pb::NodeSet) -> BTreeSet<NodeId> {
    set.ids.into_iter().map(NodeId).collect()
}

pub(super) fn card_to(card: &Card) -> pb::Birth {
    pb::Birth {
        expect: card.expect.map_or(0, |expect| u32::try_from(expect).unwrap_or(u32::MAX)),
        ever_member: card.ever_member,
        proposal: card.proposal.as_ref().map(set_to),
        bound: card.bound.as_ref().map(set_to),
    }
}

fn card_from(birth: pb::Birth) -> Card {
    Card {
        expect: (birth.expect > 0).then_some(birth.expect as usize),
        ever_member: birth.ever_member,
        proposal: birth.proposal.map(set_from),
        bound: birth.bound.map(set_from),
    }
}

/// `id` is what the peer's key proved; a reply that claims another is not believed.
pub(super) fn answer_from(reply: pb::HelloReply, id: NodeId) -> Option<HelloAnswer> {
    let node = node_from(reply.node?);
    (node.id == id).then(|| HelloAnswer {
        node,
        card: reply.birth.map(card_from).unwrap_or_default(),
        cluster: reply.cluster.map(ClusterId),
        removed: reply.removed,
        members: reply.members.into_iter().map(node_from).collect(),
    })
}

pub(super) fn status_to(status: PeerStatus, removed: bool) -> pb::StatusReply {
    pb::StatusReply {
        name: status.name,
        zone: status.zone,
        client: status.client,
        peer: status.peer,
        applied: status.applied,
        committed: status.committed,
        term: status.term,
        leader: status.leader.map_or(0, |leader| leader.0),
        state_hash: status.state_hash,
        state_hash_at: status.state_hash_at,
        max_level: status.max_level,
        disk: Some(pb::Disk { total: status.disk.total, free: status.disk.free, blobs: status.disk.blobs }),
        audit: status.audit.map(|audit| pb::Audit {
            missing: audit.missing,
            strays: audit.strays,
            count: audit.count,
            bytes: audit.bytes,
            cached: audit.cached,
            cached_least: audit.cached_least,
        }),
        removed,
        uploads: status.uploads.map(|up| pb::Uploads { sessions: up.sessions, bytes: up.bytes }),
    }
}

pub(super) fn status_from(reply: pb::StatusReply) -> PeerStatus {
    let disk = reply.disk.unwrap_or_default();
    PeerStatus {
        name: reply.name,
        zone: reply.zone,
        client: reply.client,
        peer: reply.peer,
        applied: reply.applied,
        committed: reply.committed,
        term: reply.term,
        leader: (reply.leader != 0).then_some(NodeId(reply.leader)),
        state_hash: reply.state_hash,
        state_hash_at: reply.state_hash_at,
        max_level: reply.max_level,
        disk: PeerDisk { total: disk.total, free: disk.free, blobs: disk.blobs },
        uploads: reply.uploads.map(|up| PeerUploads { sessions: up.sessions, bytes: up.bytes }),
        audit: reply.audit.map(|audit| PeerAudit {
            missing: audit.missing,
            strays: audit.strays,
            count: audit.count,
            bytes: audit.bytes,
            cached: audit.cached,
            cached_least: audit.cached_least,
        }),
    }
}
