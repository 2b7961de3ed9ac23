//! Whom to ask for a blob, whom to ask to hold one: pure decisions over the agreed state and health.
//!
//! Always holds: every member but this node is among the candidates of a read, so that a blob
//! that is anywhere is found. Never does: I/O, or waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use trow_raft::{Member, MemberState, NodeId, Partition};

/// A peer that was heard of within this time is taken for healthy. Status is polled every 500 ms.
pub const HEALTHY: Duration = Duration::from_millis(1600);

/// How long each peer has been silent; `None` when it was never heard.
pub type Silence<'a> = &'a dyn Fn(NodeId) -> Option<Duration>;

fn is_healthy(silence: Silence<'_>, node: NodeId) -> bool {
    silence(node).is_some_and(|quiet| quiet < HEALTHY)
}

/// The order in which peers are asked for a blob's bytes: owners that are ready, other owners,
/// sources, away holders, then all other members; within that, healthy ones first everywhere,
/// because a dead owner costs a timeout and a living stranger a round trip.
pub fn to_read(
    me: NodeId,
    partition: &Partition,
    away: &[NodeId],
    members: &[Member],
    silence: Silence<'_>,
) -> Vec<NodeId> {
    let ready = partition.owners.iter().filter(|owner| owner.ready).map(|owner| owner.node);
    let unready = partition.owners.iter().filter(|owner| !owner.ready).map(|owner| owner.node);
    let everyone = ready
        .chain(unready)
        .chain(partition.sources.iter().copied())
        .chain(away.iter().copied())
        .chain(members.iter().map(|member| member.id));
    let mut seen = BTreeSet::from([me]);
    let order: Vec<NodeId> = everyone.filter(|node| seen.insert(*node)).collect();
    let (mut healthy, silent): (Vec<_>, Vec<_>) =
        order.into_iter().partition(|node| is_healthy(silence, *node));
    healthy.extend(silent);
    healthy
}

/// The order in which members are asked to hold a copy of a new blob, `taken` excluded.
///
/// Only members whose word counts as evidence. Healthy ones of a zone not yet among `taken` come
/// first, so that W copies span two zones when two are up; then healthy ones, then those not heard
/// of lately. `preferred` (the blob's owners, once the digest is known) come first among equals;
/// among the rest `lot` decides, so that the load spreads.
pub fn to_hold(
    taken: &[NodeId],
    preferred: &[NodeId],
    members: &[Member],
    silence: Silence<'_>,
    lot: u64,
) -> Vec<NodeId> {
    let zone_of = |node: &NodeId| members.iter().find(|member| member.id == *node).map(|m| m.zone.as_str());
    let zones: BTreeSet<&str> = taken.iter().filter_map(zone_of).collect();
    let mut order: Vec<&Member> =
        members.iter().filter(|m| m.state.counts() && !taken.contains(&m.id)).collect();
    order.sort_by_key(|member| {
        let same_zone = !member.zone.is_empty() && zones.contains(member.zone.as_str());
        (
            !is_healthy(silence, member.id),
            same_zone,
            member.state != MemberState::Active,
            !preferred.contains(&member.id),
            mix(member.id.0 ^ lot),
        )
    });
    order.into_iter().map(|member| member.id).collect()
}

/// Scatters its input over all 64 bits (the finalizer of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trow_raft::{Generation, Owner};

    fn member(id: u64, zone: &str, state: MemberState) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: zone.to_owned(),
            state,
            generation: Generation(1),
            max_level: 1,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        }
    }

    fn ids(nodes: &[NodeId]) -> Vec<u64> {
        nodes.iter().map(|node| node.0).collect()
    }

    fn silent(dead: &'static [u64]) -> impl Fn(NodeId) -> Option<Duration> {
        move |node| (!dead.contains(&node.0)).then_some(Duration::from_millis(100))
    }

    #[test]
    fn reads_ask_owners_then_sources_then_away_then_everyone() {
        let owner = |id, ready| Owner { node: NodeId(id), added_at: 1, ready };
        let partition = Partition {
            owners: vec![owner(5, false), owner(1, true), owner(2, true)],
            sources: vec![NodeId(4)],
        };
        let members: Vec<_> = (1..=7).map(|id| member(id, "", MemberState::Active)).collect();
        let away = [NodeId(6)];
        let order = |dead| ids(&to_read(NodeId(1), &partition, &away, &members, &silent(dead)));
        assert_eq!(order(&[]), [2, 5, 4, 6, 3, 7]);
        assert_eq!(order(&[2, 6]), [5, 4, 3, 7, 2, 6]);
    }

    #[test]
    fn holders_span_two_zones_when_two_are_up() {
        let zones = ["a", "a", "b", "b"];
        let members: Vec<_> =
            (1u64..).zip(zones).map(|(id, zone)| member(id, zone, MemberState::Active)).collect();
        for lot in 0..50 {
            let order = |dead| ids(&to_hold(&[NodeId(1)], &[], &members, &silent(dead), lot));
            assert!(order(&[])[0] >= 3, "the first mirror is in the other zone");
            assert_eq!(order(&[3, 4])[0], 2, "when that zone is down, any healthy member");
            assert_eq!(order(&[]).len(), 3, "all others remain candidates");
        }
    }

    #[test]
    fn only_members_whose_word_counts_are_asked_to_hold() {
        let members = [
            member(1, "", MemberState::Active),
            member(2, "", MemberState::Joining),
            member(3, "", MemberState::Draining),
            member(4, "", MemberState::Active),
        ];
        for lot in 0..20 {
            assert_eq!(ids(&to_hold(&[NodeId(1)], &[], &members, &silent(&[]), lot)), [4, 3]);
        }
    }

    #[test]
    fn the_load_of_holding_spreads_and_owners_are_preferred() {
        let members: Vec<_> = (1..=5).map(|id| member(id, "", MemberState::Active)).collect();
        let first =
            |preferred: &[NodeId], lot| to_hold(&[NodeId(1)], preferred, &members, &silent(&[]), lot)[0].0;
        let firsts: BTreeSet<u64> = (0..100).map(|lot| first(&[], lot * 7919)).collect();
        assert_eq!(firsts, BTreeSet::from([2, 3, 4, 5]));
        for lot in 0..50 {
            assert_eq!(first(&[NodeId(3)], lot), 3);
        }
    }
}
