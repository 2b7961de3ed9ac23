//! How many sessions may be open and how many bytes staged, and who takes how much of that.
//!
//! Always holds: what a session took is given back when it is dropped, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Sessions;
use crate::peer_blobs::wire::Fault;

/// How much may be staged here.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Life of a session since its last acknowledgement.
    pub expiry: Duration,
    /// Most open sessions.
    pub max_sessions: usize,
    /// Most staged bytes.
    pub max_bytes: u64,
}

/// A session's share of the limits, given back when dropped.
pub struct Reservation {
    usage: Arc<Usage>,
    bytes: u64,
}

/// What all sessions of the node take together.
#[derive(Default)]
pub(super) struct Usage {
    sessions: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Sessions {
    /// Room for one more session.
    ///
    /// # Errors
    /// [`Fault::TooMany`].
    pub fn reserve(&self) -> Result<Reservation, Fault> {
        let reservation = Reservation { usage: self.usage.clone(), bytes: 0 };
        let before = self.usage.sessions.fetch_add(1, Ordering::Relaxed);
        // Made first, so that its drop takes the count back on refusal.
        if before >= self.limits.max_sessions as u64 || self.is_full(1) {
            return Err(Fault::TooMany);
        }
        Ok(reservation)
    }

    /// Counts `bytes` more toward `reservation`.
    ///
    /// # Errors
    /// [`Fault::TooMany`] when the node's staged bytes would exceed the limit.
    pub fn charge(&self, reservation: &mut Reservation, bytes: u64) -> Result<(), Fault> {
        if self.is_full(bytes) {
            return Err(Fault::TooMany);
        }
        reservation.usage.bytes.fetch_add(bytes, Ordering::Relaxed);
        reservation.bytes += bytes;
        Ok(())
    }

    fn is_full(&self, more: u64) -> bool {
        self.usage.bytes.load(Ordering::Relaxed).saturating_add(more) > self.limits.max_bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.sessions.fetch_sub(1, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
