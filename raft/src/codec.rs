//! Commands and their outcomes as protobuf: what the log holds and what travels when a proposal
//! is forwarded.
//!
//! Always holds: decoding gives exactly what was encoded or an error. Bytes that hold a field or
//! a command that this build does not know are an error, since applying the rest would make this
//! node differ from the others without a sign.

use bytes::Bytes;

use crate::command::{Applied, Envelope};
use crate::digest::{Algorithm, Digest, InvalidDigest};

/// The bytes are not an entry that this build can apply.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not protobuf.
    #[error("it is damaged: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// A field or command of a later version.
    #[error("it holds {what}, which this version does not know; run a newer one")]
    Unknown {
        /// What is unknown.
        what: &'static str,
    },
    /// Its feature level is above this build's.
    #[error("it is of feature level {level}, this version supports {supported}; run a newer one", supported = crate::command::LEVEL)]
    Level {
        /// The entry's level.
        level: u32,
    },
    /// A value that cannot be.
    #[error("its {what} is not valid")]
    Invalid {
        /// Which value.
        what: &'static str,
    },
}

/// A digest as a protobuf field: its raw bytes, whose length tells the algorithm.
pub(crate) fn digest_bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

/// The digest of a protobuf field.
pub(crate) fn digest_from(bytes: &[u8]) -> Result<Digest, InvalidDigest> {
    match bytes.len() {
        32 => Digest::new(Algorithm::Sha256, bytes),
        _ => Digest::new(Algorithm::Sha512, bytes),
    }
}

/// The bytes of an entry's command.
pub fn encode_envelope(_envelope: &Envelope) -> Bytes {
    Bytes::new()
}

/// The command of an entry's bytes.
///
/// # Errors
/// See [`CodecError`]; for a committed entry it ends the process.
pub fn decode_envelope(_bytes: &[u8]) -> Result<Envelope, CodecError> {
    Err(CodecError::Unknown { what: "an envelope" })
}

/// The bytes of an outcome.
pub fn encode_applied(_applied: &Applied) -> Bytes {
    Bytes::new()
}

/// The outcome of `bytes`.
///
/// # Errors
/// See [`CodecError`].
pub fn decode_applied(_bytes: &[u8]) -> Result<Applied, CodecError> {
    Err(CodecError::Unknown { what: "an outcome" })
}
