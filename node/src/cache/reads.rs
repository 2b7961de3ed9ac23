//! How reads of upstreams' blobs were answered, for whoever operates the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a read found its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On this node.
    Here,
    /// On their way here already.
    Shared,
    /// Nowhere: a fill began for it.
    Fill,
    /// Past: without room to keep them, they were fetched for this read alone.
    Straight,
    /// Among the blobs that the cluster keeps.
    Durable,
    /// At the home, on behalf of a client of this node.
    Peer,
}

/// The counts. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Reads(Arc<[AtomicU64; 6]>);

impl Reads {
    /// One more.
    pub(super) fn count(&self, kind: Kind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far, each with its label.
    pub(super) fn all(&self) -> [(&'static str, u64); 6] {
        let of = |kind: Kind| self.0[kind as usize].load(Ordering::Relaxed);
        [
            ("here", of(Kind::Here)),
            ("shared", of(Kind::Shared)),
            ("fill", of(Kind::Fill)),
            ("straight", of(Kind::Straight)),
            ("durable", of(Kind::Durable)),
            ("peer", of(Kind::Peer)),
        ]
    }
}
