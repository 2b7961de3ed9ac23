//! Blob bytes between nodes: what they say to each other, and the client that asks peers.
//!
//! Owns the requests of [`wire`]; what a node answers to them is the work of
//! [`crate::replicated`] and [`crate::cache`], which use this module and not the other way round. Always holds: a peer
//! that does not answer is given up in bounded time, sooner when the control connection has gone
//! silent too; bodies stream, whatever their size. Never does: choose whom to ask, or trust what
//! arrives (the caller verifies digests; a peer's listener has established who asks).

pub(crate) mod answer;
mod blobs;
mod cached;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod manifests;
pub(crate) mod range;
mod send;
mod uploads;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use http::{Request, Response};
use trow_raft::NodeId;
use trow_raft::metadata::Silence;

use crate::peer::Peers;
pub use blobs::{Fetched, HeldBy};
pub use cached::{There, Wanted};
pub use uploads::Upload;
use wire::Fault;

/// Sends a request to a peer over the pooled, mutually authenticated connections of the blob
/// transport. The URI has a path and a query only. An error means that no reply came.
pub type Call =
    Arc<dyn Fn(NodeId, Request<Body>) -> BoxFuture<'static, Result<Response<Body>, String>> + Send + Sync>;

/// Why a peer did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Nobody knows whether it did.
    #[error("{node} did not answer: {why}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// For the log.
        why: String,
    },
    /// It said no, and why.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The peers, as those who hold blobs and uploads. Cheap to clone.
#[derive(Clone)]
pub struct PeerBlobs {
    call: Call,
    silence: Silence,
}

impl PeerBlobs {
    /// Over the blob connections of `peers`.
    pub fn over(peers: &Peers) -> PeerBlobs {
        let silence = peers.silence_fn();
        let peers = peers.clone();
        let call = move |node, request| {
            let http = peers.http(node);
            async move { http.call(request).await.map_err(|error| error.to_string()) }.boxed()
        };
        PeerBlobs::new(Arc::new(call), silence)
    }

    /// Over any transport.
    pub fn new(call: Call, silence: Silence) -> PeerBlobs {
        PeerBlobs { call, silence }
    }

    /// How long each peer has been silent, for others to ask.
    pub fn silence_fn(&self) -> Silence {
        Arc::clone(&self.silence)
    }

    /// How long each peer has been silent.
    pub fn silence(&self, node: NodeId) -> Option<Duration> {
        (self.silence)(node)
    }
}

/// A body of what `stream` yields; an error breaks the connection off, so that nobody takes the
/// part for the whole.
pub(crate) fn body_of(stream: impl Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static) -> Body {
    Body::from_stream(stream)
}
