//! Uploads (end-4, end-5, end-6, end-11, end-13, end-14): sessions, and mounting without one.
//!
//! The session itself lives behind [`Blobs`]; here requests are read and replies written.

use std::str::FromStr;

use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use trow_raft::{Algorithm, Command, Digest, Outcome, RepoName};

use crate::auth::Caller;
use crate::blob::visible;
use crate::blobs::{Blobs, ByteStream, UploadError, UploadToken};
use crate::body::Incoming;
use crate::changes::Changes;
use crate::error::{Error, Problem};
use crate::headers;
use crate::metrics::HttpMetrics;
use crate::pull::resolve::{Named, Namespace, Resolver, spelled};
use crate::pull::{UpstreamName, Upstreams};
use crate::query::Query;
use crate::range;
use crate::reads::Reads;
use crate::route::{parse_digest, shown};

/// The handles that uploads use.
pub(crate) struct UploadEndpoint<'a> {
    pub(crate) reads: &'a Reads,
    pub(crate) changes: &'a Changes,
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) upstreams: &'a dyn Upstreams,
    pub(crate) resolver: &'a Resolver,
    pub(crate) metrics: &'a HttpMetrics,
    pub(crate) repo: &'a RepoName,
    pub(crate) caller: &'a Caller,
    pub(crate) actor: &'a str,
}

