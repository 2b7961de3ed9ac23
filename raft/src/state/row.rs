//! The rows that readers of the state see, and their bytes in the file.
//!
//! Always holds: the same row gives the same bytes on every node, since the state hash is over
//! them. A row that does not decode is an error, never a default.

use bytes::Bytes;
use prost::Message as _;

use super::StateError;
use crate::codec::{digest_bytes, digest_from};
use crate::command::NewManifest;
use crate::digest::Digest;
use crate::id::{Generation, NodeId};
use crate::member::{Member, MemberState, Owner, Partition};
use crate::proto::state as proto;

/// A durable blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Its length in bytes.
    pub size: u64,
    /// Members outside the owners that hold it until W owners do; ascending.
    pub away: Vec<NodeId>,
    /// Every member denied having it: HEAD, mount and manifests treat it as absent.
    pub lost: bool,
    /// State time in milliseconds since which no repository links it.
    pub unlinked_since: Option<u64>,
    /// Log index of the entry that last brought evidence of it.
    pub evidence_at: u64,
}

/// A blob's place in a repository. Times are state time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// When it was linked.
    pub linked_at: u64,
    /// When it was last asked for, or lost its last use: the grace period starts here.
    pub wanted_at: u64,
}

/// A manifest in a repository; its bytes are in [`super::View::body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRow {
    /// Its media type, as served.
    pub media_type: String,
    /// `artifactType`, or the config's media type.
    pub artifact_type: Option<String>,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// The proposer's clock when it was first pushed, in milliseconds since 1970.
    pub pushed_at: u64,
    /// Who first pushed it.
    pub by: String,
    /// Length of its bytes.
    pub size: u64,
    /// Log index of the entry that put it here.
    pub index: u64,
    /// Blobs it needs, ascending.
    pub blobs: Vec<Digest>,
    /// Manifests it needs, ascending.
    pub children: Vec<Digest>,
}

/// What a tag of a cached manifest takes: its row with the places where it was, and the way back to it.
pub(super) const TAG: u64 = 1 << 10;
/// What a row and each edge of a manifest takes besides its bytes, roughly.
const EDGE: u64 = 256;

impl ManifestRow {
    /// About how many bytes of the state are there because of it.
    pub fn weight(&self) -> u64 {
        weight(self.size, &self.blobs, &self.children)
    }
}

impl NewManifest {
    /// As [`ManifestRow::weight`], once it is recorded.
    pub fn weight(&self) -> u64 {
        weight(self.bytes.len() as u64, &self.blobs, &self.children)
    }
}

fn weight(size: u64, blobs: &[Digest], children: &[Digest]) -> u64 {
    size + EDGE * (1 + blobs.len() + children.len()) as u64
}

/// Where a tag points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// The manifest.
    pub digest: Digest,
    /// Log index of the entry that last moved the tag.
    pub revision: u64,
    /// The proposer's clock at that time, in milliseconds since 1970; for display.
    pub at: u64,
    /// Who moved it.
    pub by: String,
    /// Where it pointed before, newest first, at most [`crate::limits::TAG_HISTORY`].
    pub history: Vec<TagMove>,
}

/// One earlier place of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMove {
    /// The manifest.
    pub digest: Digest,
    /// Log index of the entry that moved the tag there.
    pub revision: u64,
    /// The proposer's clock at that time, in milliseconds since 1970.
    pub at: u64,
    /// Who moved it.
    pub by: String,
}

/// The policy of admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// Log index of the entry that set it.
    pub revision: u64,
    /// The document as it was set.
    pub document: Bytes,
}

/// Which keys of the current policy signed a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VerdictRow {
    /// Log index of the entry that last said so.
    pub(super) index: u64,
    /// The keys' names, ascending.
    pub(super) signed_by: Vec<String>,
}

/// A secret that only the nodes can decrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Log index of the entry that put it here.
    pub index: u64,
    /// The secret, encrypted.
    pub ciphertext: Bytes,
}

/// A row with its bytes in one table.
pub(super) trait Row: Sized {
    /// The table's name, for errors.
    const TABLE: &'static str;
    /// The row's bytes.
    fn encode(&self) -> Vec<u8>;
    /// The row of `bytes`, if it is one.
    fn decode(bytes: &[u8]) -> Option<Self>;
    /// As `decode`, with the error that ends the process.
    fn read(bytes: &[u8]) -> Result<Self, StateError> {
        Self::decode(bytes).ok_or(StateError::Row { table: Self::TABLE })
    }
}

impl Row for BlobRow {
    const TABLE: &'static str = "blob";
    fn encode(&self) -> Vec<u8> {
        proto::Blob {
            size: self.size,
            away: self.away.iter().map(|node| node.0).collect(),
            lost: self.lost,
            unlinked_since: self.unlinked_since,
            evidence_at: self.evidence_at,
        }
        .encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Blob::decode(bytes).ok()?;
        Some(BlobRow {
            size: row.size,
            away: row.away.into_iter().map(NodeId).collect(),
            lost: row.lost,
            unlinked_since: row.unlinked_since,
            evidence_at: row.evidence_at,
        })
    }
}

impl Row for LinkRow {
    const TABLE: &'static str = "link";
    fn encode(&self) -> Vec<u8> {
        proto::Link { linked_at: self.linked_at, wanted_at: self.wanted_at }.encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Link::decode(bytes).ok()?;
        Some(LinkRow { linked_at: row.linked_at, wanted_at: row.wanted_at })
    }
}

