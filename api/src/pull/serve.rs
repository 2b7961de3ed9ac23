//! Which endpoint answers a request for an upstream's content, and how what goes wrong is told.
//!
//! Read only: what is here of upstreams is theirs, and pushing to it would make two contents of one
//! name. Always holds: a miss is 404 and an upstream that does not answer 503, since container
//! runtimes that read 429 from a mirror ask it again instead of the next one.

use axum::response::Response;
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

use super::port::{PullError, Upstreams};
use super::{UpstreamName, blob, lists, manifest};
use crate::auth;
use crate::blob::outside;
use crate::error::{Error, Problem};
use crate::headers;
use crate::metrics::HttpMetrics;
use crate::query::Query;
use crate::reads::Reads;
use crate::route::Route;

/// A request for something of an upstream, with the handles that it takes.
pub(crate) struct Pull<'a> {
    pub(crate) upstreams: &'a dyn Upstreams,
    pub(crate) reads: &'a Reads,
    pub(crate) metrics: &'a HttpMetrics,
    pub(crate) name: &'a UpstreamName,
    /// As the client wrote it, for links to next pages.
    pub(crate) path: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) request: &'a HeaderMap,
}

impl Pull<'_> {
    /// Answers it; `route` is what its path names.
    pub(crate) async fn serve(&self, route: Route, method: &Method) -> Result<Response, Error> {
        let is_head = method == Method::HEAD;
        match route {
            _ if !is_head && method != Method::GET => Err(self.read_only(method)),
            Route::Manifest(_, reference) => manifest::get(self, &reference, is_head).await,
            Route::Blob(_, digest) if is_head => blob::head(self, &digest).await,
            Route::Blob(_, digest) => blob::get(self, &digest).await,
            Route::Tags(_) => lists::tags(self).await,
            Route::Referrers(_, subject) => lists::referrers(self, &subject).await,
            // Uploads have no content to be read either.
            _ => Err(self.read_only(method)),
        }
    }

    /// 405 that says why.
    fn read_only(&self, method: &Method) -> Error {
        let why = format!(
            "{} is of another registry, and read only here: push to that registry, or to a repository of this \
             one under another name; what is cached of it goes with `trow cache purge`",
            self.name
        );
        Error::new(Problem::Unsupported, why)
            .detail(json!({ "method": method.as_str(), "name": self.name.local() }))
            .header(ALLOW, HeaderValue::from_static("GET, HEAD"))
    }

    /// What a client is told; `unknown` says what kind of thing was asked for, `what` which.
    pub(super) fn refused(&self, error: PullError, unknown: Problem, what: &str) -> Error {
        let named =
            json!({ "name": self.name.local(), "registry": self.name.host().as_str(), "reference": what });
        let said = error.to_string();
        match error {
            PullError::NotFound | PullError::Offline => Error::new(unknown, said).detail(named),
            PullError::Denied(_) => Error::new(Problem::Denied, said).detail(named),
            PullError::LoginNeeded => auth::unauthorized(said).detail(named),
            PullError::Range { size } => outside(size),
            PullError::Unavailable { retry, .. } => {
                Error::new(Problem::Unavailable, said).detail(named).retry_after(retry)
            }
            PullError::Bad(_) => Error::new(Problem::BadUpstream, said).detail(named),
            PullError::Failed => {
                Error::new(Problem::Internal, "the node failed; its log says why, under this request's id")
            }
        }
    }

    /// As [`Self::refused`], for what is asked for by name: at which index it was looked for.
    pub(super) fn refused_name(&self, error: PullError, unknown: Problem, what: &str) -> Error {
        let error = self.refused(error, unknown, what);
        match self.reads.applied() {
            Ok(at) => error.header(headers::LOG_ID, HeaderValue::from(at)),
            Err(other) => other,
        }
    }
}
