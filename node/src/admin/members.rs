//! Changes of the members: drain and remove.

use axum::response::Response;
use trow_raft::{Command, Member, MemberState, NodeId};

use super::{Admin, AdminError, CONFIRM, SPREAD, accepted, changed};

/// On whose behalf: who has the token is the administrator.
const ACTOR: &str = "admin";

impl Admin {
    /// Lets a member leave: it loses its partitions, then its membership.
    pub(super) async fn drain(&self, node: &str) -> Result<Response, AdminError> {
        let member = self.member(node).await?;
        self.change(&member, Command::SetMemberState { node: member.id, state: MemberState::Draining }).await
    }

    /// Removes a member at once and for good.
    pub(super) async fn remove(&self, node: &str) -> Result<Response, AdminError> {
        let member = self.member(node).await?;
        self.change(&member, Command::RemoveMember { node: member.id }).await
    }

    async fn change(&self, member: &Member, command: Command) -> Result<Response, AdminError> {
        let applied = accepted(self.metadata.propose(ACTOR, command).await?)?;
        self.metadata.wait_applied_everywhere(applied.index, SPREAD).await;
        tracing::info!(member = %member.id, name = member.name, index = applied.index, "a member was changed");
        Ok(changed(member.id, &member.name, &applied))
    }

    /// The member of this name or id.
    async fn member(&self, node: &str) -> Result<Member, AdminError> {
        let confirmed = self.metadata.read(CONFIRM).await;
        let view = confirmed.map_err(|_| AdminError::Unavailable("the cluster has no quorum".to_owned()))?;
        let members = view.members()?;
        let id = node.parse::<NodeId>().ok();
        // A name that looks like an id is still found, unless another member has that id.
        let found = members.iter().find(|member| Some(member.id) == id);
        let found = found.or_else(|| members.iter().find(|member| member.name == node)).cloned();
        found.ok_or_else(|| {
            AdminError::NotFound(format!("{node:?} is neither the name nor the id of a member"))
        })
    }
}
