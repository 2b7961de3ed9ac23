//! Blobs by digest (end-2, end-10): GET with ranges, HEAD, and DELETE of a repository's link.
//!
//! A repository shows the blobs that are linked in it and no others, whatever the node holds.

use std::ops::Range;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use trow_raft::{Command, Digest, RepoName, StateError, View};

use crate::blobs::{Blobs, ByteStream, ReadBlobError};
use crate::changes::Changes;
use crate::error::{Error, Problem};
use crate::graces::Graces;
use crate::metrics::HttpMetrics;
use crate::range::{self, Wanted};
use crate::reads::Reads;
use crate::{etag, headers};

/// The size of a blob that `repo` shows. One that is lost is as good as not there.
pub(crate) fn visible(view: &View, repo: &RepoName, digest: &Digest) -> Result<Option<u64>, StateError> {
    if view.link(repo, digest)?.is_none() {
        return Ok(None);
    }
    Ok(view.blob(digest)?.filter(|blob| !blob.lost).map(|blob| blob.size))
}

async fn size_of(reads: &Reads, repo: &RepoName, digest: &Digest) -> Result<u64, Error> {
    let found = reads.by_digest(|view| visible(view, repo, digest)).await?;
    found.value.ok_or_else(|| unknown(repo, digest, found.at))
}

fn unknown(repo: &RepoName, digest: &Digest, at: u64) -> Error {
    Error::new(Problem::BlobUnknown, "the blob is not in the repository")
        .detail(json!({ "name": repo, "digest": digest }))
        .header(headers::LOG_ID, HeaderValue::from(at))
}

/// HEAD. A client that hears 200 does not push the blob, so from then on it is wanted.
pub(crate) async fn head(
    reads: &Reads,
    graces: &Graces,
    (repo, digest): (&RepoName, &Digest),
    request: &HeaderMap,
) -> Result<Response, Error> {
    let look = |view: &View| match visible(view, repo, digest)? {
        Some(size) => Ok(Some((size, graces.is_due(view, repo, digest)?))),
        None => Ok(None),
    };
    let found = reads.by_digest(look).await?;
    let (size, due) = found.value.ok_or_else(|| unknown(repo, digest, found.at))?;
    if due {
        graces.renew(repo, digest).await;
    }
    if etag::is_known(request, digest) {
        return Ok(etag::not_modified(digest));
    }
    Ok(reply(StatusCode::OK, digest, size, Body::empty()))
}

/// GET, whole or one range.
pub(crate) async fn get(
    reads: &Reads,
    blobs: &dyn Blobs,
    metrics: &HttpMetrics,
    (repo, digest): (&RepoName, &Digest),
    request: &HeaderMap,
) -> Result<Response, Error> {
    let size = size_of(reads, repo, digest).await?;
    if etag::is_known(request, digest) {
        return Ok(etag::not_modified(digest));
    }
    let (is_part, part) = match range::wanted(asked_range(request, digest), size) {
        Wanted::All => (false, 0..size),
        Wanted::Part(part) => (true, part),
        Wanted::Nothing => return Err(outside(size)),
    };
    let stream = blobs.open(digest, size, part.clone()).await?;
    let stream = begun(stream, part.is_empty()).await?;
    let body = Body::from_stream(watched(stream, metrics.clone(), *digest));
    Ok(part_of(size, part, is_part, digest, body))
}

/// The `Range` of a request for the blob, if it applies. Content of a digest never changes: `If-Range`
/// fails only for what was never ours.
pub(crate) fn asked_range<'a>(request: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    let text = |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    let applies = text(IF_RANGE).is_none_or(|tag| tag == etag::of(digest));
    text(RANGE).filter(|_| applies)
}

/// 416.
pub(crate) fn outside(size: u64) -> Error {
    let error = Error::new(Problem::RangeInvalid, "the range holds no byte of the blob")
        .detail(json!({ "size": size }));
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(whole) => error.header(CONTENT_RANGE, whole),
        Err(_) => error,
    }
}

/// 200 with all of a blob of `size` bytes, or 206 with the part that was asked for.
pub(crate) fn part_of(size: u64, part: Range<u64>, is_part: bool, digest: &Digest, body: Body) -> Response {
    let length = part.end - part.start;
    if !is_part {
        return reply(StatusCode::OK, digest, length, body);
    }
    let mut response = reply(StatusCode::PARTIAL_CONTENT, digest, length, body);
    let range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
    headers::put(&mut response, CONTENT_RANGE, &range);
    response
}

/// DELETE: removes the blob from this repository only.
pub(crate) async fn delete(
    changes: &Changes,
    actor: &str,
    repo: RepoName,
    digest: Digest,
) -> Result<Response, Error> {
    let named = json!({ "name": &repo, "digest": digest });
    let index = changes.make_everywhere(actor, Command::DeleteLink { repo, digest }).await;
    let index = index.map_err(|error| match error.problem() {
        Problem::ManifestUnknown => error.instead(Problem::BlobUnknown).detail(named),
        Problem::InUse => error.detail(named),
        _ => error,
    })?;
    let mut response = StatusCode::ACCEPTED.into_response();
    headers::log_id(&mut response, index);
    Ok(response)
}

pub(crate) fn reply(status: StatusCode, digest: &Digest, length: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let all = response.headers_mut();
    all.insert(CONTENT_LENGTH, HeaderValue::from(length));
    // Never what the bytes claim to be: a browser must not run them.
    all.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    all.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    etag::put(&mut response, digest);
    response
}

/// Waits for the first bytes: what fails before them can still be said in a status.
async fn begun(mut stream: ByteStream, empty: bool) -> Result<ByteStream, Error> {
    if empty {
        return Ok(stream);
    }
    let first = stream.next().await.unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
    let first = first.map_err(|cause| {
        tracing::warn!(%cause, "a blob could not be read from any node; see who is down with `trow cluster status`, and where it is with `trow blob locate`");
        Error::from(ReadBlobError::NotHere)
    })?;
    Ok(Box::pin(stream::iter([Ok(first)]).chain(stream)))
}

/// Counts what goes out, and says in the log when a body is broken off.
pub(crate) fn watched(
    stream: ByteStream,
    metrics: HttpMetrics,
    digest: Digest,
) -> impl futures::Stream<Item = std::io::Result<bytes::Bytes>> {
    let span = tracing::Span::current();
    stream.inspect(move |chunk| match chunk {
        Ok(bytes) => metrics.sent(bytes.len()),
        Err(cause) => span.in_scope(|| tracing::warn!(%digest, %cause, "a body broke off in its middle and the client sees that it is short; see who is down with `trow cluster status`")),
    })
}
