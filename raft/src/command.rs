//! The complete list of ways metadata can change, and what came of each.
//!
//! A [`Command`] carries parsed values only; apply parses no client bytes. Everything here has a
//! protobuf form (`proto/entry.proto`) which is what the log holds.

use bytes::Bytes;

use crate::digest::{Digest, PartitionId};
use crate::id::{ClusterId, Generation, NodeId};
use crate::member::{Evidence, Member, MemberState};
use crate::name::{Reference, RepoName, Tag};

/// The feature level of this build: the highest whose commands it can apply.
pub const LEVEL: u32 = 3 + cfg!(feature = "next-level") as u32;

/// On whose behalf a node acts by itself: an actor that no user can be.
pub const SYSTEM: &str = "system";

/// A command with who proposes it: what a log entry holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The proposing node.
    pub node: NodeId,
    /// The proposer's persisted start counter.
    pub boot: u64,
    /// Counts the proposer's commands in this boot; a retry keeps it.
    pub seq: u64,
    /// The proposer's clock in milliseconds since 1970; for display only.
    pub now: u64,
    /// On whose behalf: a user, or [`SYSTEM`].
    pub actor: String,
    /// The level that the command's semantics belong to.
    pub level: u32,
    /// What to do.
    pub command: Command,
}

/// A compare-and-set condition on a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagCondition {
    /// `If-None-Match: *`: the tag must not be there.
    Absent,
    /// `If-Match: "<digest>"`: the tag must be there and point to this.
    Is(Digest),
}

/// A manifest as it was parsed at the edge.
#[derive(Clone, Debug, PartialEq)]
pub struct NewManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// Its media type, as served.
    pub media_type: String,
    /// `artifactType`, or the config's media type for an image manifest without one.
    pub artifact_type: Option<String>,
    /// The exact bytes.
    pub bytes: Bytes,
    /// Blobs that must be linked in the repository; a set, in order.
    pub blobs: Vec<Digest>,
    /// Manifests that must be in the repository; a set, in order.
    pub children: Vec<Digest>,
    /// `subject`, which need not exist.
    pub subject: Option<Digest>,
    /// The descriptor's JSON as the referrers API lists it; present with `subject`.
    pub descriptor: Option<Bytes>,
}

/// Every way the state can change.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the nouns of the variant's sentence")]
#[allow(clippy::large_enum_variant, reason = "few are in memory at a time")]
pub enum Command {
    /// The first entry of a cluster: names it. Refused when it has a name.
    Birth { cluster: ClusterId, rf: u32, level: u32 },
    /// W members hold the blob: it exists and is linked in `repo`.
    CommitBlob { repo: RepoName, digest: Digest, size: u64, evidence: Vec<Evidence> },
    /// Links a blob that is linked in `from` into `to` as well.
    MountBlob { from: RepoName, to: RepoName, digest: Digest },
    /// Starts the grace period of unused links anew.
    WantLinks { links: Vec<(RepoName, Digest)> },
    /// Removes a link; refused while a manifest of the repository uses it.
    DeleteLink { repo: RepoName, digest: Digest },
    /// Stores a manifest and points tags to it; `sparse` skips the check of blobs and children.
    PutManifest {
        repo: RepoName,
        manifest: NewManifest,
        tags: Vec<Tag>,
        condition: Option<TagCondition>,
        sparse: bool,
    },
    /// Removes a manifest and the tags that point to it.
    DeleteManifest { repo: RepoName, digest: Digest },
    /// Removes a tag.
    DeleteTag { repo: RepoName, tag: Tag, condition: Option<TagCondition> },
    /// Removes rows that nobody has used or linked since state time `before`, in milliseconds;
    /// each is checked again by apply.
    Reclaim { links: Vec<(RepoName, Digest)>, blobs: Vec<Digest>, before: u64 },
    /// Advances state time by what the leader's monotonic clock measured, in milliseconds.
    Tick { elapsed: u64 },
    /// Adds a member as `Joining`, or updates the addresses, name, weight and level of one.
    ChangeMember { member: Member },
    /// Moves a member along: joining → active, active ↔ retired, → draining.
    SetMemberState { node: NodeId, state: MemberState },
    /// Removes a member for good; its id is remembered as removed.
    RemoveMember { node: NodeId },
    /// Voids all earlier evidence of the node.
    FenceStore { node: NodeId, generation: Generation },
    /// Gives partitions new owners; `base` is the log index of the last such change.
    SetPartitions { owners: Vec<(PartitionId, Vec<NodeId>)>, base: u64 },
    /// The node has all blobs of these partitions that the state knew at each index.
    PartitionReady { node: NodeId, generation: Generation, partitions: Vec<(PartitionId, u64)> },
    /// Owners hold these blobs now; away holders are no longer needed.
    SettleBlobs { blobs: Vec<(Digest, Vec<Evidence>)> },
    /// Every member denied having these blobs, asked after index `seen` was applied. A blob with
    /// evidence of a later index is not lost: it was pushed again while they were being asked.
    SetLost { digests: Vec<Digest>, seen: u64 },
    /// Raises the cluster's feature level.
    SetLevel { level: u32 },
    /// Changes the replication factor.
    SetRf { rf: u32 },
    /// Stores a manifest of an upstream registry's repository, of whose blobs and children none need
    /// be here, and points a tag to it whose revision is still the one that was seen before the
    /// upstream was asked; 0 stands for a tag that was not there.
    PutCached { repo: RepoName, manifest: NewManifest, tag: Option<(Tag, u64)> },
    /// As [`Command::PutCached`] of a manifest that is cached there already, whose bytes stay out of the log;
    /// refused when it is not.
    TagCached { repo: RepoName, digest: Digest, tag: Tag, seen: u64 },
    /// Removes manifests of an upstream registry's repository and the tags that point to them.
    DropCached { repo: RepoName, digests: Vec<Digest> },
    /// Notes that cached manifests were asked for: the time after which they go begins anew.
    WantCached { manifests: Vec<(RepoName, Digest)> },
    /// Removes cached manifests that nobody has asked for since state time `before`, in
    /// milliseconds; each is checked again by apply, which keeps what is pinned and what a manifest
    /// names as its child.
    ReclaimCached { manifests: Vec<(RepoName, Digest)>, before: u64 },
    /// Takes pins away and gives others: what a pinned reference leads to stays cached.
    SetPins { add: Vec<(RepoName, Reference)>, remove: Vec<(RepoName, Reference)> },
    /// Replaces the policy of admission, whose revision becomes the log index, and forgets the verdicts
    /// of earlier ones; the current one again changes nothing. `base` is the revision that it must replace, 0 if there must be none.
    SetPolicy { base: Option<u64>, document: Bytes },
    /// Remembers by which keys of the policy a manifest is signed, beside those that are known;
    /// the verdict that was said longest ago makes room for it. Refused for another revision than
    /// the current one.
    PutVerdict { digest: Digest, revision: u64, signed_by: Vec<String> },
    /// Puts a secret that only the nodes can decrypt; `base` is the log index that put the last one
    /// of this name, 0 if there must be none.
    PutSealed { name: String, base: u64, ciphertext: Bytes },
    /// Changes nothing. Belongs to the level after the last, which only a test build supports.
    #[cfg(feature = "next-level")]
    Probe,
}

