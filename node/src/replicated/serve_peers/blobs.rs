//! A peer reads a blob, asks who holds what, or has this node hold one.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use trow_raft::Digest;

use super::super::Replicated;
use crate::peer_blobs::answer::{JsonReply, Refused};
use crate::peer_blobs::wire::{self, Confirm, Confirmed, Fault, Finished, HoldFrom};
use crate::peer_blobs::{body_of, range};
use crate::store::ReadError;

const OCTETS: &str = "application/octet-stream";

/// `GET` and `HEAD`: axum drops the body of the latter, the headers stay.
pub(super) async fn blob(
    State(node): State<Replicated>,
    Path(digest): Path<Digest>,
    method: http::Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let store = node.store();
    let size = store.has(&digest).ok_or(Fault::Unknown)?;
    let mut reply = Response::builder().header(wire::SIZE, size).header(header::CONTENT_TYPE, OCTETS);
    if let Some(at) = store.verified_at(&digest) {
        reply = reply.header(wire::VERIFIED_AT, at);
    }
    let range = match headers.get(header::RANGE) {
        None => 0..size,
        Some(range) => {
            let range = range.to_str().ok().and_then(|text| range::parse(text, size));
            reply = reply.status(StatusCode::PARTIAL_CONTENT);
            range.ok_or(Fault::OutOfOrder { have: size })?
        }
    };
    if method == http::Method::HEAD {
        return reply.body(Body::empty()).map_err(|error| Fault::unavailable(error).into());
    }
    let length = range.end - range.start;
    let body = store.open_blob(&digest, Some(range)).await.map_err(|error| match error {
        ReadError::NotHere | ReadError::Damaged { .. } => Fault::Unknown,
        ReadError::Store(error) => Fault::unavailable(error),
    })?;
    let body = body_of(body.map(|item| item.map_err(std::io::Error::other)));
    reply.header(header::CONTENT_LENGTH, length).body(body).map_err(|error| Fault::unavailable(error).into())
}

pub(super) async fn confirm(
    State(node): State<Replicated>,
    Json(question): Json<Confirm>,
) -> JsonReply<Confirmed> {
    if question.digests.len() > wire::CONFIRM_MAX {
        return Err(Fault::TooMany.into());
    }
    let mut held = Vec::with_capacity(question.digests.len());
    for digest in &question.digests {
        let confirmed = node.store().confirm(digest).await.map_err(Fault::unavailable)?;
        held.push(confirmed.map(|held| held.generation));
    }
    Ok(Json(Confirmed { held }))
}

pub(super) async fn hold(
    State(node): State<Replicated>,
    Path(digest): Path<Digest>,
    Json(from): Json<HoldFrom>,
) -> JsonReply<Finished> {
    Ok(Json(node.hold_here(&digest, &from.sources).await?))
}
