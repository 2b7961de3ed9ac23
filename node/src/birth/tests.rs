//! Births and joins of real nodes on loopback: real TLS, real consensus, in one process.

mod schedule;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trow_raft::command::LEVEL;
use trow_raft::{Generation, Settings};

use super::*;
use crate::cluster_dir::{self, ClusterDir};
use crate::identity::Identity;
use crate::peer::listener::{PeerRoutes, serve};
use crate::peer::{PeerSettings, PeerStatus};

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Node {
    pub(crate) peers: Peers,
    pub(crate) metadata: Metadata,
    dir: PathBuf,
    closing: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(
        dir: PathBuf,
        name: &str,
        cluster: &Arc<ClusterDir>,
        listener: TcpListener,
        join: &[String],
    ) -> Node {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        fs::create_dir_all(&dir).unwrap();
        let identity = Arc::new(Identity::open(&dir).unwrap());
        let me = Member {
            id: identity.id(),
            name: name.to_owned(),
            zone: String::new(),
            state: MemberState::Joining,
            generation: Generation(1),
            max_level: LEVEL,
            weight: 1,
            client: String::new(),
            peer: listener.local_addr().unwrap().to_string(),
        };
        let settings = PeerSettings {
            identity,
            cluster_dir: Arc::clone(cluster),
            me,
            join: join.to_vec(),
            dial: Default::default(),
            cluster: None,
        };
        let peers = Peers::new(settings).unwrap();
        let mut raft = Settings::alone(peers.id(), dir.join("raft"));
        (raft.connect, raft.silence) = (peers.connect(), peers.silence_fn());
        let metadata = open(raft).await;
        let of = metadata.clone();
        peers.attach(
            &metadata,
            Arc::new(move |_| {
                let applied = *of.applied().borrow();
                Box::pin(async move { PeerStatus { applied, ..PeerStatus::default() } })
            }),
        );
        let closing = CancellationToken::new();
        let routes =
            PeerRoutes { raft: tonic::service::Routes::new(metadata.service()), blobs: Router::new() };
        let serving = tokio::spawn(serve(listener, peers.clone(), routes, closing.clone()));
        Node { peers, metadata, dir, closing, serving }
    }

    async fn belong(&self, expect: Option<usize>) -> Result<ClusterId, BirthError> {
        let birth = Birth { data_dir: self.dir.clone(), expect, rf: 3, planted: Planted::NONE };
        tokio::time::timeout(LIMIT, run(&self.peers, &self.metadata, birth)).await.expect("no member in time")
    }

    async fn stop(self) -> PathBuf {
        self.closing.cancel();
        self.peers.close();
        self.serving.await.unwrap();
        self.metadata.shutdown().await;
        self.dir
    }
}

