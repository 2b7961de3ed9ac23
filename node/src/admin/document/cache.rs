//! The JSON of `cache…`. Images are named as people name them, nodes by their name.

use serde::{Deserialize, Serialize};

/// `GET cache`: a page of what is cached.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CacheDocument {
    /// Cached manifests, in the order of their repositories.
    pub images: Vec<CachedDocument>,
    /// All pins; on the first page.
    pub pins: Vec<String>,
    /// `after` of the next page; null on the last one.
    pub next: Option<String>,
}

/// A cached manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CachedDocument {
    /// With the registry's host.
    pub repository: String,
    /// That point to it.
    pub tags: Vec<String>,
    /// Its digest.
    pub digest: String,
    /// As the upstream gave it.
    pub media_type: String,
    /// Blobs that it lists.
    pub blobs: u64,
    /// Their bytes, as the manifest says.
    pub size: u64,
    /// How many of these bytes some node has.
    pub cached_bytes: u64,
    /// Which node has how many; those that have none, or did not answer, are left out.
    pub nodes: Vec<HeldDocument>,
    /// Whether a pin keeps it.
    pub pinned: bool,
    /// When it was first recorded, RFC 3339.
    pub pushed_at: Option<String>,
    /// How long nobody has asked for it, by the cluster's time.
    pub unused_ms: u64,
}

/// What a node has of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDocument {
    /// Its name.
    pub node: Option<String>,
    /// Bytes of the listed blobs that are on its disk.
    pub bytes: u64,
}

/// `PUT|DELETE cache/pins`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PinDocument {
    /// The image, named in full.
    pub image: String,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// The log entry that made it so.
    pub log_id: u64,
}

/// `DELETE cache`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PurgedDocument {
    /// Manifests that were dropped.
    pub dropped: u64,
    /// Manifests that were left, since they are pinned.
    pub pinned: u64,
    /// The last log entry of it; null when there was nothing to drop.
    pub log_id: Option<u64>,
    /// `after` of the request that goes on with it; null when it is done.
    pub next: Option<String>,
}
