//! What the agreed placement says, without asking anybody.

use trow_raft::Partition;

/// Whether the partition has owners, all complete, and needs no others.
pub fn is_settled(partition: &Partition) -> bool {
    !partition.owners.is_empty() && partition.is_ready() && partition.sources.is_empty()
}
