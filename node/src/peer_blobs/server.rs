//! What this node answers its peers about blobs and uploads.
//!
//! Always holds: only peers get here (the listener inserts who it is; a request without is
//! refused), every ticket is opened under the cluster's key before it is believed, every served
//! chunk was checked as it was read. Never does: redirect, or ask a third node on a peer's behalf
//! except to hold a blob or to become the home of an upload.

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use trow_api::request_id::{self, RequestId};
use trow_raft::metadata::PeerId;
use trow_raft::{Digest, RepoName};

use super::wire::{self, Claimed, Confirm, Confirmed, Fault, Finished, HoldFrom, Length, UploadQuery};
use crate::replicated::{Replicated, Ticket};
use crate::store::ReadError;

/// Largest JSON body of a request, in bytes: [`wire::CONFIRM_MAX`] long digests fit.
pub(super) const JSON_MAX: usize = 256 << 10;

/// The router for the peer listener's HTTP/1.1 side.
pub fn router(blobs: Replicated) -> Router {
    let json = axum::extract::DefaultBodyLimit::max(JSON_MAX);
    Router::new()
        .route("/blob/{digest}", get(blob))
        .route("/blob/{digest}/hold", post(hold))
        .route("/confirm", post(confirm))
        .layer(json)
        .route("/upload", post(begin).get(progress).patch(append).delete(cancel))
        .route("/upload/claim", post(claim))
        .route("/upload/hold", post(finish))
        .route("/mirror", post(mirror_open).patch(mirror_append).delete(mirror_drop))
        .route("/mirror/hold", post(mirror_hold))
        .layer(middleware::from_fn(only_peers))
        .with_state(blobs)
}

type Answer<T> = Result<Json<T>, Refused>;

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

/// `GET` and `HEAD`: axum drops the body of the latter, the headers stay.
async fn blob(
    State(blobs): State<Replicated>,
    Path(digest): Path<Digest>,
    method: http::Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let store = blobs.store();
    let size = store.has(&digest).ok_or(Fault::Unknown)?;
    let mut reply = Response::builder().header(wire::SIZE, size).header(header::CONTENT_TYPE, OCTETS);
    if let Some(at) = store.verified_at(&digest) {
        reply = reply.header(wire::VERIFIED_AT, at);
    }
    let range = match headers.get(header::RANGE) {
        None => 0..size,
        Some(range) => {
            let range = range.to_str().ok().and_then(|text| parse_range(text, size));
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
    let body = super::body_of(body.map(|item| item.map_err(std::io::Error::other)));
    reply.header(header::CONTENT_LENGTH, length).body(body).map_err(|error| Fault::unavailable(error).into())
}

const OCTETS: &str = "application/octet-stream";

/// `bytes=a-b` within `size`: the one form that a peer sends.
pub(super) fn parse_range(text: &str, size: u64) -> Option<std::ops::Range<u64>> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    (start <= last && last < size).then(|| start..last + 1)
}

async fn confirm(State(blobs): State<Replicated>, Json(question): Json<Confirm>) -> Answer<Confirmed> {
    if question.digests.len() > wire::CONFIRM_MAX {
        return Err(Fault::TooMany.into());
    }
    let mut held = Vec::with_capacity(question.digests.len());
    for digest in &question.digests {
        let confirmed = blobs.store().confirm(digest).await.map_err(Fault::unavailable)?;
        held.push(confirmed.map(|held| held.generation));
    }
    Ok(Json(Confirmed { held }))
}

async fn hold(
    State(blobs): State<Replicated>,
    Path(digest): Path<Digest>,
    Json(from): Json<HoldFrom>,
) -> Answer<Finished> {
    Ok(Json(blobs.hold_here(&digest, &from.sources).await?))
}

/// The repository and ticket that an upload's request names.
fn upload_of(blobs: &Replicated, headers: &HeaderMap) -> Result<(RepoName, Ticket), Fault> {
    let repo = repo_of(headers)?;
    let text = headers.get(wire::TICKET).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let ticket = blobs.uploads().open(&repo, text)?;
    Ok((repo, ticket))
}

fn repo_of(headers: &HeaderMap) -> Result<RepoName, Fault> {
    let text = headers.get(wire::REPO).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).ok_or(Fault::Unknown)
}

fn stream_of(body: Body) -> trow_api::blobs::ByteStream {
    Box::pin(body.into_data_stream().map(|item| item.map_err(std::io::Error::other)))
}

async fn begin(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> Answer<Claimed> {
    let repo = repo_of(&headers)?;
    Ok(Json(blobs.uploads().begin(&repo, query.hint.map(Into::into)).await?))
}

async fn claim(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> Answer<Claimed> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    Ok(Json(match query.takeover {
        true => blobs.uploads().take_over(&repo, &ticket, query.closing).await?,
        false => blobs.uploads().claim(&repo, &ticket, query.closing)?,
    }))
}

async fn progress(State(blobs): State<Replicated>, headers: HeaderMap) -> Answer<Claimed> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    Ok(Json(blobs.uploads().progress(&repo, &ticket).await?))
}

async fn append(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Claimed> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    Ok(Json(blobs.uploads().append(&repo, &ticket, query.at, stream_of(body)).await?))
}

async fn finish(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Finished> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    let digest = query.digest.ok_or(Fault::Unknown)?;
    Ok(Json(blobs.uploads().finish(&repo, &ticket, &digest, query.at, stream_of(body)).await?))
}

async fn cancel(State(blobs): State<Replicated>, headers: HeaderMap) -> Answer<()> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    Ok(Json(blobs.uploads().cancel(&repo, &ticket).await?))
}

async fn mirror_open(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> Answer<Length> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    Ok(Json(blobs.uploads().mirror_open(&repo, &ticket, query.reset).await?))
}

async fn mirror_append(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Length> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    let at = query.at.ok_or(Fault::Unknown)?;
    Ok(Json(blobs.uploads().mirror_append(&repo, &ticket, at, stream_of(body)).await?))
}

async fn mirror_hold(
    State(blobs): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> Answer<Finished> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    let (digest, length) = query.digest.zip(query.length).ok_or(Fault::Unknown)?;
    Ok(Json(blobs.uploads().mirror_hold(&repo, &ticket, &digest, length).await?))
}

async fn mirror_drop(State(blobs): State<Replicated>, headers: HeaderMap) -> Answer<()> {
    let (repo, ticket) = upload_of(&blobs, &headers)?;
    Ok(Json(blobs.uploads().mirror_drop(&repo, &ticket).await?))
}