impl Command {
    /// The feature level that brought the command: it is proposed only in a cluster of that level
    /// or a higher one, and a build below it cannot apply it.
    pub fn level(&self) -> u32 {
        match self {
            #[cfg(feature = "next-level")]
            Command::Probe => 4,
            Command::SetPolicy { .. } | Command::PutVerdict { .. } | Command::PutSealed { .. } => 3,
            Command::PutCached { .. }
            | Command::TagCached { .. }
            | Command::DropCached { .. }
            | Command::WantCached { .. }
            | Command::ReclaimCached { .. }
            | Command::SetPins { .. } => 2,
            _ => 1,
        }
    }
}

/// What came of a command, and where in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The log index of the entry that made it so (a retry reports the first).
    pub index: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It changed the state, or the state was already so.
    Done,
    /// It did not change the state.
    Refused(Refusal),
}

/// Why a command did not change the state.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum Refusal {
    #[error("fewer than {needed} members vouch for the blob in their current generation")]
    StaleEvidence { needed: u32 },
    #[error("the blob is known with {known} bytes")]
    SizeDiffers { known: u64 },
    #[error("blobs are not linked in the repository: {digests:?}")]
    BlobsUnknown { digests: Vec<Digest> },
    #[error("manifests are not in the repository: {digests:?}")]
    ManifestsUnknown { digests: Vec<Digest> },
    #[error("not there")]
    NotFound,
    #[error("a manifest in the repository still uses it")]
    InUse,
    #[error("the tag does not point where the condition says")]
    ConditionFailed { current: Option<Digest> },
    #[error("not a member")]
    UnknownMember,
    #[error("another member has this name")]
    NameTaken { by: NodeId },
    #[error("the member was removed")]
    Removed,
    #[error("the state moved on since the command was planned")]
    StaleBase,
    #[error("the outcome of this sequence number is no longer remembered")]
    StaleSequence,
    #[error("the cluster has a name already")]
    AlreadyBorn { cluster: ClusterId },
    #[error("the feature level is not one that the whole cluster supports")]
    LevelUnsupported,
    #[error("the request contradicts the state")]
    Invalid,
    #[error("there are {limit} of them already, which is as many as there may be")]
    TooMany { limit: u64 },
    #[error("its current revision is {current}")]
    RevisionDiffers { current: u64 },
}
