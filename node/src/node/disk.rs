//! What is on disk before this run, and whether it is this node's.
//!
//! Always holds: the lock on the data directory is taken first and lives as long as [`OnDisk`];
//! nothing below it is used before the directory is found to be of the cluster that was given.

use std::sync::Arc;

use trow_raft::Planted;

use crate::cluster_dir::{self, ClusterDir};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::identity::Identity;
use crate::store::Store;

/// The directories of this node, and who it is by them.
pub(super) struct OnDisk {
    pub data: DataDir,
    pub cluster_dir: Arc<ClusterDir>,
    pub identity: Arc<Identity>,
}

/// Takes the data directory, and makes what is missing of it; the cluster directory only when
/// there is nobody to join, who would not follow another.
pub(super) fn open(config: &Config) -> anyhow::Result<OnDisk> {
    let data = DataDir::open(&config.data_dir)?;
    let cluster_dir = if config.cluster.join.is_empty() {
        cluster_dir::open_or_create(&config.cluster.dir)
    } else {
        cluster_dir::open(&config.cluster.dir)
    };
    let cluster_dir = Arc::new(cluster_dir?);
    data.tie(cluster_dir.ca_cert(), &config.cluster.dir)?;
    let identity = Arc::new(Identity::open(data.path())?);
    Ok(OnDisk { data, cluster_dir, identity })
}

impl OnDisk {
    /// The blobs, which take a while: the store syncs what an earlier process left.
    pub(super) async fn store(&self, planted: Planted) -> anyhow::Result<Store> {
        let dir = self.data.path().to_owned();
        Ok(tokio::task::spawn_blocking(move || Store::open(&dir, planted)).await??)
    }
}
