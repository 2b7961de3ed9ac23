//! Whom this node follows, and what it does with what others send beside that.
//!
//! Always holds: what is said here of the leader is of one moment. Never does: decide whom to
//! follow, which is consensus' part.

use openraft::async_runtime::WatchReceiver;
use openraft::raft::AppendEntriesRequest;
use tonic::Status;

use super::Metadata;
use super::complaints::About;
use crate::consensus::incoming::{self, Forged, Newer};
use crate::consensus::too_old::too_old_for;
use crate::consensus::types::{LogId, TypeConfig, Vote};
use crate::id::NodeId;

impl Metadata {
    /// Refuses what no member of the protocol sends: it is broken, or is not who it seems.
    pub(super) fn forged(&self, peer: NodeId, error: &Forged) -> Status {
        if let Some(left_out) = self.0.complaints.due(peer, About::Forged) {
            tracing::error!(%peer, left_out, cause = %error, "refused a request that no healthy member sends; look at that node: its version, its disk, and whether somebody else has its key");
        }
        Status::invalid_argument(error.to_string())
    }

    /// Whoever asks for votes, or leads, does so in its own name, and in a term that can be.
    pub(super) fn own_vote(&self, peer: NodeId, vote: &Vote) -> Result<(), Status> {
        if vote.leader_id.node_id != peer.0 {
            if let Some(left_out) = self.0.complaints.due(peer, About::Name) {
                tracing::warn!(%peer, left_out, "refused a request in another node's name; look at that node: its version, its disk, and whether somebody else has its key");
            }
            return Err(Status::permission_denied("the vote is not the sender's own"));
        }
        let term = self.0.raft.metrics().borrow_watched().current_term;
        incoming::reachable(vote, term).map_err(|error| self.forged(peer, &error))
    }

    /// What is to be done about entries that this version does not know. When it is the leader
    /// that this node already follows that has them next in its log, the cluster has left this
    /// version behind, and the process ends: it would be sent the same for ever. When the leader
    /// has them later, consensus is asked about the place alone: the leader hears what is missing
    /// here, and comes to the first of them, or to the state. From anybody else, and to any other
    /// place, they are nothing but refused.
    pub(super) fn left_behind(
        &self,
        peer: NodeId,
        newer: Newer,
    ) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
        let (continues, later) = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            let (vote, committed, last) = (metrics.vote, metrics.local_committed, metrics.last_log_index);
            let leads = metrics.current_leader == Some(peer.0);
            (leads && newer.continues(&vote, committed, last), leads && newer.is_later(&vote, last))
        };
        if continues && self.is_in_membership(peer) {
            too_old_for(peer, newer.at, &newer.why);
        }
        match later {
            true => Ok(newer.place()),
            false => Err(self.forged(peer, &Forged::Newer(newer))),
        }
    }

    /// The leader that this node follows, and the vote that it has for it.
    pub(super) fn followed(&self) -> Option<(NodeId, Vote)> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader.map(|leader| (NodeId(leader), metrics.vote))
    }

    /// Whether consensus follows a leader with this vote; it turns down one of the past, whatever
    /// that says.
    pub(super) fn would_follow(&self, vote: &Vote) -> bool {
        *vote >= self.vote()
    }

    /// The vote that this node has.
    pub(super) fn vote(&self) -> Vote {
        self.0.raft.metrics().borrow_watched().vote
    }

    /// The last entry that is known to be committed here.
    pub(super) fn known_committed(&self) -> Option<LogId> {
        self.0.raft.metrics().borrow_watched().local_committed
    }

    /// The last entry that is known to be committed here, if consensus follows a leader with this
    /// vote. Both from one moment: of a leader that is being replaced it would otherwise look as if
    /// it contradicted what its successor has committed.
    pub(super) fn committed_under(&self, vote: &Vote) -> Option<Option<LogId>> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        (*vote >= metrics.vote).then_some(metrics.local_committed)
    }
}
