//! The plan while it is made: who owns what, and how much that is against each one's quota.

use std::collections::BTreeSet;

use crate::digest::PartitionId;
use crate::id::NodeId;
use crate::member::{Member, Partition};

/// A member that may own partitions.
pub(super) struct Node {
    pub(super) id: NodeId,
    /// Equal numbers, equal zones.
    pub(super) zone: usize,
    pub(super) live: bool,
    /// In thousandths of a partition.
    pub(super) quota: u64,
    /// Partitions it owns in this plan.
    pub(super) load: u64,
}

impl Node {
    /// New partitions go to members below this: 2% above the quota.
    pub(super) fn fill_below(&self) -> u64 {
        (self.quota * 102 / 100_000).max(self.quota.div_ceil(1000))
    }
}

/// One partition in the plan. Numbers are places in [`Board::nodes`].
#[derive(Default)]
pub(super) struct PlannedPartition {
    /// At most `copies` of them.
    pub(super) owners: Vec<usize>,
    /// Owners that should go; they stay while no owner that stays is live and ready.
    pub(super) leaving: Vec<usize>,
    /// Owners before the plan that are live and ready.
    pub(super) ready: Vec<usize>,
}

pub(super) struct Board {
    pub(super) nodes: Vec<Node>,
    pub(super) partitions: Vec<PlannedPartition>,
    pub(super) copies: usize,
    /// Whether owners can and should lie in two zones.
    pub(super) zoned: bool,
}

