//! The state hash: a sum over all agreed rows, kept while they change.
//!
//! Two nodes that applied the same entries have the same sum, in whatever batches they applied
//! them. It finds divergence, it is no defence against a forger. A manifest's bytes go in by
//! their digest, which is their key.

use sha2::Digest as _;

use super::StateError;
use super::key::{Table, meta};
use super::row::Row;
use super::rows::Rows;
use crate::proto::state as proto;

/// Indexes that are a multiple of this are where hashes are compared.
pub(super) const EVERY: u64 = 16;

/// One row's share of the sum.
pub(super) fn of_row(table: Table, key: &[u8], value: &[u8]) -> u64 {
    let value = if table == Table::Body { &[] } else { value };
    let mut hasher = sha2::Sha256::new();
    hasher.update([table as u8]);
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// A hash and the index it is of.
pub(super) struct HashAt {
    pub(super) hash: u64,
    pub(super) at: u64,
}

impl Row for HashAt {
    const TABLE: &'static str = "consensus";
    fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&proto::HashAt { hash: self.hash, at: self.at })
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row: proto::HashAt = prost::Message::decode(bytes).ok()?;
        Some(HashAt { hash: row.hash, at: row.at })
    }
}

/// The hash at the last multiple of [`EVERY`], and that index; zeros before the first entry.
pub(super) fn reported(rows: &impl Rows) -> Result<(u64, u64), StateError> {
    let found: Option<HashAt> = rows.row(Table::Consensus, meta::HASH_AT)?;
    Ok(found.map_or((0, 0), |one| (one.hash, one.at)))
}
