//! A cluster of stores in one process: one log, and per node a state that applies it when the
//! test says so. No network and no consensus; schedules are produced by choosing who applies what
//! when, and who can be reached.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use trow_raft::command::{LEVEL, SYSTEM};
use trow_raft::metadata::ProposeError;
use trow_raft::state::{ApplyEntry, State, View};
use trow_raft::{
    Applied, Changes, ClusterId, Command, Digest, Envelope, Evidence, Generation, Member, MemberState,
    NodeId, Outcome, PartitionId, Planted, Refusal, RepoName,
};

use crate::copies::{Agreed, Others};
use crate::store::{Held, Store};

/// The nodes and their log.
pub struct Sim {
    log: Mutex<Vec<Envelope>>,
    seq: AtomicU64,
    nodes: Vec<SimNode>,
    me: Weak<Sim>,
    planted: Planted,
}

struct SimNode {
    id: NodeId,
    dir: tempfile::TempDir,
    state: State,
    changes: Arc<Changes>,
    applied: watch::Sender<u64>,
    store: Mutex<Store>,
    /// Applies what is committed at once.
    follows: AtomicBool,
    reachable: AtomicBool,
}

impl Sim {
    /// Nodes numbered from 1, all members; `owners` own every partition.
    pub fn new(nodes: u64, rf: u32, owners: &[u64], planted: Planted) -> Arc<Sim> {
        let make = |number| {
            // In memory where there is such a place: opening a store syncs its whole file system.
            let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            SimNode {
                id: NodeId(number),
                state: State::open(&dir.path().join("state.redb"), planted).unwrap(),
                changes: Arc::new(Changes::default()),
                applied: watch::Sender::new(0),
                store: Mutex::new(Store::open(&dir.path().join("data"), planted).unwrap()),
                dir,
                follows: AtomicBool::new(true),
                reachable: AtomicBool::new(true),
            }
        };
        let nodes: Vec<SimNode> = (1..=nodes).map(make).collect();
        let sim = Arc::new_cyclic(|me| Sim {
            log: Mutex::default(),
            seq: AtomicU64::new(0),
            nodes,
            me: me.clone(),
            planted,
        });
        sim.commit(Command::Birth { cluster: ClusterId(1), rf, level: LEVEL });
        for node in &sim.nodes {
            let member = Member {
                id: node.id,
                name: format!("n{}", node.id.0),
                zone: String::new(),
                state: MemberState::Joining,
                generation: node.store.lock().unwrap().generation(),
                max_level: LEVEL,
                weight: 1,
                client: String::new(),
                peer: String::new(),
            };
            sim.commit(Command::ChangeMember { member });
            sim.commit(Command::SetMemberState { node: node.id, state: MemberState::Active });
        }
        sim.own(owners);
        sim
    }

    fn node(&self, number: u64) -> &SimNode {
        &self.nodes[number as usize - 1]
    }

    /// The node's store.
    pub fn store(&self, number: u64) -> Store {
        self.node(number).store.lock().unwrap().clone()
    }

    /// The node's applied state.
    pub fn view(&self, number: u64) -> View {
        self.node(number).state.view().unwrap()
    }

    /// Gives every partition to `owners`.
    pub fn own(&self, owners: &[u64]) {
        let owners: Vec<NodeId> = owners.iter().copied().map(NodeId).collect();
        // Node 1's state, since tests never hold it back when they move partitions.
        let base = self.view(1).partitions_base().unwrap();
        let owners = PartitionId::all().map(|id| (id, owners.clone())).collect();
        self.commit(Command::SetPartitions { owners, base });
    }

    /// Appends a command to the log; every node that follows applies it. What came of it is
    /// `None` when no node follows.
    pub fn commit(&self, command: Command) -> Option<Outcome> {
        self.commit_as(NodeId(1), command).map(|applied| applied.outcome)
    }

    fn commit_as(&self, node: NodeId, command: Command) -> Option<Applied> {
        let mut log = self.log.lock().unwrap();
        let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        log.push(Envelope { node, boot: 1, seq, now: 0, actor: SYSTEM.into(), level: 1, command });
        let index = log.len();
        let mut applied = None;
        for node in self.nodes.iter().filter(|node| node.follows.load(Ordering::Relaxed)) {
            applied = node.catch_up(&log, index).pop().or(applied);
        }
        applied
    }

    /// Stops (`false`) a node from applying, or lets it catch up and go on.
    pub fn follow(&self, number: u64, follows: bool) {
        let log: MutexGuard<'_, Vec<Envelope>> = self.log.lock().unwrap();
        self.node(number).follows.store(follows, Ordering::Relaxed);
        if follows {
            self.node(number).catch_up(&log, log.len());
        }
    }

    /// Whether others can fetch from the node and ask it.
    pub fn reach(&self, number: u64, reachable: bool) {
        self.node(number).reachable.store(reachable, Ordering::Relaxed);
    }

