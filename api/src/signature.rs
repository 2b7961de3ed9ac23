//! Whether an image is signed: with which of the given public keys, in the forms that cosign writes.
//!
//! Owns the public keys ([`key`]). Always holds: what cannot be read, or is not understood whole, counts as no
//! signature. Never does: hold a private key, or trust anything but the keys it is given.

pub mod key;

pub use key::{InvalidKey, PublicKey};
