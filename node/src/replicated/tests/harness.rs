//! Nodes with a store each, over one state that lists them all, whose requests to each other
//! are calls of the other's router.
//!
//! A node that is down neither answers nor is heard, and every body to or from it breaks off; one
//! that hangs takes requests and never answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use trow_api::blobs::{Blobs as _, ByteStream, UploadError, UploadToken};
use trow_raft::metadata::PeerId;
use trow_raft::state::{ApplyEntry, State, View};
use trow_raft::{
    Applied, ClusterId, Command, Digest, Envelope, Member, MemberState, NodeId, Outcome, Planted, RepoName,
};

use super::super::{Agreement, Limits, Replicated};
use super::net::{Net, peers};
use crate::peer_blobs::PeerBlobs;
use crate::store::Store;

pub const LIMITS: Limits =
    Limits { expiry: Duration::from_secs(3600), max_sessions: 100, max_bytes: 1 << 30 };

/// The most that any single step of a test may take.
pub const BOUND: Duration = Duration::from_secs(30);

pub struct Nodes {
    pub ledger: Arc<Ledger>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub net: Arc<Net>,
    dir: tempfile::TempDir,
}

pub struct Node {
    pub blobs: Replicated,
    pub store: Store,
}

pub fn id(node: u64) -> NodeId {
    NodeId(node)
}

pub fn repo() -> RepoName {
    "library/test".parse().unwrap()
}

/// Bytes that are unlike any other test's.
pub fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| step()).collect::<Vec<u8>>().into()
}

/// The bytes in pieces of 8000.
pub fn body(bytes: &Bytes) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(8000).map(|piece| Ok(bytes.slice_ref(piece))).collect();
    Box::pin(stream::iter(pieces))
}

pub fn empty() -> ByteStream {
    Box::pin(stream::empty())
}

fn member(id: NodeId, store: &Store) -> Member {
    Member {
        id,
        name: format!("n{}", id.0),
        zone: String::new(),
        state: MemberState::Joining,
        generation: store.generation(),
        max_level: 1,
        weight: 10,
        client: String::new(),
        peer: String::new(),
    }
}

/// The one state that all nodes see.
pub struct Ledger {
    state: State,
    index: Mutex<u64>,
}

impl Ledger {
    pub fn propose(&self, command: Command) -> Applied {
        let mut index = self.index.lock().unwrap();
        *index += 1;
        let (node, seq) = (NodeId(1), *index);
        let envelope = Envelope { node, boot: 1, seq, now: 0, actor: "test".into(), level: 1, command };
        let log_id = Bytes::copy_from_slice(&index.to_be_bytes());
        let entry = ApplyEntry { index: *index, log_id, envelope: Some(envelope), membership: None };
        self.state.apply(&[entry]).unwrap().remove(0)
    }

    pub fn view(&self) -> View {
        self.state.view().unwrap()
    }
}

pub fn agreement(ledger: &Arc<Ledger>) -> Agreement {
    let (local, confirmed, proposed) = (ledger.clone(), ledger.clone(), ledger.clone());
    Agreement {
        view: Arc::new(move || Ok(local.view())),
        confirmed: Arc::new(move || {
            let view = confirmed.view();
            async move { Ok(view) }.boxed()
        }),
        propose: Arc::new(move |_, command| {
            let applied = proposed.propose(command);
            async move { Ok(applied) }.boxed()
        }),
    }
}

impl Nodes {
    /// `count` nodes, numbered from 1, with replication factor 3.
    pub async fn new(count: u64) -> Nodes {
        Nodes::with_limits(count, LIMITS).await
    }

    pub async fn with_limits(count: u64, limits: Limits) -> Nodes {
        Nodes::with(count, limits, Planted::NONE).await
    }

    pub async fn with(count: u64, limits: Limits, planted: Planted) -> Nodes {
        Nodes::serving(count, limits, planted, |_, _, _, _| Router::new()).await
    }

