//! Bytes to push: any amount, unlike any other, made as they are sent.
//!
//! A [`Content`] is a seed and a length; its bytes are the same each time they are read, and neither
//! their making nor their checking holds more than a chunk in memory.

use std::sync::OnceLock;

use bytes::Bytes;
use rand::RngCore;
use sha2::Digest as _;
use trow_raft::Digest;

const CHUNK: usize = 64 * 1024;

/// `len` bytes that follow from `seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    seed: u64,
    len: u64,
}

impl Content {
    /// Bytes that no other content has.
    pub fn random(len: u64) -> Self {
        Content { seed: rand::rng().next_u64(), len }
    }

    /// No bytes.
    pub fn empty() -> Self {
        Content { seed: 0, len: 0 }
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes in chunks of 64 KiB.
    pub fn chunks(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        let count = self.len.div_ceil(CHUNK as u64);
        (0..count).map(move |index| {
            let mut chunk = noise().to_vec();
            chunk[..8].copy_from_slice(&self.seed.to_le_bytes());
            chunk[8..16].copy_from_slice(&index.to_le_bytes());
            chunk.truncate((self.len - index * CHUNK as u64).min(CHUNK as u64) as usize);
            Bytes::from(chunk)
        })
    }

    /// The bytes in one piece; for small contents.
    pub fn bytes(self) -> Bytes {
        self.chunks().flatten().collect()
    }

    /// The SHA-256.
    pub fn digest(self) -> Digest {
        let mut hasher = sha2::Sha256::new();
        self.chunks().for_each(|chunk| hasher.update(&chunk));
        finish(hasher)
    }
}

/// The digest of what `hasher` was given.
pub fn finish(hasher: sha2::Sha256) -> Digest {
    Digest::new(trow_raft::Algorithm::Sha256, &hasher.finalize()).expect("SHA-256 gives 32 bytes")
}

/// One chunk that does not compress, shared by all contents.
fn noise() -> &'static [u8; CHUNK] {
    static NOISE: OnceLock<Box<[u8; CHUNK]>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut noise = Box::new([0; CHUNK]);
        rand::rng().fill_bytes(&mut noise[..]);
        noise
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_repeats_itself_and_nobody_else() {
        let one = Content::random(200_000);
        assert_eq!(one.bytes(), one.bytes());
        assert_eq!(one.bytes().len(), 200_000);
        assert_eq!(one.digest(), Digest::sha256(&one.bytes()));
        assert_ne!(one.digest(), Content::random(200_000).digest());
    }
}
