//! The cluster's blobs as this node serves and keeps them: the parts over its store.
//!
//! Always holds: what is built here does nothing by itself but look after its own uploads; repair
//! and sweep begin when they are run.

use std::sync::Arc;
use std::time::Instant;

use trow_raft::Planted;

use super::cluster::Cluster;
use super::disk::OnDisk;
use super::{settings, wiring};
use crate::cache::{Cache, Homes, ManifestParts, Manifests, Parts, PullThrough};
use crate::config::Config;
use crate::copies::audit::Auditor;
use crate::evict::Evictor;
use crate::peer::StatusFn;
use crate::peer_blobs::PeerBlobs;
use crate::repair::Repair;
use crate::replicated::Replicated;
use crate::store::Store;
use crate::sweep::Sweeper;
use crate::upstream::Registries;

/// What clients and other nodes are answered from.
pub(super) struct Content {
    pub store: Store,
    pub blobs: Replicated,
    pub cache: PullThrough,
    /// The upstreams.
    pub registries: Registries,
    pub auditor: Auditor,
    /// What this node says of itself.
    pub status: StatusFn,
}

/// What brings here, and takes away, once this node is on its way to be a member.
pub(super) struct Upkeep {
    pub repair: Repair,
    pub sweeper: Sweeper,
    pub evictor: Evictor,
}

/// Builds both over `store`.
pub(super) fn build(
    config: &Config,
    disk: &OnDisk,
    cluster: &Cluster,
    store: Store,
    registries: Registries,
    planted: Planted,
) -> (Content, Upkeep) {
    let (me, metadata) = (cluster.peers.me().clone(), &cluster.metadata);
    let agreed = wiring::agreed(metadata);
    let auditor = Auditor::new(store.clone(), agreed.clone());
    let peer_blobs = PeerBlobs::over(&cluster.peers);
    let others = wiring::others(&peer_blobs);
    let secret = disk.cluster_dir.derive("uploads");
    let blobs = Replicated::new(
        me.id,
        store.clone(),
        metadata.into(),
        peer_blobs.clone(),
        &secret,
        settings::limits(config),
        planted,
    );
    let manifests = Manifests::new(ManifestParts {
        me: me.id,
        store: store.clone(),
        agreed: metadata.into(),
        peers: peer_blobs.clone(),
        homes: Homes::new(me.id, metadata.into(), peer_blobs.silence_fn()),
        upstream: registries.clone(),
        clock: Arc::new(Instant::now),
    });
    let listing = manifests.clone();
    let cache = Cache::new(Parts {
        me: me.id,
        store: store.clone(),
        agreed: metadata.into(),
        peers: peer_blobs,
        blobs: blobs.clone(),
        registries: registries.clone(),
        listed: Arc::new(move |name, digest| {
            let manifests = listing.clone();
            Box::pin(async move { manifests.listed(&name, &digest).await })
        }),
    });
    let cache = PullThrough { manifests, blobs: cache };
    let status = wiring::status(me, metadata.clone(), store.clone(), auditor.clone(), blobs.clone());
    let repair = Repair::new(store.clone(), agreed.clone(), others.clone(), config.repair_rate.0);
    let sweeper = Sweeper::new(store.clone(), agreed.clone(), others, planted);
    let evictor = Evictor::new(store.clone(), agreed, sweeper.clone(), settings::watermarks(config));
    (Content { store, blobs, cache, registries, auditor, status }, Upkeep { repair, sweeper, evictor })
}
