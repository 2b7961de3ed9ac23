//! The documents of the administration, as served and as the command line reads them.
//!
//! Always holds: addresses are `host:port`; nodes are given by name, null when unknown; ids are
//! 16 hex digits. Fields are only ever added.

pub mod cache;
pub mod policy;

use serde::{Deserialize, Serialize};

/// `GET status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusDocument {
    /// Null until the cluster is born.
    pub cluster_id: Option<String>,
    /// Whether a quorum confirmed what is said here.
    pub quorum: bool,
    /// Whether it is what this node remembers.
    pub stale: bool,
    /// Who leads.
    pub leader: Option<String>,
    /// The current term.
    pub term: u64,
    /// The feature level that is in force.
    pub level: u32,
    /// The replication factor.
    pub rf: u32,
    /// The log index that this node applied.
    pub applied: u64,
    /// A hash of the state, equal on nodes that name the same index.
    pub state_hash: String,
    /// The index of the hash.
    pub state_hash_at: u64,
    /// Everybody in the agreed table.
    pub members: Vec<MemberDocument>,
    /// The partitions of all digests.
    pub partitions: PartitionsDocument,
    /// Digests, not copies.
    pub blobs: BlobsDocument,
    /// The revision of the policy; null while none is set and every image may run.
    #[serde(default)]
    pub policy_revision: Option<u64>,
}

impl StatusDocument {
    /// Whether `node` is the name or the id of a member.
    pub fn has_member(&self, node: &str) -> bool {
        self.members.iter().any(|member| member.name == node || member.id == node)
    }
}

/// One member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberDocument {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its failure domain; empty when not configured.
    pub zone: String,
    /// `voter` or `learner`.
    pub role: String,
    /// `joining`, `up`, `down` or `draining`.
    pub state: String,
    /// Where clients reach it.
    pub client: Option<String>,
    /// Where peers reach it.
    pub peer: Option<String>,
    /// The log index that it applied; null when it does not answer and never did.
    pub applied: Option<u64>,
    /// How long ago it was heard of; 0 for the node that answers, null for never.
    pub last_seen_ms: Option<u64>,
    /// When a member that is down loses its partitions to others; 0 when it has, null when it is
    /// up or was never heard of.
    #[serde(default)]
    pub repair_in_ms: Option<u64>,
    /// Its disk; null when it does not answer.
    pub disk: Option<DiskDocument>,
    /// The highest feature level that its program supports, as far as the cluster was told.
    #[serde(default)]
    pub max_level: u32,
    /// Its uploads, mirrored ones included; null when it does not say.
    #[serde(default)]
    pub uploads: Option<UploadsDocument>,
}

/// What a node has open and staged; its settings bound both.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UploadsDocument {
    /// Open uploads.
    pub sessions: u64,
    /// Bytes staged for them.
    pub bytes: u64,
}

/// A node's disk, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DiskDocument {
    /// Size of the file system.
    pub total: u64,
    /// What is left.
    pub free: u64,
    /// What blobs take.
    pub blobs: u64,
}

/// The partitions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PartitionsDocument {
    /// How many there are.
    pub total: u64,
    /// With all owners complete.
    pub ready: u64,
    /// The others.
    pub moving: u64,
}

/// The blobs, counted by digest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BlobsDocument {
    /// In the agreed table.
    pub durable: u64,
    /// Their bytes, counted once.
    pub bytes: u64,
    /// With fewer live copies than min(rf, members).
    pub under_replicated: u64,
    /// Whose owners do not have them yet.
    pub away: u64,
    /// That no member has.
    pub lost: u64,
    /// Known only through a cache; within some percent where a member has more than 1024.
    pub cached: u64,
}

/// `GET health?for=healthy|settled`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthDocument {
    /// What was asked about.
    pub condition: String,
    /// Whether it is so.
    pub met: bool,
    /// Why not; empty when met.
    pub why: String,
}

/// `GET blobs/<digest>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlobDocument {
    /// The digest asked about.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is in the agreed table.
    pub durable: bool,
    /// Repositories that link it.
    pub repos: Vec<String>,
    /// Who should have it.
    pub owners: Vec<Option<String>>,
    /// Who had it before.
    pub sources: Vec<Option<String>>,
    /// Who has it although it is not an owner.
    pub away: Vec<Option<String>>,
    /// Who said just now that it has it.
    pub holders: Vec<HolderDocument>,
    /// Who did not answer, and may hold it too.
    #[serde(default)]
    pub silent: Vec<Option<String>>,
}

/// A node that holds a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HolderDocument {
    /// Its name.
    pub node: Option<String>,
    /// When it last checked all bytes against the digest, RFC 3339; null when not known.
    pub verified_at: Option<String>,
}

/// `webhook/ca`: what callers of the webhook are to trust.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookCaDocument {
    /// `own` when the cluster makes them, `files` when they are of `webhook.tls`.
    pub source: String,
    /// Each of them.
    pub certificates: Vec<WebhookCertificate>,
    /// All of them, as it belongs into `caBundle` (there in base64).
    pub pem: String,
}

/// A certificate that signs others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookCertificate {
    /// Its name.
    pub subject: String,
    /// From when it counts, RFC 3339.
    pub not_before: Option<String>,
    /// When it ends, RFC 3339.
    pub not_after: Option<String>,
}
