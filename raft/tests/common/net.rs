//! The network between the nodes of a test: connections that name their sender, links that can
//! be cut, and replies that can be held back or lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tower::Service;
use trow_raft::{ConnectError, NodeId, PeerId};

/// What happens to one kind of call on one link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused before it does anything.
    Refused,
    /// It is done, and the reply waits until the fault is lifted.
    ReplyHeld,
    /// It is done, and the reply never arrives.
    ReplyLost,
}

#[derive(Clone, PartialEq, Eq)]
struct Rule {
    from: NodeId,
    to: NodeId,
    /// The last part of the path: `Append`, `ReadIndex`, `Propose`, …
    call: &'static str,
    fault: Fault,
}

/// Who listens where, and what is wrong with the links.
pub struct Net {
    /// Tells this network's nodes from those of tests that run beside: a port that one gave up
    /// may be another's the next moment.
    number: u64,
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    channels: Mutex<BTreeMap<(NodeId, NodeId), Channel>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    gone: Mutex<BTreeMap<NodeId, Instant>>,
    rules: Mutex<Vec<Rule>>,
    /// Calls done under [`Fault::ReplyHeld`] or [`Fault::ReplyLost`].
    hits: Mutex<usize>,
    /// How often held replies were thrown away.
    lost: Mutex<usize>,
}

impl Default for Net {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Net {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            addresses: Mutex::default(),
            channels: Mutex::default(),
            cut: Mutex::default(),
            gone: Mutex::default(),
            rules: Mutex::default(),
            hits: Mutex::default(),
            lost: Mutex::default(),
        }
    }
}

impl Net {
    pub fn up(&self, node: NodeId, address: SocketAddr) {
        self.channels.lock().unwrap().retain(|(_, to), _| *to != node);
        self.addresses.lock().unwrap().insert(node, address);
    }

    pub fn down(&self, node: NodeId) {
        self.addresses.lock().unwrap().remove(&node);
        self.gone.lock().unwrap().insert(node, Instant::now());
    }

    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.cut.lock().unwrap().extend([(a, b), (b, a)]);
        self.channels.lock().unwrap().retain(|link, _| *link != (a, b) && *link != (b, a));
    }

    pub fn fault(&self, from: NodeId, to: NodeId, call: &'static str, fault: Fault) {
        self.rules.lock().unwrap().push(Rule { from, to, call, fault });
    }

    /// Calls that were done and whose reply was held back or lost, so far.
    pub fn hits(&self) -> usize {
        *self.hits.lock().unwrap()
    }

    /// Lifts the faults of one kind of call; held replies arrive.
    pub fn lift(&self, call: &str) {
        self.rules.lock().unwrap().retain(|rule| rule.call != call);
    }

    /// Replies that are held are lost; later ones arrive.
    pub fn lose_held(&self) {
        *self.lost.lock().unwrap() += 1;
        self.rules.lock().unwrap().retain(|rule| rule.fault != Fault::ReplyHeld);
    }

    /// Undoes all cuts and faults.
    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
        self.rules.lock().unwrap().clear();
    }

    /// A node that is up and reachable has just been heard.
    pub fn silence(&self, from: NodeId, of: NodeId) -> Option<Duration> {
        let up = self.addresses.lock().unwrap().contains_key(&of);
        if up && !self.cut.lock().unwrap().contains(&(from, of)) {
            return Some(Duration::ZERO);
        }
        self.gone.lock().unwrap().get(&of).map(|at| at.elapsed())
    }

    pub fn connect(self: &Arc<Self>, from: NodeId) -> trow_raft::Connect {
        let net = self.clone();
        Arc::new(move |to| {
            let channel = net.channel(from, to);
            Box::pin(async move { channel.map_err(|why| ConnectError { node: to, why: why.into() }) })
        })
    }

    fn channel(&self, from: NodeId, to: NodeId) -> Result<Channel, &'static str> {
        if self.cut.lock().unwrap().contains(&(from, to)) {
            return Err("the link is cut");
        }
        if let Some(channel) = self.channels.lock().unwrap().get(&(from, to)) {
            return Ok(channel.clone());
        }
        let address = self.addresses.lock().unwrap().get(&to).copied().ok_or("not up")?;
        let number = self.number;
        let dial = tower::service_fn(move |_| async move {
            // The first bytes of a connection name the network, the receiver and the sender: what
            // TLS and the greeting do in a node.
            let mut stream = TcpStream::connect(address).await?;
            for word in [number, to.0, from.0] {
                stream.write_u64(word).await?;
            }
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        });
        let channel = Endpoint::from_static("http://peer").connect_with_connector_lazy(dial);
        self.channels.lock().unwrap().insert((from, to), channel.clone());
        Ok(channel)
    }

    /// What stands before the service of `node`.
    pub fn gate(
        self: &Arc<Self>,
        node: NodeId,
    ) -> impl tower::Layer<tonic::service::Routes, Service = Gate> + Clone + use<> {
        let net = self.clone();
        tower::layer::layer_fn(move |inner| Gate { inner, net: net.clone(), node })
    }

    fn rule(&self, from: NodeId, to: NodeId, path: &str) -> Option<Fault> {
        let call = path.rsplit('/').next()?;
        let rules = self.rules.lock().unwrap();
        rules.iter().find(|r| r.from == from && r.to == to && r.call == call).map(|rule| rule.fault)
    }
}

/// Names the sender to the service and plays the faults.
#[derive(Clone)]
pub struct Gate {
    inner: tonic::service::Routes,
    net: Arc<Net>,
    node: NodeId,
}

impl Service<http::Request<tonic::body::Body>> for Gate {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        let Gate { mut inner, net, node } = self.clone();
        let peer = *request.extensions().get::<NodeId>().expect("a sender");
        request.extensions_mut().insert(PeerId(peer));
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            let lost = || Ok(Status::unavailable("the network lost it").into_http());
            let fault = net.rule(peer, node, &path);
            if net.cut.lock().unwrap().contains(&(peer, node)) || fault == Some(Fault::Refused) {
                return lost();
            }
            let reply = inner.call(request).await?;
            if fault.is_some() {
                *net.hits.lock().unwrap() += 1;
            }
            if fault == Some(Fault::ReplyLost) {
                return lost();
            }
            let before = *net.lost.lock().unwrap();
            while fault.is_some() && net.rule(peer, node, &path).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if *net.lost.lock().unwrap() > before {
                return lost();
            }
            Ok(reply)
        })
    }
}

/// A connection whose sender is known.
pub struct Proven {
    stream: TcpStream,
    peer: NodeId,
}

/// The connections that mean `node` of this network; others are closed.
pub fn incoming(
    net: &Net,
    node: NodeId,
    listener: TcpListener,
) -> impl futures::Stream<Item = std::io::Result<Proven>> + use<> {
    let number = net.number;
    futures::stream::unfold(listener, move |listener| async move {
        let accepted = async {
            let (mut stream, _) = listener.accept().await?;
            let meant = [stream.read_u64().await?, stream.read_u64().await?];
            if meant != [number, node.0] {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            let peer = NodeId(stream.read_u64().await?);
            Ok(Proven { stream, peer })
        };
        Some((accepted.await, listener))
    })
}

impl Connected for Proven {
    type ConnectInfo = NodeId;
    fn connect_info(&self) -> NodeId {
        self.peer
    }
}

impl AsyncRead for Proven {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Proven {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
