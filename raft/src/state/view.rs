//! What readers see: one consistent state, as of one applied index.
//!
//! It never changes and never blocks the writer, but keeps memory and pages of the file, so it is
//! for the length of a request and not longer.

mod ahead;
mod cached;
mod policy;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::key::{self, Table, meta};
use super::overlay::Overlay;
use super::row::{BlobRow, LinkRow, ManifestRow, Row, TagRow};
use super::rows::Rows;
use super::versions::{Stamp, Versions};
use super::{StateError, hash};
use crate::digest::{Algorithm, Digest, PartitionId};
use crate::id::{ClusterId, NodeId};
use crate::member::{Member, Partition};
use crate::name::{CACHED, RepoName, Tag};

pub use cached::Cached;

/// One consistent state. Cheap to make; see the module.
pub struct View {
    rows: Overlay,
    versions: Arc<Versions>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("applied", &self.applied().ok()).finish()
    }
}

/// Is shown a referrer with its descriptor; says whether to go on.
pub type SeeReferrer<'s> = &'s mut dyn FnMut(Digest, &[u8]) -> Result<bool, StateError>;

fn unreadable(table: Table) -> StateError {
    StateError::Row { table: table.name() }
}

/// Where to go on in a table sorted by `key` when `after` was the last one seen.
fn resume(prefix: &[u8], after: Option<&[u8]>) -> Vec<u8> {
    let mut from = prefix.to_vec();
    if let Some(after) = after {
        from.extend_from_slice(after);
        from.push(0);
    }
    from
}

/// Where the keys of the repositories after `name` begin. Its own end below `name 0x01`: each step
/// from one to the next is one seek, however many rows it has.
fn past(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[1]].concat()
}

/// Every method fails only with the state itself: an error ends the process.
impl View {
    pub(super) fn new(rows: Overlay, versions: Arc<Versions>) -> Self {
        View { rows, versions }
    }

    pub(super) fn rows(&self) -> &Overlay {
        &self.rows
    }

