//! C4, played without a network: nodes that ask each other, decide on what they heard, are cut
//! off, pause between hearing and deciding, and lose their disks.
//!
//! What must never happen: two nodes starting consensus with different first sets that share a
//! node (two first entries under one log id), or with fewer nodes than expected (two clusters).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use trow_raft::{ClusterId, Generation, Member, MemberState, NodeId, Planted};

use crate::birth::decide::{Decision, Own, Set, decide};
use crate::peer::{Card, HelloAnswer};

fn member(id: NodeId) -> Member {
    Member {
        id,
        name: id.to_string(),
        zone: String::new(),
        state: MemberState::Joining,
        generation: Generation(0),
        max_level: 1,
        weight: 1,
        client: String::new(),
        peer: String::new(),
    }
}

/// One machine: whoever lives on it now, and what its disk and its process hold.
struct Machine {
    own: Own,
    proposal: Option<Set>,
    heard: BTreeMap<NodeId, HelloAnswer>,
}

struct World {
    machines: Vec<Machine>,
    expect: usize,
    planted: Planted,
    next: u64,
    /// Every first set that consensus was ever started with, by whom.
    started: Vec<(NodeId, Set)>,
}

impl World {
    fn new(count: usize, expect: usize, planted: Planted) -> World {
        let mut world = World { machines: Vec::new(), expect, planted, next: 1, started: Vec::new() };
        for _ in 0..count {
            let machine = world.fresh();
            world.machines.push(machine);
        }
        world
    }

