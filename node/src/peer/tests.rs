//! What strangers, impostors and the wrong nodes get from the peer port, over real sockets.

mod forged;

use std::collections::BTreeSet;
use std::time::Instant;

use ::http::{Request, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use trow_raft::{Generation, MemberState, PeerId};

use super::dial::{DialError, address_as};
use super::greeting::GreetingError;
use super::hello::Facts;
use super::listener::{PeerRoutes, serve};
use super::*;
use crate::cluster_dir;
use crate::identity::Leaf;

const ONE: ClusterId = ClusterId(0x11);
const TWO: ClusterId = ClusterId(0x22);

struct World {
    temp: tempfile::TempDir,
    cluster: Arc<ClusterDir>,
}

struct Node {
    peers: Peers,
    member: Member,
    closing: CancellationToken,
}

impl World {
    fn new() -> World {
        let temp = tempfile::tempdir().unwrap();
        let cluster = Arc::new(cluster_dir::create(&temp.path().join("cluster")).unwrap());
        World { temp, cluster }
    }

    /// A node of `cluster` that listens and answers.
    async fn node(&self, name: &str, cluster: Option<ClusterId>) -> Node {
        self.node_of(name, cluster, &self.cluster, |_| None).await
    }

    async fn node_of(
        &self,
        name: &str,
        cluster: Option<ClusterId>,
        dir: &Arc<ClusterDir>,
        leaf: impl FnOnce(&Identity) -> Option<Leaf>,
    ) -> Node {
        self.serving(name, cluster, dir, leaf, |_| tonic::service::Routes::default()).await
    }

    /// As [`World::node_of`]; its consensus is what `raft` makes for its id.
    async fn serving(
        &self,
        name: &str,
        cluster: Option<ClusterId>,
        dir: &Arc<ClusterDir>,
        leaf: impl FnOnce(&Identity) -> Option<Leaf>,
        raft: impl FnOnce(NodeId) -> tonic::service::Routes,
    ) -> Node {
        let home = self.temp.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        let identity = Arc::new(Identity::open(&home).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let member = Member {
            id: identity.id(),
            name: name.to_owned(),
            zone: String::new(),
            state: MemberState::Active,
            generation: Generation(1),
            max_level: 1,
            weight: 1,
            client: String::new(),
            peer: listener.local_addr().unwrap().to_string(),
        };
        let leaf = leaf(&identity);
        let settings = PeerSettings {
            identity,
            cluster_dir: Arc::clone(dir),
            me: member.clone(),
            join: Vec::new(),
            dial: BTreeMap::new(),
            cluster,
        };
        let peers = match leaf {
            None => Peers::new(settings).unwrap(),
            Some(leaf) => {
                let tls = tls::Tls::with_leaf(dir, leaf).unwrap();
                Peers::over(settings, tls, CancellationToken::new())
            }
        };
        let hooks = Hooks {
            facts: Arc::new(|_| Facts::default()),
            join: Arc::new(|_| Box::pin(async { Err("not here".to_owned()) })),
            status: Arc::new(|_| Box::pin(async { PeerStatus { applied: 7, ..PeerStatus::default() } })),
        };
        peers.0.hooks.store(Some(Arc::new(hooks)));
        let blobs = Router::new()
            .route("/who", get(|Extension(PeerId(id)): Extension<PeerId>| async move { id.to_string() }))
            .route("/echo", post(|body: Body| async move { body }));
        let routes = PeerRoutes { raft: raft(member.id), blobs };
        let closing = CancellationToken::new();
        tokio::spawn(serve(listener, peers.clone(), routes, closing.clone()));
        Node { peers, member, closing }
    }
}

impl Node {
    fn knows(&self, other: &Node) {
        self.peers.0.table.set_members(std::slice::from_ref(&other.member), &BTreeSet::new(), |_| false);
    }

    /// Dials `other` at its address, as that very node.
    async fn dial(&self, other: &Node) -> Result<NodeId, DialError> {
        let dialled =
            address_as(&self.peers.0, &other.member.peer, Some(other.member.id), Kind::Control).await;
        dialled.map(|dialled| dialled.node)
    }

    async fn get(&self, other: &Node, path: &str) -> Result<(StatusCode, String), DialError> {
        let reply =
            self.peers.http(other.member.id).call(Request::get(path).body(Body::empty()).unwrap()).await?;
        let status = reply.status();
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

#[tokio::test]
async fn members_reach_each_other_and_are_who_they_say() {
    let world = World::new();
    let (a, b) = (world.node("a", Some(ONE)).await, world.node("b", Some(ONE)).await);
    a.knows(&b);
    b.knows(&a);
    assert_eq!(a.dial(&b).await.unwrap(), b.member.id);
    assert_eq!(a.get(&b, "/who").await.unwrap(), (StatusCode::OK, a.member.id.to_string()));
    assert!(b.peers.silence(a.member.id).is_some_and(|silence| silence < Duration::from_secs(5)));
    let body = Request::post("/echo").body(Body::from(vec![7; 3 << 20])).unwrap();
    let reply = a.peers.http(b.member.id).call(body).await.unwrap();
    assert_eq!(axum::body::to_bytes(reply.into_body(), 4 << 20).await.unwrap().len(), 3 << 20);
    assert!(a.peers.traffic().bytes(Kind::Blob, Direction::Out) > 3 << 20);
    assert!(b.peers.traffic().bytes(Kind::Blob, Direction::In) > 3 << 20);
    let asked = a.peers.status_all(Duration::from_secs(5)).await;
    assert_eq!(asked[0].1.as_ref().map(|status| status.applied), Some(7));
}

#[tokio::test]
async fn foreign_certificates_get_nothing() {
    let world = World::new();
    let other = Arc::new(cluster_dir::create(&world.temp.path().join("other")).unwrap());
    let a = world.node("a", None).await;
    let stranger = world.node_of("s", None, &other, |_| None).await;
    assert!(matches!(stranger.dial(&a).await, Err(DialError::OtherDirectory { .. })));
    assert!(matches!(a.dial(&stranger).await, Err(DialError::OtherDirectory { .. })));
}

#[tokio::test]
async fn a_leaf_that_names_another_node_gets_nothing() {
    let world = World::new();
    let a = world.node("a", None).await;
    let (id, dir) = (a.member.id, Arc::clone(&world.cluster));
    let liar = world.node_of("liar", None, &dir, |key| Some(key.mint_false(&dir, id, false))).await;
    assert!(liar.dial(&a).await.is_err());
    assert!(matches!(a.dial(&liar).await, Err(DialError::Tls { .. })));
}

#[tokio::test]
async fn an_expired_leaf_gets_nothing() {
    let world = World::new();
    let (a, dir) = (world.node("a", None).await, Arc::clone(&world.cluster));
    let old = world.node_of("old", None, &dir, |key| Some(key.mint_false(&dir, key.id(), true))).await;
    assert!(old.dial(&a).await.is_err());
    assert!(matches!(a.dial(&old).await, Err(DialError::Tls { .. })));
}

#[tokio::test]
async fn a_stale_join_secret_gets_nothing() {
    let world = World::new();
    let stale = world.temp.path().join("stale");
    std::fs::create_dir(&stale).unwrap();
    for file in ["ca.crt", "ca.key", "join.secret", "admin.token"] {
        std::fs::copy(world.temp.path().join("cluster").join(file), stale.join(file)).unwrap();
    }
    std::fs::write(stale.join("join.secret"), "0123456789abcdef0123456789abcdef").unwrap();
    let stale = Arc::new(cluster_dir::open(&stale).unwrap());
    let a = world.node("a", None).await;
    let late = world.node_of("late", None, &stale, |_| None).await;
    let refused = late.dial(&a).await;
    assert!(matches!(refused, Err(DialError::Greeting { source: GreetingError::Refused(_), .. })));
    assert!(matches!(a.dial(&late).await, Err(DialError::Greeting { .. })));
}

#[tokio::test]
async fn a_node_of_another_cluster_gets_nothing() {
    let world = World::new();
    let (a, b) = (world.node("a", Some(ONE)).await, world.node("b", Some(TWO)).await);
    a.knows(&b);
    b.knows(&a);
    let refused = a.dial(&b).await.err().unwrap().to_string();
    assert!(refused.contains(&ONE.to_string()) && refused.contains(&TWO.to_string()), "{refused}");
    assert!(a.get(&b, "/who").await.is_err());
}

#[tokio::test]
async fn who_is_no_member_may_say_hello_and_nothing_else() {
    let world = World::new();
    let (a, unborn) = (world.node("a", Some(ONE)).await, world.node("u", None).await);
    unborn.knows(&a);
    assert_eq!(unborn.get(&a, "/who").await.unwrap().0, StatusCode::FORBIDDEN);
    assert_eq!(unborn.peers.status_all(Duration::from_secs(5)).await, [(a.member.id, None)]);
    let dialled = address_as(&unborn.peers.0, &a.member.peer, None, Kind::Control).await.unwrap();
    let (node, channel) = (dialled.node, dial::channel_over(dialled).await.unwrap());
    let answer = control::hello(&unborn.peers, channel, node).await.unwrap();
    assert_eq!((answer.node.id, answer.cluster), (a.member.id, Some(ONE)));
}

#[tokio::test]
async fn a_removed_node_is_told_so_and_gets_nothing() {
    let world = World::new();
    let (a, gone) = (world.node("a", Some(ONE)).await, world.node("gone", Some(ONE)).await);
    a.knows(&gone);
    gone.knows(&a);
    assert_eq!(gone.get(&a, "/who").await.unwrap().0, StatusCode::OK);
    let id = gone.member.id;
    a.peers.0.table.set_members(&[], &BTreeSet::new(), |node| node == id);
    // On the connection that it has already, too.
    assert_eq!(gone.get(&a, "/who").await.unwrap().0, StatusCode::FORBIDDEN);
    let mut removed = gone.peers.removed();
    assert!(!*removed.borrow());
    assert_eq!(gone.peers.status_all(Duration::from_secs(5)).await, [(a.member.id, None)]);
    let told = tokio::time::timeout(Duration::from_secs(5), removed.wait_for(|removed| *removed)).await;
    told.expect("told in time").unwrap();
}

#[tokio::test]
async fn a_stale_address_does_not_lead_to_the_wrong_node() {
    let world = World::new();
    let (a, b) = (world.node("a", Some(ONE)).await, world.node("b", Some(ONE)).await);
    let c = world.node("c", Some(ONE)).await;
    let moved = Member { peer: c.member.peer.clone(), ..b.member.clone() };
    a.peers.0.table.set_members(&[moved], &BTreeSet::new(), |_| false);
    assert!(a.get(&b, "/who").await.is_err());
    // Found elsewhere, it is reached there, by those who ask for a new connection.
    a.peers.0.table.heard_at(&b.member, &b.member.peer);
    assert_eq!(a.get(&b, "/who").await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let world = World::new();
    let a = world.node("a", Some(ONE)).await;
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begun = Instant::now();
    let address = hole.local_addr().unwrap().to_string();
    let dialled = address_as(&a.peers.0, &address, None, Kind::Raft).await;
    assert!(matches!(dialled, Err(DialError::Slow(_))));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn half_open_connections_do_not_keep_peers_out() {
    let world = World::new();
    let (a, b) = (world.node("a", Some(ONE)).await, world.node("b", Some(ONE)).await);
    a.knows(&b);
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(tokio::net::TcpStream::connect(&b.member.peer).await.unwrap());
    }
    assert_eq!(a.dial(&b).await.unwrap(), b.member.id);
}

#[tokio::test]
async fn a_closed_listener_takes_no_more_requests() {
    let world = World::new();
    let (a, b) = (world.node("a", Some(ONE)).await, world.node("b", Some(ONE)).await);
    a.knows(&b);
    assert_eq!(a.get(&b, "/who").await.unwrap().0, StatusCode::OK);
    b.closing.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(a.get(&b, "/who").await.is_err());
}
