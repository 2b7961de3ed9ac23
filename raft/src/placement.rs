//! Which members own which partition: the planner that the leader runs.
//!
//! Pure: the plan becomes true only through `SetPartitions`, so nobody else needs to compute the
//! same one.

use std::collections::BTreeSet;

use crate::digest::PartitionId;
use crate::id::NodeId;
use crate::member::{Member, Partition};

/// The partitions whose owners should change, each with its new owners, preferred first.
///
/// `current` is indexed by partition; `live` are the members that answer now. Empty when all is
/// well. Call it again whenever members, partitions or `live` changed.
pub fn plan(
    _members: &[Member],
    _current: &[Partition],
    _rf: u32,
    _live: &BTreeSet<NodeId>,
) -> Vec<(PartitionId, Vec<NodeId>)> {
    Vec::new()
}
