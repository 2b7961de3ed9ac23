//! A blob that is still arriving.

use bytes::Bytes;
use trow_raft::Digest;

use super::Held;
use super::error::{HoldError, StoreError};

/// A file in `staging/` with the running hash of its bytes. Dropping it removes the file.
///
/// After an error it is of no further use.
pub struct Staged {
    len: u64,
}

impl Staged {
    /// Appends bytes. A dropped (cancelled) call appended all of `bytes` or nothing.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the disk is full up to the headroom.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Waits until all that was appended is in the file (not fsynced): before telling a client
    /// how much there is.
    ///
    /// # Errors
    /// As [`Staged::write`].
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Bytes appended so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads back what was appended, for copying it to another mirror.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn read(&mut self, _offset: u64, _max: usize) -> Result<Bytes, StoreError> {
        unimplemented!()
    }

    /// Verifies the digest and makes the bytes a held blob, durable when this returns.
    ///
    /// # Errors
    /// [`HoldError::DigestMismatch`]; the staged bytes are gone then.
    pub async fn hold(self, _digest: &Digest) -> Result<Held, HoldError> {
        unimplemented!()
    }
}
