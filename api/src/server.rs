//! Assembles the client listener's router: what every request and every reply has in common.
//!
//! Every reply, errors too, carries `Trow-Node`, `X-Request-Id` and `nosniff`, and is counted and
//! logged.
//! Endpoints are told apart by [`Route`](crate::route::Route) alone, not by the framework's patterns, since repository
//! names contain slashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tracing::{Instrument, Span};
use trow_raft::Metadata;

use crate::access::{Line, Logged, shown};
use crate::auth::{AdminToken, Auth};
use crate::blobs::Blobs;
use crate::error::{Error, Problem};
use crate::manifest::replies::Replies;
use crate::metrics::HttpMetrics;
use crate::pull::{Prefixes, Upstreams};
use crate::request_id::{self, RequestId};

/// What a router is made of.
pub struct Api {
    /// What the cluster agrees on.
    pub metadata: Metadata,
    /// Where blob bytes are.
    pub blobs: Arc<dyn Blobs>,
    /// What upstream registries have.
    pub upstreams: Arc<dyn Upstreams>,
    /// Whether a request comes from this cluster itself, fetching from an upstream that it is.
    pub looped: Looped,
    /// This node's name, for `Trow-Node`.
    pub node: String,
    /// Lets an administrator in.
    pub token: AdminToken,
    /// What is kept in memory for reads of manifests.
    pub replies: Replies,
    /// Where requests are counted.
    pub metrics: HttpMetrics,
    /// What may be chosen.
    pub settings: Settings,
    /// Served beside `/v2`, with the same common headers: the routes under `/-/`.
    pub admin: Router,
    /// Makes a request's span a part of the trace that its headers name.
    pub adopt: fn(&Span, &HeaderMap),
}

/// Tells by a request's headers whether it is one of our own to an upstream.
pub type Looped = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// The settings that the API looks at; names as in the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `server.hostnames`: `ns=` of one of these means this registry.
    pub hostnames: Vec<String>,
    /// `prefixes`: what is below one of these is of that upstream registry.
    pub prefixes: Prefixes,
    /// `reads.without_quorum`.
    pub without_quorum: WithoutQuorum,
    /// `registry.sparse`: a manifest may name what is not here.
    pub sparse: bool,
    /// `registry.delete`: false answers 405 to deletes.
    pub delete: bool,
    /// `gc.grace`: how long what nothing uses is kept.
    pub gc_grace: Duration,
    /// `auth`: who may pull and push.
    pub auth: Auth,
}

/// `reads.without_quorum`: what a read by name gets when no quorum confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutQuorum {
    /// What this node knows, saying that it is stale.
    Stale,
    /// 503.
    Refuse,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            hostnames: Vec::new(),
            prefixes: Prefixes::default(),
            without_quorum: WithoutQuorum::Stale,
            sparse: false,
            delete: true,
            gc_grace: Duration::from_secs(24 * 3600),
            auth: Auth::default(),
        }
    }
}

/// Names the node that answered.
pub const NODE: HeaderName = HeaderName::from_static("trow-node");

/// The client listener's router. Needs a Tokio runtime.
pub fn router(api: Api) -> Router {
    let common = Common::new(&api.node, api.metrics.clone(), api.adopt);
    let admin = api.admin.clone();
    let endpoints = Arc::new(crate::endpoints::Endpoints::new(api));
    with_common(Router::new().fallback(crate::endpoints::serve).with_state(endpoints).merge(admin), common)
}

/// `router`, with what all requests and replies have in common.
pub(crate) fn with_common(router: Router, common: Common) -> Router {
    router.layer(middleware::from_fn(refuse)).layer(middleware::from_fn_with_state(Arc::new(common), observe))
}

/// In the extensions of a request that the listener could not read: it gets this problem with
/// this message, whatever its path.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub Problem, pub &'static str);

/// Answers a [`Refused`] request, and passes any other on.
pub async fn refuse(request: Request, next: Next) -> Response {
    match request.extensions().get::<Refused>() {
        Some(Refused(problem, message)) => Error::new(*problem, *message).into_response(),
        None => next.run(request).await,
    }
}

/// What that is made of.
pub(crate) struct Common {
    node: HeaderValue,
    metrics: HttpMetrics,
    adopt: fn(&Span, &HeaderMap),
}

impl Common {
    pub(crate) fn new(node: &str, metrics: HttpMetrics, adopt: fn(&Span, &HeaderMap)) -> Common {
        let node = HeaderValue::from_str(node).unwrap_or(HeaderValue::from_static("unnamed"));
        Common { node, metrics, adopt }
    }
}

/// The endpoint's label, put on a reply by whoever knows it.
#[derive(Clone, Copy)]
pub(crate) struct Label(pub(crate) &'static str);

async fn observe(State(common): State<Arc<Common>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = RequestId::accept(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let (caller, registry) = (tracing::field::Empty, tracing::field::Empty);
    let path_shown = shown(&path);
    let span = tracing::info_span!("request", request_id = %id, %method, path = path_shown, registry, caller);
    (common.adopt)(&span, request.headers());
    let under = span.clone();
    let work = async {
        let mut response = id.clone().scope(next.run(request)).await;
        let took = began.elapsed();
        let status = response.status();
        let label = match response.extensions().get::<Label>() {
            Some(Label(label)) => label,
            None if path.starts_with("/-/") => "admin",
            None => "other",
        };
        common.metrics.observe(label, &method, status.as_u16(), took);
        let headers = response.headers_mut();
        headers.insert(NODE, common.node.clone());
        headers.insert(request_id::HEADER, id.to_header());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let (status, has_body) = (status.as_u16(), method != Method::HEAD);
        let line = Line { span: under, began, status, has_body, length };
        response.map(|body| Logged::wrap(body, line))
    };
    work.instrument(span).await
}

/// 405 with what the endpoint does have.
pub(crate) fn method_not_allowed(allow: &'static str, method: &Method) -> Response {
    Error::new(Problem::Unsupported, format!("{method} is not a method of this endpoint"))
        .detail(serde_json::json!({ "method": method.as_str(), "allow": allow }))
        .header(header::ALLOW, HeaderValue::from_static(allow))
        .into_response()
}