    /// Nodes that answer their peers more than what is asked about blobs and uploads.
    pub async fn serving(
        count: u64,
        limits: Limits,
        planted: Planted,
        mut more: impl FnMut(NodeId, &Node, &Arc<Ledger>, PeerBlobs) -> Router,
    ) -> Nodes {
        let dir = tempfile::tempdir().unwrap();
        let stores: BTreeMap<NodeId, Store> = (1..=count)
            .map(|n| {
                let path = dir.path().join(format!("n{n}"));
                std::fs::create_dir(&path).unwrap();
                (NodeId(n), Store::open(&path, Planted::NONE).unwrap())
            })
            .collect();
        let state = State::open(&dir.path().join("state.redb"), Planted::NONE).unwrap();
        let ledger = Arc::new(Ledger { state, index: Mutex::new(0) });
        let done = |command| assert_eq!(ledger.propose(command).outcome, Outcome::Done);
        done(Command::Birth { cluster: ClusterId(1), rf: 3, level: 1 });
        for (id, store) in &stores {
            done(Command::ChangeMember { member: member(*id, store) });
            done(Command::SetMemberState { node: *id, state: MemberState::Active });
        }
        let net = Net::new();
        let mut nodes = BTreeMap::new();
        for (id, store) in stores {
            let peers = peers(&net, id);
            let blobs =
                Replicated::new(id, store.clone(), agreement(&ledger), peers, b"secret", limits, planted);
            nodes.insert(id, Node { blobs, store });
        }
        let mut router =
            |id, node: &Node| node.blobs.peer_router().merge(more(id, node, &ledger, peers(&net, id)));
        let routers = nodes.iter().map(|(id, node)| (*id, router(*id, node))).collect();
        net.routers.set(routers).map_err(drop).unwrap();
        Nodes { ledger, nodes, net, dir }
    }

    /// Has the nodes speak HTTP/1.1 over TCP from now on.
    pub async fn listen(&self) {
        let mut addresses = BTreeMap::new();
        for (id, node) in &self.nodes {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(*id, listener.local_addr().unwrap());
            // Who asks does not matter to what is answered.
            let router = node.blobs.peer_router().layer(axum::Extension(PeerId(NodeId(0))));
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        self.net.addresses.set(addresses).unwrap();
    }

    pub fn blobs(&self, node: u64) -> &Replicated {
        &self.nodes[&NodeId(node)].blobs
    }

    pub fn store(&self, node: u64) -> &Store {
        &self.nodes[&NodeId(node)].store
    }

    pub fn is_linked(&self, digest: &Digest) -> bool {
        self.ledger.view().link(&repo(), digest).unwrap().is_some()
    }

    /// The nodes whose stores have the blob.
    pub fn holders(&self, digest: &Digest) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.store.has(digest).is_some()).map(|(id, _)| id.0).collect()
    }

    /// The node's data directory.
    pub fn dir(&self, node: u64) -> std::path::PathBuf {
        self.dir.path().join(format!("n{node}"))
    }

    /// A node with an empty store that nobody has a router for: a client of the others.
    pub fn stranger(&self, node: u64) -> Replicated {
        let dir = self.dir(node);
        std::fs::create_dir(&dir).unwrap();
        let store = Store::open(&dir, Planted::NONE).unwrap();
        let peers = peers(&self.net, NodeId(node));
        let agreed = agreement(&self.ledger);
        Replicated::new(NodeId(node), store, agreed, peers, b"secret", LIMITS, Planted::NONE)
    }

    /// The file of the blob on the node.
    pub fn file(&self, node: u64, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        self.dir(node).join("blobs").join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    /// The nodes where the session of `token` is: home, then mirrors.
    pub fn where_is(&self, token: &UploadToken) -> Vec<u64> {
        let ticket = self.blobs(1).ticket(&repo(), token).unwrap();
        std::iter::once(ticket.home).chain(ticket.mirrors).map(|node| node.0).collect()
    }

    /// Uploads through `node` in one piece.
    pub async fn push(&self, node: u64, bytes: &Bytes) -> Result<Digest, UploadError> {
        let digest = Digest::sha256(bytes);
        let blobs = self.blobs(node);
        let token = blobs.start(&repo(), None).await?;
        let (token, length) = blobs.append(&repo(), &token, None, body(bytes)).await?;
        assert_eq!(length, bytes.len() as u64);
        blobs.finish(&repo(), &token, &digest, None, empty(), "test").await?;
        Ok(digest)
    }

    /// Holds the blob on exactly these nodes, and commits it with their evidence.
    pub async fn place(&self, bytes: &Bytes, on: &[u64]) -> Digest {
        let digest = Digest::sha256(bytes);
        let mut evidence = vec![];
        for node in on {
            let mut staged = self.store(*node).stage(None).await.unwrap();
            staged.write(bytes.clone()).await.unwrap();
            evidence.push(staged.hold(&digest).await.unwrap().evidence(NodeId(*node)));
        }
        let command = Command::CommitBlob { repo: repo(), digest, size: bytes.len() as u64, evidence };
        assert_eq!(self.ledger.propose(command).outcome, Outcome::Done);
        digest
    }
}

/// Bounds a step of a test.
pub async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, step).await.expect("the step takes too long")
}

/// Reads a body to its end or its error.
pub async fn read(mut body: ByteStream) -> (Vec<u8>, Option<std::io::Error>) {
    let mut all = vec![];
    while let Some(next) = soon(body.next()).await {
        match next {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}
