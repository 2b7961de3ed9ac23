//! The others, what is agreed with them, and how they reach this node.
//!
//! Always holds: nobody is answered before log and state are open, and whoever asks over the peer
//! port finds what it asks about.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trow_raft::{Member, Metadata, Planted};

use super::content::Content;
use super::disk::OnDisk;
use super::settings;
use crate::config::Config;
use crate::peer::listener::{self, PeerRoutes};
use crate::peer::{self, PeerSettings, Peers};

/// How this node reaches the others, and what it agreed on with them.
pub(super) struct Cluster {
    pub peers: Peers,
    pub metadata: Metadata,
}

/// Opens both; nobody is answered yet.
pub(super) async fn open(
    config: &Config,
    disk: &OnDisk,
    me: Member,
    planted: Planted,
) -> anyhow::Result<Cluster> {
    let peers = Peers::new(PeerSettings {
        identity: disk.identity.clone(),
        cluster_dir: disk.cluster_dir.clone(),
        me: me.clone(),
        join: config.cluster.join.clone(),
        dial: config.cluster.dial.clone(),
        cluster: None,
    })?;
    let metadata = Metadata::open(trow_raft::Settings {
        id: disk.identity.id(),
        row: Some(me),
        dir: disk.data.path().join("raft"),
        heartbeat: config.raft.heartbeat,
        election: config.raft.election.clone(),
        grace: config.repair_grace,
        tick: settings::tick(config),
        log_limit: config.raft.log_limit.0,
        planted,
        connect: peers.connect(),
        silence: peers.silence_fn(),
        annotate: Arc::new(peer::annotate),
    })
    .await?;
    Ok(Cluster { peers, metadata })
}

/// The peer port while it is served.
pub(super) struct PeerServer {
    task: JoinHandle<()>,
    closing: CancellationToken,
}

/// From here on the others reach this node.
pub(super) fn serve(listener: TcpListener, cluster: &Cluster, content: &Content) -> PeerServer {
    let Cluster { peers, metadata } = cluster;
    peers.attach(metadata, content.status.clone());
    let raft = tonic::service::Routes::new(metadata.service());
    let blobs = content.blobs.peer_router().merge(content.cache.peer_router());
    let routes = PeerRoutes { raft, blobs };
    let closing = CancellationToken::new();
    let task = tokio::spawn(listener::serve(listener, peers.clone(), routes, closing.clone()));
    PeerServer { task, closing }
}

impl PeerServer {
    /// Answers what is under way, and nothing more.
    pub(super) async fn stop(self) {
        self.closing.cancel();
        let _ = self.task.await;
    }
}