    /// The log index of the last entry in this state; 0 before the first.
    pub fn applied(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Consensus, meta::APPLIED)
    }

    /// What consensus stored as the log id of that entry.
    pub fn log_id(&self) -> Result<Option<Bytes>, StateError> {
        Ok(self.rows.get(Table::Consensus, meta::LOG_ID)?.map(Bytes::from))
    }

    /// What consensus stored as the last membership.
    pub fn membership(&self) -> Result<Option<Bytes>, StateError> {
        Ok(self.rows.get(Table::Consensus, meta::MEMBERSHIP)?.map(Bytes::from))
    }

    /// The cluster's id, once it is born.
    pub fn cluster(&self) -> Result<Option<ClusterId>, StateError> {
        let id = self.rows.number(Table::Meta, meta::CLUSTER)?;
        Ok(self.rows.has(Table::Meta, meta::CLUSTER)?.then_some(ClusterId(id)))
    }

    /// The feature level; 0 before birth.
    pub fn level(&self) -> Result<u32, StateError> {
        Ok(self.rows.number(Table::Meta, meta::LEVEL)? as u32)
    }

    /// The replication factor; 0 before birth.
    pub fn rf(&self) -> Result<u32, StateError> {
        Ok(self.rows.number(Table::Meta, meta::RF)? as u32)
    }

    /// State time in milliseconds: what the leaders' ticks added up to.
    pub fn time(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Meta, meta::TIME)
    }

    /// The members, by id.
    pub fn members(&self) -> Result<Vec<Member>, StateError> {
        self.rows.members()
    }

    /// One member.
    pub fn member(&self, id: NodeId) -> Result<Option<Member>, StateError> {
        self.rows.member(id)
    }

    /// The latest start of `node` whose proposals were applied.
    pub(crate) fn boot_of(&self, node: NodeId) -> Result<Option<u64>, StateError> {
        super::apply::recent::boot_of(&self.rows, node)
    }

    /// Whether the node was a member and was removed.
    pub fn removed(&self, id: NodeId) -> Result<bool, StateError> {
        self.rows.has(Table::Removed, &key::node(id))
    }

    /// W: how many members must hold a blob before it exists.
    pub fn write_quorum(&self) -> Result<usize, StateError> {
        self.rows.needed()
    }

    /// The owners and sources of one partition.
    pub fn partition(&self, id: PartitionId) -> Result<Partition, StateError> {
        self.rows.partition(id)
    }

    /// All partitions, in order of their index; 1024 of them.
    pub fn partitions(&self) -> Result<Vec<Partition>, StateError> {
        let mut all = vec![Partition::default(); usize::from(PartitionId::COUNT)];
        self.rows.scan(Table::Partition, &[], None, &mut |key, value| {
            let index = key.try_into().map(u16::from_be_bytes).map_err(|_| unreadable(Table::Partition))?;
            *all.get_mut(usize::from(index)).ok_or_else(|| unreadable(Table::Partition))? =
                Partition::read(value)?;
            Ok(true)
        })?;
        Ok(all)
    }

    /// Log index of the last change of placement: the `base` of the next one.
    pub fn partitions_base(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Meta, meta::PARTITIONS_BASE)
    }

    /// A durable blob.
    pub fn blob(&self, digest: &Digest) -> Result<Option<BlobRow>, StateError> {
        self.rows.blob(digest)
    }

    /// At most `limit` blobs of a partition after `after`, in the order of their digests.
    pub fn blobs_in(
        &self,
        partition: PartitionId,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, BlobRow)>, StateError> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let (from, to) = key::partition_range(algorithm, partition);
            let from = match after.as_ref().map(|after| resume(&key::digest(after), Some(&[]))) {
                Some(after) if after > from => after,
                _ => from,
            };
            if from >= to || found.len() >= limit {
                continue;
            }
            self.rows.scan(Table::Blob, &from, Some(&to), &mut |key, value| {
                let (digest, _) = key::split_digest(key).ok_or_else(|| unreadable(Table::Blob))?;
                found.push((digest, BlobRow::read(value)?));
                Ok(found.len() < limit)
            })?;
        }
        Ok(found)
    }

    /// At most `limit` blobs that are away on `node`, after `after`.
    pub fn away_on(
        &self,
        node: NodeId,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, StateError> {
        let prefix = key::node(node);
        let from = resume(&prefix, after.as_ref().map(key::digest).as_deref());
        let to = key::after_prefix(&prefix);
        let mut found = Vec::new();
        self.rows.scan(Table::Away, &from, to.as_deref(), &mut |key, _| {
            if found.len() == limit {
                return Ok(false);
            }
            let (digest, _) = key::split_digest(&key[8..]).ok_or_else(|| unreadable(Table::Away))?;
            found.push(digest);
            Ok(true)
        })?;
        Ok(found)
    }

    /// How many blobs have away holders.
    pub fn away_count(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Meta, meta::AWAY)
    }

    /// How many blobs are recorded lost.
    pub fn lost_count(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Meta, meta::LOST)
    }

    /// How many durable blobs there are, and the sum of their sizes.
    pub fn blob_totals(&self) -> Result<(u64, u64), StateError> {
        let count = self.rows.number(Table::Meta, meta::BLOBS)?;
        Ok((count, self.rows.number(Table::Meta, meta::BLOB_BYTES)?))
    }

    /// The blob's place in the repository.
    pub fn link(&self, repo: &RepoName, digest: &Digest) -> Result<Option<LinkRow>, StateError> {
        self.rows.link(repo, digest)
    }

    /// The repositories that link the blob.
    pub fn repos_of(&self, digest: &Digest) -> Result<Vec<RepoName>, StateError> {
        let names = self.rows.suffixes(Table::LinkedIn, &key::digest(digest))?;
        names
            .into_iter()
            .map(|name| key::repo_name(&name).ok_or_else(|| unreadable(Table::LinkedIn)))
            .collect()
    }

    /// A manifest of the repository.
    pub fn manifest(&self, repo: &RepoName, digest: &Digest) -> Result<Option<ManifestRow>, StateError> {
        self.rows.manifest(repo, digest)
    }

    /// A manifest's exact bytes, whichever repository has it: look at [`View::manifest`] first.
    pub fn body(&self, digest: &Digest) -> Result<Option<Bytes>, StateError> {
        Ok(self.rows.get(Table::Body, &key::digest(digest))?.map(Bytes::from))
    }

    /// Where a tag points.
    pub fn tag(&self, repo: &RepoName, tag: &Tag) -> Result<Option<TagRow>, StateError> {
        self.rows.tag(repo, tag)
    }

    /// Says later whether the manifest, and the tag that it was found by, are still as they are
    /// here.
    pub fn stamp(&self, repo: &RepoName, tag: Option<&Tag>, digest: &Digest) -> Result<Stamp, StateError> {
        let manifest = key::repo_digest(repo, digest);
        let manifest = (Table::Manifest, &manifest[..]);
        let tag = tag.map(|tag| key::tag(repo, tag));
        let tag = tag.as_ref().map_or(manifest, |tag| (Table::Tag, &tag[..]));
        Ok(Stamp::new(&self.versions, self.applied()?, [tag, manifest]))
    }

    /// At most `limit` tags of the repository after `after`, in byte order.
    pub fn tags(&self, repo: &RepoName, after: Option<&str>, limit: usize) -> Result<Vec<Tag>, StateError> {
        let prefix = key::repo(repo);
        let from = resume(&prefix, after.map(str::as_bytes));
        let to = key::after_prefix(&prefix);
        let mut found = Vec::new();
        self.rows.scan(Table::Tag, &from, to.as_deref(), &mut |key, _| {
            if found.len() == limit {
                return Ok(false);
            }
            let name = std::str::from_utf8(&key[prefix.len()..]).ok();
            let tag = name.and_then(|name| name.parse().ok()).ok_or_else(|| unreadable(Table::Tag))?;
            found.push(tag);
            Ok(true)
        })?;
        Ok(found)
    }

    /// Whether the repository has a manifest or a linked blob.
    pub fn repo_exists(&self, repo: &RepoName) -> Result<bool, StateError> {
        let prefix = key::repo(repo);
        Ok(self.rows.has_prefix(Table::Manifest, &prefix)? || self.rows.has_prefix(Table::Link, &prefix)?)
    }

    /// At most `limit` repositories after `after`, in byte order; not those of upstream registries.
    pub fn repos(&self, after: Option<&str>, limit: usize) -> Result<Vec<RepoName>, StateError> {
        let mut from = after.map(past).unwrap_or_default();
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(name) = self.first_repo(&[Table::Link, Table::Manifest], &from, None)? else { break };
            if name.is_cached() {
                // However many there are, they are one seek.
                let Some(after) = key::after_prefix(CACHED.as_bytes()) else { break };
                from = after;
                continue;
            }
            from = past(name.as_str());
            found.push(name);
        }
        Ok(found)
    }

    /// The first repository that has a row in one of the `tables` from `from` up to `to`.
    fn first_repo(
        &self,
        tables: &[Table],
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<RepoName>, StateError> {
        let mut first: Option<RepoName> = None;
        for table in tables {
            self.rows.scan(*table, from, to, &mut |key, _| {
                let (name, _) = key::split_repo(key).ok_or_else(|| unreadable(*table))?;
                if first.as_ref().is_none_or(|other| name < *other) {
                    first = Some(name);
                }
                Ok(false)
            })?;
        }
        Ok(first)
    }

    /// The descriptor of one referrer.
    ///
    /// # Errors
    /// The state file failed.
    pub fn referrer(
        &self,
        repo: &RepoName,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<Option<Bytes>, StateError> {
        Ok(self.rows.get(Table::Referrer, &key::edge(repo, subject, digest))?.map(Bytes::from))
    }

    /// Shows `see` each referrer from `from` on, ascending, with its descriptor, until it says that
    /// it has seen enough: there may be more than fit in memory.
    ///
    /// # Errors
    /// The state file failed, or `see` did.
    pub fn referrers(
        &self,
        repo: &RepoName,
        subject: &Digest,
        from: Option<&Digest>,
        see: SeeReferrer<'_>,
    ) -> Result<(), StateError> {
        let prefix = key::repo_digest(repo, subject);
        let from = from.map_or_else(|| prefix.clone(), |from| key::edge(repo, subject, from));
        let to = key::after_prefix(&prefix);
        self.rows.scan(Table::Referrer, &from, to.as_deref(), &mut |key, descriptor| {
            let digest = key::split_digest(&key[prefix.len()..]);
            let (digest, _) = digest.ok_or_else(|| unreadable(Table::Referrer))?;
            see(digest, descriptor)
        })
    }

    /// Whether a manifest of the repository uses the blob.
    pub fn in_use(&self, repo: &RepoName, blob: &Digest) -> Result<bool, StateError> {
        self.rows.has_prefix(Table::Use, &key::repo_digest(repo, blob))
    }

    /// The state hash and the index it is of: the last multiple of 16 not above [`View::applied`].
    ///
    /// Nodes that report the same index report the same hash. Written as 16 hex digits.
    pub fn state_hash(&self) -> Result<(u64, u64), StateError> {
        hash::reported(&self.rows)
    }
}
