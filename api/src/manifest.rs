//! Manifests by tag and by digest (end-3, end-7, end-9).

mod condition;
mod json;
pub(crate) mod media_type;
pub mod parse;
mod push;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use trow_raft::{Command, Digest, RepoName, StateError, View};

pub(crate) use push::Push;

use crate::changes::Changes;
use crate::error::{Error, Problem};
use crate::reads::{Found, Reads};
use crate::route::Reference;
use crate::{etag, headers};

/// A manifest as it is served.
struct Stored {
    digest: Digest,
    media_type: String,
    /// Log index of the entry that made it so: that moved the tag, or stored the manifest.
    index: u64,
    size: u64,
    /// Not read for a HEAD.
    bytes: Option<Bytes>,
}

fn stored(
    view: &View,
    repo: &RepoName,
    digest: &Digest,
    index: Option<u64>,
    head: bool,
) -> Result<Option<Stored>, StateError> {
    let Some(row) = view.manifest(repo, digest)? else { return Ok(None) };
    let bytes = if head { None } else { view.body(digest)? };
    if bytes.is_none() && !head {
        return Ok(None);
    }
    let index = index.unwrap_or(row.index);
    Ok(Some(Stored { digest: *digest, media_type: row.media_type, index, size: row.size, bytes }))
}

/// GET and HEAD.
pub(crate) async fn get(
    reads: &Reads,
    repo: &RepoName,
    reference: &Reference,
    request: &HeaderMap,
    head: bool,
) -> Result<Response, Error> {
    let found = match reference {
        Reference::Digest(digest) => reads.by_digest(|view| stored(view, repo, digest, None, head)).await?,
        Reference::Tag(tag) => {
            let look = |view: &View| match view.tag(repo, tag)? {
                Some(row) => stored(view, repo, &row.digest, Some(row.revision), head),
                None => Ok(None),
            };
            reads.by_name(look).await?
        }
    };
    let Found { value, at, warning } = found;
    let Some(stored) = value else { return Err(unknown(repo, reference, at)) };
    let mut response = if etag::is_known(request, &stored.digest) {
        etag::not_modified(&stored.digest)
    } else {
        let mut response = Response::new(stored.bytes.map_or_else(Body::empty, Body::from));
        let all = response.headers_mut();
        all.insert(CONTENT_LENGTH, HeaderValue::from(stored.size));
        // One of a few known types: text that was parsed.
        let media_type = HeaderValue::from_str(&stored.media_type);
        all.insert(CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        etag::put(&mut response, &stored.digest);
        response
    };
    headers::log_id(&mut response, stored.index);
    headers::warning(&mut response, warning);
    Ok(response)
}

fn unknown(repo: &RepoName, reference: &Reference, at: u64) -> Error {
    Error::new(Problem::ManifestUnknown, "the manifest is not in the repository")
        .detail(json!({ "name": repo, "reference": reference.to_string() }))
        .header(headers::LOG_ID, HeaderValue::from(at))
}

/// DELETE of a tag, or of a manifest and the tags that point to it.
pub(crate) async fn delete(
    changes: &Changes,
    actor: &str,
    (repo, reference): (RepoName, Reference),
    request: &HeaderMap,
) -> Result<Response, Error> {
    let condition = condition::of(request)?;
    let named = json!({ "name": &repo, "reference": reference.to_string() });
    let command = match reference {
        Reference::Tag(tag) => Command::DeleteTag { repo, tag, condition },
        Reference::Digest(_) if condition.is_some() => return Err(condition::only_tags()),
        Reference::Digest(digest) => Command::DeleteManifest { repo, digest },
    };
    let index = changes.make_everywhere(actor, command).await.map_err(|error| match error.problem() {
        Problem::ManifestUnknown => error.detail(named),
        _ => error,
    })?;
    let mut response = StatusCode::ACCEPTED.into_response();
    headers::log_id(&mut response, index);
    Ok(response)
}
