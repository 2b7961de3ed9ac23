//! What can go wrong in the store, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use trow_raft::Digest;

/// The store could not do something with its files.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full up to the headroom kept for consensus: 507 to a client.
    #[error("no space left for blobs in the data directory; free some or add disk")]
    NoSpace,
    /// A small file that the store cannot do without. It is not made anew: what it said binds.
    #[error("{} is damaged ({why}); restore it, or empty the data directory so that this node joins as a new one", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Anything else the operating system said.
    #[error("{doing} {}", path.display())]
    Io {
        /// A bare verb: what was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Sorts an error of the operating system; ENOSPC and EDQUOT become [`StoreError::NoSpace`].
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
            _ => StoreError::Io { doing, path: path.to_owned(), source },
        }
    }
}

/// Staged bytes did not become a held blob.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The bytes are not the ones that the digest names: 400 DIGEST_INVALID to a client.
    #[error("the content has digest {computed}, not {claimed}")]
    DigestMismatch {
        /// What was asked for.
        claimed: Digest,
        /// What the bytes have.
        computed: Digest,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A blob's bytes could not be had from this store.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not held here, or quarantined this moment.
    #[error("the blob is not on this node")]
    NotHere,
    /// The chunk at this offset is not what was stored; nothing of it was yielded.
    #[error("the blob {digest} is damaged at byte {offset} and was quarantined")]
    Damaged {
        /// Which blob.
        digest: Digest,
        /// Where the bad chunk begins.
        offset: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
