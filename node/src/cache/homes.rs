//! Which node does a piece of work that all nodes need done once: its home.
//!
//! A ring of hashes over the members that are active and were heard lately, so that most homes stay where they
//! are when a node comes or goes. Always holds: this node counts as heard; the ring is made anew only when the
//! set of its members is another. Never does: promise that all nodes agree. Where they differ for a moment, a
//! request is made twice, and nothing else rests on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashring::HashRing;
use trow_raft::metadata::Silence;
use trow_raft::{MemberState, NodeId};

use crate::replicated::Agreement;

/// A member that was heard within this time is healthy.
const HEALTHY: Duration = Duration::from_secs(2);
/// Places of each member on the ring: the more, the more even.
const PLACES: u16 = 256;

/// The homes. Cheap to clone.
#[derive(Clone)]
pub struct Homes {
    me: NodeId,
    agreed: Agreement,
    silence: Silence,
    ring: Arc<Mutex<Arc<Ring>>>,
}

/// A ring over `members`. A place hashes as the two numbers and nothing else, so that all builds agree.
#[derive(Default)]
struct Ring {
    members: Vec<NodeId>,
    places: HashRing<(u64, u16)>,
}

impl Ring {
    fn over(members: Vec<NodeId>) -> Ring {
        let mut places = HashRing::new();
        places.batch_add(members.iter().flat_map(|node| (0..PLACES).map(|at| (node.0, at))).collect());
        Ring { members, places }
    }

    fn home(&self, key: &str) -> Option<NodeId> {
        self.places.get(&key.as_bytes()).map(|(node, _)| NodeId(*node))
    }
}

impl Homes {
    /// Of the node `me`, among the members in the agreed state, of which `silence` tells when each was heard.
    pub fn new(me: NodeId, agreed: Agreement, silence: Silence) -> Homes {
        Homes { me, agreed, silence, ring: Arc::default() }
    }

    /// The home of `key` among the healthy members, those in `without` aside; this node when none is left.
    pub fn of(&self, key: &str, without: &[NodeId]) -> NodeId {
        let ring = self.ring();
        let found = match ring.members.iter().any(|node| without.contains(node)) {
            false => ring.home(key),
            true => {
                let rest = ring.members.iter().copied().filter(|node| !without.contains(node));
                Ring::over(rest.collect()).home(key)
            }
        };
        found.unwrap_or(self.me)
    }

    /// The healthy members, this node included if it is one.
    pub fn healthy(&self) -> Vec<NodeId> {
        let members = match (self.agreed.view)().and_then(|view| view.members()) {
            Ok(members) => members,
            Err(error) => {
                tracing::error!(cause = %error, "the members cannot be read, and this node asks upstreams alone; if it repeats, check the disk and start the node again");
                return vec![self.me];
            }
        };
        let heard = |node| node == self.me || (self.silence)(node).is_some_and(|quiet| quiet < HEALTHY);
        let active = members.iter().filter(|member| member.state == MemberState::Active);
        let mut healthy: Vec<NodeId> = active.map(|member| member.id).filter(|id| heard(*id)).collect();
        healthy.sort_unstable();
        healthy
    }

    fn ring(&self) -> Arc<Ring> {
        let healthy = self.healthy();
        // Nothing panics half way through a change.
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.members != healthy {
            *ring = Arc::new(Ring::over(healthy));
        }
        Arc::clone(&ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn ring(members: &[u64]) -> Ring {
        Ring::over(members.iter().copied().map(NodeId).collect())
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..3000).map(|n| format!("sha256:{n:064x}"))
    }

    #[test]
    fn homes_are_spread_and_only_those_of_a_lost_node_move() {
        let (all, rest) = (ring(&[11, 12, 13]), ring(&[11, 13]));
        let mut load: BTreeMap<u64, u32> = BTreeMap::new();
        for key in keys() {
            let (before, after) = (all.home(&key).unwrap(), rest.home(&key).unwrap());
            *load.entry(before.0).or_default() += 1;
            assert!(before == after || before == NodeId(12), "{key} moved from {before} to {after}");
        }
        assert!(load.len() == 3 && load.values().all(|load| (700..1300).contains(load)), "{load:?}");
        assert_eq!(ring(&[]).home("x"), None);
    }

    #[test]
    fn all_nodes_of_all_builds_agree() {
        // What another build computed: a change of these is a change of who fetches while both run.
        let ring = ring(&[1, 2, 3, 4, 5]);
        let homes: Vec<u64> = keys().take(12).map(|key| ring.home(&key).unwrap().0).collect();
        assert_eq!(homes, [5, 2, 5, 5, 4, 4, 3, 1, 3, 5, 3, 4]);
    }
}
