//! The hash of bytes as they pass.

use sha2::Digest as _;
use trow_raft::Algorithm;

/// A running hash of either algorithm.
#[derive(Clone)]
pub enum Running {
    /// SHA-256.
    Sha256(Box<sha2::Sha256>),
    /// SHA-512.
    Sha512(Box<sha2::Sha512>),
}

impl Running {
    /// Of no bytes yet.
    pub fn new(algorithm: Algorithm) -> Running {
        match algorithm {
            Algorithm::Sha256 => Running::Sha256(Box::default()),
            Algorithm::Sha512 => Running::Sha512(Box::default()),
        }
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Running::Sha256(hash) => hash.update(bytes),
            Running::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest's bytes.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Running::Sha256(hash) => hash.finalize().to_vec(),
            Running::Sha512(hash) => hash.finalize().to_vec(),
        }
    }
}
