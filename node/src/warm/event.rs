//! What is said while images are pulled, and what asks for it: one JSON object each.

use serde::{Deserialize, Serialize};

/// Which images, as `POST /-/trow/v1/cache/warm` is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// As `docker pull` takes them.
    pub images: Vec<String>,
    /// `os/architecture`, with `/variant` or without; that of the node when there is none.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Everything that an index has.
    #[serde(default)]
    pub all_platforms: bool,
}

/// How it goes, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the nouns of the variant's sentence")]
pub enum Event {
    /// The image has so many blobs with so many bytes in all.
    Found { image: String, digest: String, blobs: u64, bytes: u64 },
    /// So many bytes of it came so far.
    Progress { image: String, bytes: u64 },
    /// It is here, with every blob.
    Done {
        image: String,
        digest: String,
        blobs: u64,
        bytes: u64,
        /// Why it may not be what the upstream has now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stale: Option<String>,
    },
    /// It is not.
    Failed { image: String, error: String },
}
