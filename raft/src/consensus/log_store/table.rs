//! The tables of the log file, and what a start reads from them.

use bytes::Bytes;
use openraft::entry::RaftEntry;
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::LogError;
use crate::consensus::types::{LogId, Vote};
use crate::consensus::wire;
use crate::proto::raft as pb;

/// index → entry
pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entry");
/// `vote`, `purged`, `committed`, `bytes`
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const VOTE: &str = "vote";
pub(super) const PURGED: &str = "purged";
pub(super) const COMMITTED: &str = "committed";
/// Bytes of the entries, so that a start need not read them to know when to cut the log.
pub(super) const BYTES: &str = "bytes";

/// What the file says when it is opened.
#[derive(Default)]
pub(super) struct Loaded {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub committed: Option<LogId>,
    pub last: Option<LogId>,
    pub bytes: u64,
}

/// Makes the tables of a new file and reads where the log stands.
pub(super) fn load(db: &Database) -> Result<Loaded, LogError> {
    let txn = db.begin_read()?;
    let Ok(meta) = txn.open_table(META) else {
        drop(txn);
        let txn = db.begin_write()?;
        txn.open_table(META)?;
        txn.open_table(ENTRIES)?;
        txn.commit()?;
        return Ok(Loaded::default());
    };
    let log_id = |key| -> Result<Option<LogId>, LogError> {
        let value = meta.get(key)?;
        Ok(value.map(|value| wire::decode_log_id(value.value())).transpose()?)
    };
    let (purged, committed) = (log_id(PURGED)?, log_id(COMMITTED)?);
    let vote = match meta.get(VOTE)? {
        Some(value) => {
            Some(wire::vote_from(Some(pb::Vote::decode(value.value()).map_err(wire::WireError::from)?))?)
        }
        None => None,
    };
    let last = match txn.open_table(ENTRIES)?.last()? {
        Some((_, entry)) => Some(wire::decode_entry(Bytes::copy_from_slice(entry.value()))?.log_id()),
        None => None,
    };
    let bytes = meta.get(BYTES)?.and_then(|value| value.value().try_into().ok());
    let bytes = bytes.map_or(0, u64::from_be_bytes);
    // What was purged is below every entry that is left.
    Ok(Loaded { vote, purged, committed, last: last.or(purged), bytes })
}