/// Opens, waiting for tasks of a node stopped just before to let go of the files.
async fn open(settings: Settings) -> Metadata {
    let deadline = Instant::now() + LIMIT;
    loop {
        match Metadata::open(settings.clone()).await {
            Ok(metadata) => return metadata,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn listeners(count: usize) -> (Vec<TcpListener>, Vec<String>) {
    let mut bound = Vec::new();
    for _ in 0..count {
        bound.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses = bound.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    (bound, addresses)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_born_as_one_cluster_and_a_fourth_joins() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Arc::new(cluster_dir::create(&temp.path().join("cluster")).unwrap());
    let (bound, addresses) = listeners(4).await;
    let mut nodes = Vec::new();
    for (at, listener) in bound.into_iter().enumerate() {
        let dir = temp.path().join(format!("n{at}"));
        nodes.push(Node::start(dir, &format!("n{at}"), &cluster, listener, &addresses[..3]).await);
    }
    let (a, b, c) =
        tokio::join!(nodes[0].belong(Some(3)), nodes[1].belong(Some(3)), nodes[2].belong(Some(3)));
    let id = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (id, id));
    assert_eq!(nodes[3].belong(None).await.unwrap(), id);
    eventually("all four see all four", || {
        nodes.iter().all(|node| node.metadata.local().members().is_ok_and(|members| members.len() == 4))
    })
    .await;
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.peers.id()).collect();
    eventually("everybody hears everybody", || {
        let hears =
            |node: &Node, id: NodeId| node.peers.silence(id).is_some_and(|s| s < Duration::from_secs(2));
        nodes.iter().all(|node| ids.iter().all(|id| *id == node.peers.id() || hears(node, *id)))
    })
    .await;
    let asked = nodes[1].peers.status_all(Duration::from_secs(5)).await;
    assert!(asked.len() == 3 && asked.iter().all(|(_, status)| status.is_some()), "{asked:?}");

    // A restart keeps the cluster and needs nobody's permission.
    let dir = nodes.remove(3).stop().await;
    let (mut again, _) = listeners(1).await;
    let node = Node::start(dir, "n3", &cluster, again.remove(0), &addresses[..3]).await;
    assert_eq!(node.belong(None).await.unwrap(), id);
    nodes.push(node);
    // It listens somewhere else now, and is found there.
    eventually("the moved node is heard", || {
        let moved = nodes[3].peers.id();
        nodes[0].peers.silence(moved).is_some_and(|silence| silence < Duration::from_secs(1))
    })
    .await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_wait_for_the_third() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Arc::new(cluster_dir::create(&temp.path().join("cluster")).unwrap());
    let (mut bound, addresses) = listeners(3).await;
    let third = bound.pop().unwrap();
    let mut nodes = Vec::new();
    for (at, listener) in bound.into_iter().enumerate() {
        let dir = temp.path().join(format!("n{at}"));
        nodes.push(Node::start(dir, &format!("n{at}"), &cluster, listener, &addresses).await);
    }
    let start_third = || Node::start(temp.path().join("n2"), "n2", &cluster, third, &addresses);
    let (last, ((a, b), c)) = {
        let early = async { tokio::join!(nodes[0].belong(Some(3)), nodes[1].belong(Some(3))) };
        let mut early = std::pin::pin!(early);
        // Time for many rounds; a node that goes ahead without the third does so in the first.
        let waited = tokio::time::timeout(Duration::from_secs(2), early.as_mut()).await;
        assert!(waited.is_err(), "born without the third");
        assert!(!nodes[0].metadata.has_log() && !nodes[1].metadata.has_log());
        let last = start_third().await;
        let born = tokio::join!(early, last.belong(Some(3)));
        (last, born)
    };
    let id = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (id, id));
    for node in nodes.into_iter().chain([last]) {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_is_a_cluster_and_a_stranger_gets_nothing_from_it() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Arc::new(cluster_dir::create(&temp.path().join("cluster")).unwrap());
    let other = Arc::new(cluster_dir::create(&temp.path().join("other")).unwrap());
    let (mut bound, addresses) = listeners(2).await;
    let stranger =
        Node::start(temp.path().join("s"), "s", &other, bound.pop().unwrap(), &addresses[..1]).await;
    let alone = Node::start(temp.path().join("n"), "n", &cluster, bound.pop().unwrap(), &[]).await;
    let id = alone.belong(Some(1)).await.unwrap();
    assert_eq!(alone.peers.cluster(), Some(id));
    let (answers, failures) = stranger.peers.hello_all().await;
    assert!(answers.is_empty());
    assert!(failures[0].is_stranger, "{failures:?}");
    assert!(failures[0].why.contains("that node has another cluster directory"), "{failures:?}");
    let told = in_words(&decide::Waiting::NoCluster, &failures);
    assert!(told.contains("--cluster-dir") && !told.contains("--bootstrap-expect"), "{told}");
    assert!(in_words(&decide::Waiting::NoCluster, &[]).contains("--bootstrap-expect"));
    alone.stop().await;
    stranger.stop().await;
}

#[tokio::test]
async fn node_with_a_taken_name_is_told_so() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Arc::new(cluster_dir::create(&temp.path().join("cluster")).unwrap());
    let (mut bound, addresses) = listeners(2).await;
    let second =
        Node::start(temp.path().join("b"), "same", &cluster, bound.pop().unwrap(), &addresses[..1]).await;
    let first = Node::start(temp.path().join("a"), "same", &cluster, bound.pop().unwrap(), &[]).await;
    first.belong(Some(1)).await.unwrap();
    let (answers, _) = second.peers.hello_all().await;
    let refused = second.peers.join_through(answers[0].node.id).await.unwrap_err();
    assert!(is_name_taken(&refused), "{refused}");
    assert!(name_taken("same").contains("same") && name_taken("same").contains("--name"));
    first.stop().await;
    second.stop().await;
}
