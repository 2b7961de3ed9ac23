//! Small blobs in memory, so that what is pulled often is not read from disk each time.
//!
//! Always holds: all bytes were hashed and have the digest; what all of them take is bounded by
//! [`LIMIT`]; a blob whose file is unlinked or quarantined is forgotten under the digest's lock,
//! and none is kept from a file that is gone. Never does: say that a blob is held, or that a
//! repository has it: evidence is given of files, and links are looked up before anybody reads.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use trow_api::hot::{CacheStats, Hot, Weighter};
use trow_raft::Digest;

use super::{CHUNK, Inner};

/// What all small blobs take in memory.
const LIMIT: u64 = 64 << 20;
/// What one takes besides its bytes.
const OVERHEAD: u64 = 200;
/// What many take: configurations, signatures.
const TYPICAL: u64 = 4 << 10;

/// A blob of at most this many bytes is small.
pub const SMALL: u64 = CHUNK as u64;

/// The small blobs.
pub(super) struct Small(Hot<Digest, Bytes, Weigh>);

#[derive(Clone)]
struct Weigh;

impl Weighter<Digest, Bytes> for Weigh {
    fn weight(&self, _: &Digest, bytes: &Bytes) -> u64 {
        OVERHEAD + bytes.len() as u64
    }
}

impl Default for Small {
    fn default() -> Self {
        Small(Hot::new(LIMIT, TYPICAL, SMALL, Weigh))
    }
}

impl Small {
    pub(super) fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.0.get(digest, |_| true)
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.0.forget(digest);
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}

impl Inner {
    /// Keeps bytes that were read from `file` and have the digest, if it is still the blob's file.
    /// Blocks.
    pub(super) fn keep_read(&self, digest: &Digest, file: &File, bytes: &Bytes) {
        let _lock = self.locks.lock(digest);
        let inode = |metadata: fs::Metadata| metadata.ino();
        let there = fs::metadata(self.layout.blob(digest)).map(inode).ok();
        if there.is_some() && there == file.metadata().map(inode).ok() {
            self.small.0.put(*digest, bytes.clone());
        }
    }

    /// Keeps a blob that another node gave, if it is small and has the digest.
    pub(super) fn keep_relayed(&self, digest: &Digest, bytes: Bytes) {
        if bytes.len() as u64 <= SMALL && Digest::of(digest.algorithm(), &bytes) == *digest {
            self.small.0.put(*digest, bytes);
        }
    }
}
