//! Joining: a learner and its row in one entry.
//!
//! Always holds: a member loses its name to a newcomer only when the leader itself has not heard
//! it for a while and cannot reach it. Never does: take not having heard of a member for its death.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use super::leader::Proposed;
use super::propose::Via;
use super::{JoinError, Metadata, ProposeError};
use crate::codec;
use crate::command::{Command, Outcome, Refusal, SYSTEM};
use crate::consensus::network::client;
use crate::consensus::types::Membership;
use crate::id::{ClusterId, NodeId};
use crate::member::{Member, MemberState};
use crate::proto::raft as pb;

/// A node that was silent for this long does not defend its name against a newcomer.
const GONE: Duration = Duration::from_secs(5);
/// How long a member that seems gone has to answer before its name is given away.
const PROBE: Duration = Duration::from_secs(1);

impl Metadata {
    /// Adds `member` as a joining learner, in one entry with its row. Runs on any member. A node
    /// that is a member already has its row updated.
    ///
    /// # Errors
    /// No quorum, or the node is refused.
    pub async fn join(&self, member: Member) -> Result<ClusterId, JoinError> {
        let Some(cluster) = self.local().cluster().ok().flatten() else { return Err(JoinError::Unborn) };
        self.refuse_early(&member).await?;
        let applied = self.submit(SYSTEM, Command::ChangeMember { member }, Via::Join).await?;
        match applied.outcome {
            Outcome::Done => Ok(cluster),
            Outcome::Refused(refusal) => Err(JoinError::Refused(refusal)),
        }
    }

    /// Refuses who must not join: a removed node, and one with the name of a member that this node
    /// hears. Whether another bearer of the name is gone is for the leader to say.
    async fn refuse_early(&self, member: &Member) -> Result<(), JoinError> {
        let unknown = |why: &dyn std::fmt::Display| JoinError::NotNow(ProposeError::Unknown(why.to_string()));
        let view = self.read(Duration::from_secs(5)).await.map_err(|_| ProposeError::NoLeader)?;
        if view.removed(member.id).map_err(|error| unknown(&error))? {
            return Err(JoinError::Refused(Refusal::Removed));
        }
        if member.max_level < view.level().map_err(|error| unknown(&error))? {
            return Err(JoinError::Refused(Refusal::LevelUnsupported));
        }
        let members = view.members().map_err(|error| unknown(&error))?;
        let Some(other) = bearer(&members, member) else { return Ok(()) };
        let heard = (self.0.settings.silence)(other.id);
        if other.id == self.id() || heard.is_some_and(|silence| silence < GONE) {
            return Err(JoinError::Refused(Refusal::NameTaken { by: other.id }));
        }
        Ok(())
    }

    /// On the leader: removes the member whose name the newcomer bears, once it is certainly gone.
    async fn make_room_for(&self, member: &Member) -> Result<(), Proposed> {
        let members = self.local().members().map_err(|error| Proposed::Refused(error.to_string()))?;
        let Some(other) = bearer(&members, member) else { return Ok(()) };
        if !self.is_gone(other.id).await? {
            let taken = Refusal::NameTaken { by: other.id };
            return Err(Proposed::Refused(format!("{taken}: member {} is not known to be gone", other.id)));
        }
        tracing::warn!(name = member.name, old = %other.id, new = %member.id, "a silent member is replaced by a new one of its name; if the old one still runs somewhere, stop it");
        let number = self.0.proposer.number().await;
        let envelope = number.envelope(SYSTEM, Command::RemoveMember { node: other.id });
        match self.lead_proposal(codec::encode_envelope(&envelope)).await {
            Proposed::Applied(_) => Ok(()),
            failed => Err(failed),
        }
    }

    /// Whether this leader neither heard `node` for [`GONE`] by any channel nor reaches it now. A
    /// node that this process never heard counts from the start of the process.
    async fn is_gone(&self, node: NodeId) -> Result<bool, Proposed> {
        let Some(liveness) = self.liveness() else { return Err(Proposed::Forward) };
        let silence = liveness.silence.get(&node).copied().unwrap_or_else(|| {
            let listened = self.0.opened.elapsed();
            (self.0.settings.silence)(node).map_or(listened, |silence| silence.min(listened))
        });
        Ok(node != self.id() && silence >= GONE && !self.answers(node).await)
    }

    /// Whether `node` answers a call, if only to refuse it.
    async fn answers(&self, node: NodeId) -> bool {
        let call = async {
            let mut client = client(&self.0.settings.connect, node).await?;
            client.wait_applied(pb::WaitAppliedRequest { index: 0, timeout_ms: 0 }).await
        };
        match tokio::time::timeout(PROBE, call).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => matches!(status.code(), Code::PermissionDenied | Code::Internal),
            Err(_) => false,
        }
    }

    /// On the leader: writes the row and the learner as one entry.
    pub(super) async fn lead_join(&self, envelope: Bytes) -> Proposed {
        let member = match codec::decode_envelope(envelope.clone()).map(|envelope| envelope.command) {
            Ok(Command::ChangeMember { member }) => member,
            Ok(_) => return Proposed::Refused("not a request to join".into()),
            Err(error) => return Proposed::Refused(error.to_string()),
        };
        if let Err(why) = self.admissible(&member) {
            return Proposed::Refused(why);
        }
        if let Err(failed) = self.make_room_for(&member).await {
            return failed;
        }
        let id = member.id.0;
        let known = self.0.raft.voter_ids().chain(self.0.raft.learner_ids()).any(|known| known == id);
        if known {
            return self.lead_proposal(envelope).await;
        }
        self.lead_membership(Some(envelope), |membership| with_learner(membership, id)).await
    }

    /// What apply would refuse must not reach the log: the learner would be added all the same.
    fn admissible(&self, member: &Member) -> Result<(), String> {
        let view = self.local();
        if member.state != MemberState::Joining {
            return Err("a node joins as joining".into());
        }
        if view.removed(member.id).map_err(|error| error.to_string())? {
            return Err(Refusal::Removed.to_string());
        }
        if member.max_level < view.level().map_err(|error| error.to_string())? {
            return Err(Refusal::LevelUnsupported.to_string());
        }
        Ok(())
    }
}

/// The member that has the name of `newcomer` under another id.
fn bearer<'a>(members: &'a [Member], newcomer: &Member) -> Option<&'a Member> {
    members.iter().find(|other| other.name == newcomer.name && other.id != newcomer.id)
}

fn with_learner(membership: &Membership, id: u64) -> Membership {
    let mut nodes: BTreeMap<u64, ()> = membership.nodes().map(|(id, ())| (*id, ())).collect();
    nodes.insert(id, ());
    // The voters stay as they were, and each of them is among the nodes.
    Membership::new(membership.get_joint_config().clone(), nodes).unwrap_or_else(|_| membership.clone())
}

impl Metadata {
    /// Whether `node` is a voter or learner, as far as this node knows.
    pub(super) fn is_in_membership(&self, node: NodeId) -> bool {
        self.0.raft.voter_ids().chain(self.0.raft.learner_ids()).any(|id| id == node.0)
    }
}
