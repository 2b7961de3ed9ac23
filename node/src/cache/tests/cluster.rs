//! Nodes with a cache each, and what is asked of them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use trow_api::blobs::ByteStream;
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::{Digest, NodeId, Planted};

use super::upstream::Upstream;
use crate::cache::{Cache, Parts};
use crate::peer_blobs::PeerBlobs;
use crate::replicated::tests::harness::{LIMITS, Nodes, agreement, soon};
use crate::upstream::{HostSettings, Registries, UpstreamSettings};

pub const MIB: usize = 1 << 20;

pub struct Cluster {
    pub nodes: Nodes,
    pub caches: BTreeMap<u64, Cache>,
    pub peers: BTreeMap<u64, PeerBlobs>,
    pub upstream: Upstream,
    /// Another registry.
    pub other: Upstream,
    /// A third one, for whose repositories below `team` there are credentials.
    pub secret: Upstream,
    listed: Arc<Mutex<HashMap<(UpstreamName, Digest), u64>>>,
}

/// A repository of the upstream.
pub fn name(repo: &str) -> UpstreamName {
    UpstreamName::new("up.example".parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

/// A repository of the third registry.
pub fn secret(repo: &str) -> UpstreamName {
    UpstreamName::new("secret.example".parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

/// A repository of the other registry.
pub fn other(repo: &str) -> UpstreamName {
    UpstreamName::new("other.example".parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

impl Cluster {
    pub async fn new(count: u64) -> Cluster {
        Cluster::with(count, false).await
    }

    pub async fn with(count: u64, offline: bool) -> Cluster {
        Cluster::rolled_out(count, offline, u64::MAX).await
    }

    /// The nodes up to `to` have the credentials already.
    pub async fn rolled_out(count: u64, offline: bool, to: u64) -> Cluster {
        let (upstream, another) = (Upstream::start().await, Upstream::start().await);
        let guarded = Upstream::start().await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let login = r#"{"auths": {"secret.example/team": {"username": "u", "password": "p"}}}"#;
        std::fs::write(file.path(), login).unwrap();
        let at = |upstream: &Upstream| HostSettings {
            endpoint: format!("http://{}", upstream.address).parse().ok(),
            insecure: true,
            allow_private: true,
            timeout: Duration::from_secs(60),
            ..HostSettings::default()
        };
        let settings = UpstreamSettings {
            offline,
            hosts: BTreeMap::from([
                (name("app").host().clone(), at(&upstream)),
                (other("app").host().clone(), at(&another)),
                (
                    secret("app").host().clone(),
                    HostSettings { auth_file: Some(file.path().to_owned()), ..at(&guarded) },
                ),
            ]),
            ..UpstreamSettings::default()
        };
        let listed: Arc<Mutex<HashMap<(UpstreamName, Digest), u64>>> = Arc::default();
        let (mut caches, mut all_peers) = (BTreeMap::new(), BTreeMap::new());
        let nodes = Nodes::serving(count, LIMITS, Planted::NONE, |me, node, ledger, peers| {
            let listed = listed.clone();
            let mut settings = settings.clone();
            if me.0 > to {
                settings.hosts.values_mut().for_each(|host| host.auth_file = None);
            }
            let cache = Cache::new(Parts {
                me,
                store: node.store.clone(),
                agreed: agreement(ledger),
                peers: peers.clone(),
                blobs: node.blobs.clone(),
                registries: Registries::new(settings),
                listed: Arc::new(move |name, digest| {
                    let size = listed.lock().unwrap().get(&(name, digest)).copied();
                    Box::pin(async move { Ok(size) })
                }),
            });
            let router = cache.peer_router();
            all_peers.insert(me.0, peers);
            caches.insert(me.0, cache);
            router
        });
        Cluster {
            nodes: nodes.await,
            caches,
            peers: all_peers,
            upstream,
            other: another,
            secret: guarded,
            listed,
        }
    }

    /// A manifest of `app` lists the blob, with this size.
    pub fn list(&self, bytes: &Bytes, size: usize) -> Digest {
        self.list_as(name("app"), bytes, size)
    }

    /// A manifest of the repository lists the blob, with this size.
    pub fn list_as(&self, name: UpstreamName, bytes: &Bytes, size: usize) -> Digest {
        let digest = Digest::sha256(bytes);
        self.listed.lock().unwrap().insert((name, digest), size as u64);
        digest
    }

    /// The upstream has the blob in `app`, where a manifest lists it.
    pub fn has(&self, bytes: &Bytes) -> Digest {
        self.upstream.has(bytes, |_| ());
        self.list(bytes, bytes.len())
    }

    /// The node that fetches the blob, and the others.
    pub fn home(&self, digest: &Digest) -> (u64, Vec<u64>) {
        let home = self.caches[&1].inner.fills.means().homes.of(&digest.to_string(), &[]).0;
        (home, self.caches.keys().copied().filter(|node| *node != home).collect())
    }

    /// Reads all of the blob through a node.
    pub async fn open(&self, node: u64, digest: &Digest) -> Result<ByteStream, PullError> {
        self.open_as(node, &name("app"), digest).await
    }

    /// The same under another name.
    pub async fn open_as(
        &self,
        node: u64,
        name: &UpstreamName,
        digest: &Digest,
    ) -> Result<ByteStream, PullError> {
        Ok(soon(self.caches[&node].blob(name, digest, &|size| Some(0..size))).await?.body)
    }

    /// Reads a range of the blob through a node.
    pub async fn part(&self, node: u64, digest: &Digest, range: Range<u64>) -> ByteStream {
        let range = move |_| Some(range.clone());
        soon(self.caches[&node].blob(&name("app"), digest, &range)).await.unwrap().body
    }

    /// Waits until exactly these nodes have the blob.
    pub async fn until_held_by(&self, digest: &Digest, count: usize) {
        soon(async {
            while self.nodes.holders(digest).len() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// Takes at least `len` bytes from the body, which must come now.
pub async fn take(body: &mut ByteStream, len: usize) -> Vec<u8> {
    let mut got = vec![];
    while got.len() < len {
        let next = soon(body.next()).await.expect("the body ends too early");
        got.extend_from_slice(&next.expect("the body breaks off"));
    }
    got
}

pub fn node(id: u64) -> NodeId {
    NodeId(id)
}