    fn fresh(&mut self) -> Machine {
        // Ids are hashes of keys: spread them, so that a newcomer may be the lowest.
        let id = NodeId(self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.next += 1;
        let (expect, planted) = (Some(self.expect), self.planted);
        let own = Own { id, expect, ever_member: false, bound: None, planted };
        Machine { own, proposal: None, heard: BTreeMap::new() }
    }

    /// `asker` hears what `asked` says now, and may act on it much later.
    fn ask(&mut self, asker: usize, asked: usize) {
        if asker == asked {
            return;
        }
        let Machine { own, proposal, .. } = &self.machines[asked];
        let card = Card {
            expect: own.expect,
            ever_member: own.ever_member,
            proposal: proposal.clone(),
            bound: own.bound.clone(),
        };
        let answer =
            HelloAnswer { node: member(own.id), card, cluster: None, removed: false, members: Vec::new() };
        let id = own.id;
        self.machines[asker].heard.insert(id, answer);
    }

    /// `node` decides on what it heard since it last did.
    fn decide(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let answers: Vec<HelloAnswer> = std::mem::take(&mut machine.heard).into_values().collect();
        match decide(&machine.own, &answers) {
            Decision::Bind(set) => machine.own.bound = Some(set),
            Decision::Initialize(set) => {
                machine.own.ever_member = true;
                self.started.push((machine.own.id, set));
            }
            Decision::Wait { proposal, .. } => machine.proposal = proposal,
            Decision::Join { .. } | Decision::Member { .. } | Decision::Removed { .. } => {}
        }
    }

    fn lose_disk(&mut self, node: usize) {
        self.machines[node] = self.fresh();
    }

    fn round(&mut self, node: usize) {
        for other in 0..self.machines.len() {
            self.ask(node, other);
        }
        self.decide(node);
    }

    fn verdict(&self) -> Result<(), String> {
        for (who, set) in &self.started {
            if set.len() != self.expect {
                return Err(format!("{who} started a cluster of {} instead of {}", set.len(), self.expect));
            }
            for (other, theirs) in &self.started {
                if set != theirs && !set.is_disjoint(theirs) {
                    return Err(format!("{who} started {set:?} and {other} started {theirs:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Three empty nodes start while they cannot reach each other.
fn three_empty_nodes_cut_off(planted: Planted) -> Result<(), String> {
    let mut world = World::new(3, 3, planted);
    for node in 0..3 {
        world.decide(node);
    }
    world.verdict()
}

/// All three answer, one pauses before it acts on that, another loses its disk; then the rest
/// goes on with the newcomer, and the first wakes up.
fn disk_lost_between_two_answers(planted: Planted) -> Result<(), String> {
    let mut world = World::new(3, 3, planted);
    for _ in 0..2 {
        for node in 0..3 {
            world.ask(node, (node + 1) % 3);
            world.ask(node, (node + 2) % 3);
        }
        if world.machines.iter().all(|machine| machine.proposal.is_some()) {
            break;
        }
        for node in 0..3 {
            world.decide(node);
        }
    }
    // Machine 0 has heard everybody propose the same set, and stops there. Machine 1 does not act
    // on what it heard either, and asks again when machine 2 has become another node.
    world.machines[1].heard.clear();
    world.lose_disk(2);
    for _ in 0..4 {
        let paused = std::mem::take(&mut world.machines[0].heard);
        // The process that pauses still answers, with what it makes of the newcomer.
        let own = world.machines[0].own.clone();
        world.ask(0, 1);
        world.ask(0, 2);
        if let Decision::Wait { proposal, .. } =
            decide(&own, &std::mem::take(&mut world.machines[0].heard).into_values().collect::<Vec<_>>())
        {
            world.machines[0].proposal = proposal;
        }
        world.machines[0].heard = paused;
        world.round(2);
        world.round(1);
    }
    world.decide(0);
    for _ in 0..4 {
        for node in 0..3 {
            world.round(node);
        }
    }
    world.verdict()
}

#[test]
fn c4_empty_nodes_that_cannot_reach_each_other_start_nothing() {
    assert_eq!(three_empty_nodes_cut_off(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn c4_empty_nodes_that_cannot_reach_each_other_is_caught() {
    let planted = Planted::new(trow_raft::Variant::C4BirthWithoutAll);
    assert!(three_empty_nodes_cut_off(planted).is_err());
}

#[test]
fn c4_disk_lost_between_two_answers_makes_no_second_first_set() {
    assert_eq!(disk_lost_between_two_answers(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn c4_disk_lost_between_two_answers_is_caught() {
    let planted = Planted::new(trow_raft::Variant::C4UnboundAnswer);
    assert!(disk_lost_between_two_answers(planted).is_err());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(usize, usize),
    Decide(usize),
    Round(usize),
    LoseDisk(usize),
}

fn steps(machines: usize) -> impl Strategy<Value = Vec<Step>> {
    let node = 0..machines;
    let step = prop_oneof![
        6 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Ask(a, b)),
        3 => node.clone().prop_map(Step::Decide),
        6 => node.clone().prop_map(Step::Round),
        1 => node.prop_map(Step::LoseDisk),
    ];
    proptest::collection::vec(step, 1..120)
}

fn play(world: &mut World, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Ask(asker, asked) => world.ask(asker, asked),
            Step::Decide(node) => world.decide(node),
            Step::Round(node) => world.round(node),
            Step::LoseDisk(node) => world.lose_disk(node),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c4_no_schedule_starts_two_overlapping_first_sets(
        (machines, expect, steps) in (1_usize..6).prop_flat_map(|machines| {
            (Just(machines), 1..=machines, steps(machines))
        })
    ) {
        let mut world = World::new(machines, expect, Planted::NONE);
        play(&mut world, &steps);
        prop_assert_eq!(world.verdict(), Ok(()));
    }

    #[test]
    fn c4_nodes_that_all_answer_are_born_together(machines in 1_usize..8, extra in 0_usize..3) {
        let mut world = World::new(machines + extra, machines, Planted::NONE);
        for _ in 0..4 {
            for node in 0..machines + extra {
                world.round(node);
            }
        }
        prop_assert_eq!(world.verdict(), Ok(()));
        let sets: BTreeSet<&Set> = world.started.iter().map(|(_, set)| set).collect();
        prop_assert_eq!(sets.len(), 1);
        prop_assert!(!world.started.is_empty());
    }
}

fn own(id: u64, expect: Option<usize>) -> Own {
    Own { id: NodeId(id), expect, ever_member: false, bound: None, planted: Planted::NONE }
}

fn of_cluster(id: u64, cluster: u64, removed: bool, members: &[u64]) -> HelloAnswer {
    HelloAnswer {
        node: member(NodeId(id)),
        card: Card { ever_member: true, ..Card::default() },
        cluster: Some(ClusterId(cluster)),
        removed,
        members: members.iter().map(|id| member(NodeId(*id))).collect(),
    }
}

#[test]
fn a_cluster_that_answers_wins_over_birth() {
    let joined = Decision::Join { cluster: ClusterId(9), through: NodeId(2) };
    let answers = [of_cluster(2, 9, false, &[2, 3])];
    assert_eq!(decide(&own(1, Some(2)), &answers), joined);
    assert_eq!(decide(&own(1, None), &answers), joined);
    let bound = Own { bound: Some([NodeId(1), NodeId(2)].into()), ..own(1, Some(2)) };
    assert!(matches!(decide(&bound, &answers), Decision::Wait { .. }));
    let counted = [of_cluster(2, 9, false, &[1, 2])];
    assert_eq!(decide(&bound, &counted), Decision::Member { cluster: ClusterId(9), by: NodeId(2) });
}

#[test]
fn a_member_is_told_so_and_a_removed_node_too() {
    let member = Decision::Member { cluster: ClusterId(9), by: NodeId(3) };
    let answers = [of_cluster(2, 9, false, &[2, 3]), of_cluster(3, 9, false, &[1, 2, 3])];
    assert_eq!(decide(&own(1, None), &answers), member);
    let answers = [of_cluster(2, 9, true, &[2, 3])];
    assert_eq!(decide(&own(1, None), &answers), Decision::Removed { by: NodeId(2) });
}

#[test]
fn two_clusters_at_the_join_addresses_are_not_chosen_between() {
    let answers = [of_cluster(2, 9, false, &[2]), of_cluster(3, 8, false, &[3])];
    assert!(matches!(decide(&own(1, Some(1)), &answers), Decision::Wait { .. }));
}
