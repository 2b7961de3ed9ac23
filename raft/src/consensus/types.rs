//! The types that openraft is instantiated with.
//!
//! An entry's payload carries a command and a membership side by side, so that a member's row and
//! the voter set change in one entry. openraft's own payload holds either, never both.

use std::fmt;

use bytes::Bytes;
use openraft::entry::RaftPayload;
use serde::{Deserialize, Serialize};

use crate::consensus::machine::Machine;

openraft::declare_raft_types!(
    /// Our instance: ids are numbers, addresses are nobody's business here.
    pub(crate) TypeConfig:
        D = Encoded,
        R = Encoded,
        NodeId = u64,
        Node = (),
        Payload = Payload,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, ()>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// An encoded envelope on its way in, an encoded outcome on its way back. Consensus carries
/// them and never looks inside; the state machine decodes. The serde form exists because
/// openraft asks for one; nothing is stored or sent in it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) struct Encoded(pub Bytes);

impl From<Vec<u8>> for Encoded {
    fn from(bytes: Vec<u8>) -> Self {
        Encoded(bytes.into())
    }
}

impl From<Encoded> for Vec<u8> {
    fn from(encoded: Encoded) -> Self {
        encoded.0.to_vec()
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What an entry carries: a command, a membership, both, or (of a new leader) neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub envelope: Option<Encoded>,
    pub membership: Option<Membership>,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.envelope, &self.membership) {
            (None, None) => f.write_str("blank"),
            (Some(envelope), None) => write!(f, "command of {envelope}"),
            (None, Some(membership)) => write!(f, "membership {membership}"),
            (Some(envelope), Some(membership)) => {
                write!(f, "command of {envelope} with membership {membership}")
            }
        }
    }
}

impl RaftPayload for Payload {
    type D = Encoded;
    type NodeId = u64;
    type Node = ();

    fn blank() -> Self {
        Payload::default()
    }

    fn with_normal(mut self, data: Encoded) -> Self {
        self.envelope = Some(data);
        self
    }

    fn with_membership(mut self, membership: Membership) -> Self {
        self.membership = Some(membership);
        self
    }

    fn get_membership(&self) -> Option<Membership> {
        self.membership.clone()
    }
}
