//! Who owns which partition, and who still has to hand over.
//!
//! Changes stack: owners that lose a partition become its sources and stay so until every owner
//! has said, about the last change, that it has all blobs of it. A change clears that word for
//! the owners that stay as well: one that was away while a blob was committed elsewhere is not
//! complete.

use std::collections::BTreeSet;

use super::{Context, Effect};
use crate::command::Refusal;
use crate::digest::PartitionId;
use crate::id::{Generation, NodeId};
use crate::member::{Owner, Partition};
use crate::planted::Variant;
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// `SetPartitions`.
pub(super) fn set(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    owners: &[(PartitionId, Vec<NodeId>)],
    base: u64,
) -> Effect {
    if base != writer.number(Table::Meta, meta::PARTITIONS_BASE)? {
        return Ok(Err(Refusal::StaleBase));
    }
    let may_own: BTreeSet<NodeId> = writer
        .members()?
        .into_iter()
        .filter(|member| member.state.may_own())
        .map(|member| member.id)
        .collect();
    for (_, owners) in owners {
        if !owners.iter().all(|owner| may_own.contains(owner)) {
            return Ok(Err(Refusal::UnknownMember));
        }
        let distinct: BTreeSet<&NodeId> = owners.iter().collect();
        if owners.is_empty() || distinct.len() != owners.len() {
            return Ok(Err(Refusal::Invalid));
        }
    }
    for (id, owners) in owners {
        let row = writer.partition(*id)?;
        writer.put_row(Table::Partition, &key::partition(*id), &change(row, owners, cx))?;
    }
    writer.set_number(Table::Meta, meta::PARTITIONS_BASE, cx.index)?;
    Ok(Ok(cx.index))
}

/// The partition with `owners` in place of those it had.
fn change(old: Partition, owners: &[NodeId], cx: &Context<'_>) -> Partition {
    let same = old.owners.len() == owners.len() && owners.iter().all(|owner| old.owned_by(*owner));
    if same {
        return old;
    }
    let kept = |node: NodeId| {
        let kept = old.owners.iter().find(|owner| owner.node == node);
        kept.filter(|_| cx.planted.is(Variant::C3KeepReady)).copied()
    };
    let new = owners.iter();
    let new = new.map(|node| kept(*node).unwrap_or(Owner { node: *node, added_at: cx.index, ready: false }));
    // One that was never ready may be the only holder of a blob committed while it owned.
    let sources: BTreeSet<NodeId> =
        old.sources.iter().copied().chain(old.owners.iter().map(|owner| owner.node)).collect();
    Partition {
        owners: new.collect(),
        sources: sources.into_iter().filter(|node| !owners.contains(node)).collect(),
    }
}

/// `PartitionReady`: counts only for the change that it names. Refused when it brings nothing.
pub(super) fn ready(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    node: NodeId,
    generation: Generation,
    partitions: &[(PartitionId, u64)],
) -> Effect {
    let Some(member) = writer.member(node)? else {
        return Ok(Err(Refusal::UnknownMember));
    };
    if member.generation != generation {
        return Ok(Err(Refusal::StaleEvidence { needed: 1 }));
    }
    let mut counted = partitions.is_empty();
    for (id, added_at) in partitions {
        let mut row = writer.partition(*id)?;
        let mine = row.owners.iter_mut().find(|owner| owner.node == node && owner.added_at == *added_at);
        let Some(mine) = mine else { continue };
        counted = true;
        if mine.ready {
            continue;
        }
        mine.ready = true;
        if row.is_ready() || cx.planted.is(Variant::C3DropSourcesEarly) {
            row.sources.clear();
        }
        writer.put_row(Table::Partition, &key::partition(*id), &row)?;
    }
    Ok(if counted { Ok(cx.index) } else { Err(Refusal::StaleBase) })
}

/// Takes a removed member out of every partition. The owners that stay verify again: it may have
/// been the one that had what they lack.
pub(super) fn drop_member(writer: &mut Writer<'_>, cx: &Context<'_>, node: NodeId) -> Result<(), StateError> {
    for id in PartitionId::all() {
        let mut row = writer.partition(id)?;
        if !row.owned_by(node) && !row.sources.contains(&node) {
            continue;
        }
        row.sources.retain(|source| *source != node);
        if row.owned_by(node) {
            row.owners.retain(|owner| owner.node != node);
            for owner in &mut row.owners {
                (owner.added_at, owner.ready) = (cx.index, false);
            }
            writer.set_number(Table::Meta, meta::PARTITIONS_BASE, cx.index)?;
        }
        writer.put_row(Table::Partition, &key::partition(id), &row)?;
    }
    Ok(())
}
