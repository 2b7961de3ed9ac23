//! Bytes to push: any amount, unlike any other, made as they are sent.
//!
//! A [`Content`] is a seed and a length; its bytes are the same each time they are read, and neither
//! their making nor their checking holds more than a chunk in memory.

use std::ops::Range;
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
        (0..count).map(move |index| self.chunk(index))
    }

    fn chunk(self, index: u64) -> Bytes {
        let mut chunk = noise().to_vec();
        chunk[..8].copy_from_slice(&self.seed.to_le_bytes());
        chunk[8..16].copy_from_slice(&index.to_le_bytes());
        chunk.truncate((self.len - index * CHUNK as u64).min(CHUNK as u64) as usize);
        Bytes::from(chunk)
    }

    /// The bytes from `range.start` to `range.end`, in pieces of at most 64 KiB.
    pub fn part(self, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send + 'static {
        let (begin, end) = (range.start, range.end.min(self.len));
        let chunks = begin / CHUNK as u64..end.div_ceil(CHUNK as u64);
        chunks.map(move |index| {
            let base = index * CHUNK as u64;
            let (from, to) = (begin.max(base) - base, end.min(base + CHUNK as u64) - base);
            self.chunk(index).slice(from as usize..to as usize)
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

    #[test]
    fn parts_are_the_bytes_in_their_range() {
        let one = Content::random(200_000);
        for (from, to) in [(0, 0), (0, 1), (5, 70_000), (65_536, 131_072), (199_999, 200_000), (0, 300_000)] {
            let part: Vec<u8> = one.part(from..to).flatten().collect();
            assert_eq!(part, one.bytes()[from as usize..to.min(200_000) as usize], "{from}..{to}");
        }
    }
}
