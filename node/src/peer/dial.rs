//! Opens connections to peers: by id, to wherever that node is now, or to an address, to learn
//! who is there.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use trow_raft::NodeId;

use super::counted::Counted;
use super::greeting::{EXPORTER, Greeted, GreetingError, Session};
use super::traffic::Kind;
use super::{Inner, Peers, tls};
use crate::identity::dns_name;

/// TCP, TLS and greeting together take at most this long for one address.
const DIAL: Duration = Duration::from_secs(2);
/// An open gRPC connection is pinged this often, and is given up when no answer comes.
const PING: Duration = Duration::from_secs(2);
const PONG: Duration = Duration::from_secs(3);
/// Flow control windows, in bytes: a batch of entries is in flight at once.
pub(super) const STREAM_WINDOW: u32 = 4 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 8 << 20;

/// A peer was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody said where it is.
    #[error("no address of {0} is known")]
    NoAddress(NodeId),
    /// This process is ending.
    #[error("this node is shutting down")]
    Closing,
    /// No connection.
    #[error("connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Its certificate is signed by another CA: what it serves is another cluster's.
    #[error(
        "that node has another cluster directory: the certificate of {address} is signed by another CA; give \
         this node a copy of that cluster's directory, or correct the address"
    )]
    OtherDirectory {
        /// Where.
        address: String,
    },
    /// TLS failed: another node, or an expired certificate on one side.
    #[error("TLS with {address}: {source}")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The greeting failed.
    #[error("greet {address}: {source}")]
    Greeting {
        /// Where.
        address: String,
        /// Why.
        source: GreetingError,
    },
    /// It took too long.
    #[error("{0} does not answer")]
    Slow(String),
    /// Connected, but the request got no reply.
    #[error("ask {node}: {why}")]
    Request {
        /// Whom.
        node: NodeId,
        /// Why not.
        why: String,
    },
}

pub(super) type PeerStream = Counted<TlsStream<TcpStream>>;

/// A proven connection.
pub(super) struct Dialled {
    pub(super) node: NodeId,
    pub(super) stream: PeerStream,
}

/// Connects to `node` at the first of its addresses where it is found.
pub(super) async fn node(inner: &Inner, node: NodeId, kind: Kind) -> Result<Dialled, DialError> {
    let mut last = DialError::NoAddress(node);
    for address in inner.table.addresses(node) {
        match address_as(inner, &address, Some(node), kind).await {
            Ok(dialled) => return Ok(dialled),
            Err(error) => last = error,
        }
    }
    tracing::debug!(%node, kind = kind.as_str(), cause = %last, "peer not reached");
    Err(last)
}

/// Connects to whoever is at `address`, or only to `node`.
pub(super) async fn address_as(
    inner: &Inner,
    address: &str,
    node: Option<NodeId>,
    kind: Kind,
) -> Result<Dialled, DialError> {
    if inner.closing.is_cancelled() {
        return Err(DialError::Closing);
    }
    let dialled = tokio::time::timeout(DIAL, open(inner, address, node, kind)).await;
    dialled.unwrap_or_else(|_| Err(DialError::Slow(address.to_owned())))
}

async fn open(inner: &Inner, address: &str, node: Option<NodeId>, kind: Kind) -> Result<Dialled, DialError> {
    let at = || address.to_owned();
    let tcp = TcpStream::connect(address).await;
    let tcp = tcp.map_err(|source| DialError::Connect { address: at(), source })?;
    let _ = tcp.set_nodelay(true);
    let tls_error = |source| DialError::Tls { address: at(), source };
    let name = tls::server_name(node).ok_or_else(|| tls_error(std::io::Error::other("no server name")))?;
    let connector = TlsConnector::from(Arc::clone(&inner.tls.client));
    let mut stream = connector.connect(name, tcp).await.map_err(|error| {
        if tls::is_of_another_ca(&error) {
            return DialError::OtherDirectory { address: at() };
        }
        tls_error(error)
    })?;
    let (found, exported) = {
        let session = stream.get_ref().1;
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| tls_error(std::io::Error::other("no certificate")))?;
        let found = tls::node_of(leaf).map_err(|error| tls_error(std::io::Error::other(error)))?;
        let exported = session.export_keying_material([0; 32], EXPORTER, None);
        (found, exported.map_err(|error| tls_error(std::io::Error::other(error)))?)
    };
    let session = Session { secret: &inner.secret, dialler: inner.me.id, listener: found, exported };
    let ours = Greeted { kind, cluster: **inner.cluster.load() };
    let greeted = session.dial(&mut stream, ours).await;
    greeted.map_err(|source| DialError::Greeting { address: at(), source })?;
    Ok(Dialled { node: found, stream: Counted::new(stream, kind, inner.traffic.clone()) })
}

/// The addresses that `join` stands for: each name resolved to all that it resolves to.
pub(super) async fn resolve(join: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for entry in join {
        match tokio::time::timeout(DIAL, tokio::net::lookup_host(entry)).await {
            Ok(Ok(addresses)) => found.extend(addresses),
            Ok(Err(error)) => tracing::debug!(address = %entry, cause = %error, "join address not resolved"),
            Err(_) => tracing::debug!(address = %entry, "join address not resolved in time"),
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A gRPC channel to `node` that connects when it is used and again after each loss.
pub(super) fn channel(peers: &Peers, node: NodeId, kind: Kind) -> Channel {
    endpoint(node).connect_with_connector_lazy(Dialer { peers: Arc::downgrade(&peers.0), kind })
}

/// A gRPC channel over a connection that is open already; it is not opened again.
pub(super) async fn channel_over(dialled: Dialled) -> Result<Channel, DialError> {
    let node = dialled.node;
    let mut stream = Some(TokioIo::new(dialled.stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or(DialError::Closing);
        async move { stream }
    });
    let channel = endpoint(node).connect_with_connector(connector).await;
    channel.map_err(|error| DialError::Request { node, why: chain(&error) })
}

fn endpoint(node: NodeId) -> Endpoint {
    let uri = Uri::builder().scheme("http").authority(dns_name(node)).path_and_query("/").build();
    Endpoint::from(uri.unwrap_or_default())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Opens connections for hyper and tonic, to the node that the URI's host names.
#[derive(Clone)]
pub(super) struct Dialer {
    // Weak, since the pool that holds it is itself held by the peers.
    pub(super) peers: Weak<Inner>,
    pub(super) kind: Kind,
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<PeerStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (peers, kind) = (self.peers.clone(), self.kind);
        Box::pin(async move {
            let peers = peers.upgrade().ok_or(DialError::Closing)?;
            let id = uri.host().and_then(|host| host.strip_suffix(".node.trow"));
            let id: NodeId = id.and_then(|id| id.parse().ok()).ok_or(DialError::Closing)?;
            Ok(TokioIo::new(node(&peers, id, kind).await?.stream))
        })
    }
}
