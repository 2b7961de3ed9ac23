//! Administration over HTTP: what `/-/trow/v1/` answers on the client listener.
//!
//! Always holds: without the admin token everything below the path is 401, for users too, whether
//! it exists or not; what is said about other nodes was asked at that moment. Never does: decide
//! anything that is not proposed and agreed.

pub mod audit;
mod blob;
mod cache;
pub mod distinct;
pub mod document;
mod health;
mod members;
pub mod policy;
pub mod report;
mod status;
mod warm;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::any};
use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode};
use trow_api::admission::Explainer;
use trow_api::auth::Action;
use trow_api::policy::Invalid;
use trow_api::{Access, Error, Problem};
use trow_raft::{Applied, Digest, Metadata, NoQuorum, NodeId, Outcome, ProposeError, Refusal};

use crate::replicated::Replicated;
use crate::warm::Warmer;
use crate::webhook::Trust;
use report::MemberReport;

/// How long other nodes are waited for when they are asked.
const ASK: Duration = Duration::from_secs(1);
/// How long a quorum is waited for before an answer is stale.
const CONFIRM: Duration = Duration::from_secs(2);
/// How long a change waits for a quorum, as other writes do.
const QUORUM: Duration = Duration::from_secs(5);
/// On whose behalf: who has the token is the administrator.
const ACTOR: &str = "admin";
/// How long a change waits until every reachable member knows it.
const SPREAD: Duration = Duration::from_secs(1);

/// Asks every member for its report, this node included, within the time given.
pub type Survey = Arc<dyn Fn(Duration) -> BoxFuture<'static, Vec<MemberReport>> + Send + Sync>;

/// Asks every member which of these blobs are on its disk, in order; who does not answer soon is left out.
pub type Holds = Arc<dyn Fn(Vec<Digest>) -> BoxFuture<'static, Vec<(NodeId, Vec<bool>)>> + Send + Sync>;

/// What administration works with. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    /// What the cluster agrees on.
    pub metadata: Metadata,
    /// Where blobs are.
    pub blobs: Replicated,
    /// Asks the members.
    pub survey: Survey,
    /// Pulls images from upstreams.
    pub warmer: Warmer,
    /// Decides about images as the webhooks do.
    pub explainer: Explainer,
    /// Asks the members about blobs.
    pub holds: Holds,
    /// Lets an administrator in.
    pub access: Access,
    /// Says what callers of the webhook are to trust.
    pub trust: Trust,
}

/// The routes under `/-/trow/v1`.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/-/trow/v1", any(serve_root))
        .route("/-/trow/v1/", any(serve_root))
        .route("/-/trow/v1/{*path}", any(serve))
        .with_state(admin)
}

async fn serve_root(state: State<Admin>, request: Request) -> Response {
    serve(state, Ok(Path(String::new())), request).await
}

async fn serve(
    State(admin): State<Admin>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let allowed = admin.access.require(Action::Administer, request.headers(), request.extensions());
    if let Err(refused) = allowed.await {
        return refused.into_response();
    }
    // One that cannot be read is no path of ours, which only the administrator is told.
    let path = path.map_or_else(|_| "?".to_owned(), |Path(path)| path);
    let segments: Vec<&str> = path.split('/').collect();
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let reply = match (&head.method, segments.as_slice()) {
        (&Method::GET, ["status"]) => admin.status().await.map(json),
        (&Method::GET, ["health"]) => admin.health(query).await.map(json),
        (&Method::GET, ["blobs", digest]) => admin.blob(digest).await.map(json),
        (&Method::GET, ["cache"]) => admin.cached(&head.uri).await.map(json),
        (&Method::DELETE, ["cache"]) => admin.purge(&head.uri).await.map(json),
        (&Method::PUT, ["cache", "pins"]) => admin.pin(&head.uri).await,
        (&Method::DELETE, ["cache", "pins"]) => admin.unpin(&head.uri).await,
        (&Method::POST, ["members", node, "drain"]) => admin.drain(node).await,
        (&Method::DELETE, ["members", node]) => admin.remove(node).await,
        (&Method::POST, ["cache", "warm"]) => admin.warm(body).await,
        (&Method::GET, ["policy"]) => admin.policy().await.map(json),
        (&Method::PUT, ["policy"]) => admin.set_policy(&head.uri, body).await,
        (&Method::POST, ["policy", "explain"]) => admin.explain(body).await.map(json),
        (&Method::GET, ["webhook", "ca"]) => admin.webhook_ca().await,
        (&Method::POST, ["webhook", "ca"]) => admin.replace_webhook_ca().await,
        (
            _,
            ["status" | "health" | "cache" | "policy"]
            | ["cache", "pins" | "warm"]
            | ["policy", "explain"]
            | ["webhook", "ca"]
            | ["blobs", _]
            | ["members", _, "drain"]
            | ["members", _],
        ) => Err(AdminError::Method),
        _ => Err(AdminError::NoSuchPath),
    };
    reply.unwrap_or_else(IntoResponse::into_response)
}