/// How much a partition prefers a node; the same on every machine and in every version.
pub(super) fn score(node: NodeId, partition: usize) -> u64 {
    // The finaliser of splitmix64, twice: ids are hashes already, partitions are small numbers.
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mix(mix(node.0).wrapping_add((partition as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

impl Board {
    pub(super) fn new(
        members: &[&Member],
        quotas: &[u64],
        current: &[Partition],
        copies: usize,
        live: &BTreeSet<NodeId>,
    ) -> Self {
        let zones: BTreeSet<&str> = members.iter().map(|member| member.zone.as_str()).collect();
        let nodes = members.iter().zip(quotas).map(|(member, quota)| Node {
            id: member.id,
            zone: zones.iter().position(|zone| *zone == member.zone).unwrap_or(0),
            live: live.contains(&member.id),
            quota: (*quota).max(1),
            load: 0,
        });
        let nodes: Vec<Node> = nodes.collect();
        let partitions = (0..usize::from(PartitionId::COUNT)).map(|at| {
            let mut partition = PlannedPartition::default();
            for owner in current.get(at).map(|row| row.owners.as_slice()).unwrap_or_default() {
                // Owners that may own nothing any more just go.
                let Ok(node) = nodes.binary_search_by_key(&owner.node, |node| node.id) else { continue };
                partition.owners.push(node);
                if owner.ready && nodes[node].live {
                    partition.ready.push(node);
                }
            }
            partition
        });
        let partitions = partitions.collect();
        let mut board = Board { nodes, partitions, copies, zoned: zones.len() >= 2 && copies >= 2 };
        board.count();
        board
    }

    /// Counts loads, and marks what is beyond `copies` as leaving: the most loaded first.
    fn count(&mut self) {
        for node in self.partitions.iter().flat_map(|partition| &partition.owners) {
            self.nodes[*node].load += 1;
        }
        for at in 0..self.partitions.len() {
            while self.partitions[at].owners.len() > self.copies {
                let Some(out) = self.most_loaded(&self.partitions[at].owners) else { break };
                self.vacate(at, out);
            }
        }
    }

    /// Whether `a` is fuller than `b`, each against its quota.
    pub(super) fn fuller(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let (a, b) = (&self.nodes[a], &self.nodes[b]);
        (u128::from(a.load) * u128::from(b.quota)).cmp(&(u128::from(b.load) * u128::from(a.quota)))
    }

    pub(super) fn most_loaded(&self, among: &[usize]) -> Option<usize> {
        among.iter().copied().max_by(|a, b| self.fuller(*a, *b).then(a.cmp(b)))
    }

    /// Takes a partition from an owner.
    pub(super) fn vacate(&mut self, at: usize, node: usize) {
        let partition = &mut self.partitions[at];
        partition.owners.retain(|owner| *owner != node);
        partition.leaving.push(node);
        self.nodes[node].load -= 1;
    }

    /// Gives a partition to a node that does not have it.
    pub(super) fn occupy(&mut self, at: usize, node: usize) {
        let partition = &mut self.partitions[at];
        partition.leaving.retain(|leaving| *leaving != node);
        partition.owners.push(node);
        self.nodes[node].load += 1;
    }

    /// Whether `owners` lie in two zones, where that is asked for.
    pub(super) fn is_spread(&self, owners: &[usize]) -> bool {
        let zone = |node: &usize| self.nodes[*node].zone;
        !self.zoned || owners.iter().any(|owner| zone(owner) != zone(&owners[0]))
    }

    /// Gives every partition its number of owners.
    pub(super) fn fill(&mut self) {
        for at in 0..self.partitions.len() {
            while self.partitions[at].owners.len() < self.copies {
                let Some(node) = self.candidate(at) else { break };
                self.occupy(at, node);
            }
        }
    }

    /// The best new owner: live before silent, below its share before above, in a second zone
    /// when it is the last to be chosen; then by score.
    fn candidate(&self, at: usize) -> Option<usize> {
        let owners = &self.partitions[at].owners;
        let last = owners.len() + 1 == self.copies;
        let free = (0..self.nodes.len()).filter(|node| !owners.contains(node));
        free.min_by(|a, b| {
            let class = |node: usize| {
                let spread = !last || owners.is_empty() || {
                    let mut then = owners.clone();
                    then.push(node);
                    self.is_spread(&then)
                };
                (!self.nodes[node].live, !spread, self.nodes[node].load >= self.nodes[node].fill_below())
            };
            let (class_a, class_b) = (class(*a), class(*b));
            let preferred = || score(self.nodes[*b].id, at).cmp(&score(self.nodes[*a].id, at));
            // When all are full, the one that is so the least.
            let full = if class_a.2 && class_b.2 { self.fuller(*a, *b) } else { std::cmp::Ordering::Equal };
            class_a.cmp(&class_b).then(full).then_with(preferred)
        })
    }

    /// Moves one owner of each partition that lies in a single zone to a live node of another.
    pub(super) fn spread(&mut self) {
        for at in 0..self.partitions.len() {
            let owners = &self.partitions[at].owners;
            if owners.len() < self.copies || self.is_spread(owners) {
                continue;
            }
            let Some(out) = self.most_loaded(owners) else { continue };
            let zone = self.nodes[owners[0]].zone;
            let others =
                (0..self.nodes.len()).filter(|node| self.nodes[*node].live && self.nodes[*node].zone != zone);
            let Some(into) = others.min_by(|a, b| self.fuller(*a, *b)) else { continue };
            self.vacate(at, out);
            self.occupy(at, into);
        }
    }

    /// The partitions whose owners differ from `current`.
    pub(super) fn changes(mut self, current: &[Partition]) -> Vec<(PartitionId, Vec<NodeId>)> {
        let mut changes = Vec::new();
        for (at, id) in PartitionId::all().enumerate() {
            let partition = &mut self.partitions[at];
            partition.owners.sort_by_key(|node| std::cmp::Reverse(score(self.nodes[*node].id, at)));
            if !partition.owners.iter().any(|owner| partition.ready.contains(owner)) {
                let stay = partition.leaving.iter().filter(|node| self.nodes[**node].live);
                partition.owners.extend(stay.copied().collect::<Vec<_>>());
            }
            let owners: Vec<NodeId> = partition.owners.iter().map(|node| self.nodes[*node].id).collect();
            let before = current.get(at).map(|row| row.owners.as_slice()).unwrap_or_default();
            let same =
                before.len() == owners.len() && before.iter().all(|owner| owners.contains(&owner.node));
            if !same && !owners.is_empty() {
                changes.push((id, owners));
            }
        }
        changes
    }
}
