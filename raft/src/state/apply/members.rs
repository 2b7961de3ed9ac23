//! Members, their stores' generations, and the few numbers that the cluster agrees on.

use super::{Context, Effect, partitions, recent};
use crate::command::{LEVEL, Refusal};
use crate::id::{ClusterId, Generation, NodeId};
use crate::member::{Member, MemberState};
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::row::encode_member;
use crate::state::rows::Rows;
use crate::state::writer::Writer;

fn write(writer: &mut Writer<'_>, member: &Member) -> Result<(), StateError> {
    writer.put(Table::Member, &key::node(member.id), &encode_member(member))
}

/// Above it this build cannot say what commands mean.
fn supported(level: u32) -> Result<(), StateError> {
    if level > LEVEL { Err(StateError::Level { level }) } else { Ok(()) }
}

/// `Birth`: once; said again with the same id it changes nothing.
pub(super) fn birth(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    cluster: ClusterId,
    rf: u32,
    level: u32,
) -> Effect {
    if writer.has(Table::Meta, meta::CLUSTER)? {
        let known = ClusterId(writer.number(Table::Meta, meta::CLUSTER)?);
        return Ok(if known == cluster {
            Ok(cx.index)
        } else {
            Err(Refusal::AlreadyBorn { cluster: known })
        });
    }
    supported(level)?;
    if rf == 0 || level == 0 {
        return Ok(Err(Refusal::Invalid));
    }
    writer.set_number(Table::Meta, meta::CLUSTER, cluster.0)?;
    writer.set_number(Table::Meta, meta::RF, rf.into())?;
    writer.set_number(Table::Meta, meta::LEVEL, level.into())?;
    Ok(Ok(cx.index))
}

/// `ChangeMember`: a new one joins; of a known one its state and generation stay.
pub(super) fn change(writer: &mut Writer<'_>, cx: &Context<'_>, member: &Member) -> Effect {
    if writer.has(Table::Removed, &key::node(member.id))? {
        return Ok(Err(Refusal::Removed));
    }
    if u64::from(member.max_level) < writer.number(Table::Meta, meta::LEVEL)? {
        return Ok(Err(Refusal::LevelUnsupported));
    }
    let members = writer.members()?;
    if let Some(other) = members.iter().find(|other| other.name == member.name && other.id != member.id) {
        return Ok(Err(Refusal::NameTaken { by: other.id }));
    }
    let known = members.iter().find(|known| known.id == member.id);
    let row = Member {
        state: known.map_or(MemberState::Joining, |known| known.state),
        generation: known.map_or(member.generation, |known| known.generation),
        weight: member.weight.max(1),
        ..member.clone()
    };
    write(writer, &row)?;
    Ok(Ok(cx.index))
}

/// `SetMemberState`.
pub(super) fn set_state(writer: &mut Writer<'_>, cx: &Context<'_>, node: NodeId, to: MemberState) -> Effect {
    use MemberState::{Active, Draining, Joining, Retired};
    let Some(member) = writer.member(node)? else {
        return Ok(Err(Refusal::UnknownMember));
    };
    let possible = match (member.state, to) {
        (from, to) if from == to => true,
        (Joining, Active) | (Active, Retired) | (Retired, Active) => true,
        (Joining | Active | Retired, Draining) => true,
        _ => false,
    };
    if !possible {
        return Ok(Err(Refusal::Invalid));
    }
    write(writer, &Member { state: to, ..member })?;
    Ok(Ok(cx.index))
}

/// `RemoveMember`: it owns nothing, is a source of nothing and holds nothing any more.
pub(super) fn remove(writer: &mut Writer<'_>, cx: &Context<'_>, node: NodeId) -> Effect {
    if writer.has(Table::Removed, &key::node(node))? {
        return Ok(Ok(cx.index));
    }
    if writer.member(node)?.is_none() {
        return Ok(Err(Refusal::UnknownMember));
    }
    partitions::drop_member(writer, cx, node)?;
    for suffix in writer.suffixes(Table::Away, &key::node(node))? {
        let unreadable = StateError::Row { table: Table::Away.name() };
        let (digest, _) = key::split_digest(&suffix).ok_or(unreadable)?;
        if let Some(mut row) = writer.blob(&digest)? {
            row.away.retain(|away| *away != node);
            writer.set_blob(&digest, Some(&row))?;
        }
    }
    recent::forget(writer, node)?;
    writer.remove(Table::Proposer, &key::node(node))?;
    writer.remove(Table::Member, &key::node(node))?;
    writer.mark(Table::Removed, &key::node(node))?;
    Ok(Ok(cx.index))
}

/// `FenceStore`: generations only grow, so that a late fence cannot bring old evidence back.
pub(super) fn fence(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    node: NodeId,
    generation: Generation,
) -> Effect {
    let Some(member) = writer.member(node)? else {
        return Ok(Err(Refusal::UnknownMember));
    };
    if generation <= member.generation {
        return Ok(Err(Refusal::StaleBase));
    }
    write(writer, &Member { generation, ..member })?;
    Ok(Ok(cx.index))
}

/// `SetLevel`: members that are down count too, or they could not come back. A level above
/// this build's, once all members claim it, ends the process: so a leader takes this command from
/// no other node, and proposes no level that it does not support itself.
pub(super) fn set_level(writer: &mut Writer<'_>, cx: &Context<'_>, level: u32) -> Effect {
    if u64::from(level) < writer.number(Table::Meta, meta::LEVEL)? {
        return Ok(Err(Refusal::Invalid));
    }
    if writer.members()?.iter().any(|member| member.max_level < level) {
        return Ok(Err(Refusal::LevelUnsupported));
    }
    supported(level)?;
    writer.set_number(Table::Meta, meta::LEVEL, level.into())?;
    Ok(Ok(cx.index))
}

/// `SetRf`.
pub(super) fn set_rf(writer: &mut Writer<'_>, cx: &Context<'_>, rf: u32) -> Effect {
    if rf == 0 {
        return Ok(Err(Refusal::Invalid));
    }
    writer.set_number(Table::Meta, meta::RF, rf.into())?;
    Ok(Ok(cx.index))
}
