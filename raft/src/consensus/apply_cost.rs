//! What applying entries cost, added up since the start of the process.
//!
//! Always holds: entries and time are added after the same batch; the time is that of decoding and
//! applying, on the thread that does it, and no waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Entries applied, and the time that it took.
#[derive(Debug, Default)]
pub(crate) struct ApplyCost {
    entries: AtomicU64,
    nanos: AtomicU64,
}

impl ApplyCost {
    /// Adds a batch.
    pub(crate) fn add(&self, entries: usize, time: Duration) {
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Entries and time so far.
    pub(crate) fn total(&self) -> (u64, Duration) {
        let nanos = self.nanos.load(Ordering::Relaxed);
        (self.entries.load(Ordering::Relaxed), Duration::from_nanos(nanos))
    }
}
