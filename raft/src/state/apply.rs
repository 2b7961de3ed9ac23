//! What each command does to the rows.
//!
//! Deterministic: the outcome depends on the rows and the envelope alone, times come from the
//! state or travel in the envelope. A command checks everything before it writes anything, so a
//! refusal leaves no trace but its remembered outcome.

mod blobs;
mod cached;
mod evidence;
mod links;
mod manifests;
mod members;
mod partitions;
mod pins;
mod policy;
pub(super) mod recent;
mod reclaim;
mod sealed;
mod tags;

use super::key::{Table, meta};
use super::overlay::Overlay;
use super::pending::Pending;
use super::rows::Rows;
use super::versions::Versions;
use super::writer::Writer;
use super::{ApplyEntry, StateError};
use crate::command::{Applied, Command, Envelope, LEVEL, Outcome, Refusal};
use crate::planted::Planted;

/// What a command came to: the log index of the entry that made it so, or why not.
type Effect = Result<Result<u64, Refusal>, StateError>;

/// What a command may know besides the rows.
struct Context<'e> {
    /// The entry's log index.
    index: u64,
    /// State time in milliseconds.
    time: u64,
    /// The proposer's clock, for display.
    now: u64,
    /// On whose behalf.
    actor: &'e str,
    planted: Planted,
}

/// Applies `entries` in order to the state of `before`; what came of each, and all that changed.
pub(super) fn batch(
    before: Overlay,
    entries: &[ApplyEntry],
    versions: &Versions,
    planted: Planted,
) -> Result<(Vec<Applied>, Pending), StateError> {
    let first = entries.first().map_or(0, |entry| entry.index);
    let mut writer = Writer::open(before, versions, first)?;
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        outcomes.push(one(&mut writer, entry, planted)?);
    }
    Ok((outcomes, writer.finish()?))
}

fn one(writer: &mut Writer<'_>, entry: &ApplyEntry, planted: Planted) -> Result<Applied, StateError> {
    let applied = writer.applied()?;
    let begun = writer.has(Table::Consensus, meta::LOG_ID)?;
    if begun && entry.index <= applied {
        return Err(StateError::Order { index: entry.index, applied });
    }
    if let Some(membership) = &entry.membership {
        writer.put(Table::Consensus, meta::MEMBERSHIP, membership)?;
    }
    let outcome = match &entry.envelope {
        None => Applied { index: entry.index, outcome: Outcome::Done },
        Some(envelope) => once(writer, entry.index, envelope, planted)?,
    };
    writer.advance(entry.index, &entry.log_id)?;
    Ok(outcome)
}

/// Applies a command unless it was applied before.
fn once(
    writer: &mut Writer<'_>,
    index: u64,
    envelope: &Envelope,
    planted: Planted,
) -> Result<Applied, StateError> {
    if envelope.level > LEVEL {
        return Err(StateError::Level { level: envelope.level });
    }
    let refused = |refusal| Applied { index, outcome: Outcome::Refused(refusal) };
    match recent::look(writer, envelope, planted)? {
        recent::Seen::Removed => return Ok(refused(Refusal::Removed)),
        recent::Seen::Forgotten => return Ok(refused(Refusal::StaleSequence)),
        recent::Seen::Before(applied) => return Ok(applied),
        recent::Seen::New => {}
    }
    let context = Context {
        index,
        time: writer.number(Table::Meta, meta::TIME)?,
        now: envelope.now,
        actor: &envelope.actor,
        planted,
    };
    // Before the birth there is no level, and the first one is everybody's.
    let level = envelope.level.max(envelope.command.level());
    let above = u64::from(level) > writer.number(Table::Meta, meta::LEVEL)?.max(1);
    let effect = match above {
        true => Err(Refusal::LevelUnsupported),
        false => command(writer, &context, &envelope.command)?,
    };
    let applied = match effect {
        Ok(index) => Applied { index, outcome: Outcome::Done },
        Err(refusal) => refused(refusal),
    };
    recent::remember(writer, envelope, &applied)?;
    Ok(applied)
}

fn command(writer: &mut Writer<'_>, cx: &Context<'_>, command: &Command) -> Effect {
    match command {
        Command::Birth { cluster, rf, level } => members::birth(writer, cx, *cluster, *rf, *level),
        Command::CommitBlob { repo, .. }
        | Command::MountBlob { to: repo, .. }
        | Command::PutManifest { repo, .. }
            if cached::is_closed(writer, repo)? =>
        {
            Ok(Err(Refusal::Invalid))
        }
        Command::CommitBlob { repo, digest, size, evidence } => {
            blobs::commit(writer, cx, repo, digest, *size, evidence)
        }
        Command::MountBlob { from, to, digest } => links::mount(writer, cx, from, to, digest),
        Command::WantLinks { links } => links::want(writer, cx, links),
        Command::DeleteLink { repo, digest } => links::delete(writer, cx, repo, digest),
        Command::PutManifest { repo, manifest, tags, condition, sparse } => {
            let put = manifests::Put { repo, manifest, tags, condition: *condition, sparse: *sparse };
            manifests::put(writer, cx, &put)
        }
        Command::DeleteManifest { repo, digest } => manifests::delete(writer, cx, repo, digest),
        Command::DeleteTag { repo, tag, condition } => tags::delete(writer, cx, repo, tag, *condition),
        Command::Reclaim { links, blobs, before } => reclaim::reclaim(writer, cx, links, blobs, *before),
        Command::Tick { elapsed } => {
            writer.set_number(Table::Meta, meta::TIME, cx.time.saturating_add(*elapsed))?;
            Ok(Ok(cx.index))
        }
        Command::ChangeMember { member } => members::change(writer, cx, member),
        Command::SetMemberState { node, state } => members::set_state(writer, cx, *node, *state),
        Command::RemoveMember { node } => members::remove(writer, cx, *node),
        Command::FenceStore { node, generation } => members::fence(writer, cx, *node, *generation),
        Command::SetPartitions { owners, base } => partitions::set(writer, cx, owners, *base),
        Command::PartitionReady { node, generation, partitions } => {
            partitions::ready(writer, cx, *node, *generation, partitions)
        }
        Command::SettleBlobs { blobs } => blobs::settle(writer, cx, blobs),
        Command::SetLost { digests, seen } => blobs::set_lost(writer, cx, digests, *seen),
        Command::SetLevel { level } => members::set_level(writer, cx, *level),
        Command::SetRf { rf } => members::set_rf(writer, cx, *rf),
        Command::PutCached { repo, manifest, tag } => cached::put(writer, cx, repo, manifest, tag.as_ref()),
        Command::TagCached { repo, digest, tag, seen } => {
            cached::put_tag(writer, cx, repo, digest, (tag, *seen))
        }
        Command::DropCached { repo, digests } => cached::drop_all(writer, cx, repo, digests),
        Command::WantCached { manifests } => cached::want(writer, cx, manifests),
        Command::ReclaimCached { manifests, before } => cached::reclaim(writer, cx, manifests, *before),
        Command::SetPins { add, remove } => pins::set(writer, cx, add, remove),
        Command::SetPolicy { base, document } => policy::set(writer, cx, *base, document),
        Command::PutVerdict { digest, revision, signed_by } => {
            policy::put_verdict(writer, cx, digest, *revision, signed_by)
        }
        Command::PutSealed { name, base, ciphertext } => sealed::put(writer, cx, name, *base, ciphertext),
        #[cfg(feature = "next-level")]
        Command::Probe => Ok(Ok(cx.index)),
    }
}
