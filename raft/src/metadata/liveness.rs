//! What the leader sees of the members through consensus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::Metadata;
use crate::id::NodeId;

/// The members as the leader of `term` sees them.
pub(crate) struct Liveness {
    pub term: u64,
    pub voters: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    /// Since when each is silent, by whatever channel heard of it last.
    pub silence: BTreeMap<NodeId, Duration>,
    /// How many entries each is behind.
    pub lag: BTreeMap<NodeId, u64>,
}

impl Metadata {
    /// What this node sees while it leads; none otherwise.
    pub(crate) fn liveness(&self) -> Option<Liveness> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader || metrics.current_leader != Some(self.id().0) {
            return None;
        }
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or(0);
        let (mut silence, mut lag) = (BTreeMap::new(), BTreeMap::new());
        for (id, ()) in membership.nodes() {
            let node = NodeId(*id);
            let acked = metrics.heartbeat.as_ref().and_then(|beats| beats.get(id)).and_then(|at| at.as_ref());
            let acked = acked.map(|at| at.elapsed());
            let heard = (self.0.settings.silence)(node);
            // Nobody can have been silent for longer than we have been listening.
            let silent = [acked, heard].into_iter().flatten().min().unwrap_or(Duration::MAX);
            silence.insert(node, silent.min(self.0.opened.elapsed()));
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).and_then(|id| id.as_ref());
            if let Some(matched) = matched {
                lag.insert(node, last.saturating_sub(matched.index));
            }
        }
        Some(Liveness {
            term: metrics.current_term,
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            silence,
            lag,
        })
    }
}
