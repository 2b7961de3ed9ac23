//! Nodes in one process that talk over plain TCP on loopback.
#![allow(dead_code, reason = "each test uses its part")]

pub mod net;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use trow_raft::command::NewManifest;
use trow_raft::{
    Algorithm, Command, Digest, Generation, Member, MemberState, Metadata, NodeId, Planted, RepoName,
    Settings, Tag,
};

use net::Net;

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
        net.up(id, address);
        let service = metadata.service();
        let (gate, incoming) = (net.gate(id), net::incoming(net, id, listener));
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let server = Server::builder().layer(gate).add_service(service);
            let closed = async { drop(closed.await) };
            let served = server.serve_with_incoming_shutdown(incoming, closed).await;
            drop(served);
        });
        Node { id, metadata, server: Some(server), close: Some(close), net: net.clone() }
    }

    /// Ends it cleanly and says who it was.
    pub async fn stop_and_return(self) -> NodeId {
        let id = self.id;
        self.stop().await;
        id
    }

    /// Ends it cleanly.
    pub async fn stop(mut self) {
        self.net.down(self.id);
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

/// A manifest of `size` bytes that names nothing, under the tag `t`.
pub fn push(fill: u8, size: usize) -> (Digest, Command) {
    use sha2::Digest as _;
    let bytes = Bytes::from(vec![fill; size]);
    let digest = Digest::new(Algorithm::Sha256, &sha2::Sha256::digest(&bytes)).expect("32 bytes");
    let manifest = NewManifest {
        digest,
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        artifact_type: None,
        bytes,
        blobs: vec![],
        children: vec![],
        subject: None,
        descriptor: None,
    };
    let tags = vec!["t".parse::<Tag>().expect("a tag")];
    (digest, Command::PutManifest { repo: repo("r"), manifest, tags, condition: None, sparse: false })
}
