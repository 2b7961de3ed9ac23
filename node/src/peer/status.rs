//! What a node says of itself when a peer asks how it is.

use std::sync::Arc;

use futures::future::BoxFuture;
use trow_raft::NodeId;

/// How a node is, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// The log index that it has applied.
    pub applied: u64,
    /// The log index that it knows to be committed.
    pub committed: u64,
    /// Its term.
    pub term: u64,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// The state hash at `state_hash_at`.
    pub state_hash: u64,
    /// The last multiple of 16 not above `applied`.
    pub state_hash_at: u64,
    /// The highest feature level that it supports.
    pub max_level: u32,
    /// Its disk.
    pub disk: PeerDisk,
    /// Its uploads; unknown of a node of an earlier version.
    pub uploads: Option<PeerUploads>,
    /// What its store lacks and has too much of; only when asked for.
    pub audit: Option<PeerAudit>,
}

/// A node's disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerDisk {
    /// Of the file system.
    pub total: u64,
    /// Available on it.
    pub free: u64,
    /// Taken by blobs.
    pub blobs: u64,
}

/// What a node has open and staged, for itself and as a mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerUploads {
    /// Open sessions.
    pub sessions: u64,
    /// Staged bytes.
    pub bytes: u64,
}

/// A node's store against what the state says it should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAudit {
    /// Durable blobs that it should hold and does not.
    pub missing: u64,
    /// Copies of durable blobs that it holds and should not.
    pub strays: u64,
    /// Blobs that it holds.
    pub count: u64,
    /// Bytes of the blobs that it holds.
    pub bytes: u64,
    /// Copies that only the cache knows.
    pub cached: u64,
    /// The least numbers of their digests, in order: all of them, or as many as are told.
    pub cached_least: Vec<u64>,
}

/// Tells how this node is; with the audit when the argument is true.
pub type StatusFn = Arc<dyn Fn(bool) -> BoxFuture<'static, PeerStatus> + Send + Sync>;
