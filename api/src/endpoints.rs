//! Which endpoint answers a request: one table of route and method.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use tracing::Instrument;

use crate::auth::AdminToken;
use crate::blobs::Blobs;
use crate::body::{Incoming, Room};
use crate::changes::Changes;
use crate::error::{Error, Problem};
use crate::graces::Graces;
use crate::manifest::{self, Push};
use crate::metrics::HttpMetrics;
use crate::query::Query;
use crate::reads::Reads;
use crate::route::{Route, shown};
use crate::server::{Api, Label, Settings, method_not_allowed};
use crate::upload::{self, Uploads};
use crate::{blob, headers, referrers, request_id, tags};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The handles that endpoints are given, each only those it uses.
pub(crate) struct Endpoints {
    reads: Reads,
    changes: Changes,
    graces: Graces,
    blobs: Arc<dyn Blobs>,
    token: AdminToken,
    metrics: HttpMetrics,
    settings: Settings,
    manifests: Room,
}

/// Bytes of manifests that are being pushed through this node at once; as many as may be in
/// flight to the log.
const MANIFEST_ROOM: usize = trow_raft::limits::PROPOSALS_IN_FLIGHT;

/// How long one waits for room; as long as a change waits for a leader.
const MANIFEST_WAIT: Duration = Duration::from_secs(5);

/// Answers any request that no other route took.
pub(crate) async fn serve(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = Incoming::new(&head.headers, body);
    let route = match Route::parse(&head.method, head.uri.path()) {
        Ok(route) => route,
        Err(error) => return error.into_response(),
    };
    let label = Label(route.label());
    let reads_only = head.method == Method::GET || head.method == Method::HEAD;
    let work = async move { endpoints.answer(route, &head, body).await };
    let answer = if reads_only { work.await } else { to_the_end(work).await };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(label);
    response
}

/// A client that goes away must not stop a change in its middle: the work runs in a task of its
/// own, and only the answer is lost.
async fn to_the_end(
    work: impl Future<Output = Result<Response, Error>> + Send + 'static,
) -> Result<Response, Error> {
    let work = work.in_current_span();
    let task = match request_id::current() {
        Some(id) => tokio::spawn(id.scope(work)),
        None => tokio::spawn(work),
    };
    // A panic ends the process by its hook; a runtime that shuts down cancels.
    task.await.unwrap_or_else(|cause| Err(Error::internal(&cause)))
}

impl Endpoints {
    pub(crate) fn new(api: Api) -> Self {
        Endpoints {
            reads: Reads::new(api.metadata.clone(), api.settings.without_quorum),
            changes: Changes::new(api.metadata.clone()),
            graces: Graces::new(api.metadata, api.settings.gc_grace),
            blobs: api.blobs,
            token: api.token,
            metrics: api.metrics,
            settings: api.settings,
            manifests: Room::new(MANIFEST_ROOM, MANIFEST_WAIT),
        }
    }

    async fn answer(
        &self,
        route: Route,
        head: &http::request::Parts,
        body: Incoming,
    ) -> Result<Response, Error> {
        let query = Query::parse(head.uri.query())?;
        let namespace = self.namespace(&query)?;
        let mut response = self.dispatch(route, head, &query, body).await?;
        if let Some(namespace) = namespace {
            headers::put(&mut response, headers::NAMESPACE, namespace);
        }
        Ok(response)
    }

    async fn dispatch(
        &self,
        route: Route,
        head: &http::request::Parts,
        query: &Query,
        body: Incoming,
    ) -> Result<Response, Error> {
        let (reads, changes, request) = (&self.reads, &self.changes, &head.headers);
        let method = &head.method;
        let pull = method == Method::GET || method == Method::HEAD;
        let is_head = method == Method::HEAD;
        match route {
            Route::Base if pull => Ok(base()),
            Route::Catalog if pull => tags::catalog(reads, query).await,
            Route::Extensions if pull => Ok(Json(json!({ "extensions": [] })).into_response()),
            Route::Tags(repo) if pull => tags::list(reads, &repo, query).await,
            Route::Referrers(repo, subject) if pull => referrers::list(reads, &repo, &subject, query).await,
            Route::Manifest(repo, reference) if pull => {
                manifest::get(reads, &repo, &reference, request, is_head).await
            }
            Route::Manifest(repo, reference) if method == Method::PUT => {
                let (sparse, actor) = (self.settings.sparse, self.actor(request));
                let push = Push { reads, changes, sparse, room: &self.manifests, repo: &repo, actor };
                push.put(&reference, query, request, body).await
            }
            Route::Manifest(repo, reference) if method == Method::DELETE => {
                let actor = self.may_delete(request)?;
                manifest::delete(changes, actor, (repo, reference), request).await
            }
            Route::Blob(repo, digest) if is_head => {
                blob::head(reads, &self.graces, (&repo, &digest), request).await
            }
            Route::Blob(repo, digest) if pull => {
                blob::get(reads, &*self.blobs, &self.metrics, (&repo, &digest), request).await
            }
            Route::Blob(repo, digest) if method == Method::DELETE => {
                let actor = self.may_delete(request)?;
                blob::delete(changes, actor, repo, digest).await
            }
            Route::Uploads(repo) if method == Method::POST => {
                self.uploads(&repo, request).post(query, body).await
            }
            Route::Upload(repo, id) if pull && !is_head => {
                self.uploads(&repo, request).get(&upload::token(&id, query)?).await
            }
            Route::Upload(repo, id) if method == Method::PATCH => {
                self.uploads(&repo, request).patch(&upload::token(&id, query)?, request, body).await
            }
            Route::Upload(repo, id) if method == Method::PUT => {
                self.uploads(&repo, request).put(&upload::token(&id, query)?, query, request, body).await
            }
            Route::Upload(repo, id) if method == Method::DELETE => {
                self.uploads(&repo, request).cancel(&upload::token(&id, query)?).await
            }
            other => Ok(method_not_allowed(other.methods(), method)),
        }
    }

    fn uploads<'a>(&'a self, repo: &'a trow_raft::RepoName, request: &HeaderMap) -> Uploads<'a> {
        Uploads {
            reads: &self.reads,
            changes: &self.changes,
            blobs: &*self.blobs,
            metrics: &self.metrics,
            repo,
            actor: self.actor(request),
        }
    }

    /// On whose behalf a change is made.
    fn actor(&self, request: &HeaderMap) -> &'static str {
        if self.token.allows(request) { "admin" } else { "anonymous" }
    }

    fn may_delete(&self, request: &HeaderMap) -> Result<&'static str, Error> {
        if !self.settings.delete {
            return Err(Error::new(
                Problem::Unsupported,
                "deleting is switched off: registry.delete = false",
            ));
        }
        self.token.require(request)?;
        Ok("admin")
    }

    /// A mirror client says whose content it means; only our own is here.
    fn namespace<'a>(&self, query: &'a Query) -> Result<Option<&'a str>, Error> {
        let Some(namespace) = query.get("ns") else { return Ok(None) };
        if self.settings.hostnames.iter().any(|name| name.eq_ignore_ascii_case(namespace)) {
            return Ok(Some(namespace));
        }
        let why = "this registry does not have content of that namespace; its own names are server.hostnames";
        Err(Error::new(Problem::NameUnknown, why).detail(json!({ "ns": shown(namespace) })))
    }
}

fn base() -> Response {
    let mut response = Json(json!({})).into_response();
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}
