//! What repair knows to be left to do, and when to try what again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use trow_raft::{Digest, PartitionId};

/// Blobs fetched at once.
pub(super) const FETCHES: usize = 4;
/// First and longest pause before something that failed is tried again.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(30));
/// With more blobs than this to be fetched no further partition is compared, for the memory's sake.
const MISSING_MAX: usize = 4096;

/// What is known to be left to do.
#[derive(Default)]
pub(super) struct Work {
    /// Position in the changes of the state.
    pub(super) position: u64,
    /// Partitions to compare.
    pub(super) partitions: BTreeSet<PartitionId>,
    /// Blobs to compare.
    pub(super) blobs: BTreeSet<Digest>,
    /// Blobs to fetch.
    pub(super) missing: BTreeMap<Digest, Attempt>,
    /// Blobs to settle.
    pub(super) unsettled: BTreeMap<Digest, Attempt>,
    /// Partitions to report ready once nothing of them is missing.
    pub(super) unready: HashMap<PartitionId, u64>,
    /// When not to propose them before.
    pub(super) ready_after: Option<Instant>,
    pub(super) fetching: usize,
    pub(super) settling: bool,
    pub(super) reporting: bool,
}

/// Something that is tried until it works.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) tries: u32,
    pub(super) denials: u32,
    pub(super) at: Instant,
    pub(super) busy: bool,
}

impl Attempt {
    pub(super) fn at(at: Instant) -> Attempt {
        Attempt { tries: 0, denials: 0, at, busy: false }
    }

    /// It failed: later again, each time later.
    pub(super) fn again(&mut self) {
        let pause = RETRY.0.saturating_mul(1 << self.tries.min(10)).min(RETRY.1);
        self.tries += 1;
        self.busy = false;
        self.at = Instant::now() + pause;
    }

    pub(super) fn due(&self) -> bool {
        !self.busy && self.at <= Instant::now()
    }
}

impl Work {
    /// Whether more may be compared. Blobs that nobody gives do not count: they may never come.
    pub(super) fn room(&self) -> bool {
        self.missing.values().filter(|attempt| attempt.tries == 0).count() < MISSING_MAX
    }

    /// When something is to be tried next, if time alone brings it.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        if !self.blobs.is_empty() || (!self.partitions.is_empty() && self.room()) {
            return Some(now);
        }
        let fetch = self.missing.values().filter(|_| self.fetching < FETCHES);
        let settle = self.unsettled.values().filter(|_| !self.settling);
        let attempts = fetch.chain(settle).filter(|attempt| !attempt.busy).map(|attempt| attempt.at);
        let ready = self.ready_after.filter(|_| !self.unready.is_empty() && !self.reporting);
        attempts.chain(ready).min()
    }
}
