//! Log lines about what peers send, of which none of them writes as many as it likes.
//!
//! Always holds: about one thing a peer causes one line in [`PERIOD`], the first one at once, and
//! the next says how many were left out, while fewer than [`MOST`] are spoken of; memory is bounded. Never does: write a line itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// The time between two lines about the same.
const PERIOD: Duration = Duration::from_secs(10);
/// Peers times what there is to say of them; whoever comes after so many in one period waits.
const MOST: usize = 1024;

/// When what was last said of whom.
#[derive(Default)]
pub(super) struct Complaints(Mutex<BTreeMap<(NodeId, About), Said>>);

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// It sent what no healthy member sends.
    Forged,
    /// It spoke in another node's name.
    Name,
    /// It has this node's own identity.
    Identity,
    /// It was removed.
    Removed,
    /// It is no member.
    Stranger,
    /// It sent a snapshot that cannot be taken.
    Snapshot,
    /// Its snapshot took the place of another.
    Turn,
}

struct Said {
    at: Instant,
    left_out: u64,
}

impl Complaints {
    /// How many lines about the same were left out, if one may be written now.
    pub(super) fn due(&self, peer: NodeId, about: About) -> Option<u64> {
        self.due_at(peer, about, Instant::now())
    }

    fn due_at(&self, peer: NodeId, about: About, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let recent = |said: &Said| now.saturating_duration_since(said.at) < PERIOD;
        if let Some(before) = said.get_mut(&(peer, about)).filter(|before| recent(before)) {
            before.left_out += 1;
            return None;
        }
        let left_out = said.remove(&(peer, about)).map_or(0, |before| before.left_out);
        if said.len() >= MOST {
            said.retain(|_, said| recent(said));
        }
        if said.len() >= MOST {
            return None;
        }
        said.insert((peer, about), Said { at: now, left_out: 0 });
        Some(left_out)
    }
}

#[cfg(test)]
mod tests;
