//! One lock per digest, approximately: digests share [`STRIPES`] of them.
//!
//! Taken only on blocking threads and never two at once, so they cannot deadlock; what runs under
//! one cannot be left half done by a request that goes away.

use std::sync::{Mutex, MutexGuard, PoisonError};

use trow_raft::Digest;

const STRIPES: usize = 4096;

pub(super) struct Locks(Vec<Mutex<()>>);

impl Locks {
    pub(super) fn new() -> Locks {
        Locks((0..STRIPES).map(|_| Mutex::new(())).collect())
    }

    /// Waits for the digest's lock.
    pub(super) fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        // Not the first bytes: blobs of one directory are often handled together.
        let bytes = digest.as_bytes();
        let stripe = usize::from(u16::from_be_bytes([bytes[8], bytes[9]])) % STRIPES;
        self.0[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
