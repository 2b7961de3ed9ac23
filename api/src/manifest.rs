//! Manifests by tag and by digest (end-3, end-7, end-9).

mod condition;
pub(crate) mod json;
pub(crate) mod media_type;
pub mod parse;
mod push;
pub(crate) mod replies;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use trow_raft::{Command, RepoName, View};

pub(crate) use push::Push;
use replies::{Asked, Replies};

use crate::changes::Changes;
use crate::error::{Error, Problem};
use crate::reads::{Found, Reads};
use crate::route::Reference;
use crate::{etag, headers};

/// GET and HEAD.
pub(crate) async fn get(
    reads: &Reads,
    replies: &Replies,
    asked: Asked<'_>,
    request: &HeaderMap,
    head: bool,
) -> Result<Response, Error> {
    let kept = || replies.kept(asked);
    let look = |view: &View| replies.read(view, asked, head);
    let found = match asked.reference {
        Reference::Digest(_) => reads.by_digest_or(kept, look).await?,
        Reference::Tag(_) => reads.by_name_or(kept, look).await?,
    };
    let Found { value, at, warning } = found;
    let Some(reply) = value else { return Err(unknown(asked.repo, asked.reference, at)) };
    let mut response = if etag::is_known(request, &reply.digest) {
        etag::not_modified(&reply.digest)
    } else {
        let bytes = if head { None } else { reply.bytes.clone() };
        let mut response = Response::new(bytes.map_or_else(Body::empty, Body::from));
        reply.put_headers(response.headers_mut());
        response
    };
    headers::log_id(&mut response, reply.index);
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
