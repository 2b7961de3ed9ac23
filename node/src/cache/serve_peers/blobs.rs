//! A peer looks for a blob of an upstream here, or reads it.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use trow_raft::Digest;

use super::super::Cache;
use crate::peer_blobs::answer::Refused;
use crate::peer_blobs::wire::{self, Fault};
use crate::peer_blobs::{body_of, range};
use crate::store::ReadError;

const OCTETS: &str = "application/octet-stream";

/// `GET` and `HEAD` of what is held here.
pub(super) async fn blob(
    State(cache): State<Cache>,
    Path(digest): Path<Digest>,
    method: http::Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let store = &cache.inner.store;
    let size = store.has(&digest).ok_or(Fault::Unknown)?;
    let mut reply = Response::builder().header(wire::SIZE, size).header(header::CONTENT_TYPE, OCTETS);
    if method == http::Method::HEAD {
        return reply.body(Body::empty()).map_err(|error| Fault::unavailable(error).into());
    }
    let range = match headers.get(header::RANGE) {
        None => 0..size,
        Some(range) => {
            let range = range.to_str().ok().and_then(|text| range::parse(text, size));
            reply = reply.status(StatusCode::PARTIAL_CONTENT);
            range.ok_or(Fault::OutOfOrder { have: size })?
        }
    };
    let length = range.end - range.start;
    let body = store.open_blob(&digest, Some(range)).await.map_err(|error| match error {
        ReadError::NotHere | ReadError::Damaged { .. } => Fault::Unknown,
        ReadError::Store(error) => Fault::unavailable(error),
    })?;
    let body = body_of(body.map(|item| item.map_err(std::io::Error::other)));
    reply.header(header::CONTENT_LENGTH, length).body(body).map_err(|error| Fault::unavailable(error).into())
}
