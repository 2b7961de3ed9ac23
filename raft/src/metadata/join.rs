//! Joining: a learner and its row in one entry.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::leader::Proposed;
use super::propose::Via;
use super::{JoinError, Metadata, ProposeError};
use crate::codec;
use crate::command::{Command, Outcome, Refusal};
use crate::consensus::types::Membership;
use crate::id::{ClusterId, NodeId};
use crate::member::{Member, MemberState};

/// A node that was silent for this long does not defend its name against a newcomer.
const GONE: Duration = Duration::from_secs(5);

impl Metadata {
    /// Adds `member` as a joining learner, in one entry with its row. Runs on any member. A node
    /// that is a member already has its row updated.
    ///
    /// # Errors
    /// No quorum, or the node is refused.
    pub async fn join(&self, member: Member) -> Result<ClusterId, JoinError> {
        let Some(cluster) = self.local().cluster().ok().flatten() else { return Err(JoinError::Unborn) };
        self.make_room_for(&member).await?;
        let applied = self.submit("system", Command::ChangeMember { member }, Via::Join).await?;
        match applied.outcome {
            Outcome::Done => Ok(cluster),
            Outcome::Refused(refusal) => Err(JoinError::Refused(refusal)),
        }
    }

    /// Refuses who must not join, and removes a dead member whose name the newcomer bears.
    async fn make_room_for(&self, member: &Member) -> Result<(), JoinError> {
        let unknown = |why: &dyn std::fmt::Display| JoinError::NotNow(ProposeError::Unknown(why.to_string()));
        let view = self.read(Duration::from_secs(5)).await.map_err(|_| ProposeError::NoLeader)?;
        if view.removed(member.id).map_err(|error| unknown(&error))? {
            return Err(JoinError::Refused(Refusal::Removed));
        }
        let members = view.members().map_err(|error| unknown(&error))?;
        let same_name = members.iter().find(|other| other.name == member.name && other.id != member.id);
        let Some(other) = same_name else { return Ok(()) };
        let silent = other.id != self.id()
            && (self.0.settings.silence)(other.id).is_none_or(|silence| silence >= GONE);
        if !silent {
            return Err(JoinError::Refused(Refusal::NameTaken { by: other.id }));
        }
        tracing::warn!(name = member.name, old = %other.id, new = %member.id, "a silent member is replaced by a new one of its name");
        self.propose("system", Command::RemoveMember { node: other.id }).await?;
        Ok(())
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
        let members = view.members().map_err(|error| error.to_string())?;
        match members.iter().find(|other| other.name == member.name && other.id != member.id) {
            Some(other) => Err(Refusal::NameTaken { by: other.id }.to_string()),
            None => Ok(()),
        }
    }
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
