//! A cluster each of whose nodes has a disk of its own whose power can be cut.
//!
//! Consensus has another disk than the blobs: one journal for both would make a blob's rename durable
//! whenever the log is synced, and so hide a missing sync.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Plan};
use crate::disk::{Disk, Room};

/// Where a node keeps consensus and state, below its data directory.
pub const RAFT_DIR: &str = "raft";

/// A cluster on disks that can be cut.
#[derive(Debug)]
pub struct Powered {
    /// The cluster. Before the rest, so that it is dead when its disks go.
    pub cluster: Cluster,
    /// Where the disks are mounted and the nodes run.
    pub room: Room,
    /// The disks, in the order in which they must be mounted.
    pub disks: Vec<Disk>,
}

impl Powered {
    /// Makes the disks, of `size` bytes each, and the nodes, none of them running.
    pub async fn prepare(plan: Plan, size: u64) -> Result<Self> {
        let (mut cluster, room) = (Cluster::prepare(plan).await?, Room::new()?);
        let root = cluster.root().to_owned();
        let mut disks = Vec::new();
        for node in &mut cluster.nodes {
            let data_dir = node.data_dir.clone();
            for (name, at) in [("data", data_dir.clone()), ("raft", data_dir.join(RAFT_DIR))] {
                let image = root.join(format!("{}-{name}.img", node.name));
                disks.push(Disk::new(&room, &image, size, &at)?);
            }
            node.command = [room.enter(), std::mem::take(&mut node.command)].concat();
            node.data_dir = room.seen(&data_dir);
        }
        // An empty directory on each, made durable, is what a freshly made disk of a machine looks like.
        for disk in &disks {
            sync(&room.seen(&disk.mounted))?;
        }
        Ok(Powered { cluster, room, disks })
    }

    /// The same, started and healthy.
    pub async fn start(plan: Plan, size: u64) -> Result<Self> {
        let mut powered = Powered::prepare(plan, size).await?;
        powered.cluster.start_all().await?;
        Ok(powered)
    }

    /// Cuts the power of every disk, ends every node, and switches the disks on again.
    pub fn cut_and_power_on(&mut self) -> Result<()> {
        for disk in &self.disks {
            disk.cut(&self.room)?;
        }
        for node in &mut self.cluster.nodes {
            node.kill();
        }
        for disk in self.disks.iter().rev() {
            disk.unmount(&self.room)?;
        }
        self.disks.iter().try_for_each(|disk| disk.mount(&self.room))
    }

    /// Starts every node again after a power cut.
    pub async fn restart(&mut self, limit: Duration) -> Result<()> {
        for node in &mut self.cluster.nodes {
            node.start()?;
        }
        self.cluster.healthy(limit).await.context("after the power came back")
    }
}

fn sync(directory: &Path) -> Result<()> {
    Ok(std::fs::File::open(directory)?.sync_all()?)
}
