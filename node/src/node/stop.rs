//! Stopping, from the clients down, within [`STOP`].
//!
//! Not ready; leadership and open uploads are handed over while requests are finished; peers are
//! served until consensus has its checkpoint. Always holds: the process ends in time, whatever
//! hangs, since everything acknowledged is on disk already.

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trow_raft::Metadata;

use super::cluster::{Cluster, PeerServer};
use super::health::Health;
use crate::replicated::Replicated;

/// A node that was told to end has ended after this long.
const STOP: Duration = Duration::from_secs(28);
/// How long open uploads are being handed on, while clients are served and once more after.
const HAND_ON: Duration = Duration::from_secs(3);

/// What a running node has to stop, in this order.
pub(super) struct Running {
    pub health: Health,
    /// Ends the listeners for clients and for the webhook, and what follows files for them.
    pub closing: CancellationToken,
    pub clients: JoinHandle<anyhow::Result<()>>,
    pub uploads: Replicated,
    pub tasks: JoinSet<()>,
    pub cluster: Cluster,
    pub peers: PeerServer,
}

impl Running {
    pub(super) async fn stop(mut self) {
        tracing::info!("stopping");
        self.health.readiness.stop();
        let watchdog = tokio::spawn(give_up_after(STOP));
        self.closing.cancel();
        hand_over(self.clients, &self.cluster.metadata, &self.uploads).await;
        self.tasks.shutdown().await;
        self.cluster.metadata.shutdown().await;
        self.peers.stop().await;
        self.cluster.peers.close();
        watchdog.abort();
        tracing::info!("stopped");
    }
}

/// Hands on what this node has of the cluster's work while clients are served to the end.
async fn hand_over(clients: JoinHandle<anyhow::Result<()>>, metadata: &Metadata, uploads: &Replicated) {
    let served = async {
        if !clients.is_finished() {
            let _ = clients.await;
        }
    };
    let (resigned, (), ()) = tokio::join!(metadata.transfer_leadership(), uploads.leave(HAND_ON), served);
    // What came while clients were still served: the last uploads that began, an office that fell
    // to this node again. Where nobody took it before, nobody would now.
    let again = async {
        if resigned {
            metadata.transfer_leadership().await;
        }
    };
    tokio::join!(again, uploads.leave(HAND_ON));
}

/// Whatever hangs, the process ends in time; everything acknowledged is on disk already.
async fn give_up_after(limit: Duration) {
    tokio::time::sleep(limit).await;
    tracing::warn!(
        seconds = limit.as_secs(),
        "stopping took too long: ending without a checkpoint; nothing acknowledged is lost, the next start takes longer"
    );
    std::process::exit(0);
}
