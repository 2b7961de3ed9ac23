//! The sidecar: a CRC-32C per chunk of a blob, written at ingest.
//!
//! It lets every byte served be checked at almost no cost, ranges included, long after the digest
//! was verified. It is a cache of the blob's bytes: when it is missing or invalid the blob is
//! hashed again and the sidecar rewritten; only a valid sidecar can speak against a blob.
//!
//! ```text
//! 0   8  magic and version, "TROWCRC" 0x01
//! 8   4  chunk size in bytes, little endian as all that follows
//! 12  4  CRC-32C of everything else in the file
//! 16  8  length of the blob in bytes
//! 24 4n  CRC-32C of each chunk
//! ```

use super::CHUNK;

const MAGIC: &[u8; 8] = b"TROWCRC\x01";
const HEADER: usize = 24;

/// What the sidecar of one blob says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksums {
    length: u64,
    chunks: Vec<u32>,
}

impl Checksums {
    /// Length of the blob in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether `bytes` are chunk number `index` of the blob.
    pub(super) fn matches(&self, index: u64, bytes: &[u8]) -> bool {
        let known = usize::try_from(index).ok().and_then(|index| self.chunks.get(index));
        known.is_some_and(|crc| *crc == crc32c::crc32c(bytes))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + 4 * self.chunks.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(CHUNK as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.length.to_le_bytes());
        for crc in &self.chunks {
            out.extend_from_slice(&crc.to_le_bytes());
        }
        let own = own_crc(&out);
        out[12..16].copy_from_slice(&own.to_le_bytes());
        out
    }

    /// What the sidecar says, if every bit of it is as it was written.
    pub(super) fn decode(file: &[u8]) -> Option<Checksums> {
        let chunk_size = u32_at(file, 8)?;
        if file.get(..8)? != MAGIC || chunk_size as usize != CHUNK || file.len() < HEADER {
            return None;
        }
        if u32_at(file, 12)? != own_crc(file) {
            return None;
        }
        let length = u64::from_le_bytes(file.get(16..24)?.try_into().ok()?);
        let table = file.get(HEADER..)?;
        if table.len() as u64 != length.div_ceil(CHUNK as u64).checked_mul(4)? {
            return None;
        }
        let chunks = table.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
        Some(Checksums { length, chunks: chunks.collect() })
    }
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?))
}

/// The CRC of a whole sidecar but the four bytes that hold it.
fn own_crc(file: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..])
}

/// Computes [`Checksums`] of bytes that arrive in any pieces.
#[derive(Default)]
pub(super) struct Builder {
    length: u64,
    chunks: Vec<u32>,
    current: u32,
}

impl Builder {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let into = (self.length % CHUNK as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - into));
            self.current = crc32c::crc32c_append(self.current, now);
            self.length += now.len() as u64;
            if into + now.len() == CHUNK {
                self.chunks.push(std::mem::take(&mut self.current));
            }
            bytes = later;
        }
    }

    pub(super) fn finish(mut self) -> Checksums {
        if !self.length.is_multiple_of(CHUNK as u64) {
            self.chunks.push(self.current);
        }
        Checksums { length: self.length, chunks: self.chunks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8], piece: usize) -> Checksums {
        let mut builder = Builder::default();
        bytes.chunks(piece).for_each(|piece| builder.update(piece));
        builder.finish()
    }

    #[test]
    fn pieces_do_not_matter_and_each_chunk_is_known() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
            let sums = of(&bytes, 1000);
            assert_eq!(sums, of(&bytes, 3 * CHUNK), "{length} bytes");
            for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
                assert!(sums.matches(index as u64, chunk));
                assert!(!sums.matches(index as u64, &chunk[1..]));
            }
            assert!(!sums.matches(bytes.chunks(CHUNK).count() as u64, b""));
            assert_eq!(Checksums::decode(&sums.encode()), Some(sums));
        }
    }

    #[test]
    fn a_sidecar_with_any_flipped_bit_or_missing_byte_is_invalid() {
        let good = of(&vec![7; CHUNK + 5], CHUNK).encode();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(Checksums::decode(&bad), None, "bit {bit} of byte {at}");
            }
            assert_eq!(Checksums::decode(&good[..at]), None, "cut at {at}");
        }
        assert_eq!(Checksums::decode(&vec![0; good.len()]), None);
    }
}
