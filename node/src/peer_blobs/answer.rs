//! The form in which a node answers its peers, whatever they ask.
//!
//! Always holds: only peers are answered (the listener inserts who asks; a request without is refused), and what
//! is done for one goes on under the id of the request that the peer works for.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use trow_api::request_id::{self, RequestId};
use trow_raft::RepoName;
use trow_raft::metadata::PeerId;

use super::wire::{self, Fault};

/// What a handler answers: JSON, or the fault.
pub(crate) type JsonReply<T> = Result<Json<T>, Refused>;

/// A fault on its way to the peer.
pub(crate) struct Refused(pub(crate) Fault);

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
pub(crate) async fn only_peers(request: Request, next: Next) -> Response {
    if request.extensions().get::<PeerId>().is_none() {
        return StatusCode::FORBIDDEN.into_response();
    }
    // The listener opened its span.
    match request.headers().contains_key(request_id::HEADER) {
        true => RequestId::accept(request.headers()).scope(next.run(request)).await,
        false => next.run(request).await,
    }
}

/// The repository that a request names.
pub(crate) fn repo_of(headers: &HeaderMap) -> Result<RepoName, Fault> {
    let text = headers.get(wire::REPO).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).ok_or(Fault::Unknown)
}
