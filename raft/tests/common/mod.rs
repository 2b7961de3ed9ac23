//! Nodes in one process that talk over plain TCP on loopback.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Server};
use trow_raft::{
    Command, ConnectError, Generation, Member, MemberState, Metadata, NodeId, PeerId, Planted, RepoName,
    Settings,
};

/// Who listens where, and which links are cut.
#[derive(Default)]
pub struct Net {
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    channels: Mutex<BTreeMap<(NodeId, NodeId), Channel>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    gone: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Net {
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.cut.lock().unwrap().extend([(a, b), (b, a)]);
        self.channels.lock().unwrap().retain(|link, _| *link != (a, b) && *link != (b, a));
    }

    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }

    /// A node that is up and reachable has just been heard.
    fn silence(&self, from: NodeId, of: NodeId) -> Option<Duration> {
        let up = self.addresses.lock().unwrap().contains_key(&of);
        if up && !self.cut.lock().unwrap().contains(&(from, of)) {
            return Some(Duration::ZERO);
        }
        self.gone.lock().unwrap().get(&of).map(|at| at.elapsed())
    }

    fn connect(self: &Arc<Self>, from: NodeId) -> trow_raft::Connect {
        let net = self.clone();
        Arc::new(move |to| {
            let net = net.clone();
            Box::pin(async move {
                let fail = |why: &str| ConnectError { node: to, why: why.into() };
                if net.cut.lock().unwrap().contains(&(from, to)) {
                    return Err(fail("the link is cut"));
                }
                if let Some(channel) = net.channels.lock().unwrap().get(&(from, to)) {
                    return Ok(channel.clone());
                }
                let address =
                    net.addresses.lock().unwrap().get(&to).copied().ok_or_else(|| fail("not up"))?;
                // The first line of a connection names the sender: what TLS does in a node.
                let connector = tower_service(from, address);
                let channel = Endpoint::from_static("http://peer").connect_with_connector_lazy(connector);
                net.channels.lock().unwrap().insert((from, to), channel.clone());
                Ok(channel)
            })
        })
    }
}

fn tower_service(from: NodeId, address: SocketAddr) -> Dial {
    Dial { from, address }
}

#[derive(Clone)]
struct Dial {
    from: NodeId,
    address: SocketAddr,
}

impl tower_service::Service<http::Uri> for Dial {
    type Response = hyper_util::rt::TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), std::io::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Dial { from, address } = self.clone();
        Box::pin(async move {
            use tokio::io::AsyncWriteExt;
            let mut stream = TcpStream::connect(address).await?;
            stream.write_u64(from.0).await?;
            Ok(hyper_util::rt::TokioIo::new(stream))
        })
    }
}

/// A connection whose sender is known.
struct Proven {
    stream: TcpStream,
    peer: NodeId,
}

impl tonic::transport::server::Connected for Proven {
    type ConnectInfo = NodeId;
    fn connect_info(&self) -> NodeId {
        self.peer
    }
}

impl tokio::io::AsyncRead for Proven {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Proven {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// One node; its directory outlives it.
pub struct Node {
    pub id: NodeId,
    pub metadata: Metadata,
    server: Option<JoinHandle<()>>,
    close: Option<tokio::sync::oneshot::Sender<()>>,
    net: Arc<Net>,
}

impl Node {
    pub async fn start(net: &Arc<Net>, id: u64, dir: &Path, planted: Planted) -> Node {
        Node::start_with(net, id, dir, planted, |_| {}).await
    }

