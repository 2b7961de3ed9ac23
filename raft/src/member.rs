//! Members and placement as the state records them.

use serde::{Deserialize, Serialize};

use crate::id::{Generation, NodeId};

/// What the state says of one member. A joining learner counts toward nothing until it is `Active`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// What people call it; unique among members.
    pub name: String,
    /// Failure domain; empty when not configured.
    pub zone: String,
    /// Where it stands in its life.
    pub state: MemberState,
    /// Its store's generation; evidence of an older one is void.
    pub generation: Generation,
    /// The highest feature level it supports.
    pub max_level: u32,
    /// Capacity weight for placement: GiB of its disk, at least 1.
    pub weight: u32,
    /// Last address clients were told, `host:port`; informational, discovery wins.
    pub client: String,
    /// Last address peers reached it at, `host:port`; informational, discovery wins.
    pub peer: String,
}

/// Where a member stands in its life. "Down" is an observation and is not agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Added as a learner, not yet caught up: no partitions, no evidence.
    Joining,
    /// A full member.
    Active,
    /// Silent past the grace period: keeps its membership, owns no partitions.
    Retired,
    /// Leaving: owns no partitions, removed when it is no source or away holder any more.
    Draining,
}

impl MemberState {
    /// Whether the member may be given partitions.
    pub fn may_own(self) -> bool {
        self == MemberState::Active
    }

    /// Whether the member counts toward W and may give evidence.
    pub fn counts(self) -> bool {
        self != MemberState::Joining
    }
}

/// A node's word that it holds a blob: verified, fsynced, in this generation of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// Who holds it.
    pub node: NodeId,
    /// The generation that it was held in.
    pub generation: Generation,
}

/// One owner of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owning member.
    pub node: NodeId,
    /// Log index of the change that last touched this partition; `PartitionReady` must name it.
    pub added_at: u64,
    /// It has every blob of the partition that the state knew at `added_at`.
    pub ready: bool,
}

/// Who has a partition's blobs: its owners, and until all are ready the owners before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The agreed owners, preferred first.
    pub owners: Vec<Owner>,
    /// Former owners that may hold what an owner still lacks.
    pub sources: Vec<NodeId>,
}

impl Partition {
    /// Whether `node` is an owner.
    pub fn owned_by(&self, node: NodeId) -> bool {
        self.owners.iter().any(|owner| owner.node == node)
    }

    /// Whether all owners are ready, and so no source is needed.
    pub fn is_ready(&self) -> bool {
        self.owners.iter().all(|owner| owner.ready)
    }
}

/// W: how many copies make a write durable, of `members` counted members at factor `rf`.
pub fn write_quorum(rf: u32, members: usize) -> usize {
    (rf as usize).min(members) / 2 + 1
}
