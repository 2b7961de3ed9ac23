//! Comparing what this node should hold with what it holds. Everything here blocks.

use trow_raft::state::{BlobRow, StateError, View};
use trow_raft::{Digest, NodeId, PartitionId};

use crate::store::Store;

/// How many rows are read at once.
const PAGE: usize = 512;

/// What comparing found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Owned and not here.
    pub missing: Vec<Digest>,
    /// Here and owned, while the state still has it away, or lost: to be settled.
    pub unsettled: Vec<Digest>,
    /// Partitions compared in full in which this node is not ready yet, with the index of their
    /// last change, which was applied before the comparison began.
    pub unready: Vec<(PartitionId, u64)>,
}

/// Compares one blob.
pub(super) fn blob(
    store: &Store,
    view: &View,
    me: NodeId,
    digest: &Digest,
    found: &mut Found,
) -> Result<(), StateError> {
    if let Some(row) = view.blob(digest)?
        && view.partition(digest.partition())?.owned_by(me)
    {
        row_of(store, digest, &row, found);
    }
    Ok(())
}

/// Compares a whole partition.
pub(super) fn partition(
    store: &Store,
    view: &View,
    me: NodeId,
    id: PartitionId,
    found: &mut Found,
) -> Result<(), StateError> {
    let partition = view.partition(id)?;
    let Some(mine) = partition.owners.iter().find(|owner| owner.node == me) else { return Ok(()) };
    let mut after = None;
    loop {
        let page = view.blobs_in(id, after, PAGE)?;
        page.iter().for_each(|(digest, row)| row_of(store, digest, row, found));
        after = page.last().map(|(digest, _)| *digest);
        if page.len() < PAGE {
            break;
        }
    }
    if !mine.ready {
        found.unready.push((id, mine.added_at));
    }
    Ok(())
}

fn row_of(store: &Store, digest: &Digest, row: &BlobRow, found: &mut Found) {
    match store.present(digest) {
        // A wrong length is damage, which fetching it again replaces.
        Some(size) if size == row.size => {
            if row.lost || !row.away.is_empty() {
                found.unsettled.push(*digest);
            }
        }
        // Nobody has a lost blob; it is looked for again when evidence of it appears.
        _ if row.lost => {}
        _ => found.missing.push(*digest),
    }
}
