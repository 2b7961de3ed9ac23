//! Giving a received state to consensus, which installs it.
//!
//! openraft asserts that a snapshot does not contradict what is committed, and an assertion that
//! fails ends the process. Always holds: between the look at what is committed here and the end of
//! the installation nothing more is committed that the snapshot could contradict. Consensus first
//! accepts the sender's vote, so that no earlier leader commits anything, and one of a later vote
//! makes it turn the snapshot down; the sender itself hands on neither entries nor a commit
//! meanwhile. Once begun it goes to its end whether the sender waits or not: the file is either
//! the state or deleted.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::storage::Snapshot;
use tokio::sync::{RwLock, RwLockReadGuard};
use tonic::Status;

use super::Metadata;
use super::receive::{ReceivedFile, failed};
use crate::consensus::incoming;
use crate::consensus::meter::Way;
use crate::consensus::snapshot::SnapshotData;
use crate::consensus::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use crate::consensus::wire;
use crate::id::NodeId;
use crate::proto::raft as pb;

/// The vote of whose leader a snapshot is being installed.
#[derive(Default)]
pub(super) struct Installing(RwLock<Option<Vote>>);

impl Installing {
    /// Makes `rpc` one that may be handed to consensus as long as the guard lives: of the leader
    /// whose snapshot is being installed that is a heartbeat alone.
    pub(super) async fn beside(
        &self,
        rpc: &mut AppendEntriesRequest<TypeConfig>,
    ) -> Result<RwLockReadGuard<'_, Option<Vote>>, Status> {
        let installing = self.0.read().await;
        if *installing == Some(rpc.vote) {
            // A leader does not send entries beside the state: it waits for the answer.
            if !rpc.entries.is_empty() {
                return Err(Status::unavailable("the state that the leader sent is being installed"));
            }
            rpc.leader_commit = None;
        }
        Ok(installing)
    }
}

impl Metadata {
    /// Gives the file to consensus.
    pub(super) async fn take_over(
        &self,
        peer: NodeId,
        vote: Vote,
        meta: SnapshotMeta,
        file: ReceivedFile,
    ) -> Result<pb::SnapshotReply, Status> {
        if !self.would_follow(&vote) {
            return Ok(self.later_vote());
        }
        self.vet_snapshot(peer, vote, &file, &meta).await?;
        // What was handed on before has come to its end.
        *self.0.installing.0.write().await = Some(vote);
        let reply = self.install(peer, vote, meta, file).await;
        *self.0.installing.0.write().await = None;
        reply
    }

    async fn install(
        &self,
        peer: NodeId,
        vote: Vote,
        meta: SnapshotMeta,
        mut file: ReceivedFile,
    ) -> Result<pb::SnapshotReply, Status> {
        let committed = match self.accept(vote).await? {
            Ok(committed) => committed,
            Err(later) => {
                return Ok(pb::SnapshotReply { vote: Some(wire::vote_to(&later)), installed: false });
            }
        };
        incoming::snapshot_beyond(committed, meta.last_log_id).map_err(|error| self.forged(peer, &error))?;
        tracing::info!(snapshot = %meta, "installing the state that the leader sent");
        let before = self.0.machine.installs();
        let snapshot = Snapshot { meta, snapshot: SnapshotData::File(file.path.clone()) };
        let reply = self.0.raft.install_full_snapshot(vote, snapshot).await;
        // It answers once the file is in its place, or when it turned it down: an old leader's,
        // or one behind what is committed here. Then the file is still where it was. Without an
        // answer it is consensus'.
        file.taken = reply.is_err();
        let reply = reply.map_err(|error| Status::internal(error.to_string()))?;
        let installed = self.0.machine.installs() > before;
        if installed {
            self.0.machine.meter().snapshot(Way::In);
        }
        Ok(pb::SnapshotReply { vote: Some(wire::vote_to(&reply.vote)), installed })
    }

    /// Consensus would install it, and end when that fails.
    async fn vet_snapshot(
        &self,
        peer: NodeId,
        vote: Vote,
        file: &ReceivedFile,
        meta: &SnapshotMeta,
    ) -> Result<(), Status> {
        let (machine, path, claimed) = (self.0.machine.clone(), file.path.clone(), meta.clone());
        let vetted = tokio::task::spawn_blocking(move || machine.vet(&path, &claimed)).await;
        let last = meta.last_log_id.map_or(0, |id| id.index);
        vetted.map_err(|error| failed(peer, &error))?.map_err(|error| self.refused(peer, vote, last, error))
    }

    /// Lets consensus accept the vote of a leader, and says what is committed then; the later
    /// vote when it has one.
    async fn accept(&self, vote: Vote) -> Result<Result<Option<LogId>, Vote>, Status> {
        let internal = |error: openraft::errors::RaftError<TypeConfig>| Status::internal(error.to_string());
        let heartbeat =
            AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None };
        let reply = self.0.raft.append_entries(heartbeat).await.map_err(internal)?;
        if let AppendEntriesResponse::HigherVote(later) = reply {
            return Ok(Err(later));
        }
        let committed = self.0.raft.with_raft_state(|state| state.local_committed().copied()).await;
        committed.map(Ok).map_err(|error| Status::internal(error.to_string()))
    }

    /// What consensus answers a leader of the past.
    pub(super) fn later_vote(&self) -> pb::SnapshotReply {
        pb::SnapshotReply { vote: Some(wire::vote_to(&self.vote())), installed: false }
    }
}

#[cfg(test)]
mod tests;
