//! The HTTP listener for clients.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a listener bears.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request head, in bytes; more is 431.
    pub head_bytes: usize,
    /// A request head takes at most this long.
    pub head_time: Duration,
    /// A connection without a request is closed after this long.
    pub idle: Duration,
    /// A body without progress is given up after this long.
    pub stall: Duration,
    /// Most connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long requests under way get to finish after the listener closed.
    pub drain: Duration,
}

/// Serves `router` on `listener` until `closing`, then finishes what was accepted.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    _tls: Option<Arc<rustls::ServerConfig>>,
    _limits: Limits,
    closing: CancellationToken,
) {
    let _ = axum::serve(listener, router).with_graceful_shutdown(async move { closing.cancelled().await }).await;
}
