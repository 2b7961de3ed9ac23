//! Whether bytes of another node are a row that this build can read.
//!
//! Always holds: what passes here is read later without an error, so that no row by itself ends the
//! node that took it. Never does: compare rows with each other, or with where the state stands.

use bytes::Bytes;
use prost::Message as _;

use super::hash::HashAt;
use super::key::{self, Table, meta};
use super::row::{self, BlobRow, LinkRow, ManifestRow, Row, SealedRow, TagRow, VerdictRow};
use crate::codec::decode_applied;
use crate::digest::{Digest, PartitionId};
use crate::id::NodeId;
use crate::member::Partition;
use crate::name::Tag;
use crate::proto::state as proto;

/// Whether `key` and `value` are a row of `table`. A manifest's bytes must be those of its digest.
pub(super) fn row(table: Table, key: &[u8], value: &[u8]) -> bool {
    match table {
        Table::Consensus if key == meta::HASH_AT => HashAt::decode(value).is_some(),
        // Consensus looks at them itself.
        Table::Consensus if key == meta::LOG_ID || key == meta::MEMBERSHIP => true,
        Table::Consensus | Table::Meta => number(value).is_some(),
        Table::Member => number(key).is_some_and(|id| row::decode_member(NodeId(id), value).is_ok()),
        Table::Removed => number(key).is_some(),
        Table::Partition => partition(key) && Partition::decode(value).is_some(),
        Table::Blob => digest(key).is_some() && BlobRow::decode(value).is_some(),
        Table::Away => key.split_at_checked(8).is_some_and(|(_, rest)| digest(rest).is_some()),
        Table::Link => in_repo(key, 1) && LinkRow::decode(value).is_some(),
        Table::LinkedIn | Table::BodyIn => {
            key::split_digest(key).is_some_and(|(_, name)| key::repo_name(name).is_some())
        }
        Table::Use | Table::Child | Table::Referrer => in_repo(key, 2),
        Table::Manifest => in_repo(key, 1) && ManifestRow::decode(value).is_some(),
        Table::Body => digest(key).is_some_and(|found| Digest::of(found.algorithm(), value) == found),
        Table::Tag => {
            key::split_repo(key).is_some_and(|(_, rest)| tag(rest)) && TagRow::decode(value).is_some()
        }
        Table::TagOf => key::split_repo(key)
            .and_then(|(_, rest)| key::split_digest(rest))
            .is_some_and(|(_, rest)| tag(rest)),
        Table::Proposer => number(key).is_some() && proto::Proposer::decode(value).is_ok(),
        Table::Cached => in_repo(key, 1) && number(value).is_some(),
        Table::Pin => key::split_pin(key).is_some(),
        Table::Policy => number(key).is_some(),
        Table::Verdict => digest(key).is_some() && VerdictRow::decode(value).is_some(),
        Table::VerdictAt => number(key).is_some() && digest(value).is_some(),
        Table::Sealed => std::str::from_utf8(key).is_ok() && SealedRow::decode(value).is_some(),
        Table::Recent => key.len() == 24 && decode_applied(Bytes::copy_from_slice(value)).is_ok(),
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn partition(key: &[u8]) -> bool {
    key.try_into().is_ok_and(|index| PartitionId::new(u16::from_be_bytes(index)).is_some())
}

/// The digest that `key` is, and nothing else.
fn digest(key: &[u8]) -> Option<Digest> {
    key::split_digest(key).filter(|(_, rest)| rest.is_empty()).map(|(digest, _)| digest)
}

/// Whether `key` is a repository and as many digests.
fn in_repo(key: &[u8], digests: usize) -> bool {
    let Some((_, mut rest)) = key::split_repo(key) else { return false };
    for _ in 0..digests {
        let Some((_, after)) = key::split_digest(rest) else { return false };
        rest = after;
    }
    rest.is_empty()
}

fn tag(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<Tag>().is_ok())
}
