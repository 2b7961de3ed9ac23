//! The other nodes of the cluster, as this process reaches and sees them.
//!
//! Owns the peer port in both directions: mutual TLS, the handshake that follows it, the table of
//! who is where and when they were last heard, and the control service. Always holds: whoever is
//! spoken to has proven its node id by its key, and the join secret, on that very connection; a
//! node of another cluster and a removed node get nothing but to be told so. Never does: decide
//! anything about the cluster; blobs.

mod behalf;
mod control;
mod counted;
mod dial;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gate;
mod greeting;
mod hello;
mod http;
pub mod listener;
mod poll;
mod refusals;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use trow_raft::metadata::{Connect, ConnectError, Silence};
use trow_raft::{ClusterId, Member, Metadata, NodeId};

pub use behalf::annotate;
pub use hello::{Card, HelloAnswer, Hooks};
pub use http::PeerHttp;
pub(crate) use poll::Failure;
pub use status::{PeerAudit, PeerDisk, PeerStatus, PeerUploads, StatusFn};
pub use tls::TlsError;
pub use traffic::{Direction, Kind, Traffic};

use crate::cluster_dir::ClusterDir;
use crate::identity::Identity;

/// What [`Peers`] are made of.
pub struct PeerSettings {
    /// This node's key.
    pub identity: Arc<Identity>,
    /// What makes a peer trusted.
    pub cluster_dir: Arc<ClusterDir>,
    /// This node as it presents itself; `peer` is the advertised address.
    pub me: Member,
    /// `host:port` addresses to find peers at; a DNS name may stand for many. May name this node.
    pub join: Vec<String>,
    /// Node name → `host:port` that is dialled instead of what that node advertises.
    pub dial: BTreeMap<String, String>,
    /// The cluster that this node's data belongs to, when it was ever a member.
    pub cluster: Option<ClusterId>,
}

/// The peers. Cheap to clone.
#[derive(Clone)]
pub struct Peers(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    me: Member,
    join: Vec<String>,
    secret: Arc<ClusterDir>,
    tls: tls::Tls,
    cluster: ArcSwap<Option<ClusterId>>,
    card: ArcSwap<Card>,
    table: table::Table,
    hooks: ArcSwapOption<Hooks>,
    channels: Mutex<HashMap<(NodeId, Kind), Channel>>,
    http: OnceLock<http::Client>,
    traffic: Traffic,
    removed: watch::Sender<bool>,
    closing: CancellationToken,
}

impl Peers {
    /// Mints this node's leaf and starts renewing it. Must run within a runtime. Nothing is
    /// dialled before it is asked for, and questions are answered only after [`Peers::attach`].
    ///
    /// # Errors
    /// The cluster directory cannot sign or verify.
    pub fn new(settings: PeerSettings) -> Result<Peers, TlsError> {
        let closing = CancellationToken::new();
        let identity = Arc::clone(&settings.identity);
        let tls = tls::Tls::new(identity, Arc::clone(&settings.cluster_dir), closing.clone())?;
        Ok(Peers::over(settings, tls, closing))
    }

    fn over(settings: PeerSettings, tls: tls::Tls, closing: CancellationToken) -> Peers {
        let inner = Inner {
            table: table::Table::new(settings.me.id, settings.dial),
            card: ArcSwap::from_pointee(Card::default()),
            cluster: ArcSwap::from_pointee(settings.cluster),
            me: settings.me,
            join: settings.join,
            secret: settings.cluster_dir,
            tls,
            hooks: ArcSwapOption::empty(),
            channels: Mutex::default(),
            http: OnceLock::new(),
            traffic: Traffic::default(),
            removed: watch::Sender::new(false),
            closing,
        };
        Peers(Arc::new(inner))
    }

    /// Gives the peers what they answer questions with, and starts following the members in
    /// `metadata` and polling them. To be called once.
    pub fn attach(&self, metadata: &Metadata, status: StatusFn) {
        self.0.hooks.store(Some(Arc::new(Hooks::of(metadata.clone(), status))));
        tokio::spawn(poll::follow(self.clone(), metadata.clone()));
        tokio::spawn(poll::poll(self.clone()));
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.0.me.id
    }

    /// This node as it presents itself to others.
    pub fn me(&self) -> &Member {
        &self.0.me
    }

    /// The cluster that this node knows itself to belong to.
    pub fn cluster(&self) -> Option<ClusterId> {
        **self.0.cluster.load()
    }

    /// From now on this node belongs to `cluster`.
    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        self.0.cluster.store(Arc::new(Some(cluster)));
    }

    /// How consensus reaches a peer: a channel per peer that reconnects by itself, to wherever
    /// the peer is then.
    pub fn connect(&self) -> Connect {
        let peers = self.clone();
        Arc::new(move |node| {
            let channel = peers.channel(node, Kind::Raft);
            Box::pin(async move { channel })
        })
    }

    pub(crate) fn channel(&self, node: NodeId, kind: Kind) -> Result<Channel, ConnectError> {
        let refuse = |why: &str| Err(ConnectError { node, why: why.to_owned() });
        if self.0.closing.is_cancelled() {
            return refuse("this node is shutting down");
        }
        let Ok(mut channels) = self.0.channels.lock() else { return refuse("the table of channels is lost") };
        Ok(channels.entry((node, kind)).or_insert_with(|| dial::channel(self, node, kind)).clone())
    }

    /// HTTP/1.1 to `node`, on connections shared with everyone who asks for it.
    pub fn http(&self, node: NodeId) -> PeerHttp {
        let client = self.0.http.get_or_init(|| http::client(Arc::downgrade(&self.0)));
        PeerHttp::new(node, client.clone())
    }

    /// How long `node` has been silent; `None` when it was not heard of in this process.
    pub fn silence(&self, node: NodeId) -> Option<Duration> {
        self.0.table.silence(node)
    }

    /// [`Peers::silence`] as consensus takes it.
    pub fn silence_fn(&self) -> Silence {
        let peers = self.clone();
        Arc::new(move |node| peers.silence(node))
    }

    /// Asks every other member for its status now, audit included, all at once; `None` for those
    /// that do not answer within `limit`.
    pub fn status_all(&self, limit: Duration) -> BoxFuture<'static, Vec<(NodeId, Option<PeerStatus>)>> {
        let peers = self.clone();
        Box::pin(async move { poll::status_all(&peers, limit).await })
    }

    /// Bytes that went to and came from peers, by kind.
    pub fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// When the certificate that this node presents to others expires, in seconds since 1970.
    pub fn certificate_expires(&self) -> Option<i64> {
        self.0.tls.expires()
    }

    /// Turns true when a peer says that this node was removed from the cluster. What then helps
    /// is [`crate::birth::forget`] and a new start.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.0.removed.subscribe()
    }

    /// Stops polling, renewing, dialling and answering.
    pub fn close(&self) {
        self.0.closing.cancel();
        // The metadata holds these peers to reach others by: let go of it.
        self.0.hooks.store(None);
    }
}
