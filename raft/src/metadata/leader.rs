//! What only the leader can do: write entries and confirm reads. Called by this node's own
//! proposals and, through the service, by those of others.

use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{LinearizerOption, Precondition, ReadPolicy};
use tokio::sync::Semaphore;

use super::Metadata;
use crate::consensus::types::{Encoded, LogId, Membership, Payload, TypeConfig};
use crate::id::NodeId;
use crate::limits::PROPOSALS_IN_FLIGHT;

/// How long the leader waits for an entry to be committed and applied.
const COMMIT: Duration = Duration::from_secs(10);
/// How long the leader waits for a quorum to confirm it. openraft's default is a lease.
const CONFIRM: Duration = Duration::from_millis(300);

/// Bytes of entries that the leader takes in at once, from all nodes.
pub(super) struct Room(Semaphore);

impl Default for Room {
    fn default() -> Self {
        Room(Semaphore::new(PROPOSALS_IN_FLIGHT))
    }
}

/// What came of handing an envelope to a node.
#[derive(Debug)]
pub(super) enum Proposed {
    /// Committed and applied: the encoded outcome.
    Applied(Bytes),
    /// Not the leader, or not able to lead now; nothing was done.
    Forward,
    /// It may take effect or not.
    Unknown(String),
    /// Nothing was done, and trying again is of no use.
    Refused(String),
    /// Nothing was done; try later.
    Busy,
}

type Written = Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

impl Metadata {
    /// Whom consensus takes for the leader; it may have died since.
    pub(super) fn raft_leader(&self) -> Option<NodeId> {
        self.0.raft.metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// Ends when consensus knows another leader than `leader`.
    pub(super) async fn leader_is_not(&self, leader: NodeId) {
        let mut metrics = self.0.raft.metrics();
        loop {
            if metrics.borrow_watched().current_leader.is_some_and(|now| now != leader.0) {
                return;
            }
            if metrics.changed().await.is_err() {
                // Consensus ended; the caller's own deadline ends the wait.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Writes an envelope as an entry.
    pub(super) async fn lead_proposal(&self, envelope: Bytes) -> Proposed {
        let bytes = envelope.len().min(PROPOSALS_IN_FLIGHT) as u32;
        let Ok(_room) = self.0.room.0.try_acquire_many(bytes) else { return Proposed::Busy };
        let written = tokio::time::timeout(COMMIT, self.0.raft.client_write(Encoded(envelope))).await;
        match written {
            Ok(written) => proposed(written),
            Err(_) => Proposed::Unknown("no quorum stored the entry in time".into()),
        }
    }

    /// Writes an entry that changes the membership, with a command beside it or none. `change`
    /// sees the membership in force, and the entry is written only while it still is.
    pub(super) async fn lead_membership(
        &self,
        envelope: Option<Bytes>,
        change: impl FnOnce(&Membership) -> Membership,
    ) -> Proposed {
        let stored = self.0.raft.metrics().borrow_watched().membership_config.clone();
        let before: Option<LogId> = *stored.log_id();
        let membership = change(stored.membership());
        let payload = Payload { envelope: envelope.map(Encoded), membership: None };
        let guard = [Precondition::LastMembershipLogId { last_membership_log_id: before }];
        let write = self.0.raft.append_membership(membership, payload, guard);
        match tokio::time::timeout(COMMIT, write).await {
            Ok(written) => proposed(written),
            Err(_) => Proposed::Unknown("no quorum stored the entry in time".into()),
        }
    }

    /// Confirms with a quorum that this node leads, and says up to where a read must see.
    pub(super) async fn lead_read(&self) -> Result<u64, ReadRefused> {
        let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(CONFIRM);
        match self.0.raft.get_read_linearizer(option).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(ReadRefused::Forward),
            Err(error) => Err(ReadRefused::NoQuorum(error.to_string())),
        }
    }
}

impl Proposed {
    /// Whether it is committed, and if not, why.
    pub(super) fn done(self) -> Result<(), String> {
        match self {
            Proposed::Applied(_) => Ok(()),
            Proposed::Forward => Err("this node does not lead".into()),
            Proposed::Busy => Err("another change is under way".into()),
            Proposed::Unknown(why) | Proposed::Refused(why) => Err(why),
        }
    }
}

/// Why a read was not confirmed.
pub(super) enum ReadRefused {
    Forward,
    NoQuorum(String),
}

fn proposed(written: Written) -> Proposed {
    match written {
        Ok(response) => Proposed::Applied(response.data.0),
        Err(RaftError::APIError(error)) => match error {
            ClientWriteError::ForwardToLeader(_) => Proposed::Forward,
            ClientWriteError::LogEntryDiscarded(_) => Proposed::Unknown("another leader took over".into()),
            // Another change is under way, or the membership moved on: plan again.
            ClientWriteError::ChangeMembershipError(error) => {
                tracing::debug!(cause = %error, "membership change refused");
                Proposed::Busy
            }
            ClientWriteError::PreconditionFailed(_) => Proposed::Busy,
        },
        Err(RaftError::Fatal(error)) => Proposed::Unknown(error.to_string()),
    }
}
