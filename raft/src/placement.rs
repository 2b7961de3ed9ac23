//! Which members own which partition: the planner that the leader runs.
//!
//! Rendezvous scores say which members a partition prefers, integer quotas how much each member
//! should own, and what is in place stays unless a quota is missed by more than a few percent.
//! Pure: a plan becomes true only through `SetPartitions`, so nobody else needs to compute the
//! same one, and versions that plan differently agree all the same.
//!
//! Always holds: an owner that is live and ready is planned away only when another live and ready
//! owner stays, or when it may own nothing any more (then it stays as a source until the new ones
//! are ready). Owners lie in two zones when members of two zones are there, even where that means
//! that the members of a small zone own more than their share.

mod balance;
mod board;
mod quota;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use board::Board;

use crate::digest::PartitionId;
use crate::id::NodeId;
use crate::member::{Member, Partition};

/// The partitions whose owners should change, each with its new owners, preferred first.
///
/// `current` is indexed by partition; `live` are the members that answer now: others keep what
/// they own and get nothing new while a live one can take it. Empty when all is well. To be called
/// again whenever members, partitions (their `ready` too) or `live` changed: a partition may pass
/// through one owner more than `rf` while its only complete owner hands over.
pub fn plan(
    members: &[Member],
    current: &[Partition],
    rf: u32,
    live: &BTreeSet<NodeId>,
) -> Vec<(PartitionId, Vec<NodeId>)> {
    let mut eligible: Vec<&Member> = members.iter().filter(|member| member.state.may_own()).collect();
    eligible.sort_by_key(|member| member.id);
    let copies = (rf as usize).min(eligible.len());
    if copies == 0 {
        return Vec::new();
    }
    let quotas = quota::quotas(&eligible, copies);
    let mut board = Board::new(&eligible, &quotas, current, copies, live);
    board.fill();
    board.spread();
    board.balance();
    board.changes(current)
}
