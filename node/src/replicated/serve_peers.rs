//! What this node answers its peers about blobs and uploads: the other side of
//! [`crate::peer_blobs`].
//!
//! Always holds: only peers get here (the listener inserts who it is; a request without is
//! refused), every ticket is opened under the cluster's key before it is believed, every served
//! chunk was checked as it was read. Never does: redirect, or ask a third node on a peer's behalf
//! except to hold a blob or to become the home of an upload.

mod blobs;
mod uploads;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use trow_api::request_id::{self, RequestId};
use trow_raft::metadata::PeerId;

use super::Replicated;
use crate::peer_blobs::wire::{self, Fault};

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

/// What a handler answers: JSON, or the fault.
type JsonReply<T> = Result<Json<T>, Refused>;

/// A fault on its way to the peer.
struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Refused {
        Refused(fault)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0.status(), Json(self.0)).into_response()
    }
}

/// Refuses who is no peer, and goes on under the id of the request that the peer works for.
async fn only_peers(request: Request, next: Next) -> Response {
    if request.extensions().get::<PeerId>().is_none() {
        return StatusCode::FORBIDDEN.into_response();
    }
    // The listener opened its span.
    match request.headers().contains_key(request_id::HEADER) {
        true => RequestId::accept(request.headers()).scope(next.run(request)).await,
        false => next.run(request).await,
    }
}