fn json(document: impl serde::Serialize) -> Response {
    Json(document).into_response()
}

/// Said here, and by whoever asks a node that says nothing of it.
pub(crate) const NO_QUORUM: &str =
    "the cluster has no quorum: `trow cluster status` names the nodes to start";

/// Why an administrator's request was not done.
#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error("there is no such path")]
    NoSuchPath,
    #[error("the path does not know this method")]
    Method,
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("the policy is wrong in {} places", .0.len())]
    Policy(Vec<Invalid>),
    #[error("{0}")]
    Unavailable(String),
    #[error("the state cannot be read")]
    State(#[from] trow_raft::StateError),
}

impl From<NoQuorum> for AdminError {
    fn from(_: NoQuorum) -> Self {
        AdminError::Unavailable(NO_QUORUM.to_owned())
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            AdminError::NoSuchPath | AdminError::NotFound(_) => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            AdminError::Method => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            AdminError::BadRequest(_) => (StatusCode::BAD_REQUEST, "INVALID"),
            AdminError::Conflict(_) => (StatusCode::CONFLICT, "CONFLICT"),
            AdminError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            AdminError::Policy(invalid) => return wrong(invalid),
            AdminError::Unavailable(why) => {
                return Error::new(Problem::Unavailable, why.clone()).into_response();
            }
            AdminError::State(error) => return Error::internal(error).into_response(),
        };
        let body = serde_json::json!({ "errors": [{ "code": code, "message": self.to_string() }] });
        (status, Json(body)).into_response()
    }
}

/// The code of each wrong place of a policy, whose detail it is.
pub(crate) const POLICY_INVALID: &str = "POLICY_INVALID";

/// A policy that is refused: an error for each wrong place.
fn wrong(invalid: &[Invalid]) -> Response {
    let errors: Vec<serde_json::Value> = invalid
        .iter()
        .map(|wrong| {
            serde_json::json!({ "code": POLICY_INVALID, "message": wrong.to_string(), "detail": wrong })
        })
        .collect();
    (StatusCode::BAD_REQUEST, Json(serde_json::json!({ "errors": errors }))).into_response()
}

impl From<ProposeError> for AdminError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(why) => AdminError::Conflict(why),
            ProposeError::Level { .. } => AdminError::Conflict(format!(
                "{error}: `trow cluster status` names the members to upgrade first"
            )),
            other => AdminError::Unavailable(other.to_string()),
        }
    }
}

impl From<Refusal> for AdminError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownMember | Refusal::NotFound | Refusal::Removed => {
                AdminError::NotFound(refusal.to_string())
            }
            other => AdminError::Conflict(other.to_string()),
        }
    }
}

/// The reply to a change: which entry of the log made it so.
fn changed(node: NodeId, name: &str, applied: &Applied) -> Response {
    logged(serde_json::json!({ "node": name, "node_id": node, "log_id": applied.index }), applied)
}

/// A reply that names the entry of the log.
fn logged(body: impl serde::Serialize, applied: &Applied) -> Response {
    let mut response = json(body);
    response.headers_mut().insert("trow-log-id", HeaderValue::from(applied.index));
    response
}

/// The refusal of a command, if it was refused.
fn accepted(applied: Applied) -> Result<Applied, AdminError> {
    match applied.outcome {
        Outcome::Done => Ok(applied),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

#[cfg(test)]
mod tests;
