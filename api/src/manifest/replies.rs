//! Replies to GET and HEAD of manifests, made once and kept in memory while they are so.
//!
//! Always holds: a kept reply is given only while the [`Stamp`] of the view that it was read from
//! holds, so it is what a look at the applied state at that moment would give, however reads and
//! changes interleave; a snapshot that is installed voids them all. Whether the applied state is
//! recent enough is confirmed before anybody asks here ([`crate::reads`]). Never does: keep that
//! something is not there.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue};
use trow_raft::{Digest, RepoName, Stamp, StateError, View};

use crate::hot::{CacheStats, Equivalent, Hot, Weighter};
use crate::reads::Found;
use crate::route::Reference;
use crate::{etag, headers};

/// What all kept replies take in memory.
const LIMIT: u64 = 32 << 20;
/// Larger manifests are read from the state each time, and a HEAD of one does not read its bytes.
const KEPT_MAX: u64 = 256 << 10;
/// What most replies take.
const TYPICAL: u64 = 2 << 10;
/// What a reply takes besides its name and the manifest's bytes.
const OVERHEAD: u64 = 640;

/// A manifest as it is served.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Of the manifest.
    pub(crate) digest: Digest,
    /// Log index of the entry that made it so: that moved the tag, or stored the manifest.
    pub(crate) index: u64,
    /// The manifest. Not read for a HEAD of a large one.
    pub(crate) bytes: Option<Bytes>,
    size: u64,
    media_type: HeaderValue,
    digest_text: HeaderValue,
    etag: HeaderValue,
}

/// The replies of one node. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Replies(Hot<Name, (Stamp, Arc<Reply>), Weigh>);

#[derive(Clone)]
struct Weigh;

#[derive(PartialEq, Eq, Hash)]
struct Name {
    repo: RepoName,
    reference: Reference,
}

/// The name of a manifest that is asked for.
#[derive(Clone, Copy, Hash)]
pub(crate) struct Asked<'a> {
    pub(crate) repo: &'a RepoName,
    pub(crate) reference: &'a Reference,
}

impl Equivalent<Name> for Asked<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        *self.repo == name.repo && *self.reference == name.reference
    }
}

impl Weighter<Name, (Stamp, Arc<Reply>)> for Weigh {
    fn weight(&self, name: &Name, (_, reply): &(Stamp, Arc<Reply>)) -> u64 {
        let tag = if let Reference::Tag(tag) = &name.reference { tag.as_str().len() } else { 0 };
        let bytes = reply.bytes.as_ref().map_or(0, Bytes::len);
        OVERHEAD + (name.repo.as_str().len() + tag + bytes) as u64
    }
}

impl Default for Replies {
    fn default() -> Self {
        Replies(Hot::new(LIMIT, TYPICAL, KEPT_MAX, Weigh))
    }
}

impl Replies {
    /// How many reads were answered from memory, and how much it takes.
    pub fn stats(&self) -> CacheStats {
        self.0.stats()
    }

    /// The kept reply, if it is what the applied state says at this moment.
    pub(crate) fn kept(&self, asked: Asked<'_>) -> Option<Found<Arc<Reply>>> {
        let (stamp, reply) = self.0.get(&asked, |(stamp, _)| stamp.holds())?;
        Some(Found { value: Some(reply), at: stamp.at(), warning: None })
    }

    /// Makes the reply from `view`, and keeps it.
    pub(crate) fn read(
        &self,
        view: &View,
        asked: Asked<'_>,
        head: bool,
    ) -> Result<Option<Arc<Reply>>, StateError> {
        let Asked { repo, reference } = asked;
        let (tag, digest, moved) = match reference {
            Reference::Digest(digest) => (None, *digest, None),
            Reference::Tag(tag) => match view.tag(repo, tag)? {
                Some(row) => (Some(tag), row.digest, Some(row.revision)),
                None => return Ok(None),
            },
        };
        let Some(row) = view.manifest(repo, &digest)? else { return Ok(None) };
        let keep = row.size <= KEPT_MAX;
        let bytes = if head && !keep { None } else { view.body(&digest)? };
        if bytes.is_none() && (keep || !head) {
            return Ok(None);
        }
        let text = |text: &str| HeaderValue::from_str(text).ok();
        let reply = Arc::new(Reply {
            digest,
            index: moved.unwrap_or(row.index),
            bytes,
            size: row.size,
            // One of a few known types: text that was parsed.
            media_type: text(&row.media_type).unwrap_or(HeaderValue::from_static("application/octet-stream")),
            digest_text: text(&digest.to_string()).unwrap_or(HeaderValue::from_static("")),
            etag: text(&etag::of(&digest)).unwrap_or(HeaderValue::from_static("")),
        });
        if keep {
            let name = Name { repo: repo.clone(), reference: reference.clone() };
            self.0.put(name, (view.stamp(repo, tag, &digest)?, reply.clone()));
        }
        Ok(Some(reply))
    }
}

impl Reply {
    /// The headers that say what is served.
    pub(crate) fn put_headers(&self, all: &mut HeaderMap) {
        all.insert(CONTENT_LENGTH, HeaderValue::from(self.size));
        all.insert(CONTENT_TYPE, self.media_type.clone());
        all.insert(ETAG, self.etag.clone());
        all.insert(headers::CONTENT_DIGEST, self.digest_text.clone());
    }
}
