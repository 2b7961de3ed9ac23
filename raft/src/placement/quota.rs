//! How many partitions each member should own, in thousandths.

use std::collections::BTreeMap;

use crate::digest::PartitionId;
use crate::member::Member;

/// All partitions once, in thousandths: the most that one member can own.
pub(super) const ALL: u64 = PartitionId::COUNT as u64 * 1000;

/// Quotas proportional to weight, as far as a member may own each partition only once and each
/// partition needs an owner outside the largest zone.
pub(super) fn quotas(members: &[&Member], copies: usize) -> Vec<u64> {
    let total = ALL * copies as u64;
    let everyone: Vec<usize> = (0..members.len()).collect();
    let mut quotas = vec![0; members.len()];
    distribute(members, &everyone, total, &mut quotas);
    let mut zones: BTreeMap<&str, u64> = BTreeMap::new();
    for (member, quota) in members.iter().zip(&quotas) {
        *zones.entry(&member.zone).or_default() += quota;
    }
    let Some((largest, inside)) = zones.iter().max_by_key(|(_, quota)| **quota) else {
        return quotas;
    };
    if copies >= 2 && zones.len() >= 2 && total - inside < ALL {
        let (inside, outside) = everyone.iter().partition::<Vec<_>, _>(|at| members[**at].zone == **largest);
        distribute(members, &outside, ALL, &mut quotas);
        distribute(members, &inside, total - ALL, &mut quotas);
    }
    quotas
}

/// Shares `amount` out among `who` by weight; what would overflow a full member goes to the others.
fn distribute(members: &[&Member], who: &[usize], amount: u64, quotas: &mut [u64]) {
    let mut open = who.to_vec();
    let mut left = amount;
    loop {
        let weights: u64 = open.iter().map(|at| u64::from(members[*at].weight.max(1))).sum();
        let share = |at: usize| {
            let share = u128::from(left) * u128::from(members[at].weight.max(1)) / u128::from(weights.max(1));
            u64::try_from(share).unwrap_or(ALL)
        };
        let (full, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|at| share(**at) >= ALL);
        if full.is_empty() {
            for at in rest {
                quotas[at] = share(at);
            }
            return;
        }
        for at in full {
            quotas[at] = ALL;
            left = left.saturating_sub(ALL);
        }
        open = rest;
    }
}
