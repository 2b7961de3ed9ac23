//! The port through which the API gets what upstream registries have.
//!
//! A node implements it over its cache, its peers and the upstreams. Whether a caller may have what it asks for
//! is decided by the API, which asks [`Upstreams::needs_user`] first. Implementations never buffer a whole blob,
//! never give bytes that have another digest without breaking the stream off before its end, and give a name's
//! bytes only when a manifest of that name lists them or the upstream itself says so.

use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;

use trow_raft::{Digest, Evidence};

use super::UpstreamName;
use crate::blobs::ByteStream;
use crate::route::Reference;

/// What upstream registries have, from the cluster's cache where it is there.
#[async_trait]
pub trait Upstreams: Send + Sync + 'static {
    /// Whether what is behind the name is fetched with credentials, so that only callers who are known may have
    /// it.
    fn needs_user(&self, name: &UpstreamName) -> bool;

    /// A manifest; without its bytes when `head`, which fetches nothing but the upstream's own HEAD.
    async fn manifest(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        head: bool,
    ) -> Result<Pulled, PullError>;

    /// The size of a blob, in bytes. Fetches nothing.
    async fn blob_size(&self, name: &UpstreamName, digest: &Digest) -> Result<u64, PullError>;

    /// The bytes of a blob, as they arrive: all, or the `range` that is made of its size.
    async fn blob(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        range: &(dyn for<'s> Fn(u64) -> Option<Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError>;

    /// The tags, as the upstream lists them; those that are cached when it does not answer.
    async fn tags(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Relayed, PullError>;

    /// The referrers of `subject`, as the upstream lists them; those that are cached when it does not answer.
    async fn referrers(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Relayed, PullError>;

    /// Has a write quorum hold a blob that is cached and listed under `name`, for a `CommitBlob`: its size and
    /// their evidence. `None` when it is not here, or too few hold it now: it must be sent then.
    async fn hold(&self, name: &UpstreamName, digest: &Digest) -> Option<(u64, Vec<Evidence>)>;
}

/// A manifest of an upstream.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Of its bytes.
    pub digest: Digest,
    /// As the upstream sent it.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// What it is, if that was asked for.
    pub bytes: Option<Bytes>,
    /// The log index of the entry that recorded it, or that was applied when it was looked at.
    pub index: u64,
    /// Why the answer may be old: `upstream <host>: <why>`.
    pub stale: Option<String>,
}

/// Bytes of a blob of an upstream, on their way.
pub struct Content {
    /// The size of the whole blob, in bytes.
    pub size: u64,
    /// Which of them come.
    pub range: Range<u64>,
    /// Ends in an error rather than with a wrong byte.
    pub body: ByteStream,
}

/// A list, as JSON that an upstream made, or this node of what is cached.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// At most a few MiB, checked to be JSON of the right shape.
    pub json: Bytes,
    /// `last` of the next page, when there is one.
    pub next: Option<String>,
    /// The upstream applied the filter itself.
    pub filtered: bool,
    /// Why the answer may be old or not whole: `upstream <host>: <why>`.
    pub stale: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// The upstream does not have it, or it is not cached and upstreams are not asked.
    #[error("the upstream registry does not have it")]
    NotFound,
    /// It is cached as such, and nobody is asked: `offline = true`.
    #[error("it is not cached, and upstream registries are not asked: upstream.offline = true")]
    Offline,
    /// The settings do not let anybody ask this.
    #[error("{0}")]
    Denied(String),
    /// Another node fetches it with credentials, which this one does not know of yet: it is for known users.
    #[error("this comes from a registry that asks for a login: send a user's name and password")]
    LoginNeeded,
    /// The range lies outside the blob, whose size this is.
    #[error("the range lies outside the blob of {size} bytes")]
    Range {
        /// In bytes.
        size: u64,
    },
    /// The upstream cannot be asked now, and it is not cached; the text says which and why.
    #[error("{why}")]
    Unavailable {
        /// For the client: nothing internal.
        why: String,
        /// When to try again.
        retry: Duration,
    },
    /// The upstream gave something else than it was asked for, or would lead where nobody may go.
    #[error("{0}")]
    Bad(String),
    /// This node failed; its log says how.
    #[error("this node failed")]
    Failed,
}
