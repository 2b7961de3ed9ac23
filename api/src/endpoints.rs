//! Which endpoint answers a request: one table of route and method.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;
use tracing::Instrument;

use crate::auth::{self, Access, Action, Caller};
use crate::blobs::Blobs;
use crate::body::{Incoming, Room};
use crate::changes::Changes;
use crate::error::{Error, Problem};
use crate::graces::Graces;
use crate::manifest::replies::{Asked, Replies};
use crate::manifest::{self, Push};
use crate::metrics::HttpMetrics;
use crate::query::Query;
use crate::reads::Reads;
use crate::route::{Route, shown};
use crate::server::{Api, Label, Settings, method_not_allowed};
use crate::upload::{self, UploadEndpoint};
use crate::{blob, headers, referrers, request_id, tags};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The handles that endpoints are given, each only those it uses.
pub(crate) struct Endpoints {
    reads: Reads,
    replies: Replies,
    changes: Changes,
    graces: Graces,
    blobs: Arc<dyn Blobs>,
    access: Access,
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
        Err(error) if !head.uri.path().starts_with("/v2/") => return error.into_response(),
        route => route,
    };
    let label = route.as_ref().ok().map(|route| Label(route.label()));
    let answer = endpoints.answer(route, head, body).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if let Some(label) = label {
        response.extensions_mut().insert(label);
    }
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
            replies: api.replies,
            changes: Changes::new(api.metadata.clone()),
            graces: Graces::new(api.metadata, api.settings.gc_grace),
            blobs: api.blobs,
            access: Access::new(api.token, &api.settings.auth),
            metrics: api.metrics,
            settings: api.settings,
            manifests: Room::new(MANIFEST_ROOM, MANIFEST_WAIT),
        }
    }

    async fn answer(
        self: Arc<Self>,
        route: Result<Route, Error>,
        head: http::request::Parts,
        body: Incoming,
    ) -> Result<Response, Error> {
        // Before anything is said of what is stored, or malformed, and before the body is read.
        let action = self.action(&route, &head.method);
        let caller = self.access.require(action, &head.headers, &head.extensions).await?;
        let route = route?;
        let reads_only = head.method == Method::GET || head.method == Method::HEAD;
        let work = async move { self.answer_to(&caller, route, &head, body).await };
        if reads_only { work.await } else { to_the_end(work).await }
    }

    /// What a request asks for, as far as rights go.
    fn action(&self, route: &Result<Route, Error>, method: &Method) -> Action {
        let reads = method == Method::GET || method == Method::HEAD;
        match route {
            Ok(Route::Uploads(_) | Route::Upload(..)) => Action::Push,
            Ok(Route::Manifest(..)) if method == Method::PUT => Action::Push,
            // What is switched off is nobody's right: whoever may look is told so.
            Ok(Route::Manifest(..) | Route::Blob(..)) if method == Method::DELETE && self.settings.delete => {
                Action::Delete
            }
            // A method that the endpoint does not have does nothing.
            Ok(_) => Action::Pull,
            Err(error) if reads && error.problem() != Problem::UploadUnknown => Action::Pull,
            Err(_) => Action::Push,
        }
    }

    async fn answer_to(
        &self,
        caller: &Caller,
        route: Route,
        head: &http::request::Parts,
        body: Incoming,
    ) -> Result<Response, Error> {
        let query = Query::parse(head.uri.query())?;
        let namespace = self.namespace(&query)?;
        let mut response = self.dispatch(caller, route, head, &query, body).await?;
        if let Some(namespace) = namespace {
            headers::put(&mut response, headers::NAMESPACE, namespace);
        }
        Ok(response)
    }

    async fn dispatch(
        &self,
        caller: &Caller,
        route: Route,
        head: &http::request::Parts,
        query: &Query,
        body: Incoming,
    ) -> Result<Response, Error> {
        let (reads, changes, request) = (&self.reads, &self.changes, &head.headers);
        let method = &head.method;
        let pull = method == Method::GET || method == Method::HEAD;
        let is_head = method == Method::HEAD;
        let actor = caller.name();
        match route {
            Route::Base if pull => Ok(base(caller)),
            Route::Catalog if pull => tags::catalog(reads, query).await,
            Route::Extensions if pull => Ok(Json(json!({ "extensions": [] })).into_response()),
            Route::Tags(repo) if pull => tags::list(reads, &repo, query).await,
            Route::Referrers(repo, subject) if pull => referrers::list(reads, &repo, &subject, query).await,
            Route::Manifest(repo, reference) if pull => {
                let asked = Asked { repo: &repo, reference: &reference };
                manifest::get(reads, &self.replies, asked, request, is_head).await
            }
            Route::Manifest(repo, reference) if method == Method::PUT => {
                let sparse = self.settings.sparse;
                let push = Push { reads, changes, sparse, room: &self.manifests, repo: &repo, actor };
                push.put(&reference, query, request, body).await
            }
            Route::Manifest(repo, reference) if method == Method::DELETE => {
                self.deleting()?;
                manifest::delete(changes, actor, (repo, reference), request).await
            }
            Route::Blob(repo, digest) if is_head => {
                blob::head(reads, &self.graces, (&repo, &digest), request).await
            }
            Route::Blob(repo, digest) if pull => {
                blob::get(reads, &*self.blobs, &self.metrics, (&repo, &digest), request).await
            }
            Route::Blob(repo, digest) if method == Method::DELETE => {
                self.deleting()?;
                blob::delete(changes, actor, repo, digest).await
            }
            Route::Uploads(repo) if method == Method::POST => {
                self.uploads(&repo, actor).post(query, body).await
            }
            Route::Upload(repo, id) if pull && !is_head => {
                self.uploads(&repo, actor).get(&upload::token(&id, query)?).await
            }
            Route::Upload(repo, id) if method == Method::PATCH => {
                self.uploads(&repo, actor).patch(&upload::token(&id, query)?, request, body).await
            }
            Route::Upload(repo, id) if method == Method::PUT => {
                self.uploads(&repo, actor).put(&upload::token(&id, query)?, query, request, body).await
            }
            Route::Upload(repo, id) if method == Method::DELETE => {
                self.uploads(&repo, actor).cancel(&upload::token(&id, query)?).await
            }
            other => Ok(method_not_allowed(other.methods(), method)),
        }
    }

    fn uploads<'a>(&'a self, repo: &'a trow_raft::RepoName, actor: &'a str) -> UploadEndpoint<'a> {
        UploadEndpoint {
            reads: &self.reads,
            changes: &self.changes,
            blobs: &*self.blobs,
            metrics: &self.metrics,
            repo,
            actor,
        }
    }

    fn deleting(&self) -> Result<(), Error> {
        if self.settings.delete {
            return Ok(());
        }
        Err(Error::new(Problem::Unsupported, "deleting is switched off: registry.delete = false"))
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

fn base(caller: &Caller) -> Response {
    let mut response = Json(json!({})).into_response();
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if *caller == Caller::Anonymous {
        response.headers_mut().insert(WWW_AUTHENTICATE, auth::CHALLENGE);
    }
    response
}
