//! What is applied: here, and everywhere.
//!
//! Always holds: each wait has a limit, and a member that cannot answer holds up no other. Never
//! does: promise: whoever waited in vain may find the entry applied a moment later.

use std::time::Duration;

use tokio::sync::watch;

use super::Metadata;
use crate::consensus::network::client;
use crate::id::NodeId;
use crate::proto::raft as pb;

impl Metadata {
    /// The index applied here; changes with each batch.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.0.machine.applied()
    }

    /// Whether `index` is applied here before `limit` is over.
    pub(super) async fn applied_within(&self, index: u64, limit: Duration) -> bool {
        let mut applied = self.applied();
        let reached = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }

    /// Waits until every reachable member applied `index`, at most `limit`.
    pub async fn wait_applied_everywhere(&self, index: u64, limit: Duration) {
        let members = self.0.raft.voter_ids().chain(self.0.raft.learner_ids()).map(NodeId);
        let others = members.filter(|id| *id != self.id());
        let waits = others.map(|id| async move {
            let Ok(mut client) = client(&self.0.settings.connect, id).await else { return };
            let request = pb::WaitAppliedRequest { index, timeout_ms: limit.as_millis() as u64 };
            // One that cannot answer is not reachable, and does not hold the others up.
            let _ = client.wait_applied(request).await;
        });
        let all = futures::future::join(futures::future::join_all(waits), self.applied_within(index, limit));
        let _ = tokio::time::timeout(limit, all).await;
    }
}
