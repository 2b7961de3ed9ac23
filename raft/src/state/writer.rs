//! Rows while a batch changes them: every change goes through here, so that the state hash, the
//! counts and the versions of what readers keep follow.

use std::sync::Arc;

use super::key::{self, Table, meta};
use super::overlay::Overlay;
use super::pending::Pending;
use super::row::{BlobRow, Row};
use super::rows::{Rows, Visit};
use super::versions::Versions;
use super::{StateError, hash};
use crate::digest::Digest;
use crate::name::RepoName;

/// The state before a batch, with what the batch changed so far.
pub(super) struct Writer<'t> {
    /// The first layer is `changes`.
    rows: Overlay,
    changes: Arc<Pending>,
    hash: u64,
    versions: &'t Versions,
    /// Index of the batch's first entry.
    first: u64,
}

/// What one blob's row adds to the counts.
#[derive(Default)]
struct Counts {
    blobs: u64,
    bytes: u64,
    away: u64,
    lost: u64,
}

impl Counts {
    fn of(row: Option<&BlobRow>) -> Self {
        row.map_or_else(Counts::default, |row| Counts {
            blobs: 1,
            bytes: row.size,
            away: u64::from(!row.away.is_empty()),
            lost: u64::from(row.lost),
        })
    }
}

impl Rows for Writer<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.rows.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StateError> {
        self.rows.scan(table, from, to, visit)
    }
}

impl<'t> Writer<'t> {
    /// On the state of `before`, for the batch that begins with the entry at `first`.
    pub(super) fn open(mut before: Overlay, versions: &'t Versions, first: u64) -> Result<Self, StateError> {
        let changes = Arc::<Pending>::default();
        before.layers.insert(0, changes.clone());
        before.batch += 1;
        let hash = before.number(Table::Consensus, meta::HASH)?;
        Ok(Writer { rows: before, changes, hash, versions, first })
    }

    /// The last applied index; 0 before the first.
    pub(super) fn applied(&self) -> Result<u64, StateError> {
        self.number(Table::Consensus, meta::APPLIED)
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        if table.is_agreed()
            && let Some(old) = self.rows.get(table, key)?
        {
            self.hash = self.hash.wrapping_sub(hash::of_row(table, key, &old));
        }
        self.write(table, key, value);
        Ok(())
    }

    /// As [`Writer::put`], of a row that was not there before this batch: to look in the file would
    /// cost a page of it. A row that was there would make the state hash wrong: each caller says why
    /// there is none.
    pub(super) fn put_new(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        if self.changes.get(table, key, self.rows.batch).is_some() {
            return self.put(table, key, value);
        }
        debug_assert!(matches!(self.rows.get(table, key), Ok(None)), "{table:?} {key:?} was there");
        self.write(table, key, value);
        Ok(())
    }

    fn write(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.versions.changes(table, key, self.first);
        if table.is_agreed() {
            self.hash = self.hash.wrapping_add(hash::of_row(table, key, value));
        }
        self.changes.put(table, key, Some(value.into()), self.rows.batch);
    }

    /// Removes the row; whether there was one.
    pub(super) fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, StateError> {
        let Some(old) = self.rows.get(table, key)? else {
            return Ok(false);
        };
        self.versions.changes(table, key, self.first);
        if table.is_agreed() {
            self.hash = self.hash.wrapping_sub(hash::of_row(table, key, &old));
        }
        self.changes.put(table, key, None, self.rows.batch);
        Ok(true)
    }

    pub(super) fn put_row(&mut self, table: Table, key: &[u8], row: &impl Row) -> Result<(), StateError> {
        self.put(table, key, &row.encode())
    }

    /// A row that says all by being there.
    pub(super) fn mark(&mut self, table: Table, key: &[u8]) -> Result<(), StateError> {
        self.put(table, key, &[])
    }

    /// As [`Writer::mark`], of a row that is not there.
    pub(super) fn mark_new(&mut self, table: Table, key: &[u8]) -> Result<(), StateError> {
        self.put_new(table, key, &[])
    }

    pub(super) fn set_number(&mut self, table: Table, key: &[u8], value: u64) -> Result<(), StateError> {
        self.put(table, key, &value.to_be_bytes())
    }

    fn add(&mut self, key: &[u8], plus: u64, minus: u64) -> Result<(), StateError> {
        if plus == minus {
            return Ok(());
        }
        let value = self.number(Table::Meta, key)?;
        self.set_number(Table::Meta, key, value.wrapping_add(plus).wrapping_sub(minus))
    }

    /// Whether the manifest is a cached one. Of what was pushed where an upstream's repositories are now, before
    /// they were, nothing is counted.
    pub(super) fn is_cached(&self, repo: &RepoName, digest: &Digest) -> Result<bool, StateError> {
        Ok(repo.is_cached() && self.has(Table::Cached, &key::repo_digest(repo, digest))?)
    }

    /// Counts what cached manifests take: `plus` instead of `minus`.
    pub(super) fn count_cached(&mut self, plus: u64, minus: u64) -> Result<(), StateError> {
        self.add(meta::CACHED_BYTES, plus, minus)
    }

    /// Writes (or removes) a blob with its away holders, keeping the counts.
    pub(super) fn set_blob(&mut self, digest: &Digest, row: Option<&BlobRow>) -> Result<(), StateError> {
        let old = self.blob(digest)?;
        let (plus, minus) = (Counts::of(row), Counts::of(old.as_ref()));
        self.add(meta::BLOBS, plus.blobs, minus.blobs)?;
        self.add(meta::BLOB_BYTES, plus.bytes, minus.bytes)?;
        self.add(meta::AWAY, plus.away, minus.away)?;
        self.add(meta::LOST, plus.lost, minus.lost)?;
        let away = |row: Option<&BlobRow>| row.map(|row| row.away.clone()).unwrap_or_default();
        let (before, after) = (away(old.as_ref()), away(row));
        for node in before.iter().filter(|node| !after.contains(node)) {
            self.remove(Table::Away, &key::away(*node, digest))?;
        }
        for node in after.iter().filter(|node| !before.contains(node)) {
            self.mark(Table::Away, &key::away(*node, digest))?;
        }
        match row {
            Some(row) => self.put_row(Table::Blob, &key::digest(digest), row),
            None => self.remove(Table::Blob, &key::digest(digest)).map(drop),
        }
    }

    /// Notes that the entry at `index` was applied.
    pub(super) fn advance(&mut self, index: u64, log_id: &[u8]) -> Result<(), StateError> {
        self.set_number(Table::Consensus, meta::APPLIED, index)?;
        self.put(Table::Consensus, meta::LOG_ID, log_id)?;
        if index.is_multiple_of(hash::EVERY) {
            let row = hash::HashAt { hash: self.hash, at: index };
            self.put_row(Table::Consensus, meta::HASH_AT, &row)?;
        }
        Ok(())
    }

    /// Stores the hash for the next batch; what this one changed.
    pub(super) fn finish(mut self) -> Result<Pending, StateError> {
        self.set_number(Table::Consensus, meta::HASH, self.hash)?;
        drop(self.rows);
        Ok(Arc::into_inner(self.changes).expect("a batch's changes are the writer's alone"))
    }
}
