//! The content store of one node: blobs as plain files under their digest.
//!
//! Owns everything below the data directory that concerns blob bytes: `blobs/` (exact bytes),
//! `checksums/` (a CRC-32C per chunk of each blob), `staging/`, `quarantine/`, `store.gen` and
//! `index.sled`. Always holds: a file under `blobs/` was verified against its name, fsynced and
//! only then renamed there; what is served was checked chunk by chunk; unlinking, holding and
//! confirming one digest exclude each other. Never does: decide which blobs should be here, talk
//! to peers, or try an fsync again that failed (the process ends instead).

mod error;
mod read;
mod stage;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::broadcast;
use trow_raft::{Algorithm, Digest, Evidence, Generation, NodeId, Planted};

pub use error::{HoldError, ReadError, StoreError};
pub use read::BlobBody;
pub use stage::Staged;

/// Bytes that one checksum covers, and the most that a read yields at once.
pub const CHUNK: usize = 256 << 10;

/// The store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {}

/// A blob that is verified and durable here: what evidence is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its size in bytes.
    pub size: u64,
    /// The store's generation in which this was said.
    pub generation: Generation,
}

impl Held {
    /// This store's word as evidence of `node`, whose store it is.
    pub fn evidence(self, node: NodeId) -> Evidence {
        Evidence { node, generation: self.generation }
    }
}

/// The file system that the store lies on, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Size of the file system.
    pub total: u64,
    /// What is left to unprivileged writers.
    pub free: u64,
    /// What the blobs' bytes take.
    pub blobs: u64,
}

impl Store {
    /// Opens the store in the data directory `dir`, creating it when it is not there.
    ///
    /// Drops what earlier processes staged and makes what they renamed durable. Blocks.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(_dir: &Path, _planted: Planted) -> Result<Store, StoreError> {
        unimplemented!()
    }

    /// The generation that acknowledgements carry now.
    pub fn generation(&self) -> Generation {
        unimplemented!()
    }

    /// Begins a blob. `hint` names the algorithm that the digest will have, when it is known;
    /// a wrong or missing hint costs one more reading of the file.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the disk is full up to the headroom.
    pub async fn stage(&self, _hint: Option<Algorithm>) -> Result<Staged, StoreError> {
        unimplemented!()
    }

    /// Opens a held blob for reading `range` (all of it when `None`), clamped to its size.
    ///
    /// # Errors
    /// [`ReadError::NotHere`] when it is not held or turned out to be damaged.
    pub async fn open_blob(
        &self,
        _digest: &Digest,
        _range: Option<std::ops::Range<u64>>,
    ) -> Result<BlobBody, ReadError> {
        unimplemented!()
    }

    /// The size of the blob if it is here. No promise that it stays: see [`Store::confirm`].
    pub fn has(&self, _digest: &Digest) -> Option<u64> {
        unimplemented!()
    }

    /// Acknowledges a blob that is here: from now on it is not unlinked in this generation.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn confirm(&self, _digest: &Digest) -> Result<Option<Held>, StoreError> {
        unimplemented!()
    }

    /// When the blob's bytes were last all checked against the digest, in ms since 1970.
    pub fn verified_at(&self, _digest: &Digest) -> Option<u64> {
        unimplemented!()
    }

    /// The state of the disk.
    pub fn disk(&self) -> Disk {
        unimplemented!()
    }

    /// Digests that were found damaged and quarantined, as it happens.
    pub fn damaged(&self) -> broadcast::Receiver<Digest> {
        unimplemented!()
    }
}
