//! Nodes that share a state and a network, in front of one registry. Their clock is the test's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use tower::ServiceExt as _;
use trow_api::pull::{PullError, Pulled, UpstreamName};
use trow_api::route::Reference;
use trow_raft::command::LEVEL;
use trow_raft::limits::CACHED_MAX;
use trow_raft::metadata::{PeerId, ProposeError};
use trow_raft::state::{ApplyEntry, State, View};
use trow_raft::{
    Applied, ClusterId, Command, Digest, Envelope, Member, MemberState, NodeId, Outcome, Planted, Refusal,
    RepoName,
};

use super::super::{Manifests, Parts};
use super::fake::{Fake, Made};
use crate::cache::homes::Homes;
use crate::cache::serve_manifests::routes;
use crate::peer_blobs::{Call, PeerBlobs};
use crate::replicated::Agreement;
use crate::store::Store;
use crate::upstream::{HostSettings, Registries, UpstreamSettings};

/// The most that any single step of a test may take.
pub const BOUND: Duration = Duration::from_secs(60);
pub const FRESHNESS: Duration = Duration::from_secs(100);

pub struct World {
    pub upstream: Fake,
    pub nodes: BTreeMap<NodeId, Manifests>,
    pub net: Arc<Net>,
    ledger: Arc<Ledger>,
    later: Arc<AtomicU64>,
    settings: UpstreamSettings,
    dir: tempfile::TempDir,
}

/// The one state, and whether it can change.
struct Ledger {
    state: State,
    index: Mutex<u64>,
    quorum: AtomicBool,
    full: AtomicBool,
    proposed: Mutex<Vec<Command>>,
}

impl Ledger {
    fn view(&self) -> View {
        self.state.view().unwrap()
    }

    fn propose(&self, command: Command) -> Applied {
        let mut index = self.index.lock().unwrap();
        *index += 1;
        self.proposed.lock().unwrap().push(command.clone());
        let level = command.level();
        let (node, seq) = (NodeId(1), *index);
        let envelope = Envelope { node, boot: 1, seq, now: 0, actor: "test".into(), level, command };
        let log_id = Bytes::copy_from_slice(&index.to_be_bytes());
        let entry = ApplyEntry { index: *index, log_id, envelope: Some(envelope), membership: None };
        self.state.apply(&[entry]).unwrap().remove(0)
    }
}

fn agreement(ledger: &Arc<Ledger>) -> Agreement {
    let (local, confirmed, proposed) = (ledger.clone(), ledger.clone(), ledger.clone());
    Agreement {
        view: Arc::new(move || Ok(local.view())),
        confirmed: Arc::new(move || {
            let view = confirmed.view();
            async move { Ok(view) }.boxed()
        }),
        propose: Arc::new(move |_, command| {
            let quorum = proposed.quorum.load(Ordering::SeqCst);
            let full = proposed.full.load(Ordering::SeqCst) && matches!(command, Command::PutCached { .. });
            let applied = match quorum {
                true if full => {
                    let refusal = Refusal::TooMany { limit: CACHED_MAX };
                    Ok(Applied { index: *proposed.index.lock().unwrap(), outcome: Outcome::Refused(refusal) })
                }
                true => Ok(proposed.propose(command)),
                false => Err(ProposeError::NoLeader),
            };
            async move { applied }.boxed()
        }),
    }
}

/// Nodes that go down, and bytes that change on the way.
#[derive(Default)]
pub struct Net {
    routers: OnceLock<BTreeMap<NodeId, Router>>,
    down: Mutex<BTreeSet<NodeId>>,
    liars: Mutex<BTreeSet<NodeId>>,
    pub calls: Mutex<Vec<String>>,
}

impl Net {
    pub fn down(&self, node: NodeId) {
        self.down.lock().unwrap().insert(node);
    }

    pub fn up(&self, node: NodeId) {
        self.down.lock().unwrap().remove(&node);
    }

    pub fn lies(&self, node: NodeId) {
        self.liars.lock().unwrap().insert(node);
    }

    fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        let down = self.down.lock().unwrap();
        down.contains(&one) || down.contains(&other)
    }

    async fn call(
        self: Arc<Self>,
        from: NodeId,
        to: NodeId,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        self.calls.lock().unwrap().push(format!("{} {}", to.0, request.uri()));
        if self.is_cut(from, to) {
            return Err("connection refused".into());
        }
        request.extensions_mut().insert(PeerId(from));
        let router = self.routers.get().unwrap()[&to].clone();
        let reply = router.oneshot(request).await.unwrap();
        if self.is_cut(from, to) {
            return Err("the connection was reset".into());
        }
        if self.liars.lock().unwrap().contains(&to) {
            let (parts, body) = reply.into_parts();
            let mut bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            return Ok(Response::from_parts(parts, bytes.into()));
        }
        Ok(reply)
    }

    fn peers(self: &Arc<Self>, me: NodeId) -> PeerBlobs {
        let (calls, heard) = (self.clone(), self.clone());
        let call: Call = Arc::new(move |to, request| calls.clone().call(me, to, request).boxed());
        let silence = move |node| Some(if heard.is_cut(me, node) { BOUND } else { Duration::ZERO });
        PeerBlobs::new(call, Arc::new(silence))
    }
}

impl World {
    /// Of three nodes.
    pub async fn new() -> World {
        World::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut UpstreamSettings)) -> World {
        let upstream = Fake::start().await;
        let host = HostSettings {
            endpoint: format!("http://{}", upstream.address).parse().ok(),
            insecure: true,
            allow_private: true,
            freshness: FRESHNESS,
            timeout: BOUND,
            ..HostSettings::default()
        };
        let mut settings = UpstreamSettings {
            hosts: [("registry.test".parse().unwrap(), host)].into(),
            ..Default::default()
        };
        change(&mut settings);
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb"), Planted::NONE).unwrap();
        let ledger = Arc::new(Ledger {
            state,
            index: Mutex::new(0),
            quorum: AtomicBool::new(true),
            full: AtomicBool::new(false),
            proposed: Mutex::default(),
        });
        let done = |command| assert_eq!(ledger.propose(command).outcome, Outcome::Done);
        done(Command::Birth { cluster: ClusterId(1), rf: 3, level: LEVEL });
        let mut world = World {
            upstream,
            nodes: BTreeMap::new(),
            net: Arc::default(),
            later: Arc::default(),
            ledger: ledger.clone(),
            settings,
            dir,
        };
        for id in [1, 2, 3].map(NodeId) {
            let store = world.store(id);
            let member = Member {
                id,
                name: format!("n{}", id.0),
                zone: String::new(),
                state: MemberState::Joining,
                generation: store.generation(),
                max_level: LEVEL,
                weight: 10,
                client: String::new(),
                peer: String::new(),
            };
            done(Command::ChangeMember { member });
            done(Command::SetMemberState { node: id, state: MemberState::Active });
            let started = world.start(id, store);
            world.nodes.insert(id, started);
        }
        world.connect();
        world
    }

    fn store(&self, id: NodeId) -> Store {
        let path = self.dir.path().join(format!("n{}", id.0));
        std::fs::create_dir_all(&path).unwrap();
        Store::open(&path, Planted::NONE).unwrap()
    }

    fn start(&self, me: NodeId, store: Store) -> Manifests {
        self.start_with(me, store, self.settings.clone())
    }

    fn start_with(&self, me: NodeId, store: Store, settings: UpstreamSettings) -> Manifests {
        let agreed = agreement(&self.ledger);
        let peers = self.net.peers(me);
        let homes = Homes::new(me, agreed.clone(), peers.silence_fn());
        let (later, start) = (self.later.clone(), Instant::now());
        let clock = Arc::new(move || start + Duration::from_millis(later.load(Ordering::SeqCst)));
        let upstream = Registries::new(settings);
        Manifests::new(Parts { me, store, agreed, peers, homes, upstream, clock })
    }

    fn connect(&self) {
        let router = |manifests: &Manifests| routes(manifests.clone());
        let routers = self.nodes.iter().map(|(id, node)| (*id, router(node))).collect();
        self.net.routers.set(routers).map_err(drop).unwrap();
    }

    /// All nodes lose what they have in memory, and are asked by the same settings but for `change`.
    pub fn restart(&mut self, change: impl FnOnce(&mut UpstreamSettings)) {
        change(&mut self.settings);
        self.roll_out(&[], |_| ());
    }

    /// The same, where `change` is made on these nodes alone.
    pub fn roll_out(&mut self, to: &[u64], change: impl FnOnce(&mut UpstreamSettings)) {
        let mut changed = self.settings.clone();
        change(&mut changed);
        self.net = Arc::default();
        let stores: Vec<_> = self.nodes.iter().map(|(id, node)| (*id, node.store().clone())).collect();
        for (id, store) in stores {
            let settings = if to.contains(&id.0) { &changed } else { &self.settings };
            let started = self.start_with(id, store, settings.clone());
            self.nodes.insert(id, started);
        }
        self.connect();
    }

    /// Time passes.
    pub fn passes(&self, seconds: u64) {
        self.later.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn quorum(&self, there_is: bool) {
        self.ledger.quorum.store(there_is, Ordering::SeqCst);
    }

    /// The state takes no more cached manifests, or does again.
    pub fn full(&self, is_full: bool) {
        self.ledger.full.store(is_full, Ordering::SeqCst);
    }

    pub fn view(&self) -> View {
        self.ledger.view()
    }

    pub fn propose(&self, command: Command) -> Outcome {
        self.ledger.propose(command).outcome
    }

    /// All that was proposed so far.
    pub fn proposed(&self) -> Vec<Command> {
        self.ledger.proposed.lock().unwrap().clone()
    }

    pub fn node(&self, id: u64) -> &Manifests {
        &self.nodes[&NodeId(id)]
    }

    /// The home of the repository, and another node.
    pub fn home(&self, repo: &str) -> (u64, u64) {
        let home = self.node(1).inner.parts.homes.of(name(repo).local().as_str(), &[]);
        (home.0, home.0 % 3 + 1)
    }

    pub async fn get(&self, node: u64, repo: &str, reference: &str) -> Result<Pulled, PullError> {
        soon(self.node(node).manifest(&name(repo), &named(reference), false)).await
    }

    pub async fn head(&self, node: u64, repo: &str, reference: &str) -> Result<Pulled, PullError> {
        soon(self.node(node).manifest(&name(repo), &named(reference), true)).await
    }

    /// The tag in the state.
    pub fn tag(&self, repo: &str, tag: &str) -> Option<Digest> {
        self.view().tag(name(repo).local(), &tag.parse().unwrap()).unwrap().map(|row| row.digest)
    }

    /// Waits until the state has the tag there.
    pub async fn recorded(&self, repo: &str, tag: &str, made: &Made) {
        until(|| self.tag(repo, tag) == Some(made.digest)).await;
    }

    /// Puts the blob on the node's disk, as cached.
    pub async fn place(&self, node: u64, content: &str) {
        let digest = Digest::sha256(content.as_bytes());
        let mut staged = self.node(node).store().stage(None).await.unwrap();
        staged.write(Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
        staged.keep(&digest).await.unwrap();
    }

    /// As [`World::place`], as cached and come by that name.
    pub async fn cache(&self, node: u64, content: &str, origin: &RepoName) {
        let digest = Digest::sha256(content.as_bytes());
        let mut staged = self.node(node).store().stage(None).await.unwrap();
        staged.write(Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
        staged.came_by(Some(origin.clone()));
        staged.keep(&digest).await.unwrap();
    }
}

pub fn name(repo: &str) -> UpstreamName {
    UpstreamName::new("registry.test".parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

pub fn named(text: &str) -> Reference {
    match text.parse() {
        Ok(digest) => Reference::Digest(digest),
        Err(_) => Reference::Tag(text.parse().unwrap()),
    }
}

/// Bounds a step of a test.
pub async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, step).await.expect("the step takes too long")
}

/// Waits for what comes of something in the background.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    let bound = Instant::now() + BOUND;
    while !is_so() {
        assert!(Instant::now() < bound, "it never comes to it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
