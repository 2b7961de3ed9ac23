//! What may be evicted, as a decision on the state and nothing else.

use std::collections::HashSet;

use trow_raft::Digest;
use trow_raft::state::{StateError, View};

use crate::store::Acknowledged;

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is unlinked.
    Go,
    /// It was never cached, or is not any more.
    NotCached,
    /// The state counts on it: repair and sweep look after it.
    Durable,
    /// Somebody may hold this store's word for it, and be about to commit it.
    Acknowledged,
    /// An image that is pinned has it.
    Pinned,
}

/// Asked under the digest's lock, on the state of this moment, after this process fenced the store.
///
/// What was acknowledged in the generation before stays too: whoever holds evidence of it may just be
/// gathering it anew, and is not to find the file gone.
pub(super) fn verdict(
    view: &View,
    digest: &Digest,
    acknowledged: Acknowledged,
    cached: bool,
    pinned: &HashSet<Digest>,
) -> Result<Verdict, StateError> {
    Ok(if !cached {
        Verdict::NotCached
    } else if acknowledged.now || acknowledged.before {
        Verdict::Acknowledged
    } else if view.blob(digest)?.is_some() {
        Verdict::Durable
    } else if pinned.contains(digest) {
        Verdict::Pinned
    } else {
        Verdict::Go
    })
}

/// The blobs of all pinned images: of an index, those of its children that are cached.
pub(super) fn pinned(view: &View) -> Result<HashSet<Digest>, StateError> {
    let mut blobs = HashSet::new();
    for (repo, digest) in view.pinned()? {
        blobs.extend(view.manifest(&repo, &digest)?.into_iter().flat_map(|row| row.blobs));
    }
    Ok(blobs)
}
