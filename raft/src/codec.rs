//! Commands and their outcomes as protobuf: what the log holds and what travels when a proposal
//! is forwarded.
//!
//! Always holds: decoding gives exactly what was encoded or an error. Bytes that hold a field or
//! a command that this build does not know are an error, since applying the rest would make this
//! node differ from the others without a sign.

mod decode;
mod encode;
mod refusal;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;

use crate::command::{Applied, Envelope, LEVEL, Outcome};
use crate::digest::{Algorithm, Digest, InvalidDigest};
use crate::id::NodeId;
use crate::proto::entry as proto;

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

impl CodecError {
    /// Whether a later version may have written the bytes, and this one is too old for them.
    pub fn is_newer(&self) -> bool {
        matches!(self, CodecError::Unknown { .. } | CodecError::Level { .. })
    }
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
pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    proto::Envelope {
        node: envelope.node.0,
        boot: envelope.boot,
        seq: envelope.seq,
        now: envelope.now,
        actor: envelope.actor.clone(),
        level: envelope.level,
        command: Some(encode::command(&envelope.command)),
    }
    .encode_to_vec()
    .into()
}

/// The command of an entry's bytes. Shares `bytes` where it can.
///
/// # Errors
/// See [`CodecError`]; for a committed entry it ends the process.
pub fn decode_envelope(bytes: Bytes) -> Result<Envelope, CodecError> {
    let envelope: proto::Envelope = exactly(bytes, "a field")?;
    if envelope.level > LEVEL {
        return Err(CodecError::Level { level: envelope.level });
    }
    let command = envelope.command.ok_or(CodecError::Unknown { what: "a command" })?;
    Ok(Envelope {
        node: NodeId(envelope.node),
        boot: envelope.boot,
        seq: envelope.seq,
        now: envelope.now,
        actor: envelope.actor,
        level: envelope.level,
        command: decode::command(command)?,
    })
}

/// The bytes of an outcome.
pub fn encode_applied(applied: &Applied) -> Bytes {
    let refusal = match &applied.outcome {
        Outcome::Done => None,
        Outcome::Refused(refusal) => Some(refusal::encode(refusal)),
    };
    proto::Applied { index: applied.index, refusal }.encode_to_vec().into()
}

/// The outcome of `bytes`.
///
/// # Errors
/// See [`CodecError`].
pub fn decode_applied(bytes: Bytes) -> Result<Applied, CodecError> {
    let applied: proto::Applied = exactly(bytes, "a field")?;
    let outcome = match applied.refusal {
        None => Outcome::Done,
        Some(refusal) => Outcome::Refused(refusal::decode(refusal)?),
    };
    Ok(Applied { index: applied.index, outcome })
}

/// The message of `bytes`, which must hold nothing else.
///
/// prost drops what it does not know. It also writes each message in one way only, so a message
/// that would be written shorter than it was read held more than this build knows.
fn exactly<M: Message + Default>(bytes: Bytes, what: &'static str) -> Result<M, CodecError> {
    let len = bytes.len();
    let message = M::decode(bytes)?;
    if message.encoded_len() == len { Ok(message) } else { Err(CodecError::Unknown { what }) }
}
