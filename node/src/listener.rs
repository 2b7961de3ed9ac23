//! The HTTP listener for clients: HTTP/1.1 and HTTP/2 on one port, plain or over TLS.
//!
//! Owns what a connection may cost: how big and how slow a head may be, how long a connection may
//! idle or a body stand still, how many there are. Always holds: a request that two HTTP parsers
//! could frame differently is refused; when the listener closes, what it accepted is answered, and
//! nobody is connected who is not accepted. Never does: paths, authorization, anything about registries.

mod body;
mod connection;
mod farewell;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod refusal;
mod state;
mod term;
#[cfg(test)]
mod tests;
mod watched;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Connection;
pub use term::{Term, Tls};

/// What a listener bears.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request head, in bytes, at least 8 KiB; more is 431.
    pub head_bytes: usize,
    /// A request head takes at most this long, and so does TLS, and the wait for the first one.
    pub head_time: Duration,
    /// A connection without a request is closed after this long.
    pub idle: Duration,
    /// A body without progress is given up after this long.
    pub stall: Duration,
    /// Most connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long clients are still accepted once the listener is to close: those who look up where
    /// to go are told by others, and need a moment to hear it.
    pub notice: Duration,
    /// How long requests under way get to finish after the listener closed.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 64 << 10,
            head_time: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            connections: 10_000,
            notice: Duration::from_millis(500),
            drain: Duration::from_secs(20),
        }
    }
}

/// Serves `router`, which answers what is [`Refused`](trow_api::server::Refused), on `listener` until
/// `closing` and for `limits.notice` more, in which each answer is the last of its connection. Then
/// answers what was accepted, for at most `limits.drain`, and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    closing: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (tracker, notice, drain) = (TaskTracker::new(), limits.notice, limits.drain);
    let ending = CancellationToken::new();
    let serving =
        Serving { router, tls, limits: Arc::new(limits), closing: closing.clone(), ending: ending.clone() };
    let mut noticed = pin!(async {
        closing.cancelled().await;
        tokio::time::sleep(notice).await;
    });
    loop {
        tokio::select! {
            () = noticed.as_mut() => break,
            accepted = accept(&listener, &places) => {
                if let Some((tcp, from, place)) = accepted {
                    tracker.spawn(serving.clone().connection(tcp, from, Some(place)));
                }
            }
        }
    }
    farewell::close(listener, |tcp, from| {
        tracker.spawn(serving.clone().connection(tcp, from, None));
    })
    .await;
    tracker.close();
    if tokio::time::timeout(drain, tracker.wait()).await.is_err() {
        tracing::warn!(
            connections = tracker.len(),
            "requests were cut off because they outlasted the time to finish; their clients try again"
        );
        ending.cancel();
        tracker.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((tcp, from)) => Some((tcp, from, place)),
        Err(error) => {
            tracing::warn!(cause = %error, "cannot accept a client and tries again; out of file descriptors? raise the limit (ulimit -n, LimitNOFILE)");
            // Out of descriptors, most likely: they come back when connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

#[derive(Clone)]
struct Serving {
    router: Router,
    tls: Option<Tls>,
    limits: Arc<Limits>,
    closing: CancellationToken,
    ending: CancellationToken,
}

impl Serving {
    async fn connection(self, tcp: TcpStream, from: SocketAddr, _place: Option<OwnedSemaphorePermit>) {
        let _ = tcp.set_nodelay(true);
        let (ending, closing) = (self.ending.clone(), self.closing.child_token());
        let term = self.tls.as_ref().map(|tls| tls.term.ends());
        let over = term.clone();
        let drain = self.limits.drain;
        let outlived = async {
            match term {
                Some(term) => term.cancelled().await,
                None => std::future::pending().await,
            }
            closing.cancel();
            // As long as on a planned stop; then whoever does not let go of the connection loses it.
            tokio::time::sleep(drain).await;
        };
        let served = async {
            let connection = Connection {
                router: self.router,
                from,
                limits: Arc::clone(&self.limits),
                closing: closing.clone(),
            };
            let Some(tls) = self.tls else { return connection.serve(tcp).await };
            let accepted = TlsAcceptor::from(tls.config).accept(tcp);
            match tokio::time::timeout(self.limits.head_time, accepted).await {
                // It was verified by what counts no more.
                Ok(Ok(_)) if over.as_ref().is_some_and(CancellationToken::is_cancelled) => {}
                Ok(Ok(stream)) => connection.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%from, cause = %error, "TLS with a client failed"),
                Err(_) => tracing::debug!(%from, "TLS with a client took too long"),
            }
        };
        tokio::select! {
            () = served => {}
            () = ending.cancelled() => {}
            () = outlived => {}
        }
    }
}
