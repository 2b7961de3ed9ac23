//! A table of situations, each with the one step that is right.

use super::*;
use crate::digest::PartitionId;
use crate::id::Generation;
use crate::member::Owner;

const GRACE: Duration = Duration::from_secs(600);

struct World {
    members: Vec<Member>,
    voters: BTreeSet<NodeId>,
    partitions: Vec<Partition>,
    away: BTreeSet<NodeId>,
    silence: BTreeMap<NodeId, Duration>,
    lag: BTreeMap<NodeId, u64>,
    supported: u32,
}

/// `active` members 1..=active, the first five vote, all up and caught up. Every partition is
/// owned by member 1, which is what the planner would change, so tests look at earlier steps.
fn world(active: u64) -> World {
    let members: Vec<Member> = (1..=active).map(|id| member(id, MemberState::Active)).collect();
    let owner = Owner { node: NodeId(1), added_at: 1, ready: true };
    World {
        voters: members.iter().take(VOTERS_MAX).map(|m| m.id).collect(),
        partitions: PartitionId::all().map(|_| Partition { owners: vec![owner], sources: vec![] }).collect(),
        away: BTreeSet::new(),
        silence: members.iter().map(|m| (m.id, Duration::ZERO)).collect(),
        lag: members.iter().map(|m| (m.id, 0)).collect(),
        members,
        supported: 2,
    }
}

fn member(id: u64, state: MemberState) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: String::new(),
        state,
        generation: Generation(1),
        max_level: 1,
        weight: 1,
        client: String::new(),
        peer: String::new(),
    }
}

impl World {
    fn add(&mut self, id: u64, state: MemberState, lag: u64) {
        self.members.push(member(id, state));
        self.silence.insert(NodeId(id), Duration::ZERO);
        self.lag.insert(NodeId(id), lag);
    }

    fn silent(&mut self, id: u64, for_: Duration) {
        self.silence.insert(NodeId(id), for_);
    }

    fn set(&mut self, id: u64, state: MemberState) {
        self.members.iter_mut().filter(|m| m.id == NodeId(id)).for_each(|m| m.state = state);
    }

    fn next(&self) -> Option<Step> {
        decide(&Observed {
            me: NodeId(1),
            members: &self.members,
            voters: &self.voters,
            partitions: &self.partitions,
            base: 1,
            away: &self.away,
            silence: &self.silence,
            lag: &self.lag,
            grace: GRACE,
            rf: 3,
            level: 1,
            supported: self.supported,
        })
    }
}

fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn becomes(id: u64, state: MemberState) -> Option<Command> {
    Some(Command::SetMemberState { node: NodeId(id), state })
}

#[test]
fn a_learner_that_caught_up_gets_row_and_vote_in_one_entry() {
    let mut world = world(2);
    world.add(3, MemberState::Joining, CAUGHT_UP);
    let step = world.next().unwrap();
    assert_eq!(step, Step { command: becomes(3, MemberState::Active), voters: Some(ids(&[1, 2, 3])) });
}

#[test]
fn a_learner_that_lags_waits() {
    let mut world = world(2);
    world.add(3, MemberState::Joining, CAUGHT_UP + 1);
    assert!(!matches!(world.next(), Some(Step { voters: Some(_), .. })));
}

#[test]
fn the_sixth_member_stays_a_learner() {
    let mut world = world(5);
    world.add(6, MemberState::Joining, 0);
    assert_eq!(world.next().unwrap(), Step { command: becomes(6, MemberState::Active), voters: None });
}

#[test]
fn silence_below_the_grace_changes_nothing_about_membership() {
    let mut world = world(3);
    world.silent(3, GRACE - Duration::from_secs(1));
    let step = world.next();
    assert!(
        matches!(&step, Some(Step { command: Some(Command::SetPartitions { .. }), .. }) | None),
        "{step:?}"
    );
}

#[test]
fn silence_past_the_grace_retires_and_keeps_the_vote_without_a_spare() {
    let mut world = world(3);
    world.silent(3, GRACE);
    assert_eq!(world.next().unwrap(), Step { command: becomes(3, MemberState::Retired), voters: None });
    world.set(3, MemberState::Retired);
    assert!(!matches!(world.next(), Some(Step { voters: Some(_), .. })));
}

