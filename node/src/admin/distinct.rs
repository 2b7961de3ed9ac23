//! How many different things several members have, without sending all of them.
//!
//! A member tells how many it has and the least of their numbers, each of 64 bits out of its digest. Always holds:
//! where all tell all of theirs, the count is exact; where one has more than it tells, those below the highest of
//! what it tells stand for the rest, which errs by some percent.

use std::collections::BTreeSet;

/// The most numbers that a member tells: 8 KiB, and an error of about 3 percent.
pub const TOLD: usize = 1024;

/// The different ones among all; of each member its count and the least of its numbers.
pub fn distinct<'a>(members: impl Iterator<Item = (u64, &'a [u64])> + Clone) -> u64 {
    // Of what lies up to here every member has told all.
    let told_to = |(count, least): (u64, &[u64])| {
        let all = least.len() as u64 >= count;
        if all { u64::MAX } else { least.last().copied().unwrap_or(u64::MAX) }
    };
    // A member of an earlier version tells none of its numbers: they count as its own alone.
    let untold = members.clone().filter(|(_, least)| least.is_empty());
    let untold = untold.fold(0_u64, |sum, (count, _)| sum.saturating_add(count));
    let limit = members.clone().map(told_to).min().unwrap_or(u64::MAX);
    let numbers: BTreeSet<u64> = members.clone().flat_map(|(_, least)| least.iter().copied()).collect();
    let seen = numbers.range(..=limit).count() as u64;
    let estimate = if limit == u64::MAX {
        seen
    } else {
        u64::try_from(u128::from(seen) * (1 << 64) / (u128::from(limit) + 1)).unwrap_or(u64::MAX)
    };
    // No more than all copies, no fewer than one member has.
    let counts = members.filter(|(_, least)| !least.is_empty()).map(|(count, _)| count);
    let (most, sum) =
        counts.fold((0, 0_u64), |(most, sum), count| (count.max(most), sum.saturating_add(count)));
    estimate.clamp(most, sum).saturating_add(untold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trow_raft::Digest;

    /// What a member that has the things of `range` tells.
    fn told(range: std::ops::Range<u32>) -> (u64, Vec<u64>) {
        let count = range.len() as u64;
        let mut all: Vec<u64> = range.map(|number| Digest::sha256(&number.to_be_bytes()).number()).collect();
        all.sort_unstable();
        all.truncate(TOLD);
        (count, all)
    }

    fn of(members: &[(u64, Vec<u64>)]) -> u64 {
        distinct(members.iter().map(|(count, least)| (*count, least.as_slice())))
    }

    #[test]
    fn few_are_counted_exactly() {
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[told(0..0), told(0..0)]), 0);
        assert_eq!(of(&[told(0..100), told(0..100), told(50..130)]), 130);
        assert_eq!(of(&[told(0..1024), told(1024..2048)]), 2048);
    }

    #[test]
    fn many_are_counted_within_some_percent() {
        for (members, right) in [
            (vec![told(0..20_000), told(0..20_000)], 20_000),
            (vec![told(0..20_000), told(10_000..30_000)], 30_000),
            (vec![told(0..20_000), told(19_990..20_010)], 20_010),
            (vec![told(0..5_000), told(5_000..12_000), told(12_000..13_000)], 13_000),
        ] {
            let counted = of(&members) as f64;
            let right = f64::from(right);
            assert!((counted - right).abs() <= right * 0.1, "{counted} of {right}");
        }
    }

    #[test]
    fn one_that_tells_no_numbers_counts_for_itself() {
        assert_eq!(of(&[told(0..10), told(0..10), (7, Vec::new())]), 17);
    }
}
