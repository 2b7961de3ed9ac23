//! Health, readiness and metrics, for whoever runs the node.
//!
//! Always holds: `/healthz` answers from before the state is open until after the last client is
//! served; ready means that requests may be sent here, and no quorum is still ready. Never does:
//! anything that waits for a peer.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use http::{StatusCode, header};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use trow_raft::NodeId;

/// Where readiness is looked up: the reason why not, or nothing.
type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Whether requests may be sent to this node. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    stopping: bool,
    check: Check,
}

impl Readiness {
    /// Of a node that is starting.
    pub fn starting() -> Self {
        let check: Check = Box::new(|| Some("starting: opening the data directory".to_owned()));
        Readiness { inner: Arc::new(Mutex::new(Inner { stopping: false, check })) }
    }

    /// From now on `check` says why the node is not ready.
    pub fn check_with(&self, check: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.lock().check = Box::new(check);
    }

    /// From now on it is not ready, whatever the check says.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Why the node is not ready; nothing when it is.
    pub fn reason(&self) -> Option<String> {
        let inner = self.lock();
        if inner.stopping { Some("stopping".to_owned()) } else { (inner.check)() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the router answers from.
#[derive(Clone)]
pub struct Ops {
    /// This node's name.
    pub name: Arc<str>,
    /// This node.
    pub id: NodeId,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// What is measured.
    pub registry: Arc<Mutex<Registry>>,
}

/// The ops listener's router.
pub fn router(ops: Ops) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn readyz(State(ops): State<Ops>) -> Response {
    let reason = ops.readiness.reason();
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "ready": reason.is_none(),
        "reason": reason.unwrap_or_default(),
        "node": &*ops.name,
        "node_id": ops.id,
    });
    (status, Json(body)).into_response()
}

async fn metrics(State(ops): State<Ops>) -> Response {
    let encoded = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let registry = ops.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).map(|()| text)
    });
    match encoded.await {
        Ok(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use http::Request;
    use tower::ServiceExt as _;

    async fn ready(ops: &Ops) -> (StatusCode, serde_json::Value) {
        let request = Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let reply = router(ops.clone()).oneshot(request).await.unwrap();
        let status = reply.status();
        (status, serde_json::from_slice(&to_bytes(reply.into_body(), 1 << 16).await.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn stopping_wins_over_ready() {
        let ops = Ops {
            name: "n1".into(),
            id: NodeId(7),
            readiness: Readiness::starting(),
            registry: Arc::default(),
        };
        let (status, body) = ready(&ops).await;
        assert_eq!((status, &body["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &false.into()));
        ops.readiness.check_with(|| None);
        let (status, body) = ready(&ops).await;
        assert_eq!((status, &body["ready"], &body["node"]), (StatusCode::OK, &true.into(), &"n1".into()));
        ops.readiness.stop();
        let (status, body) = ready(&ops).await;
        assert_eq!((status, &body["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &"stopping".into()));
    }
}