    pub async fn start_with(
        net: &Arc<Net>,
        id: u64,
        dir: &Path,
        planted: Planted,
        adjust: impl FnOnce(&mut Settings),
    ) -> Node {
        let id = NodeId(id);
        let mut settings = Settings::alone(id, dir);
        settings.planted = planted;
        settings.connect = net.connect(id);
        let heard = net.clone();
        settings.silence = Arc::new(move |peer| heard.silence(id, peer));
        adjust(&mut settings);
        // Connections of the one before it may hold the files for a moment.
        let start = Instant::now();
        let metadata = loop {
            match Metadata::open(settings.clone()).await {
                Ok(metadata) => break metadata,
                Err(error) if start.elapsed() > Duration::from_secs(10) => panic!("open: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        net.channels.lock().unwrap().retain(|(_, to), _| *to != id);
        net.addresses.lock().unwrap().insert(id, address);
        let service = metadata.service();
        let watch = net.clone();
        let incoming = async_stream(listener);
        let intercept =
            tonic::service::interceptor::InterceptorLayer::new(move |mut request: tonic::Request<()>| {
                let peer = *request.extensions().get::<NodeId>().expect("a sender");
                if watch.cut.lock().unwrap().contains(&(peer, id)) {
                    return Err(tonic::Status::unavailable("the link is cut"));
                }
                request.extensions_mut().insert(PeerId(peer));
                Ok(request)
            });
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let server = Server::builder().layer(intercept).add_service(service);
            let closed = async { drop(closed.await) };
            let served = server.serve_with_incoming_shutdown(incoming, closed).await;
            drop(served);
        });
        Node { id, metadata, server: Some(server), close: Some(close), net: net.clone() }
    }

    /// Ends it cleanly.
    pub async fn stop(mut self) {
        self.net.addresses.lock().unwrap().remove(&self.id);
        self.net.gone.lock().unwrap().insert(self.id, Instant::now());
        drop(self.close.take());
        self.metadata.shutdown().await;
        // Connections hold the files until they are closed.
        if let Some(server) = self.server.take() {
            let _ = tokio::time::timeout(Duration::from_secs(5), server).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

fn async_stream(listener: TcpListener) -> impl futures::Stream<Item = std::io::Result<Proven>> {
    futures::stream::unfold(listener, |listener| async move {
        use tokio::io::AsyncReadExt;
        let accepted = async {
            let (mut stream, _) = listener.accept().await?;
            let peer = NodeId(stream.read_u64().await?);
            Ok(Proven { stream, peer })
        };
        Some((accepted.await, listener))
    })
}

pub fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: String::new(),
        state: MemberState::Joining,
        generation: Generation(0),
        max_level: trow_raft::command::LEVEL,
        weight: 1,
        client: String::new(),
        peer: String::new(),
    }
}

/// Some nodes of one cluster, born.
pub struct Cluster {
    pub net: Arc<Net>,
    pub nodes: Vec<Node>,
    pub dirs: TempDir,
}

impl Cluster {
    pub async fn new(count: u64) -> Cluster {
        Cluster::planted(count, Planted::NONE).await
    }

    pub async fn planted(count: u64, planted: Planted) -> Cluster {
        Cluster::with(count, |settings| settings.planted = planted).await
    }

    pub async fn with(count: u64, adjust: impl Fn(&mut Settings)) -> Cluster {
        // RUST_LOG=openraft=debug shows what consensus does.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let (net, dirs) = (Arc::new(Net::default()), TempDir::new().expect("directory"));
        let mut nodes = Vec::new();
        for id in 1..=count {
            let dir = dirs.path().join(id.to_string());
            nodes.push(Node::start_with(&net, id, &dir, Planted::NONE, &adjust).await);
        }
        let set: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
        let members: Vec<Member> = (1..=count).map(member).collect();
        for node in &nodes {
            node.metadata.initialize(set.clone()).await.expect("initialise");
        }
        let births = nodes.iter().map(|node| node.metadata.birth(3, members.clone()));
        let births = futures::future::join_all(births);
        tokio::time::timeout(Duration::from_secs(20), births).await.expect("birth in time");
        Cluster { net, nodes, dirs }
    }

    /// Starts another node and lets it join through the first.
    pub async fn join(&mut self, id: u64) {
        let node = Node::start(&self.net, id, &self.dir(id), Planted::NONE).await;
        let cluster = self.nodes[0].metadata.join(member(id)).await.expect("admitted");
        self.nodes.push(node);
        let node = self.node(NodeId(id));
        eventually("the joined node is a full member", || {
            let view = node.metadata.local();
            let row = view.member(NodeId(id)).expect("readable");
            view.cluster().expect("readable") == Some(cluster)
                && row.is_some_and(|row| row.state == MemberState::Active)
        })
        .await;
    }

    pub fn dir(&self, id: u64) -> PathBuf {
        self.dirs.path().join(id.to_string())
    }

    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("a node")
    }

    pub async fn leader(&self) -> NodeId {
        let mut found = None;
        eventually("a leader in office", || {
            found = self.nodes.iter().find_map(|node| {
                let leadership = node.metadata.leadership();
                leadership.leader.filter(|leader| *leader == node.id)
            });
            found.is_some()
        })
        .await;
        found.expect("a leader")
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// Waits until `holds`, at most 20 s.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A command that changes something visible: state time.
pub fn tick(elapsed: u64) -> Command {
    Command::Tick { elapsed }
}

pub fn repo(name: &str) -> RepoName {
    name.parse().expect("a name")
}
