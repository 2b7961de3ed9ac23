//! What the membership controller does next: a pure decision over what the leader sees.
//!
//! Always holds: one step at a time, each a single log entry that changes at most one voter. A
//! silent member loses its partitions and, when a caught-up learner can take it, its vote, never
//! its membership; a voter is swapped (learner first, then the silent voter), not merely dropped.
//! The steps are found from the agreed state alone, so a new leader finishes a swap that it finds
//! half done. Never does: propose, read clocks, talk to peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::Command;
use crate::id::NodeId;
use crate::limits::VOTERS_MAX;
use crate::member::{Member, MemberState, Partition};
use crate::placement;

/// A learner this many entries behind, or fewer, has caught up.
pub const CAUGHT_UP: u64 = 100;

/// A member that spoke within this time is up.
pub const UP: Duration = Duration::from_secs(2);

/// What the leader sees when it decides.
pub struct Observed<'a> {
    /// The leader itself; never silent, never behind.
    pub me: NodeId,
    /// The member rows of the state.
    pub members: &'a [Member],
    /// The voters of the committed membership.
    pub voters: &'a BTreeSet<NodeId>,
    /// The partition table, indexed by partition.
    pub partitions: &'a [Partition],
    /// The log index of the table's last change.
    pub base: u64,
    /// Members that away rows of blobs name.
    pub away: &'a BTreeSet<NodeId>,
    /// How long each member has been silent; absent: never heard of by this process.
    pub silence: &'a BTreeMap<NodeId, Duration>,
    /// How many entries each member is behind; absent: unknown.
    pub lag: &'a BTreeMap<NodeId, u64>,
    /// How long a member may be silent before its partitions go elsewhere.
    pub grace: Duration,
    /// The replication factor.
    pub rf: u32,
    /// The level of the cluster.
    pub level: u32,
    /// The highest level that the leader's own program supports, whatever its row says.
    pub supported: u32,
}

/// One log entry to propose.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The change of the state; none when only the voters change.
    pub command: Option<Command>,
    /// The voters from this entry on; none when they stay.
    pub voters: Option<BTreeSet<NodeId>>,
}

impl Step {
    fn state(command: Command) -> Option<Step> {
        Some(Step { command: Some(command), voters: None })
    }
}

impl Observed<'_> {
    fn is_up(&self, node: NodeId) -> bool {
        node == self.me || self.silence.get(&node).is_some_and(|silent| *silent < UP)
    }

    /// Silence past the grace. A member that this process never heard counts from its start,
    /// which the caller puts into `silence`; without an entry nothing is concluded.
    fn is_gone(&self, node: NodeId) -> bool {
        node != self.me && self.silence.get(&node).is_some_and(|silent| *silent >= self.grace)
    }

    fn is_caught_up(&self, node: NodeId) -> bool {
        node == self.me || (self.is_up(node) && self.lag.get(&node).is_some_and(|lag| *lag <= CAUGHT_UP))
    }

    fn in_state(&self, state: MemberState) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.state == state)
    }

    /// A learner that may take a vote now.
    fn spare(&self) -> Option<NodeId> {
        let free = |member: &&Member| !self.voters.contains(&member.id) && self.is_caught_up(member.id);
        self.in_state(MemberState::Active).find(free).map(|member| member.id)
    }

    fn with_voter(&self, node: NodeId) -> Option<BTreeSet<NodeId>> {
        Some(self.voters.iter().copied().chain([node]).collect())
    }

    fn without_voter(&self, node: NodeId) -> Option<BTreeSet<NodeId>> {
        Some(self.voters.iter().copied().filter(|voter| *voter != node).collect())
    }

    /// Whether the voters that stay when `node` goes have a majority that is up.
    fn survives_without(&self, node: NodeId) -> bool {
        let stay: Vec<NodeId> = self.voters.iter().copied().filter(|voter| *voter != node).collect();
        stay.iter().filter(|voter| self.is_up(**voter)).count() * 2 > stay.len()
    }

    /// Whether blobs may still be read from, or lie only on, `node`.
    fn is_needed(&self, node: NodeId) -> bool {
        let holds = |partition: &Partition| partition.owned_by(node) || partition.sources.contains(&node);
        self.away.contains(&node) || self.partitions.iter().any(holds)
    }

    fn live(&self) -> BTreeSet<NodeId> {
        self.members.iter().map(|member| member.id).filter(|id| !self.is_gone(*id)).collect()
    }
}

/// The next entry to propose, or none when the cluster is as it should be.
///
/// Votes come before placement: a vote that is missing costs availability at once.
pub fn decide(seen: &Observed<'_>) -> Option<Step> {
    finish_swap(seen)
        .or_else(|| activate(seen))
        .or_else(|| promote(seen))
        .or_else(|| begin_swap(seen))
        .or_else(|| retire_or_return(seen))
        .or_else(|| leave(seen))
        .or_else(|| raise_level(seen))
        .or_else(|| place(seen))
}

