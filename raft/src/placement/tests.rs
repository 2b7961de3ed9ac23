//! Properties of the plan, from one node to fifty: balance, movement, and what is never dropped.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::plan;
use crate::digest::PartitionId;
use crate::id::{Generation, NodeId};
use crate::member::{Member, MemberState, Owner, Partition};

const ALL: usize = PartitionId::COUNT as usize;

/// Members, their partitions, and who answers: what a leader plans from.
struct World {
    members: Vec<Member>,
    partitions: Vec<Partition>,
    silent: BTreeSet<NodeId>,
    rf: u32,
    index: u64,
}

impl World {
    fn new(rf: u32, nodes: u64) -> World {
        let partitions = vec![Partition::default(); ALL];
        let mut world = World { members: Vec::new(), partitions, silent: BTreeSet::new(), rf, index: 0 };
        (0..nodes).for_each(|number| world.join(number, "", 100));
        world
    }

    fn join(&mut self, number: u64, zone: &str, weight: u32) {
        self.members.push(Member {
            id: NodeId::of_key(&number.to_be_bytes()),
            name: format!("n{number}"),
            zone: zone.into(),
            state: MemberState::Active,
            generation: Generation(0),
            max_level: 1,
            weight,
            client: String::new(),
            peer: String::new(),
        });
    }

    fn plan(&self) -> Vec<(PartitionId, Vec<NodeId>)> {
        let live = self.members.iter().map(|member| member.id).filter(|id| !self.silent.contains(id));
        plan(&self.members, &self.partitions, self.rf, &live.collect())
    }

    /// Does as `SetPartitions` does; every owner that answers is ready at once.
    fn apply(&mut self, plan: &[(PartitionId, Vec<NodeId>)]) {
        self.index += 1;
        for (id, owners) in plan {
            let ready = |node: &NodeId| !self.silent.contains(node);
            let owners = owners.iter();
            let owners = owners.map(|node| Owner { node: *node, added_at: self.index, ready: ready(node) });
            self.partitions[usize::from(id.index())].owners = owners.collect();
        }
    }

    /// Plans until there is nothing to do; how many copies moved.
    fn settle(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..5 {
            let plan = self.plan();
            if plan.is_empty() {
                return moved;
            }
            for (id, owners) in &plan {
                let before = &self.partitions[usize::from(id.index())];
                moved += owners.iter().filter(|owner| !before.owned_by(**owner)).count();
            }
            self.apply(&plan);
        }
        panic!("five plans and still not settled: {:?}", self.plan());
    }

    fn loads(&self) -> BTreeMap<NodeId, usize> {
        let eligible = self.members.iter().filter(|member| member.state.may_own());
        let mut loads: BTreeMap<NodeId, usize> = eligible.map(|member| (member.id, 0)).collect();
        for owner in self.partitions.iter().flat_map(|row| &row.owners) {
            *loads.get_mut(&owner.node).expect("an owner that may own") += 1;
        }
        loads
    }

    /// Whether each partition has its copies and nobody owns more than 1.1 of the mean.
    fn check_balance(&self) {
        let loads = self.loads();
        let copies = (self.rf as usize).min(loads.len());
        for row in &self.partitions {
            assert_eq!(row.owners.len(), copies);
            assert_eq!(row.owners.iter().map(|owner| owner.node).collect::<BTreeSet<_>>().len(), copies);
        }
        let mean = (ALL * copies) as f64 / loads.len() as f64;
        let max = *loads.values().max().unwrap() as f64;
        let min = *loads.values().min().unwrap() as f64;
        assert!(max <= 1.1 * mean, "max {max}, mean {mean}, {} nodes, {copies} copies", loads.len());
        assert!(min >= 0.9 * mean - 1.0, "min {min}, mean {mean}, {} nodes, {copies} copies", loads.len());
    }
}

#[test]
fn three_to_fifty_nodes_own_equal_shares() {
    for nodes in 3..=50 {
        for rf in [1, 2, 3, 5] {
            let mut world = World::new(rf, nodes);
            world.settle();
            world.check_balance();
        }
    }
}

#[test]
fn a_join_moves_its_share_and_no_more() {
    for nodes in 3..50 {
        let mut world = World::new(3, nodes);
        world.settle();
        world.join(1000, "", 100);
        let moved = world.settle() as f64;
        world.check_balance();
        let ideal = (ALL * 3) as f64 / (nodes + 1) as f64;
        assert!(moved <= ideal * 1.15 + 2.0, "{moved} moved at {nodes} nodes, ideal {ideal}");
        assert!(moved >= ideal * 0.85 - 2.0, "{moved} moved at {nodes} nodes, ideal {ideal}");
    }
}

