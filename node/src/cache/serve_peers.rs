//! What this node answers its peers about what upstream registries have.
//!
//! Always holds: only peers get here, and what they ask is done by this node itself: no request is passed on to
//! a third node that would ask an upstream. What is fetched here with credentials is told to those peers alone that know
//! of them. Never does: judge whether a client may have it; the node that the client asked has done that, and asks
//! who it is only where it knows of credentials.

mod blobs;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use trow_api::pull::{PullError, UpstreamName};

use super::Cache;
use super::fault::fault;
use crate::peer_blobs::answer::only_peers;
use crate::peer_blobs::wire::{self, Fault};
use crate::upstream::Registries;

/// The router for the peer listener's HTTP/1.1 side.
pub(super) fn router(cache: Cache) -> Router {
    Router::new()
        .route("/cache/blob/{digest}", get(blobs::blob))
        .route("/cache/blob/{digest}/keep", post(blobs::keep))
        .layer(axum::extract::DefaultBodyLimit::max(wire::REQUEST_MAX))
        .layer(middleware::from_fn(only_peers))
        .with_state(cache)
}

/// Whether a peer may be told of the name, which it holds for one that needs a user if `for_user`.
pub(super) fn may_tell(registries: &Registries, name: &UpstreamName, for_user: bool) -> Result<(), Fault> {
    if for_user || !registries.needs_user(name) {
        return Ok(());
    }
    if !registries.knows_logins() {
        // To this node everything needs a user so far; another one knows better.
        return Err(Fault::unavailable("the node does not know yet what is for users alone"));
    }
    Err(fault(PullError::LoginNeeded))
}
