//! Who may ask what on an established peer connection.
//!
//! The connection has proven the node id and the join secret, and that the cluster ids do not
//! differ. What remains is membership, asked at each request since it changes: a removed node is
//! refused, and so is one that cannot name this cluster unless the state (or, before there is
//! one, the set of the birth) counts it. A node that names this cluster is let in even when the
//! state here does not know it yet: this node may be the one that is behind, and could never
//! catch up from a leader that it refuses to hear. Control requests judge for themselves.

use trow_raft::NodeId;

use super::Inner;
use super::greeting::Greeted;

const CONTROL: &str = "/trow.control.v1.Control/";

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Shut {
    #[error("it was removed from the cluster and must come back under a new id")]
    Removed,
    #[error("it is not a member of this cluster")]
    Stranger,
}

/// Whether a request of `from` for `path` may pass.
pub(super) fn admit(inner: &Inner, from: NodeId, greeted: Greeted, path: &str) -> Result<(), Shut> {
    if path.starts_with(CONTROL) {
        return Ok(());
    }
    if inner.table.is_removed(from) {
        return Err(Shut::Removed);
    }
    let named = greeted.cluster.is_some() && greeted.cluster == **inner.cluster.load();
    if !named && !inner.table.is_member(from) {
        return Err(Shut::Stranger);
    }
    inner.table.touch(from);
    Ok(())
}
