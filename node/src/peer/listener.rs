//! The peer port: accepts, proves, and hands each connection to what it asked for.
//!
//! Always holds: nothing is served before TLS and the greeting are done, both bounded in time;
//! every request carries the [`PeerId`] that was proven. Never does: trust what a request says of
//! its sender.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::Instrument as _;
use trow_raft::{NodeId, PeerId};

use super::counted::Counted;
use super::dial::{CONNECTION_WINDOW, STREAM_WINDOW, chain};
use super::greeting::{EXPORTER, Greeted, GreetingError, Session};
use super::refusals::Refusals;
use super::traffic::Kind;
use super::{Peers, behalf, control, gate, tls};

/// TLS takes at most this long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that have not proven themselves yet; more wait in the kernel's queue.
const UNPROVEN_MAX: usize = 256;
/// How long open connections get to finish once the listener closes: an upload may pass through.
const DRAIN: Duration = Duration::from_secs(8);

/// What is served on the peer port beside the control service.
pub struct PeerRoutes {
    /// Consensus, as tonic routes.
    pub raft: tonic::service::Routes,
    /// Blobs and uploads, over HTTP/1.1.
    pub blobs: Router,
}

/// A connection was not let in.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("TLS: {0}")]
    Tls(String),
    #[error("TLS took too long")]
    Slow,
    #[error("greeting: {0}")]
    Greeting(#[from] GreetingError),
}

struct Grpc(Router);

/// Serves peers on `listener` until `closing`, then lets what is under way finish, bounded in time.
pub async fn serve(listener: TcpListener, peers: Peers, routes: PeerRoutes, closing: CancellationToken) {
    let grpc = routes.raft.add_service(control::service(peers.clone())).prepare().into_axum_router();
    let (grpc, blobs) = (Arc::new(Grpc(grpc)), routes.blobs);
    let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
    let (tracker, refusals) = (TaskTracker::new(), Arc::new(Refusals::default()));
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = accept(&listener, &unproven) => accepted,
        };
        let Some((tcp, from, place)) = accepted else { continue };
        let (peers, grpc, blobs, closing) =
            (peers.clone(), Arc::clone(&grpc), blobs.clone(), closing.clone());
        let refusals = Arc::clone(&refusals);
        tracker.spawn(async move {
            let proven = prove(&peers, tcp).await;
            drop(place);
            match proven {
                Ok((stream, node, greeted)) => {
                    let stream = Counted::new(stream, greeted.kind, peers.traffic().clone());
                    let caller = Caller { peers, node, greeted, from, refusals };
                    caller.serve(stream, &grpc, blobs, closing).await;
                }
                // An empty connection is a port probe, not an attempt.
                Err(Refused::Tls(why)) if why.ends_with("eof") => {
                    tracing::debug!(%from, "peer port probed");
                }
                Err(error) => {
                    let why = error.to_string();
                    if refusals.is_news(from.ip(), &why) {
                        tracing::warn!(%from, cause = why, "a connection to the peer port was refused; if it is a node of this cluster, compare its cluster directory and clock with this one's");
                    }
                }
            }
        });
    }
    drop(listener);
    tracker.close();
    let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
}

async fn accept(
    listener: &TcpListener,
    unproven: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(unproven).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((tcp, from)) => Some((tcp, from, place)),
        Err(error) => {
            tracing::warn!(cause = %error, "cannot accept a peer and tries again; out of file descriptors? raise the limit (ulimit -n, LimitNOFILE)");
            // Out of descriptors, most likely: they come back when connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn prove(peers: &Peers, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, NodeId, Greeted), Refused> {
    let inner = &peers.0;
    let _ = tcp.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&inner.tls.server));
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await.map_err(|_| Refused::Slow)?;
    let mut stream = stream.map_err(|error| Refused::Tls(chain(&error)))?;
    let session = stream.get_ref().1;
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| Refused::Tls("no certificate".to_owned()))?;
    let node = tls::node_of(leaf).map_err(|error| Refused::Tls(error.to_string()))?;
    let exported = session.export_keying_material([0; 32], EXPORTER, None);
    let exported = exported.map_err(|error| Refused::Tls(error.to_string()))?;
    let session = Session { secret: &inner.secret, dialler: node, listener: inner.me.id, exported };
    let greeted = session.listen(&mut stream, peers.cluster()).await?;
    Ok((stream, node, greeted))
}

/// Who is on the other side of a proven connection.
#[derive(Clone)]
struct Caller {
    peers: Peers,
    node: NodeId,
    greeted: Greeted,
    from: SocketAddr,
    refusals: Arc<Refusals>,
}

impl Caller {
    async fn serve(
        self,
        stream: Counted<TlsStream<TcpStream>>,
        grpc: &Grpc,
        blobs: Router,
        closing: CancellationToken,
    ) {
        let io = TokioIo::new(stream);
        let (node, kind) = (self.node, self.greeted.kind);
        let router = if kind == Kind::Blob { blobs } else { grpc.0.clone() };
        let service = service_fn(move |request| self.clone().answer(router.clone(), request));
        let result = if kind == Kind::Blob {
            let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                result = connection.as_mut() => result,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(1024)
                .keep_alive_interval(Some(Duration::from_secs(10)))
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                result = connection.as_mut() => result,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%node, kind = kind.as_str(), cause = %chain(&error), "peer connection ended");
        }
    }

    async fn answer(
        self,
        router: Router,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        if let Err(shut) = gate::admit(&self.peers.0, self.node, self.greeted, request.uri().path()) {
            let why = format!("{} refuses {}: {shut}", self.peers.id(), self.node);
            if self.refusals.is_news(self.from.ip(), &why) {
                tracing::warn!(node = %self.node, from = %self.from, cause = %shut, "a request of a peer was refused; a node of this cluster is started with --join and this cluster's directory");
            }
            let mut refusal = match self.greeted.kind {
                Kind::Blob => Response::new(Body::from(why)),
                _ => return Ok(tonic::Status::permission_denied(why).into_http()),
            };
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            return Ok(refusal);
        }
        request.extensions_mut().insert(PeerId(self.node));
        let span = behalf::span(request.headers(), self.node, self.greeted.kind, request.uri().path());
        let answer = router.oneshot(request.map(Body::new));
        let Some(span) = span else { return answer.await };
        let began = Instant::now();
        let answer = async {
            let answer = answer.await;
            tracing::debug!(ms = began.elapsed().as_millis() as u64, "answered a peer");
            answer
        };
        answer.instrument(span).await
    }
}
