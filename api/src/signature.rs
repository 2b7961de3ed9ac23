//! Whether an image is signed: with which of the given public keys, in the two forms that cosign writes.
//!
//! Owns the public keys ([`key`]), what counts as a signature of an image (`simple`, `bundle`: pure), where
//! signatures are read (`place`), how many are looked at (`look`), and what is remembered of it ([`verifier`]).
//! Always holds: a signature counts only if a given key made it over bytes that name the digest asked for; what
//! cannot be read, or is not understood whole, is no signature; when it is not known whether there is one, that is
//! said. Never does: hold a private key, trust anything but the keys it is given, or write to a repository.

pub mod key;
pub mod verifier;

mod bundle;
mod look;
mod place;
mod simple;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use bundle::{content as bundle_of, signed as signed_by_bundle};
pub use key::{InvalidKey, PublicKey};
pub use place::Repository;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use simple::{signatures as signatures_of, signed as signed_by_payload};
pub use verifier::{Purpose, Verifier};

use trow_raft::Digest;

/// Most signatures of an image that are looked at in either form.
const SIGNATURES_MAX: usize = 64;
/// Longest base64 of a signature, in bytes: an RSA key of 8192 bits makes 1,368.
const SIGNATURE_MAX: usize = 2048;

/// Bytes that say which image they are about, and a signature of them that nobody has checked yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// What was signed.
    pub(crate) message: Vec<u8>,
    /// By whomever.
    pub(crate) signature: Vec<u8>,
}

/// Why something is no signature of the image. For logs and tests: nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no signature of the image: {0}")]
pub(crate) struct NotOne(&'static str);

/// A blob that a manifest of signatures names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) digest: Digest,
    /// In bytes, as the manifest says.
    pub(crate) size: u64,
}

/// The bytes of base64 as cosign writes it: the standard alphabet, padded.
fn base64(text: &str, max: usize) -> Option<Vec<u8>> {
    use ::base64::Engine as _;
    if text.len() > max {
        return None;
    }
    ::base64::engine::general_purpose::STANDARD.decode(text).ok()
}
