//! The pull-through cache: what upstream registries have, fetched once for the whole cluster.
//!
//! Owns which node asks an upstream ([`homes`]), what peers ask each other about it, and how blobs come here.
//! Always holds: a node that a peer asks does the work itself and asks no third node to ask an upstream, so that
//! requests end also where rings differ; a pull waits for no log. Never does: judge who may pull, or speak HTTP
//! to an upstream.

#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod complete;
#[allow(dead_code, reason = "what asks other nodes comes with the fills")]
mod fault;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod flights;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod freshness;
#[allow(dead_code, reason = "what asks other nodes comes with the fills")]
mod homes;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod listing;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod lists;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod manifests;
#[allow(dead_code, reason = "the port over it comes with the blobs")]
mod meter;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod recent;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod record;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod serve_manifests;
mod serve_peers;
#[cfg_attr(not(test), allow(dead_code, reason = "the port over it comes with the blobs"))]
mod words;

use std::sync::Arc;

use axum::Router;
use trow_raft::NodeId;

use crate::peer_blobs::PeerBlobs;
use crate::replicated::Agreement;
use crate::store::Store;
use homes::Homes;

/// The cache, as this node takes part in it. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[allow(dead_code, reason = "what asks other nodes comes with the fills")]
struct Inner {
    me: NodeId,
    store: Store,
    agreed: Agreement,
    peers: PeerBlobs,
    homes: Homes,
}

impl Cache {
    /// Of the node `me`, over its store, the agreed metadata and the peers.
    pub fn new(me: NodeId, store: Store, agreed: Agreement, peers: PeerBlobs) -> Cache {
        let homes = Homes::new(me, agreed.clone(), peers.silence_fn());
        Cache { inner: Arc::new(Inner { me, store, agreed, peers, homes }) }
    }

    /// What peers ask of this node, for the peer listener's HTTP/1.1 side.
    pub fn peer_router(&self) -> Router {
        serve_peers::router(self.clone())
    }
}
