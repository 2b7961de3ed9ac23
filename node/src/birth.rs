//! How a node comes to belong to a cluster: by being born with it, or by joining it.
//!
//! Always holds: see [`decide`].

use std::path::{Path, PathBuf};

use trow_raft::{ClusterId, Metadata, Planted};

use crate::peer::Peers;

/// What a node is to belong to.
pub struct Birth {
    /// Where the bound answer is kept.
    pub data_dir: PathBuf,
    /// How many nodes a cluster is born of, this one included; `None` only joins.
    pub expect: Option<usize>,
    /// The replication factor of a newborn cluster.
    pub rf: u32,
    /// The wrong rule in force, in a test build.
    pub planted: Planted,
}

/// A node cannot come to belong to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// This node was removed: [`forget`] and start again.
    #[error("this node was removed from its cluster")]
    Removed,
}

/// Returns once this node is a member of a cluster. Waits without limit.
///
/// # Errors
/// See [`BirthError`].
pub async fn run(_peers: &Peers, _metadata: &Metadata, _birth: Birth) -> Result<ClusterId, BirthError> {
    Err(BirthError::Removed)
}

/// Forgets who this node was: its key, its bound answer and everything in `consensus`, the
/// directory of log and state. Its blobs stay. The data directory must not be in use.
///
/// # Errors
/// Something cannot be removed durably.
pub fn forget(_data_dir: &Path, _consensus: &Path) -> std::io::Result<()> {
    Ok(())
}