#[test]
fn a_retired_voter_is_swapped_in_two_entries() {
    let mut world = world(6);
    world.silent(2, GRACE);
    world.set(2, MemberState::Retired);
    let first = world.next().unwrap();
    assert_eq!(first, Step { command: None, voters: Some(ids(&[1, 2, 3, 4, 5, 6])) });
    world.voters = first.voters.unwrap();
    let second = world.next().unwrap();
    assert_eq!(second, Step { command: None, voters: Some(ids(&[1, 3, 4, 5, 6])) });
}

#[test]
fn a_newcomer_takes_the_vote_of_a_retired_member_in_a_small_cluster() {
    let mut world = world(3);
    world.silent(2, GRACE);
    world.set(2, MemberState::Retired);
    world.add(4, MemberState::Active, 0);
    world.voters = world.next().unwrap().voters.unwrap();
    assert_eq!(world.voters, ids(&[1, 2, 3, 4]));
    assert_eq!(world.next().unwrap(), Step { command: None, voters: Some(ids(&[1, 3, 4])) });
}

#[test]
fn a_returned_member_is_active_again() {
    let mut world = world(3);
    world.set(3, MemberState::Retired);
    assert_eq!(world.next().unwrap(), Step { command: becomes(3, MemberState::Active), voters: None });
}

#[test]
fn a_draining_member_leaves_only_when_nothing_needs_it() {
    let mut world = world(3);
    world.set(3, MemberState::Draining);
    world.away.insert(NodeId(3));
    assert!(!matches!(world.next(), Some(Step { command: Some(Command::RemoveMember { .. }), .. })));
    world.away.clear();
    world.partitions[7].sources.push(NodeId(3));
    assert!(!matches!(world.next(), Some(Step { command: Some(Command::RemoveMember { .. }), .. })));
    world.partitions[7].sources.clear();
    let leaves =
        Step { command: Some(Command::RemoveMember { node: NodeId(3) }), voters: Some(ids(&[1, 2])) };
    assert_eq!(world.next().unwrap(), leaves);
}

#[test]
fn a_drain_waits_while_a_dead_voter_would_be_half_of_those_that_stay() {
    let mut world = world(3);
    world.set(2, MemberState::Draining);
    world.silent(3, GRACE / 2);
    assert!(!matches!(world.next(), Some(Step { voters: Some(_), .. })));
    // Past the grace the dead one gives up its vote first, then the drain goes on.
    world.silent(3, GRACE);
    world.set(3, MemberState::Retired);
    let first = world.next().unwrap();
    assert_eq!(first, Step { command: None, voters: Some(ids(&[1, 2])) });
    world.voters = first.voters.unwrap();
    let leaves = Step { command: Some(Command::RemoveMember { node: NodeId(2) }), voters: Some(ids(&[1])) };
    assert_eq!(world.next().unwrap(), leaves);
}

#[test]
fn the_level_waits_for_members_that_are_down() {
    let mut world = world(3);
    world.members[0].max_level = 2;
    world.members[1].max_level = 2;
    world.silent(3, Duration::from_secs(100));
    assert!(!matches!(world.next(), Some(Step { command: Some(Command::SetLevel { .. }), .. })));
    world.members[2].max_level = 2;
    assert_eq!(world.next().unwrap().command, Some(Command::SetLevel { level: 2 }));
}

#[test]
fn a_leader_does_not_raise_the_level_above_its_own_program() {
    let mut world = world(3);
    world.members.iter_mut().for_each(|member| member.max_level = 2);
    // It was upgraded, said so, and runs the old program again.
    world.supported = 1;
    assert!(!matches!(world.next(), Some(Step { command: Some(Command::SetLevel { .. }), .. })));
}

#[test]
fn every_step_changes_at_most_one_voter() {
    for active in 1..=8 {
        for state in [MemberState::Joining, MemberState::Active, MemberState::Retired, MemberState::Draining]
        {
            for silent in [Duration::ZERO, GRACE] {
                let mut world = world(active);
                world.add(99, state, 0);
                world.silent(99, silent);
                world.silent(active.min(2), if active > 1 { silent } else { Duration::ZERO });
                if let Some(Step { voters: Some(next), .. }) = world.next() {
                    assert_eq!(world.voters.symmetric_difference(&next).count(), 1, "{active} {state:?}");
                    assert!(next.contains(&NodeId(1)), "the leader dropped itself");
                }
            }
        }
    }
}
