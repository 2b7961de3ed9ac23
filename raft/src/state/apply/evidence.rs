//! Who is believed to hold a blob.
//!
//! A blob exists only on evidence: W distinct members that each verified and fsynced it in the
//! current generation of their store. A fence raises the generation and so voids what the node
//! said before it.

use std::collections::BTreeSet;

use super::Context;
use crate::digest::Digest;
use crate::id::NodeId;
use crate::member::Evidence;
use crate::planted::Variant;
use crate::state::StateError;
use crate::state::row::BlobRow;
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// Holders of one blob, sorted by whether they own its partition.
pub(super) struct Holders {
    pub(super) owners: BTreeSet<NodeId>,
    pub(super) others: BTreeSet<NodeId>,
    /// W.
    pub(super) needed: usize,
}

/// The distinct members among `evidence` whose word counts now.
pub(super) fn holders(
    writer: &Writer<'_>,
    cx: &Context<'_>,
    digest: &Digest,
    evidence: &[Evidence],
) -> Result<Holders, StateError> {
    let partition = writer.partition(digest.partition())?;
    let mut holders = Holders { owners: BTreeSet::new(), others: BTreeSet::new(), needed: writer.needed()? };
    for one in evidence {
        let Some(member) = writer.member(one.node)? else { continue };
        let current = member.generation == one.generation || cx.planted.is(Variant::C2OldEvidence);
        if !member.state.counts() || !current {
            continue;
        }
        if partition.owned_by(one.node) {
            holders.owners.insert(one.node);
        } else if !cx.planted.is(Variant::H1OwnersOnly) {
            holders.others.insert(one.node);
        }
    }
    Ok(holders)
}

impl Holders {
    /// How many vouch.
    pub(super) fn count(&self) -> usize {
        self.owners.len() + self.others.len()
    }

    /// Notes in `row` what these holders mean for the blob.
    pub(super) fn note(&self, cx: &Context<'_>, row: &mut BlobRow) {
        if self.count() == 0 {
            return;
        }
        row.lost = false;
        row.evidence_at = cx.index;
        if self.owners.len() >= self.needed {
            row.away.clear();
        } else {
            let away: BTreeSet<NodeId> = row.away.iter().chain(&self.others).copied().collect();
            row.away = away.into_iter().collect();
        }
    }
}
