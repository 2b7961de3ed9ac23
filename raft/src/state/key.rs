//! The tables of the state and how their keys are made.
//!
//! Keys are bytes whose order is the order of iteration. A repository name contains no NUL, so
//! `name NUL rest` sorts names as text and never mixes two repositories. A digest is one byte for
//! the algorithm and its raw bytes, so that a partition is contiguous within an algorithm.

use redb::TableDefinition;

use crate::digest::{Algorithm, Digest, PartitionId};
use crate::id::NodeId;
use crate::name::{Reference, RepoName, Tag};

/// A table's definition: bytes to bytes.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One table of the state.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Table { $($(#[$doc])* $name,)* }
        impl Table {
            /// All of them; a table's number is its place here and goes into the state hash.
            pub(super) const ALL: &'static [Table] = &[$(Table::$name,)*];
            /// The name in the file.
            pub(super) const fn name(self) -> &'static str { match self { $(Table::$name => $text,)* } }
        }
    };
}

tables! {
    /// What belongs to this node's log position rather than to the state: not in the hash.
    Consensus = "consensus",
    /// Single values: see [`meta`].
    Meta = "meta",
    /// node → member.
    Member = "member",
    /// node → nothing.
    Removed = "removed",
    /// partition → owners and sources.
    Partition = "partition",
    /// digest → blob.
    Blob = "blob",
    /// node, digest → nothing.
    Away = "away",
    /// repository, digest → link.
    Link = "link",
    /// digest, repository → nothing.
    LinkedIn = "linked_in",
    /// repository, blob, manifest → nothing.
    Use = "use",
    /// repository, child, parent → nothing.
    Child = "child",
    /// repository, digest → manifest.
    Manifest = "manifest",
    /// digest → the manifest's bytes.
    Body = "body",
    /// digest, repository → nothing: where the body is a manifest.
    BodyIn = "body_in",
    /// repository, tag → tag.
    Tag = "tag",
    /// repository, digest, tag → nothing.
    TagOf = "tag_of",
    /// repository, subject, digest → descriptor.
    Referrer = "referrer",
    /// node → boot and highest sequence number.
    Proposer = "proposer",
    /// node, boot, seq → what came of it.
    Recent = "recent",
    /// repository, digest → state time: manifests of upstream registries, and when each was last
    /// asked for.
    Cached = "cached",
    /// repository, reference → nothing.
    Pin = "pin",
    /// revision → the policy's document; the current one alone.
    Policy = "policy",
    /// digest → which keys of the current policy signed it.
    Verdict = "verdict",
    /// log index → digest: the verdicts by their age.
    VerdictAt = "verdict_at",
    /// name → a secret that only the nodes can decrypt.
    Sealed = "sealed",
}

impl Table {
    /// The definition for redb.
    pub(super) const fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }

    /// Whether its rows are part of the state hash.
    pub(super) const fn is_agreed(self) -> bool {
        !matches!(self, Table::Consensus)
    }
}

/// Keys of single values: of [`Table::Meta`], and below them of [`Table::Consensus`].
pub(super) mod meta {
    pub(crate) const CLUSTER: &[u8] = b"cluster";
    pub(crate) const LEVEL: &[u8] = b"level";
    pub(crate) const RF: &[u8] = b"rf";
    pub(crate) const TIME: &[u8] = b"time";
    pub(crate) const PARTITIONS_BASE: &[u8] = b"partitions_base";
    pub(crate) const BLOBS: &[u8] = b"blobs";
    pub(crate) const BLOB_BYTES: &[u8] = b"blob_bytes";
    pub(crate) const AWAY: &[u8] = b"away";
    pub(crate) const LOST: &[u8] = b"lost";
    pub(crate) const PINS: &[u8] = b"pins";
    pub(crate) const CACHED_BYTES: &[u8] = b"cached_bytes";
    pub(crate) const POLICY: &[u8] = b"policy";
    pub(crate) const VERDICTS: &[u8] = b"verdicts";

    pub(crate) const APPLIED: &[u8] = b"applied";
    pub(crate) const LOG_ID: &[u8] = b"log_id";
    pub(crate) const MEMBERSHIP: &[u8] = b"membership";
    pub(crate) const HASH: &[u8] = b"hash";
    pub(crate) const HASH_AT: &[u8] = b"hash_at";
}