/// A swap that is half done: six voters, or an even number with a retired one, which only makes
/// the majority larger; or a retired voter in the way of one that drains, whose departure would
/// otherwise leave too few. The one that should go is demoted to learner.
fn finish_swap(seen: &Observed<'_>) -> Option<Step> {
    let state = |id: &NodeId| seen.members.iter().find(|member| member.id == *id).map(|member| member.state);
    let among = |wanted| seen.voters.iter().any(|id| state(id) == Some(wanted));
    let retired = among(MemberState::Retired);
    let even = seen.voters.len() >= 4 && seen.voters.len().is_multiple_of(2);
    let drains = seen.voters.len() >= 3 && among(MemberState::Draining);
    if seen.voters.len() <= VOTERS_MAX && !(retired && (even || drains)) {
        return None;
    }
    let rank = |id: &NodeId| {
        let silent = seen.silence.get(id).copied().unwrap_or_default();
        (
            state(id) != Some(MemberState::Retired),
            state(id) == Some(MemberState::Active),
            std::cmp::Reverse(silent),
        )
    };
    let goes = seen.voters.iter().copied().filter(|id| *id != seen.me).min_by_key(rank)?;
    seen.survives_without(goes).then(|| Step { command: None, voters: seen.without_voter(goes) })
}

/// A joining learner that caught up becomes a full member, and a voter while there is room.
fn activate(seen: &Observed<'_>) -> Option<Step> {
    let joined = seen.in_state(MemberState::Joining).find(|member| seen.is_caught_up(member.id))?;
    let command = Command::SetMemberState { node: joined.id, state: MemberState::Active };
    let room = seen.voters.len() < VOTERS_MAX && !seen.voters.contains(&joined.id);
    Some(Step { command: Some(command), voters: if room { seen.with_voter(joined.id) } else { None } })
}

/// Room among the voters goes to a caught-up learner.
fn promote(seen: &Observed<'_>) -> Option<Step> {
    let spare = seen.spare().filter(|_| seen.voters.len() < VOTERS_MAX)?;
    Some(Step { command: None, voters: seen.with_voter(spare) })
}

/// A retired or draining voter gives its vote to a spare: first the spare comes, for a moment
/// six voters, then [`finish_swap`] ends it.
fn begin_swap(seen: &Observed<'_>) -> Option<Step> {
    let leaving = |member: &&Member| matches!(member.state, MemberState::Retired | MemberState::Draining);
    seen.members.iter().filter(leaving).find(|member| seen.voters.contains(&member.id))?;
    let spare = seen.spare()?;
    Some(Step { command: None, voters: seen.with_voter(spare) })
}

/// A member silent past the grace loses its partitions; one that is back gets some again.
fn retire_or_return(seen: &Observed<'_>) -> Option<Step> {
    let to = |node, state| Step::state(Command::SetMemberState { node, state });
    if let Some(gone) = seen.in_state(MemberState::Active).find(|member| seen.is_gone(member.id)) {
        return to(gone.id, MemberState::Retired);
    }
    let back = seen.in_state(MemberState::Retired).find(|member| seen.is_caught_up(member.id))?;
    to(back.id, MemberState::Active)
}

/// A draining member that nothing needs any more leaves, row and vote in one entry; a voter only
/// when those that stay are a quorum without it. The leader does not remove itself: it hands
/// leadership over first, and its successor removes it.
fn leave(seen: &Observed<'_>) -> Option<Step> {
    let safe = |id: NodeId| !seen.voters.contains(&id) || seen.survives_without(id);
    let free = |member: &&Member| member.id != seen.me && safe(member.id) && !seen.is_needed(member.id);
    let leaver = seen.in_state(MemberState::Draining).find(free)?;
    let votes = seen.voters.contains(&leaver.id) && seen.voters.len() > 1;
    let voters = if votes { seen.without_voter(leaver.id) } else { None };
    Some(Step { command: Some(Command::RemoveMember { node: leaver.id }), voters })
}

/// The level rises when every member, silent ones included, supports it.
fn raise_level(seen: &Observed<'_>) -> Option<Step> {
    let supported = seen.members.iter().map(|member| member.max_level).min()?.min(seen.supported);
    (supported > seen.level).then_some(())?;
    Step::state(Command::SetLevel { level: supported })
}

fn place(seen: &Observed<'_>) -> Option<Step> {
    let owners = placement::plan(seen.members, seen.partitions, seen.rf, &seen.live());
    if owners.is_empty() {
        return None;
    }
    Step::state(Command::SetPartitions { owners, base: seen.base })
}

#[cfg(test)]
mod tests;
