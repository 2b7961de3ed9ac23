//! What this node answers its peers about what upstream registries have.
//!
//! Always holds: only peers get here, and what they ask is done by this node itself: no request is passed on to
//! a third node that would ask an upstream. Never does: judge whether a client may have it; the node that the
//! client asked has done that.

mod blobs;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use super::Cache;
use crate::peer_blobs::answer::only_peers;
use crate::peer_blobs::wire;

/// The router for the peer listener's HTTP/1.1 side.
pub(super) fn router(cache: Cache) -> Router {
    Router::new()
        .route("/cache/blob/{digest}", get(blobs::blob))
        .route("/cache/blob/{digest}/keep", post(blobs::keep))
        .layer(axum::extract::DefaultBodyLimit::max(wire::REQUEST_MAX))
        .layer(middleware::from_fn(only_peers))
        .with_state(cache)
}