    /// Ends the node's process as far as its store is concerned, and starts it again.
    pub fn restart(&self, number: u64) -> Store {
        let node = self.node(number);
        let mut store = node.store.lock().unwrap();
        *store = Store::open(&node.dir.path().join("restarting"), Planted::NONE).unwrap();
        *store = Store::open(&node.dir.path().join("data"), self.planted).unwrap();
        store.clone()
    }

    /// What is agreed, as the node sees it.
    pub fn agreed(&self, number: u64) -> Agreed {
        let node = self.node(number);
        let (sim, id) = (self.me.clone(), node.id);
        let view = move || sim.upgrade().unwrap().node(id.0).state.view();
        let (sim, id) = (self.me.clone(), node.id);
        let propose = move |command| {
            let sim = sim.clone();
            async move {
                let sim = sim.upgrade().ok_or(ProposeError::NoLeader)?;
                sim.commit_as(id, command).ok_or(ProposeError::NoLeader)
            }
            .boxed()
        };
        Agreed {
            me: node.id,
            view: Arc::new(view),
            propose: Arc::new(propose),
            applied: node.applied.subscribe(),
            changes: Arc::clone(&node.changes),
        }
    }

    /// What the other nodes hold.
    pub fn others(&self) -> Others {
        let sim = self.me.clone();
        let fetch = move |node: NodeId, digest| {
            let store = sim.upgrade().unwrap().reachable(node);
            async move {
                let body = store?.open_blob(&digest, None).await.map_err(|err| err.to_string())?;
                Ok(body.map(|bytes| bytes.map_err(std::io::Error::other)).boxed())
            }
            .boxed()
        };
        let sim = self.me.clone();
        let confirm = move |node: NodeId, digests: Vec<Digest>| {
            let store = sim.upgrade().unwrap().reachable(node);
            async move {
                let store = store?;
                let mut said = Vec::new();
                for digest in digests {
                    let held = store.confirm(&digest).await.map_err(|err| err.to_string())?;
                    said.push(held.map(|held| held.evidence(node)));
                }
                Ok(said)
            }
            .boxed()
        };
        Others { fetch: Arc::new(fetch), confirm: Arc::new(confirm) }
    }

    fn reachable(&self, node: NodeId) -> Result<Store, String> {
        let node = self.node(node.0);
        let reachable = node.reachable.load(Ordering::Relaxed);
        reachable.then(|| node.store.lock().unwrap().clone()).ok_or_else(|| "unreachable".to_owned())
    }

    /// Holds `bytes` on the node.
    pub async fn hold(&self, number: u64, bytes: &Bytes) -> Held {
        let mut staged = self.store(number).stage(None).await.unwrap();
        staged.write(bytes.clone()).await.unwrap();
        staged.hold(&Digest::sha256(bytes)).await.unwrap()
    }

    /// Commits a blob with the word of `holders`, given in generations that they had then.
    pub fn commit_blob(&self, bytes: &Bytes, holders: &[(u64, Generation)]) -> Option<Outcome> {
        let evidence = holders
            .iter()
            .map(|(node, generation)| Evidence { node: NodeId(*node), generation: *generation });
        self.commit(Command::CommitBlob {
            repo: "team/app".parse::<RepoName>().unwrap(),
            digest: Digest::sha256(bytes),
            size: bytes.len() as u64,
            evidence: evidence.collect(),
        })
    }

    /// Holds on `holders` and commits; gathers again when a fence came in between.
    pub async fn push(&self, bytes: &Bytes, holders: &[u64]) {
        for _ in 0..5 {
            let mut evidence = Vec::new();
            for node in holders {
                evidence.push((*node, self.hold(*node, bytes).await.generation));
            }
            match self.commit_blob(bytes, &evidence) {
                Some(Outcome::Done) => return,
                Some(Outcome::Refused(Refusal::StaleEvidence { .. })) => {}
                other => panic!("not committed: {other:?}"),
            }
        }
        panic!("the holders fence all the time");
    }

    /// The blob's file on a node.
    pub fn path(&self, number: u64, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        let blobs = self.node(number).dir.path().join("data/blobs");
        blobs.join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    /// The nodes that have the blob's file.
    pub fn holders(&self, digest: &Digest) -> BTreeSet<u64> {
        let has = |node: &&SimNode| node.store.lock().unwrap().has(digest).is_some();
        self.nodes.iter().filter(has).map(|node| node.id.0).collect()
    }
}

impl SimNode {
    fn catch_up(&self, log: &[Envelope], to: usize) -> Vec<Applied> {
        let from = *self.applied.borrow() as usize;
        let entries: Vec<ApplyEntry> = log[from..to]
            .iter()
            .enumerate()
            .map(|(at, envelope)| ApplyEntry {
                index: (from + at) as u64 + 1,
                log_id: Bytes::new(),
                envelope: Some(envelope.clone()),
                membership: None,
            })
            .collect();
        let commands = log[from..to].iter().map(|envelope| &envelope.command);
        let applied = self.changes.during(commands, || self.state.apply(&entries)).unwrap();
        self.applied.send_replace(to as u64);
        applied
    }
}

/// Waits until `holds`, at most `limit`.
pub async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + limit;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
