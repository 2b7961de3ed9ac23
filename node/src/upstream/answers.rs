//! What an upstream answered, and why it did not.

use std::time::Duration;

use bytes::Bytes;
use trow_api::ByteStream;
use trow_raft::Digest;

/// What a manifest is, as its upstream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The digest that was asked for; else the one that upstream names, or that its bytes have.
    pub digest: Digest,
    /// As upstream sent it.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// What it is, when a HEAD did not tell enough; they have the digest.
    pub bytes: Option<Bytes>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The bytes have it.
    pub digest: Digest,
    /// As upstream sent it.
    pub media_type: String,
    /// At most 4 MiB.
    pub bytes: Bytes,
}

/// The bytes of a blob on their way. Nothing of them is verified, not even how many there are.
pub struct Arriving {
    /// Of the whole blob, in bytes, if upstream said so.
    pub size: Option<u64>,
    /// The first byte that comes: the one that was asked for, or 0 when upstream knows no ranges.
    pub from: u64,
    /// Ends in an error when upstream breaks off or makes no progress. A request of the upstream's budget
    /// is taken for as long as this is there.
    pub body: ByteStream,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arriving").field("size", &self.size).field("from", &self.from).finish_non_exhaustive()
    }
}

/// A list, or a page of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// At most 4 MiB, of the shape that the distribution-spec gives it.
    pub json: Bytes,
    /// `last` of the next page, when there is one.
    pub next: Option<String>,
    /// Upstream applied the filter.
    pub filtered: bool,
}

/// What the settings say of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether it may be asked for at all, or why not.
    pub allowed: Result<(), String>,
    /// Whether nobody is to be asked.
    pub offline: bool,
    /// How long a tag is believed.
    pub freshness: Duration,
    /// Whether a tag that upstream deleted goes here too.
    pub follow_deletes: bool,
    /// Whether it is fetched with credentials that do not count as everybody's.
    pub needs_user: bool,
}

/// Why an upstream gave no answer. The texts are for clients and begin with `upstream <host>: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// It says that it does not have it.
    #[error("the upstream registry does not have it")]
    NotFound,
    /// The settings do not let anybody ask this, or upstream does not give it to us.
    #[error("{0}")]
    Denied(String),
    /// It cannot be asked now: unreachable, slow, failing, out of budget, or its token service is.
    #[error("{why}")]
    Unavailable {
        /// For the client.
        why: String,
        /// When to try again.
        retry: Duration,
    },
    /// It gave something else than it was asked for, or would lead where nobody may go.
    #[error("{0}")]
    Bad(String),
}
