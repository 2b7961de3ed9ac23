//! The protocol's schedules as far as apply decides them.
//!
//! Each is a function of the planted rule that returns how data was lost, if it was. It must find
//! nothing under our rules, and must find something under the wrong rule that it is made for.

mod c1;
mod c2;
mod c3;
mod h1;
mod h10;

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::id::NodeId;
#[cfg(feature = "planted")]
use crate::planted::{Planted, Variant};
use crate::state::View;

/// Fails unless the schedule finds `variant` out.
#[cfg(feature = "planted")]
fn is_caught(schedule: fn(Planted) -> Result<(), String>, variant: Variant) {
    let found = schedule(Planted::new(variant));
    assert!(found.is_err(), "{variant} went unnoticed");
}

/// Which node has which blobs on its disk.
#[derive(Default)]
struct Disks(BTreeMap<NodeId, BTreeSet<Digest>>);

impl Disks {
    fn store(&mut self, nodes: &[u64], digest: Digest) {
        for number in nodes {
            self.0.entry(NodeId(*number)).or_default().insert(digest);
        }
    }

    fn unlink(&mut self, number: u64, digest: &Digest) {
        if let Some(disk) = self.0.get_mut(&NodeId(number)) {
            disk.remove(digest);
        }
    }

    fn lose(&mut self, number: u64) {
        self.0.remove(&NodeId(number));
    }

    fn has(&self, node: NodeId, digest: &Digest) -> bool {
        self.0.get(&node).is_some_and(|disk| disk.contains(digest))
    }

    fn copies(&self, digest: &Digest) -> usize {
        self.0.values().filter(|disk| disk.contains(digest)).count()
    }

    /// Copies that no sweeper may touch: on owners, sources and away holders.
    fn kept_copies(&self, view: &View, digest: &Digest) -> usize {
        let partition = view.partition(digest.partition()).unwrap();
        let away = view.blob(digest).unwrap().map(|row| row.away).unwrap_or_default();
        let owners = partition.owners.iter().map(|owner| owner.node);
        let keepers: BTreeSet<NodeId> = owners.chain(partition.sources).chain(away).collect();
        keepers.into_iter().filter(|node| self.has(*node, digest)).count()
    }
}