impl Row for ManifestRow {
    const TABLE: &'static str = "manifest";
    fn encode(&self) -> Vec<u8> {
        proto::Manifest {
            media_type: self.media_type.clone(),
            artifact_type: self.artifact_type.clone(),
            subject: self.subject.as_ref().map(digest_bytes),
            pushed_at: self.pushed_at,
            size: self.size,
            index: self.index,
            blobs: self.blobs.iter().map(digest_bytes).collect(),
            children: self.children.iter().map(digest_bytes).collect(),
            by: self.by.clone(),
        }
        .encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Manifest::decode(bytes).ok()?;
        let digests =
            |list: Vec<Bytes>| list.iter().map(|one| digest_from(one).ok()).collect::<Option<Vec<_>>>();
        Some(ManifestRow {
            media_type: row.media_type,
            artifact_type: row.artifact_type,
            subject: match row.subject {
                Some(bytes) => Some(digest_from(&bytes).ok()?),
                None => None,
            },
            pushed_at: row.pushed_at,
            by: row.by,
            size: row.size,
            index: row.index,
            blobs: digests(row.blobs)?,
            children: digests(row.children)?,
        })
    }
}

impl Row for TagRow {
    const TABLE: &'static str = "tag";
    fn encode(&self) -> Vec<u8> {
        let now = proto::TagMove {
            digest: digest_bytes(&self.digest),
            revision: self.revision,
            at: self.at,
            by: self.by.clone(),
        };
        let before = self.history.iter().map(|one| proto::TagMove {
            digest: digest_bytes(&one.digest),
            revision: one.revision,
            at: one.at,
            by: one.by.clone(),
        });
        proto::Tag { moves: std::iter::once(now).chain(before).collect() }.encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Tag::decode(bytes).ok()?;
        let mut moves = Vec::with_capacity(row.moves.len());
        for one in row.moves {
            let digest = digest_from(&one.digest).ok()?;
            moves.push(TagMove { digest, revision: one.revision, at: one.at, by: one.by });
        }
        let mut moves = moves.into_iter();
        let now = moves.next()?;
        Some(TagRow {
            digest: now.digest,
            revision: now.revision,
            at: now.at,
            by: now.by,
            history: moves.collect(),
        })
    }
}

impl Row for VerdictRow {
    const TABLE: &'static str = "verdict";
    fn encode(&self) -> Vec<u8> {
        proto::Verdict { index: self.index, signed_by: self.signed_by.clone() }.encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Verdict::decode(bytes).ok()?;
        Some(VerdictRow { index: row.index, signed_by: row.signed_by })
    }
}

impl Row for SealedRow {
    const TABLE: &'static str = "sealed";
    fn encode(&self) -> Vec<u8> {
        proto::Sealed { index: self.index, ciphertext: self.ciphertext.clone() }.encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Sealed::decode(bytes).ok()?;
        Some(SealedRow { index: row.index, ciphertext: row.ciphertext })
    }
}

impl Row for Partition {
    const TABLE: &'static str = "partition";
    fn encode(&self) -> Vec<u8> {
        let owners = self.owners.iter();
        proto::Partition {
            owners: owners
                .map(|one| proto::Owner { node: one.node.0, added_at: one.added_at, ready: one.ready })
                .collect(),
            sources: self.sources.iter().map(|node| node.0).collect(),
        }
        .encode_to_vec()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = proto::Partition::decode(bytes).ok()?;
        let owners = row.owners.into_iter();
        Some(Partition {
            owners: owners
                .map(|one| Owner { node: NodeId(one.node), added_at: one.added_at, ready: one.ready })
                .collect(),
            sources: row.sources.into_iter().map(NodeId).collect(),
        })
    }
}

/// A member's row; the id is the key.
pub(super) fn encode_member(member: &Member) -> Vec<u8> {
    proto::Member {
        name: member.name.clone(),
        zone: member.zone.clone(),
        state: state_number(member.state),
        generation: member.generation.0,
        max_level: member.max_level,
        weight: member.weight,
        client: member.client.clone(),
        peer: member.peer.clone(),
    }
    .encode_to_vec()
}

/// The member `id` of its row's bytes.
pub(super) fn decode_member(id: NodeId, bytes: &[u8]) -> Result<Member, StateError> {
    let unreadable = || StateError::Row { table: "member" };
    let row = proto::Member::decode(bytes).map_err(|_| unreadable())?;
    Ok(Member {
        id,
        name: row.name,
        zone: row.zone,
        state: state_of(row.state).ok_or_else(unreadable)?,
        generation: Generation(row.generation),
        max_level: row.max_level,
        weight: row.weight,
        client: row.client,
        peer: row.peer,
    })
}

/// The number that stands for `state` in rows and entries.
pub(crate) fn state_number(state: MemberState) -> u32 {
    match state {
        MemberState::Joining => 1,
        MemberState::Active => 2,
        MemberState::Retired => 3,
        MemberState::Draining => 4,
    }
}

/// The state that `number` stands for.
pub(crate) fn state_of(number: u32) -> Option<MemberState> {
    match number {
        1 => Some(MemberState::Joining),
        2 => Some(MemberState::Active),
        3 => Some(MemberState::Retired),
        4 => Some(MemberState::Draining),
        _ => None,
    }
}
