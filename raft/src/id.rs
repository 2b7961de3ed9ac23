//! Identities that outlive a process: nodes, clusters and store generations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

macro_rules! hex_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:016x}", self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:016x}", self.0) }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(InvalidId);
                }
                u64::from_str_radix(text, 16).map($name).map_err(|_| InvalidId)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> { text.parse() }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String { id.to_string() }
        }
    )*};
}

hex_id! {
    /// A node's identity: the first 64 bits of the SHA-256 of its TLS public key (SPKI, DER).
    ///
    /// Made once on the node's disk; a node that lost its disk is another node.
    NodeId;
    /// A cluster's identity, random, made when the cluster is born and agreed as its first entry.
    ClusterId;
}

/// The text is not 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is written as 16 lower-case hex digits")]
pub struct InvalidId;

impl NodeId {
    /// The id of the node that owns the key whose SubjectPublicKeyInfo (DER) is `spki`.
    pub fn of_key(spki: &[u8]) -> Self {
        let hash = sha2::Sha256::digest(spki);
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        NodeId(u64::from_be_bytes(first))
    }
}

/// Counts a node's store fences. Evidence is valid only for the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