#[test]
fn a_leave_moves_what_the_member_owned() {
    for nodes in 4..=50 {
        let mut world = World::new(3, nodes);
        world.settle();
        let gone = world.members[1].id;
        let owned = world.loads()[&gone];
        world.members[1].state = MemberState::Retired;
        let moved = world.settle();
        world.check_balance();
        assert!(moved >= owned && moved as f64 <= owned as f64 * 1.2 + 2.0, "{moved} moved, {owned} owned");
    }
}

#[test]
fn a_restart_of_the_planner_moves_nothing() {
    let mut world = World::new(3, 7);
    world.settle();
    assert_eq!(world.plan(), vec![]);
    world.silent.insert(world.members[0].id);
    assert_eq!(world.plan(), vec![], "silence within the grace period moves nothing");
}

#[test]
fn one_node_grows_to_three_and_keeps_every_partition() {
    let mut world = World::new(3, 1);
    world.settle();
    let first = world.members[0].id;
    world.join(1, "", 100);
    world.join(2, "", 100);
    world.settle();
    assert!(world.partitions.iter().all(|row| row.owned_by(first) && row.owners.len() == 3));
}

#[test]
fn weights_are_quotas() {
    let mut world = World::new(2, 0);
    for (number, weight) in [100, 100, 200, 400].into_iter().enumerate() {
        world.join(number as u64, "", weight);
    }
    world.settle();
    let loads = world.loads();
    let load = |at: usize| loads[&world.members[at].id] as f64;
    // 2048 copies over 800: 256 for each 100.
    for (at, ideal) in [256.0, 256.0, 512.0, 1024.0].into_iter().enumerate() {
        assert!((load(at) - ideal).abs() <= ideal * 0.1, "node {at} owns {}, ideal {ideal}", load(at));
    }
}

#[test]
fn owners_lie_in_two_zones_when_there_are_two() {
    let uneven: &[&[&str]] = &[
        &["a", "a", "b", "b", "c"],
        &["a", "a", "a", "a", "b"],
        &["a", "b"],
        &["a", "a", "a", "b", "b", "b"],
        &["", "", "", "b"],
    ];
    for zones in uneven {
        let mut world = World::new(3, 0);
        zones.iter().enumerate().for_each(|(number, zone)| world.join(number as u64, zone, 100));
        world.settle();
        let zone =
            |id: NodeId| world.members.iter().find(|member| member.id == id).map(|member| &member.zone);
        for row in &world.partitions {
            let spanned: BTreeSet<_> = row.owners.iter().map(|owner| zone(owner.node)).collect();
            assert!(spanned.len() >= 2, "{zones:?}: {row:?}");
        }
    }
}

#[test]
fn a_zone_that_appears_is_used() {
    let mut world = World::new(3, 0);
    (0..4).for_each(|number| world.join(number, "a", 100));
    world.settle();
    world.join(9, "b", 100);
    world.settle();
    let new = world.members[4].id;
    assert!(world.partitions.iter().all(|row| row.owned_by(new)));
}

#[test]
fn a_changed_weight_moves_its_share_and_no_more() {
    let mut world = World::new(3, 6);
    world.settle();
    let changed = world.members[0].id;
    // 3072 copies over 600, then over 700, then over 600 again.
    for (weight, ideal) in [(200, 878.0), (100, 512.0)] {
        let before = world.loads()[&changed] as f64;
        world.members[0].weight = weight;
        let moved = world.settle() as f64;
        let now = world.loads()[&changed] as f64;
        assert!((now - ideal).abs() <= ideal * 0.1, "it owns {now}, ideal {ideal}");
        let least = (now - before).abs();
        assert!(moved >= least && moved <= least * 1.25 + 2.0, "{moved} moved from {before} to {now}");
    }
    world.check_balance();
}

#[test]
fn a_changed_zone_spreads_every_partition_anew() {
    let mut world = World::new(3, 6);
    world.settle();
    let (moved, stayed) = (world.members[0].id, world.members[1].id);
    world.members[0].zone = "b".into();
    world.members[2].zone = "b".into();
    assert!(world.settle() > 0);
    let other = world.members[2].id;
    for row in &world.partitions {
        let inside = row.owners.iter().filter(|owner| [moved, other].contains(&owner.node)).count();
        assert!((1..3).contains(&inside) && row.owners.len() == 3, "{row:?}");
    }
    assert!(world.loads()[&stayed] > 0);
}

#[test]
fn new_partitions_avoid_silent_members_while_others_can_take_them() {
    let mut world = World::new(3, 5);
    let silent = world.members[2].id;
    world.silent.insert(silent);
    world.apply(&world.plan());
    assert!(world.partitions.iter().all(|row| row.owners.len() == 3 && !row.owned_by(silent)));
    let mut small = World::new(3, 3);
    small.silent.insert(small.members[0].id);
    small.apply(&small.plan());
    assert!(small.partitions.iter().all(|row| row.owners.len() == 3), "there is nobody else");
}

