//! The pull-through cache: what upstream registries have, fetched once for the whole cluster.
//!
//! Owns which node asks an upstream ([`homes`]), what peers ask each other about it, and how blobs come here.
//! Always holds: a node that a peer asks does the work itself and asks no third node to ask an upstream, so that
//! requests end also where rings differ; a pull waits for no log. Never does: judge who may pull, or speak HTTP
//! to an upstream.

mod blobs;
mod complete;
mod fault;
mod fill;
mod fills;
mod flights;
mod freshness;
mod homes;
mod listing;
mod lists;
mod logins;
mod manifests;
mod meter;
mod origins;
mod port;
mod pull;
mod reads;
mod recent;
mod record;
mod second;
mod serve_manifests;
mod serve_peers;
mod shown;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use trow_api::pull::PullError;
use trow_raft::{Digest, NodeId, RepoName};

use crate::peer_blobs::PeerBlobs;
use crate::replicated::{Agreement, Replicated};
use crate::store::Store;
use crate::upstream::Registries;
pub use blobs::ListedSize;
use fill::Means;
use fills::Fills;
use flights::Flights;
pub use homes::Homes;
pub use manifests::{Manifests, Parts as ManifestParts};
pub use port::PullThrough;
use reads::Reads;

/// The cache, as this node takes part in it. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    agreed: Agreement,
    blobs: Replicated,
    listed: ListedSize,
    fills: Fills,
    reads: Reads,
    /// Sizes of blobs that upstreams are being asked for.
    sizes: Flights<(RepoName, Digest), Result<u64, PullError>>,
}

/// What a cache is made of.
pub struct Parts {
    /// This node.
    pub me: NodeId,
    /// Its files.
    pub store: Store,
    /// The state.
    pub agreed: Agreement,
    /// The other nodes.
    pub peers: PeerBlobs,
    /// What the cluster keeps.
    pub blobs: Replicated,
    /// The upstreams.
    pub registries: Registries,
    /// What manifests list.
    pub listed: ListedSize,
}

/// What came of reads and fills so far, and how many are under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// Fills under way.
    pub filling: u64,
    /// Fills that ended, each kind with its label.
    pub fills: [(&'static str, u64); 3],
    /// Reads by where they found their bytes, each kind with its label.
    pub reads: [(&'static str, u64); 6],
}

impl Cache {
    /// Made of `parts`. Needs a Tokio runtime.
    pub fn new(parts: Parts) -> Cache {
        let Parts { me, store, agreed, peers, blobs, registries, listed } = parts;
        let homes = Homes::new(me, agreed.clone(), peers.silence_fn());
        let fills = Fills::new(Means::new(me, store, peers, homes, registries));
        Cache {
            inner: Arc::new(Inner {
                agreed,
                blobs,
                listed,
                fills,
                reads: Reads::default(),
                sizes: Flights::default(),
            }),
        }
    }

    /// What peers ask of this node, for the peer listener's HTTP/1.1 side.
    pub fn peer_router(&self) -> Router {
        serve_peers::router(self.clone())
    }

    /// How well it does.
    pub fn stats(&self) -> CacheStats {
        let Inner { fills, reads, .. } = &*self.inner;
        let counted = fills.counted();
        let ended = [("kept", &counted.kept), ("passed", &counted.passed), ("failed", &counted.failed)];
        let fills_by = ended.map(|(label, count)| (label, count.load(Ordering::Relaxed)));
        CacheStats { filling: fills.in_flight(), fills: fills_by, reads: reads.all() }
    }
}
