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
use crate::manifest::replies::{self, Replies};
use crate::manifest::{self, Push};
use crate::metrics::HttpMetrics;
use crate::pull::resolve::{Named, Namespace, Resolver};
use crate::pull::{Host, Pull, UpstreamName, Upstreams};
use crate::query::Query;
use crate::reads::Reads;
use crate::route::Route;
use crate::server::{Api, Label, Looped, Settings, method_not_allowed};
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
    upstreams: Arc<dyn Upstreams>,
    resolver: Resolver,
    looped: Looped,
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

/// Whose content a request means.
enum Whose {
    /// Ours; with the name of ours that was given in `ns=`.
    Own(Option<String>),
    /// Of a repository of an upstream.
    Upstream(UpstreamName),
    /// An upstream's, but of no repository.
    Registry(Host),
}

/// A request that may be answered.
struct Asked {
    route: Route,
    query: Query,
    whose: Whose,
    head: http::request::Parts,
    body: Incoming,
}

/// Answers any request that no other route took.
pub(crate) async fn serve(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = Incoming::new(&head.headers, body);
    let moved = match head.uri.path() {
        path if path == "/v2" || path.starts_with("/v2/") => None,
        path => endpoints.resolver.moved(path),
    };
    let path = moved.as_deref().unwrap_or(head.uri.path());
    let route = match Route::parse(&head.method, path) {
        Err(error) if !path.starts_with("/v2/") => return error.into_response(),
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

/// Says in the lines of this request whose content it means, which its path alone may not tell.
fn say_whose(host: &Host) {
    tracing::Span::current().record("registry", host.as_str());
}

impl Endpoints {
    pub(crate) fn new(api: Api) -> Self {
        Endpoints {
            reads: Reads::new(api.metadata.clone(), api.settings.without_quorum),
            replies: api.replies,
            changes: Changes::new(api.metadata.clone()),
            graces: Graces::new(api.metadata, api.settings.gc_grace),
            blobs: api.blobs,
            upstreams: api.upstreams,
            resolver: Resolver::new(&api.settings.hostnames, &api.settings.prefixes),
            looped: api.looped,
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
        if (self.looped)(&head.headers) {
            let why =
                "this registry was told to fetch from itself: an upstream registry's endpoint leads here";
            return Err(Error::new(Problem::Loop, why));
        }
        let meant = route.and_then(|route| {
            let query = Query::parse(head.uri.query())?;
            let whose = self.whose(&route, &query)?;
            match &whose {
                Whose::Own(_) => {}
                Whose::Upstream(name) => say_whose(name.host()),
                Whose::Registry(host) => say_whose(host),
            }
            Ok((route, query, whose))
        });
        // Before anything is said of what is stored, or malformed, and before the body is read.
        let action = self.action(&meant, &head.method);
        let caller = self.access.require(action, &head.headers, &head.extensions).await?;
        let (route, query, whose) = meant?;
        let reads_only = head.method == Method::GET || head.method == Method::HEAD;
        let request = Asked { route, query, whose, head, body };
        let work = async move { Ok(self.answer_to(&caller, request).await) };
        if reads_only { work.await } else { to_the_end(work).await }
    }

    /// Whose content a request means.
    fn whose(&self, route: &Route, query: &Query) -> Result<Whose, Error> {
        let ns = query.get("ns");
        let namespace = self.resolver.namespace(ns)?;
        let Some(repo) = route.repo() else {
            return Ok(match namespace {
                Namespace::Own => Whose::Own(ns.map(str::to_owned)),
                Namespace::Other(host) => Whose::Registry(host),
            });
        };
        Ok(match self.resolver.resolve(repo, &namespace)? {
            Named::Own(_) => Whose::Own(ns.map(str::to_owned)),
            Named::Upstream(name) => Whose::Upstream(name),
        })
    }

    /// What a request asks for, as far as rights go.
    fn action(&self, meant: &Result<(Route, Query, Whose), Error>, method: &Method) -> Action {
        let reads = method == Method::GET || method == Method::HEAD;
        let (route, whose) = match meant {
            Ok((route, _, whose)) => (route, whose),
            Err(error) if reads && error.problem() != Problem::UploadUnknown => return Action::Pull,
            Err(_) => return Action::Push,
        };
        match route {
            // Nothing of theirs can be changed here, which whoever may look is told.
            _ if !matches!(whose, Whose::Own(_)) => Action::Pull,
            Route::Uploads(_) | Route::Upload(..) => Action::Push,
            Route::Manifest(..) if method == Method::PUT => Action::Push,
            // What is switched off is nobody's right: whoever may look is told so.
            Route::Manifest(..) | Route::Blob(..) if method == Method::DELETE && self.settings.delete => {
                Action::Delete
            }
            // A method that the endpoint does not have does nothing.
            _ => Action::Pull,
        }
    }

    async fn answer_to(&self, caller: &Caller, request: Asked) -> Response {
        let Asked { route, query, whose, head, body } = request;
        let (answer, namespace) = match whose {
            Whose::Own(namespace) => (self.dispatch(caller, route, &head, &query, body).await, namespace),
            Whose::Registry(host) => (self.of_registry(caller, &route, &head.method), Some(host.to_string())),
            Whose::Upstream(name) => {
                let answer = self.pull(caller, &name, route, &head, &query).await;
                (answer, Some(name.host().to_string()))
            }
        };
        let mut response = answer.unwrap_or_else(IntoResponse::into_response);
        if let Some(namespace) = namespace {
            headers::put(&mut response, headers::NAMESPACE, &namespace);
        }
        response
    }

    async fn pull(
        &self,
        caller: &Caller,
        name: &UpstreamName,
        route: Route,
        head: &http::request::Parts,
        query: &Query,
    ) -> Result<Response, Error> {
        if *caller == Caller::Anonymous && self.upstreams.needs_user(name) {
            return Err(auth::unauthorized(
                "this comes from a registry that asks for a login: send a user's name and password",
            ));
        }
        let (upstreams, reads, metrics) = (&*self.upstreams, &self.reads, &self.metrics);
        let (path, request) = (head.uri.path(), &head.headers);
        Pull { upstreams, reads, metrics, name, path, query, request }.serve(route, &head.method).await
    }

    /// What is asked of an upstream as a whole, of which this registry answers for itself.
    fn of_registry(&self, caller: &Caller, route: &Route, method: &Method) -> Result<Response, Error> {
        let pull = method == Method::GET || method == Method::HEAD;
        match route {
            Route::Base if pull => Ok(base(caller)),
            Route::Extensions if pull => Ok(extensions()),
            Route::Catalog if pull => {
                let why = "the repositories of other registries cannot be listed";
                Err(Error::new(Problem::NoSuchPath, why))
            }
            other => Ok(method_not_allowed(other.methods(), method)),
        }
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
            Route::Extensions if pull => Ok(extensions()),
            Route::Tags(repo) if pull => tags::list(reads, &repo, query).await,
            Route::Referrers(repo, subject) if pull => referrers::list(reads, &repo, &subject, query).await,
            Route::Manifest(repo, reference) if pull => {
                let asked = replies::Asked { repo: &repo, reference: &reference };
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
                self.uploads(&repo, caller).post(query, body).await
            }
            Route::Upload(repo, id) if pull && !is_head => {
                self.uploads(&repo, caller).get(&upload::token(&id, query)?).await
            }
            Route::Upload(repo, id) if method == Method::PATCH => {
                self.uploads(&repo, caller).patch(&upload::token(&id, query)?, request, body).await
            }
            Route::Upload(repo, id) if method == Method::PUT => {
                self.uploads(&repo, caller).put(&upload::token(&id, query)?, query, request, body).await
            }
            Route::Upload(repo, id) if method == Method::DELETE => {
                self.uploads(&repo, caller).cancel(&upload::token(&id, query)?).await
            }
            other => Ok(method_not_allowed(other.methods(), method)),
        }
    }

    fn uploads<'a>(&'a self, repo: &'a trow_raft::RepoName, caller: &'a Caller) -> UploadEndpoint<'a> {
        UploadEndpoint {
            reads: &self.reads,
            changes: &self.changes,
            blobs: &*self.blobs,
            upstreams: &*self.upstreams,
            resolver: &self.resolver,
            metrics: &self.metrics,
            repo,
            caller,
            actor: caller.name(),
        }
    }

    fn deleting(&self) -> Result<(), Error> {
        if self.settings.delete {
            return Ok(());
        }
        Err(Error::new(Problem::Unsupported, "deleting is switched off: registry.delete = false"))
    }
}

fn extensions() -> Response {
    Json(json!({ "extensions": [] })).into_response()
}

fn base(caller: &Caller) -> Response {
    let mut response = Json(json!({})).into_response();
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if *caller == Caller::Anonymous {
        response.headers_mut().insert(WWW_AUTHENTICATE, auth::CHALLENGE);
    }
    response
}
