//! Moving partitions from members that own too much to members that own too little.
//!
//! Nothing moves while everybody is within 8% of the quota; what moves then moves until it is
//! within 2%, so that the next small change finds room.

use super::board::{Board, Node, score};

impl Node {
    /// Below this it is given more.
    fn lowest(&self) -> u64 {
        (self.quota * 92).div_ceil(100_000).min(self.quota / 1000)
    }

    /// What one that is given more is given.
    fn enough(&self) -> u64 {
        (self.quota * 98 / 100_000).max(self.lowest())
    }

    /// Above this something is taken away.
    fn highest(&self) -> u64 {
        (self.quota * 108 / 100_000).max(self.quota.div_ceil(1000))
    }
}

impl Board {
    /// Brings every live member near its quota.
    pub(super) fn balance(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].live && self.nodes[node].load < self.nodes[node].lowest() {
                // First from those above their own quota, then from whoever is fuller.
                self.raise(node, true);
                self.raise(node, false);
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].live && self.nodes[node].load > self.nodes[node].highest() {
                self.lower(node);
            }
        }
    }

    /// Gives `node` partitions in the order of its scores until it has enough.
    fn raise(&mut self, node: usize, only_surplus: bool) {
        let mut order: Vec<usize> = (0..self.partitions.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(score(self.nodes[node].id, *at)));
        for at in order {
            if self.nodes[node].load >= self.nodes[node].enough() {
                return;
            }
            if self.partitions[at].owners.contains(&node) {
                continue;
            }
            let givers = self.partitions[at].owners.iter().copied().filter(|giver| {
                let surplus = self.nodes[*giver].load * 1000 > self.nodes[*giver].quota;
                self.nodes[*giver].live && (surplus || !only_surplus) && self.may_swap(at, *giver, node)
            });
            let Some(giver) = self.most_loaded(&givers.collect::<Vec<_>>()) else { continue };
            if self.still_fuller(giver, node) {
                self.vacate(at, giver);
                self.occupy(at, node);
            }
        }
    }

    /// Takes partitions from `node`, those that prefer it least first, until it has no surplus.
    fn lower(&mut self, node: usize) {
        let mut order: Vec<usize> =
            (0..self.partitions.len()).filter(|at| self.partitions[*at].owners.contains(&node)).collect();
        order.sort_by_key(|at| score(self.nodes[node].id, *at));
        for at in order {
            if self.nodes[node].load <= self.nodes[node].fill_below() {
                return;
            }
            let takers = (0..self.nodes.len()).filter(|taker| {
                let free = self.nodes[*taker].live && !self.partitions[at].owners.contains(taker);
                let room = self.nodes[*taker].load < self.nodes[*taker].fill_below();
                free && room && self.may_swap(at, node, *taker) && self.still_fuller(node, *taker)
            });
            let best = takers.max_by_key(|taker| score(self.nodes[*taker].id, at));
            if let Some(taker) = best {
                self.vacate(at, node);
                self.occupy(at, taker);
            }
        }
    }

    /// Whether the owners would still lie in two zones.
    fn may_swap(&self, at: usize, out: usize, into: usize) -> bool {
        let stay = self.partitions[at].owners.iter().copied().filter(|owner| *owner != out);
        self.is_spread(&stay.chain([into]).collect::<Vec<_>>())
            || !self.is_spread(&self.partitions[at].owners)
    }

    /// Whether `giver` would not end up with less than `taker`, each against its quota.
    fn still_fuller(&self, giver: usize, taker: usize) -> bool {
        let (giver, taker) = (&self.nodes[giver], &self.nodes[taker]);
        u128::from(giver.load) * u128::from(taker.quota) > u128::from(taker.load) * u128::from(giver.quota)
            && u128::from(giver.load - 1) * u128::from(taker.quota) + u128::from(giver.quota.max(taker.quota))
                >= u128::from(taker.load + 1) * u128::from(giver.quota)
    }
}
