//! Hashing whole files, and bytes as they pass.

use std::fs::File;
use std::io::{self, Read};

use sha2::Digest as _;
use trow_raft::{Algorithm, Digest};

use super::checksum::{Builder, Checksums};

/// How much is read at once when a whole file is hashed.
const READ: usize = 256 << 10;

/// Reads all of `file`: its digest and its checksums. Blocks.
pub(super) fn hash(mut file: &File, algorithm: Algorithm) -> io::Result<(Digest, Checksums)> {
    let mut hasher = Hasher::new(algorithm);
    let mut sums = Builder::default();
    let mut buffer = vec![0; READ];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), sums.finish())),
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        hasher.update(&buffer[..n]);
        sums.update(&buffer[..n]);
    }
}

/// Reads all of `file`; its checksums if the bytes have `digest`. Blocks.
pub(super) fn rehash(file: &File, digest: &Digest) -> io::Result<Option<Checksums>> {
    let (computed, sums) = hash(file, digest.algorithm())?;
    Ok((computed == *digest).then_some(sums))
}

/// A running hash of either algorithm.
#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        let digest = match self {
            Hasher::Sha256(hasher) => Digest::new(Algorithm::Sha256, &hasher.finalize()),
            Hasher::Sha512(hasher) => Digest::new(Algorithm::Sha512, &hasher.finalize()),
        };
        digest.expect("a hash is as long as its algorithm says")
    }
}
