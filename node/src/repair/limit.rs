//! A bound on the bytes per second that repair takes from peers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep_until};

/// Shared by everything that repair fetches. Zero bytes per second means no bound.
pub(super) struct Limit {
    rate: u64,
    /// When all bytes let through so far may have passed.
    free_at: Mutex<Instant>,
    /// Bytes let through.
    taken: Counter,
}

/// How much may be used at once after a pause.
const BURST: Duration = Duration::from_millis(500);

impl Limit {
    pub(super) fn new(rate: u64) -> Limit {
        Limit { rate, free_at: Mutex::new(Instant::now()), taken: Counter::default() }
    }

    /// The count of all bytes let through.
    pub(super) fn taken(&self) -> Counter {
        self.taken.clone()
    }

    /// Waits until `bytes` more may pass.
    pub(super) async fn take(&self, bytes: usize) {
        if self.rate > 0 {
            sleep_until(self.reserve(bytes, Instant::now())).await;
        }
        self.taken.inc_by(bytes as u64);
    }

    /// When the bytes may pass that somebody wants to pass `now`.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
        *free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_beyond_a_burst() {
        let limit = Limit::new(1 << 20);
        let start = Instant::now() + Duration::from_secs(100);
        let free: Vec<Instant> = (0..40).map(|_| limit.reserve(256 << 10, start)).collect();
        assert!(free[0] <= start, "a pause allows a burst");
        assert_eq!(free[39] - start, Duration::from_millis(9500));
        let later = start + Duration::from_secs(60);
        assert!(limit.reserve(256 << 10, later) <= later, "a long pause allows no longer burst");
        assert!(limit.reserve(1 << 20, later) > later);
    }
}