/// The digest as a key's part.
pub(super) fn push_digest(key: &mut Vec<u8>, digest: &Digest) {
    key.push(match digest.algorithm() {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    });
    key.extend_from_slice(digest.as_bytes());
}

/// The digest at the front of `key`, and what follows it.
pub(super) fn split_digest(key: &[u8]) -> Option<(Digest, &[u8])> {
    let (first, rest) = key.split_first()?;
    let algorithm = match first {
        1 => Algorithm::Sha256,
        2 => Algorithm::Sha512,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(algorithm.size())?;
    Some((Digest::new(algorithm, bytes).ok()?, rest))
}

pub(super) fn digest(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    push_digest(&mut key, digest);
    key
}

pub(super) fn node(node: NodeId) -> [u8; 8] {
    node.0.to_be_bytes()
}

pub(super) fn partition(partition: PartitionId) -> [u8; 2] {
    partition.index().to_be_bytes()
}

/// Everything of a repository begins with this.
pub(super) fn repo(repo: &RepoName) -> Vec<u8> {
    let mut key = Vec::with_capacity(repo.as_str().len() + 1 + 2 * 65);
    key.extend_from_slice(repo.as_str().as_bytes());
    key.push(0);
    key
}

/// The name at the front of `key`, and what follows its NUL.
pub(super) fn split_repo(key: &[u8]) -> Option<(RepoName, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&key[..end]).ok()?.parse().ok()?, &key[end + 1..]))
}

pub(super) fn repo_digest(name: &RepoName, digest: &Digest) -> Vec<u8> {
    let mut key = repo(name);
    push_digest(&mut key, digest);
    key
}

/// Of `use` (blob, manifest), `child` (child, parent) and `referrer` (subject, manifest).
pub(super) fn edge(name: &RepoName, to: &Digest, from: &Digest) -> Vec<u8> {
    let mut key = repo_digest(name, to);
    push_digest(&mut key, from);
    key
}

pub(super) fn digest_repo(of: &Digest, name: &RepoName) -> Vec<u8> {
    let mut key = digest(of);
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

pub(super) fn tag(name: &RepoName, tag: &Tag) -> Vec<u8> {
    let mut key = repo(name);
    key.extend_from_slice(tag.as_str().as_bytes());
    key
}

pub(super) fn tag_of(name: &RepoName, digest: &Digest, tag: &Tag) -> Vec<u8> {
    let mut key = repo_digest(name, digest);
    key.extend_from_slice(tag.as_str().as_bytes());
    key
}

/// A tag has no colon, so the text says which of the two it is.
pub(super) fn pin(name: &RepoName, reference: &Reference) -> Vec<u8> {
    let mut key = repo(name);
    key.extend_from_slice(reference.to_string().as_bytes());
    key
}

/// The repository and the reference of a pin.
pub(super) fn split_pin(key: &[u8]) -> Option<(RepoName, Reference)> {
    let (name, rest) = split_repo(key)?;
    Some((name, std::str::from_utf8(rest).ok()?.parse().ok()?))
}

/// A log index: rows in the order in which entries made them.
pub(super) fn index(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

pub(super) fn away(node: NodeId, digest: &Digest) -> Vec<u8> {
    let mut key = node.0.to_be_bytes().to_vec();
    push_digest(&mut key, digest);
    key
}

pub(super) fn recent(node: NodeId, boot: u64, seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&node.0.to_be_bytes());
    key[8..16].copy_from_slice(&boot.to_be_bytes());
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The first key after all that begin with `prefix`, if there is one.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

/// The digests of one algorithm in one partition: from, and up to but not including.
pub(super) fn partition_range(algorithm: Algorithm, partition: PartitionId) -> (Vec<u8>, Vec<u8>) {
    let number = match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    };
    let bound = |ten_bits: u32| match u16::try_from(ten_bits << 6) {
        Ok(prefix) => [&[number], &prefix.to_be_bytes()[..]].concat(),
        Err(_) => vec![number + 1],
    };
    let index = u32::from(partition.index());
    (bound(index), bound(index + 1))
}

/// The name that ends a key.
pub(super) fn repo_name(bytes: &[u8]) -> Option<RepoName> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
