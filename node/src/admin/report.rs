//! What came of asking a member how it is.

use std::time::Duration;

use trow_raft::NodeId;

use crate::peer::PeerStatus;

/// What came of asking one member, this node included.
#[derive(Clone, Debug)]
pub struct MemberReport {
    /// Whom.
    pub node: NodeId,
    /// What it said, if it answered in time; its audit covers at least the index that it names.
    pub report: Option<PeerStatus>,
    /// How long ago it was last heard of, if ever.
    pub silent_for: Option<Duration>,
}

impl MemberReport {
    /// Copies that it should have and lacks; 0 when it did not say.
    pub fn missing(&self) -> u64 {
        self.audit().map_or(0, |audit| audit.missing)
    }

    /// Copies that it has and should not; 0 when it did not say.
    pub fn strays(&self) -> u64 {
        self.audit().map_or(0, |audit| audit.strays)
    }

    /// Copies that only its cache knows, and the least of their numbers; none when it did not say.
    pub fn cached(&self) -> (u64, &[u64]) {
        self.audit().map_or((0, &[]), |audit| (audit.cached, audit.cached_least.as_slice()))
    }

    fn audit(&self) -> Option<&crate::peer::PeerAudit> {
        self.report.as_ref()?.audit.as_ref()
    }
}