#[test]
fn the_only_ready_owner_stays_until_another_is_ready() {
    let mut world = World::new(1, 3);
    world.settle();
    world.join(9, "", 100);
    let plan = world.plan();
    assert!(!plan.is_empty());
    for (id, owners) in &plan {
        let before = world.partitions[usize::from(id.index())].owners[0].node;
        assert!(owners.contains(&before) && owners.len() == 2, "{id:?}: {before:?} → {owners:?}");
    }
    world.apply(&plan);
    for row in &mut world.partitions {
        let both = row.owners.len() == 2;
        row.owners.iter_mut().for_each(|owner| owner.ready = !both);
    }
    assert_eq!(world.plan(), vec![], "nobody is ready yet");
    for owner in world.partitions.iter_mut().flat_map(|row| &mut row.owners) {
        owner.ready = true;
    }
    world.settle();
    world.check_balance();
}

/// One thing that happens to a cluster.
#[derive(Clone, Debug)]
enum Event {
    Join(u8),
    Retire(usize),
    Return(usize),
    Remove(usize),
    Silence(usize),
    Speak,
    /// Owners become ready (or not) by the bits of the seed.
    Ready(u64),
    Rf(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3u8).prop_map(Event::Join),
        1 => any::<prop::sample::Index>().prop_map(|at| Event::Retire(at.index(50))),
        1 => any::<prop::sample::Index>().prop_map(|at| Event::Return(at.index(50))),
        1 => any::<prop::sample::Index>().prop_map(|at| Event::Remove(at.index(50))),
        1 => any::<prop::sample::Index>().prop_map(|at| Event::Silence(at.index(50))),
        1 => Just(Event::Speak),
        3 => any::<u64>().prop_map(Event::Ready),
        1 => (1..=5u32).prop_map(Event::Rf),
    ]
}

fn happen(world: &mut World, event: &Event, next: &mut u64) {
    let count = world.members.len();
    match *event {
        Event::Join(zone) if count < 50 => {
            *next += 1;
            world.join(*next, ["a", "b", "c"][usize::from(zone)], 100);
        }
        Event::Retire(at) => world.members[at % count].state = MemberState::Retired,
        Event::Return(at) => world.members[at % count].state = MemberState::Active,
        Event::Remove(at) if count > 3 => {
            let gone = world.members.remove(at % count).id;
            world.partitions.iter_mut().for_each(|row| row.owners.retain(|owner| owner.node != gone));
        }
        Event::Silence(at) => {
            world.silent.insert(world.members[at % count].id);
        }
        Event::Speak => world.silent.clear(),
        Event::Ready(mut seed) => {
            for owner in world.partitions.iter_mut().flat_map(|row| &mut row.owners) {
                seed = seed.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                owner.ready |= seed >> 63 == 0 && !world.silent.contains(&owner.node);
            }
        }
        Event::Rf(rf) => world.rf = rf,
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_last_ready_owner_stays_and_the_end_is_balanced(
        start in 3..12u64,
        events in prop::collection::vec(event(), 1..24),
    ) {
        let mut world = World::new(3, start);
        let mut next = 100;
        for event in &events {
            happen(&mut world, event, &mut next);
            let may_own: BTreeSet<NodeId> =
                world.members.iter().filter(|m| m.state.may_own()).map(|m| m.id).collect();
            let complete = |owner: &Owner| {
                owner.ready && may_own.contains(&owner.node) && !world.silent.contains(&owner.node)
            };
            let plan = world.plan();
            for (id, owners) in &plan {
                let before = &world.partitions[usize::from(id.index())].owners;
                let had: Vec<NodeId> = before.iter().filter(|o| complete(o)).map(|o| o.node).collect();
                let keeps = had.is_empty() || had.iter().any(|node| owners.contains(node));
                prop_assert!(keeps, "{id:?}: {before:?} → {owners:?}");
                prop_assert!(owners.iter().all(|owner| may_own.contains(owner)));
                prop_assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), owners.len());
            }
            // As apply does it: a change takes everybody's word back.
            world.apply(&plan);
            for (id, _) in &plan {
                let row = &mut world.partitions[usize::from(id.index())];
                row.owners.iter_mut().for_each(|owner| owner.ready = false);
            }
        }
        world.silent.clear();
        world.members.iter_mut().for_each(|member| member.zone.clear());
        if world.members.iter().any(|member| member.state.may_own()) {
            for owner in world.partitions.iter_mut().flat_map(|row| &mut row.owners) {
                owner.ready = true;
            }
            world.settle();
            world.check_balance();
        }
    }
}
