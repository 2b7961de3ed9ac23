//! Reading rows, from a snapshot or while a batch changes them.
//!
//! Apply and the readers see the state through the same functions, so that they cannot disagree
//! about what a key means.

use super::key::{self, Table, meta};
use super::row::{self, BlobRow, LinkRow, ManifestRow, Row, TagRow};
use super::{StateError, key::after_prefix};
use crate::digest::{Digest, PartitionId};
use crate::id::NodeId;
use crate::member::{Member, Partition, write_quorum};
use crate::name::{RepoName, Tag};

/// What a visitor of rows says: whether to go on.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StateError>;

/// The rows of one consistent state.
pub(super) trait Rows {
    /// The value at `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Visits the rows from `from` up to but not including `to`, ascending.
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StateError>;

    fn has(&self, table: Table, key: &[u8]) -> Result<bool, StateError> {
        Ok(self.get(table, key)?.is_some())
    }

    /// Visits the rows whose key begins with `prefix`.
    fn scan_prefix(&self, table: Table, prefix: &[u8], visit: Visit<'_>) -> Result<(), StateError> {
        self.scan(table, prefix, after_prefix(prefix).as_deref(), visit)
    }

    fn has_prefix(&self, table: Table, prefix: &[u8]) -> Result<bool, StateError> {
        let mut found = false;
        self.scan_prefix(table, prefix, &mut |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    /// The keys that begin with `prefix`, without it.
    fn suffixes(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StateError> {
        let mut found = Vec::new();
        self.scan_prefix(table, prefix, &mut |key, _| {
            found.push(key[prefix.len()..].to_vec());
            Ok(true)
        })?;
        Ok(found)
    }

    /// How many keys begin with `prefix`.
    fn count_prefix(&self, table: Table, prefix: &[u8]) -> Result<u64, StateError> {
        let mut count = 0;
        self.scan_prefix(table, prefix, &mut |_, _| {
            count += 1;
            Ok(true)
        })?;
        Ok(count)
    }

    fn row<T: Row>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StateError>
    where
        Self: Sized,
    {
        self.get(table, key)?.map(|bytes| T::read(&bytes)).transpose()
    }

    /// A single number; 0 when it was never set.
    fn number(&self, table: Table, key: &[u8]) -> Result<u64, StateError> {
        match self.get(table, key)? {
            None => Ok(0),
            Some(bytes) => {
                let bytes = bytes.try_into().map_err(|_| StateError::Row { table: table.name() })?;
                Ok(u64::from_be_bytes(bytes))
            }
        }
    }

    fn member(&self, id: NodeId) -> Result<Option<Member>, StateError> {
        let found = self.get(Table::Member, &key::node(id))?;
        found.map(|bytes| row::decode_member(id, &bytes)).transpose()
    }

    fn members(&self) -> Result<Vec<Member>, StateError> {
        let mut members = Vec::new();
        self.scan(Table::Member, &[], None, &mut |key, value| {
            let id = key.try_into().map_err(|_| StateError::Row { table: "member" })?;
            members.push(row::decode_member(NodeId(u64::from_be_bytes(id)), value)?);
            Ok(true)
        })?;
        Ok(members)
    }

    /// W of the agreed members at the agreed factor.
    fn needed(&self) -> Result<usize, StateError> {
        let counted = self.members()?.iter().filter(|member| member.state.counts()).count();
        Ok(write_quorum(self.number(Table::Meta, meta::RF)? as u32, counted))
    }

    fn partition(&self, id: PartitionId) -> Result<Partition, StateError>
    where
        Self: Sized,
    {
        Ok(self.row(Table::Partition, &key::partition(id))?.unwrap_or_default())
    }

    fn blob(&self, digest: &Digest) -> Result<Option<BlobRow>, StateError>
    where
        Self: Sized,
    {
        self.row(Table::Blob, &key::digest(digest))
    }

    fn link(&self, repo: &RepoName, digest: &Digest) -> Result<Option<LinkRow>, StateError>
    where
        Self: Sized,
    {
        self.row(Table::Link, &key::repo_digest(repo, digest))
    }

    fn manifest(&self, repo: &RepoName, digest: &Digest) -> Result<Option<ManifestRow>, StateError>
    where
        Self: Sized,
    {
        self.row(Table::Manifest, &key::repo_digest(repo, digest))
    }

    fn tag(&self, repo: &RepoName, tag: &Tag) -> Result<Option<TagRow>, StateError>
    where
        Self: Sized,
    {
        self.row(Table::Tag, &key::tag(repo, tag))
    }
}
