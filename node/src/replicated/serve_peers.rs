//! What this node answers its peers about blobs and uploads: the other side of
//! [`crate::peer_blobs`].
//!
//! Always holds: only peers get here (the listener inserts who it is; a request without is
//! refused), every ticket is opened under the cluster's key before it is believed, every served
//! chunk was checked as it was read. Never does: redirect, or ask a third node on a peer's behalf
//! except to hold a blob or to become the home of an upload.

mod blobs;
mod uploads;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::Replicated;
use crate::peer_blobs::answer::only_peers;
use crate::peer_blobs::wire;

/// The router for the peer listener's HTTP/1.1 side.
pub(super) fn router(replicated: Replicated) -> Router {
    let json = axum::extract::DefaultBodyLimit::max(wire::REQUEST_MAX);
    Router::new()
        .route("/blob/{digest}", get(blobs::blob))
        .route("/blob/{digest}/hold", post(blobs::hold))
        .route("/confirm", post(blobs::confirm))
        .layer(json)
        .route(
            "/upload",
            post(uploads::begin).get(uploads::progress).patch(uploads::append).delete(uploads::cancel),
        )
        .route("/upload/claim", post(uploads::claim))
        .route("/upload/hold", post(uploads::finish))
        .route(
            "/mirror",
            post(uploads::mirror_open).patch(uploads::mirror_append).delete(uploads::mirror_drop),
        )
        .route("/mirror/hold", post(uploads::mirror_hold))
        .layer(middleware::from_fn(only_peers))
        .with_state(replicated)
}