impl UploadEndpoint<'_> {
    /// POST: mounts, takes a whole blob, or opens a session.
    pub(crate) async fn post(&self, query: &Query, body: Incoming) -> Result<Response, Error> {
        if let Some(digest) = query.get("mount") {
            let digest = parse_digest(digest)?;
            if let Some(index) = self.mount(&digest, query.get("from")).await? {
                return Ok(self.created(&digest, index));
            }
        }
        if let Some(digest) = query.get("digest") {
            let digest = parse_digest(digest)?;
            let token = self.blobs.start(self.repo, Some(digest.algorithm())).await?;
            let body = body.counted(self.metrics.clone());
            return self.finish_whole(&token, &digest, body).await;
        }
        let hint = query.get("digest-algorithm").map(Algorithm::from_str).transpose();
        let hint = hint.map_err(|why| {
            Error::new(Problem::DigestInvalid, why.to_string())
                .detail(json!({ "digest-algorithm": query.get("digest-algorithm").map(shown) }))
        })?;
        let token = self.blobs.start(self.repo, hint).await?;
        Ok(self.session(StatusCode::ACCEPTED, &token, 0))
    }

    /// The index at which the blob was linked here, if it could be: otherwise it must be sent.
    async fn mount(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, Error> {
        let source = match from {
            Some(name) => {
                let name: RepoName =
                    spelled(name).parse().map_err(|why: trow_raft::name::InvalidRepoName| {
                        Error::new(Problem::NameInvalid, why.to_string())
                            .detail(json!({ "from": shown(name) }))
                    })?;
                let name = match self.resolver.resolve(&name, &Namespace::Own)? {
                    Named::Own(name) => name,
                    Named::Upstream(name) => return Ok(self.mount_cached(&name, digest).await),
                };
                self.reads.by_digest(|view| Ok(visible(view, &name, digest)?.map(|_| name.clone()))).await?
            }
            // Whoever may push may pull, from every repository: any of them will do.
            None => {
                let look = |view: &trow_raft::View| match view.repos_of(digest)?.into_iter().next() {
                    Some(name) => Ok(visible(view, &name, digest)?.map(|_| name)),
                    None => Ok(None),
                };
                self.reads.by_digest(look).await?
            }
        };
        let Some(from) = source.value else { return Ok(None) };
        let command = Command::MountBlob { from, to: self.repo.clone(), digest: *digest };
        match self.changes.make(self.actor, command).await {
            Ok(index) => Ok(Some(index)),
            // It went away in between; sending it works.
            Err(error)
                if matches!(error.problem(), Problem::ManifestUnknown | Problem::ManifestBlobUnknown) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Self::mount`], of what is cached of an upstream: it becomes durable first, by the word of
    /// nodes that hold it, as an upload would.
    async fn mount_cached(&self, name: &UpstreamName, digest: &Digest) -> Option<u64> {
        if *self.caller == Caller::Anonymous && self.upstreams.needs_user(name) {
            return None;
        }
        let (size, evidence) = self.upstreams.hold(name, digest).await?;
        let command = Command::CommitBlob { repo: self.repo.clone(), digest: *digest, size, evidence };
        match self.changes.make(self.actor, command).await {
            Ok(index) => Some(index),
            // Sending it works, or says what does not.
            Err(error) => {
                tracing::debug!(%digest, ?error, "a cached blob was not mounted");
                None
            }
        }
    }

    async fn finish_whole(
        &self,
        token: &UploadToken,
        digest: &Digest,
        body: ByteStream,
    ) -> Result<Response, Error> {
        let done = self.blobs.finish(self.repo, token, digest, Some(0), body, self.actor).await;
        if done.is_err() {
            // The client has no Location to go on with; what was staged is of no use.
            let _ = self.blobs.cancel(self.repo, token).await;
        }
        self.finished(digest, done)
    }

    /// PATCH: appends a chunk, or everything in one stream.
    pub(crate) async fn patch(
        &self,
        token: &UploadToken,
        request: &HeaderMap,
        body: Incoming,
    ) -> Result<Response, Error> {
        let at = chunk_start(request, &body)?;
        let body = body.counted(self.metrics.clone());
        let appended = self.blobs.append(self.repo, token, at, body).await;
        let (token, length) = appended.map_err(|error| self.refused(token, error))?;
        Ok(self.session(StatusCode::ACCEPTED, &token, length))
    }

    /// PUT: closes the session, with or without a last chunk.
    pub(crate) async fn put(
        &self,
        token: &UploadToken,
        query: &Query,
        request: &HeaderMap,
        body: Incoming,
    ) -> Result<Response, Error> {
        let digest = query.get("digest").ok_or_else(|| {
            Error::new(Problem::DigestInvalid, "closing an upload takes ?digest=<digest of the whole blob>")
                .detail(json!({ "parameter": "digest" }))
        })?;
        let digest = parse_digest(digest)?;
        let at = chunk_start(request, &body)?;
        let body: ByteStream = if body.length == Some(0) {
            Box::pin(stream::empty())
        } else {
            body.counted(self.metrics.clone())
        };
        let done = self.blobs.finish(self.repo, token, &digest, at, body, self.actor).await;
        match done {
            Ok(_) | Err(UploadError::DigestMismatch) => self.finished(&digest, done),
            Err(error) => Err(self.refused(token, error)),
        }
    }

    /// GET: how far it got.
    pub(crate) async fn get(&self, token: &UploadToken) -> Result<Response, Error> {
        let progress = self.blobs.progress(self.repo, token).await;
        let (token, length) = progress.map_err(|error| self.refused(token, error))?;
        Ok(self.session(StatusCode::NO_CONTENT, &token, length))
    }

    /// DELETE: whoever has the `Location` may cancel.
    pub(crate) async fn cancel(&self, token: &UploadToken) -> Result<Response, Error> {
        let cancelled = self.blobs.cancel(self.repo, token).await;
        cancelled.map_err(|error| self.refused(token, error))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    fn finished(
        &self,
        digest: &Digest,
        done: Result<trow_raft::Applied, UploadError>,
    ) -> Result<Response, Error> {
        let applied = done.map_err(|error| match error {
            UploadError::DigestMismatch => Error::from(error).detail(json!({ "digest": digest })),
            error => error.into(),
        })?;
        match applied.outcome {
            Outcome::Done => Ok(self.created(digest, applied.index)),
            Outcome::Refused(refusal) => {
                Err(Error::from(refusal).header(headers::LOG_ID, HeaderValue::from(applied.index)))
            }
        }
    }

    fn created(&self, digest: &Digest, index: u64) -> Response {
        let mut response = StatusCode::CREATED.into_response();
        headers::location(&mut response, self.repo, "blobs", digest);
        headers::digest(&mut response, digest);
        headers::log_id(&mut response, index);
        response
    }

    fn session(&self, status: StatusCode, token: &UploadToken, length: u64) -> Response {
        let mut response = status.into_response();
        headers::put(&mut response, LOCATION, &headers::upload_location(self.repo, token));
        headers::put(&mut response, RANGE, &headers::upload_range(length));
        headers::put(&mut response, headers::UPLOAD_ID, token.id());
        response
    }

    /// A chunk out of order is told where to go on.
    fn refused(&self, token: &UploadToken, error: UploadError) -> Error {
        let UploadError::OutOfOrder { have, token: newer } = &error else {
            let named = json!({ "name": self.repo, "upload": token.id() });
            return match error {
                UploadError::Unknown | UploadError::ClientGone(_) => Error::from(error).detail(named),
                error => error.into(),
            };
        };
        let (have, token) = (*have, newer.as_ref().unwrap_or(token));
        let location = HeaderValue::from_str(&headers::upload_location(self.repo, token));
        let range = HeaderValue::from_str(&headers::upload_range(have));
        let mut error = Error::from(error).detail(json!({ "have": have }));
        if let (Ok(location), Ok(range)) = (location, range) {
            error = error.header(LOCATION, location).header(RANGE, range);
        }
        error
    }
}

/// Where the chunk says it begins, if it says.
fn chunk_start(request: &HeaderMap, body: &Incoming) -> Result<Option<u64>, Error> {
    let Some(value) = request.get(CONTENT_RANGE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let chunk = range::chunk(text, body.length).map(|(start, _)| Some(start));
    chunk.map_err(|error| error.detail(json!({ "contentRange": shown(text), "contentLength": body.length })))
}

/// The token of a request: its path's id and its query's state.
pub(crate) fn token(id: &str, query: &Query) -> Result<UploadToken, Error> {
    let state = query.get("_state").unwrap_or_default();
    let unknown = || Error::from(UploadError::Unknown).detail(json!({ "upload": id }));
    UploadToken::new(id, state).ok_or_else(unknown)
}
