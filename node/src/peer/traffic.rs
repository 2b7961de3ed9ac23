//! Counts bytes between peers by what they are for, TLS records' contents only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection between peers is for. Each kind has connections of its own, so that a bulk
/// copy never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Consensus, over gRPC.
    Raft,
    /// Hello, join and status, over gRPC.
    Control,
    /// Blob bytes and uploads, over HTTP/1.1.
    Blob,
}

/// Which way bytes went, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    In,
    /// Sent.
    Out,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Raft, Kind::Control, Kind::Blob];

    /// The name used in metrics and in the greeting.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Raft => "raft",
            Kind::Control => "control",
            Kind::Blob => "blob",
        }
    }
}

/// Counters since the start of the process. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<[[AtomicU64; 2]; 3]>);

impl Traffic {
    /// Bytes of `kind` that went in `direction`.
    pub fn bytes(&self, kind: Kind, direction: Direction) -> u64 {
        self.0[kind as usize][direction as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, kind: Kind, direction: Direction, bytes: usize) {
        self.0[kind as usize][direction as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
