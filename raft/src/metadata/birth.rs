//! The first commands of a cluster.

use std::time::Duration;

use super::Metadata;
use crate::command::{Command, LEVEL, SYSTEM};
use crate::id::ClusterId;
use crate::member::{Member, MemberState};

impl Metadata {
    /// Names a newborn cluster: whoever leads proposes its first commands; the others wait until
    /// they see them. Called by every node of the first set whenever `local()` has no cluster id
    /// (so also after a restart in the middle); takes effect once. Waits without limit.
    pub async fn birth(&self, rf: u32, members: Vec<Member>) -> ClusterId {
        loop {
            if let Some(cluster) = self.born(&members) {
                return cluster;
            }
            if self.raft_leader() == Some(self.id()) {
                self.give_birth(rf, &members).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The cluster's id, once it has one and all of `members` have left `Joining`.
    fn born(&self, members: &[Member]) -> Option<ClusterId> {
        let view = self.local();
        let known = |member: &Member| {
            let row = view.member(member.id).ok().flatten();
            row.is_some_and(|row| row.state != MemberState::Joining)
                || view.removed(member.id).unwrap_or(false)
        };
        let cluster = view.cluster().ok().flatten();
        cluster.filter(|_| members.iter().all(known))
    }

    /// Each step is a no-op when it was done before, by this node or a leader before it.
    async fn give_birth(&self, rf: u32, members: &[Member]) {
        let view = self.local();
        let mut commands = Vec::new();
        if view.cluster().ok().flatten().is_none() {
            // A member that supports less could not be one.
            let level =
                members.iter().map(|member| member.max_level).min().map_or(LEVEL, |least| least.min(LEVEL));
            commands.push(Command::Birth { cluster: ClusterId(rand::random()), rf, level });
        }
        for member in members {
            let row = view.member(member.id).ok().flatten();
            if row.is_none() {
                commands.push(Command::ChangeMember { member: member.clone() });
            }
            if row.is_none_or(|row| row.state == MemberState::Joining) {
                commands.push(Command::SetMemberState { node: member.id, state: MemberState::Active });
            }
        }
        for command in commands {
            if let Err(error) = self.propose(SYSTEM, command).await {
                tracing::info!(cause = %error, "birth goes on with the next leader");
                return;
            }
        }
    }
}
