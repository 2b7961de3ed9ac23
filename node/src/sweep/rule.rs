//! What may be unlinked, as a decision on the state and nothing else.

use trow_raft::state::{StateError, View};
use trow_raft::{Digest, Evidence, NodeId, Planted, Variant};

use crate::store::Acknowledged;

/// What a first look says of a blob that is here; nothing is unlinked on its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// The state counts on it, or it is cached.
    Keep,
    /// The state does not know it, but it was acknowledged lately: two fences from now.
    Waits,
    /// After a fence it may be unlinked.
    Sweep,
}

/// Whether a fence would be worth while for this blob. That it is `cached` counts only while the
/// state does not know it: a durable one is nobody's cache.
pub(super) fn candidate(
    view: &View,
    me: NodeId,
    digest: &Digest,
    acknowledged: Acknowledged,
    cached: bool,
) -> Result<Candidate, StateError> {
    let known = view.blob(digest)?.is_some();
    Ok(match known {
        true if needed(view, me, digest)? => Candidate::Keep,
        false if cached => Candidate::Keep,
        false if acknowledged.now || acknowledged.before => Candidate::Waits,
        _ => Candidate::Sweep,
    })
}

/// Whether the blob may be unlinked now; asked under its lock, on the state of this moment, after
/// this process fenced the store.
///
/// It may if it was not acknowledged since the fence, and either the state does not know it, it is
/// not `cached` (the evictor's business) and it was not acknowledged in the generation before
/// either (whose holder may just be gathering new evidence), or this node is neither owner, source nor away holder of it and every owner
/// confirmed it in the generation that it has now.
pub(super) fn may_unlink(
    view: &View,
    me: NodeId,
    digest: &Digest,
    acknowledged: Acknowledged,
    cached: bool,
    confirmed: &[Evidence],
    planted: Planted,
) -> Result<bool, StateError> {
    let careless = planted.is(Variant::C2NoFence);
    if acknowledged.now && !careless {
        return Ok(false);
    }
    if view.blob(digest)?.is_none() {
        return Ok(!cached && (careless || !acknowledged.before));
    }
    if needed(view, me, digest)? {
        return Ok(false);
    }
    let owners = view.partition(digest.partition())?.owners;
    for owner in &owners {
        let Some(member) = view.member(owner.node)? else { return Ok(false) };
        if !confirmed.contains(&Evidence { node: owner.node, generation: member.generation }) {
            return Ok(false);
        }
    }
    // A partition without owners is one whose blobs nobody else is bound to keep.
    Ok(!owners.is_empty())
}

/// Whether the state counts on this node's copy.
fn needed(view: &View, me: NodeId, digest: &Digest) -> Result<bool, StateError> {
    let partition = view.partition(digest.partition())?;
    let away = view.blob(digest)?.is_some_and(|row| row.away.contains(&me));
    Ok(away || partition.owned_by(me) || partition.sources.contains(&me))
}
