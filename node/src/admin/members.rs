//! Changes of the members: drain and remove.

use axum::response::Response;
use trow_raft::{Command, Member, MemberState, NodeId};

use super::{ACTOR, ASK, Admin, AdminError, QUORUM, SPREAD, accepted, changed};

impl Admin {
    /// Lets a member leave: it loses its partitions, then its membership.
    pub(super) async fn drain(&self, node: &str) -> Result<Response, AdminError> {
        let member = self.member(node).await?;
        if let Some(why) = nobody_takes_over(&member, &self.metadata.local().members()?) {
            return Err(AdminError::Conflict(why));
        }
        self.change(&member, Command::SetMemberState { node: member.id, state: MemberState::Draining }).await
    }

    /// Removes a member at once and for good.
    pub(super) async fn remove(&self, node: &str) -> Result<Response, AdminError> {
        let member = self.member(node).await?;
        self.may_go(&member).await?;
        self.change(&member, Command::RemoveMember { node: member.id }).await
    }

    /// Refuses what would end the cluster: the voters that stay must be a quorum without `member`.
    async fn may_go(&self, member: &Member) -> Result<(), AdminError> {
        let voters = self.metadata.voters();
        if !voters.contains(&member.id) {
            return Ok(());
        }
        let answers = (self.survey)(ASK).await;
        let answered = |voter: &NodeId| answers.iter().any(|a| a.node == *voter && a.report.is_some());
        let stay: Vec<NodeId> = voters.into_iter().filter(|voter| *voter != member.id).collect();
        if stay.is_empty() {
            return Err(AdminError::Conflict(format!(
                "{} is the only voter: without it there is no cluster",
                member.name
            )));
        }
        let up = stay.iter().filter(|voter| answered(voter)).count();
        if up * 2 > stay.len() {
            return Ok(());
        }
        Err(AdminError::Conflict(format!(
            "removing {} would leave {up} of {} voters that answer, which is no quorum: start the others first, \
             or remove those that are down for good",
            member.name,
            stay.len()
        )))
    }

    async fn change(&self, member: &Member, command: Command) -> Result<Response, AdminError> {
        let applied = accepted(self.metadata.propose(ACTOR, command).await?)?;
        self.metadata.wait_applied_everywhere(applied.index, SPREAD).await;
        tracing::info!(member = %member.id, name = member.name, index = applied.index, "a member was changed");
        Ok(changed(member.id, &member.name, &applied))
    }

    /// The member of this name or id.
    async fn member(&self, node: &str) -> Result<Member, AdminError> {
        let view = self.metadata.read(QUORUM).await?;
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

/// Why `leaver` cannot be drained: a drain that has nobody to move anything to would never end, and
/// it cannot be taken back.
fn nobody_takes_over(leaver: &Member, members: &[Member]) -> Option<String> {
    let mut others = members.iter().filter(|member| member.id != leaver.id).peekable();
    let (alone, asked_before) = (others.peek().is_none(), leaver.state == MemberState::Draining);
    let which = match others.all(|other| other.state == MemberState::Draining) {
        true if alone => "the only member",
        true if !asked_before => "the only member that is not leaving",
        _ => return None,
    };
    Some(format!(
        "{} is {which}: add a node first, or stop it if the registry is not needed any more",
        leaver.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trow_raft::Generation;

    fn member(id: u64, state: MemberState) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: String::new(),
            state,
            generation: Generation(0),
            max_level: 1,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        }
    }

    #[test]
    fn the_last_one_that_could_take_over_is_not_drained() {
        use MemberState::{Active, Draining, Joining, Retired};
        let refused = |states: &[MemberState]| {
            let members: Vec<Member> = (1..).zip(states).map(|(id, state)| member(id, *state)).collect();
            nobody_takes_over(&members[0], &members)
        };
        let alone =
            "n1 is the only member: add a node first, or stop it if the registry is not needed any more";
        assert_eq!(refused(&[Active]).as_deref(), Some(alone));
        assert_eq!(refused(&[Draining]).as_deref(), Some(alone), "asked once more, it would wait in vain");
        for other in [Active, Joining, Retired] {
            assert_eq!(refused(&[Active, other]), None);
        }
        let last = refused(&[Active, Draining, Draining]).expect("refused");
        assert!(last.starts_with("n1 is the only member that is not leaving: add a node"), "{last}");
        assert_eq!(refused(&[Active, Draining, Active]), None);
        assert_eq!(refused(&[Draining, Draining]), None, "the command may be typed again to wait");
    }
}
