//! Applying a retried command once.
//!
//! The outcomes of a proposer's last [`OUTCOMES`] sequence numbers are remembered. A proposer has
//! never more than that many outstanding, counted from its oldest, so a number below the window
//! was answered: it is refused, since its outcome may have been forgotten and applying it again
//! could bring back what a later command replaced. A start of the proposer begins a new window
//! and shuts the old one.

use bytes::Bytes;

use crate::codec::{decode_applied, encode_applied};
use crate::command::{Applied, Envelope};
use crate::id::NodeId;
use crate::limits::OUTCOMES;
use crate::planted::{Planted, Variant};
use crate::proto::state as proto;
use crate::state::StateError;
use crate::state::key::{self, Table};
use crate::state::row::Row;
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// Whether a command was seen before.
pub(super) enum Seen {
    /// No: apply it.
    New,
    /// Yes, and this came of it.
    Before(Applied),
    /// Perhaps; it is too old to tell.
    Forgotten,
    /// Its proposer was removed, and what it proposed before forgotten.
    Removed,
}

struct Proposer {
    boot: u64,
    highest: u64,
}

impl Row for Proposer {
    const TABLE: &'static str = "proposer";
    fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&proto::Proposer { boot: self.boot, highest: self.highest })
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let row: proto::Proposer = prost::Message::decode(bytes).ok()?;
        Some(Proposer { boot: row.boot, highest: row.highest })
    }
}

fn proposer(writer: &Writer<'_>, node: NodeId) -> Result<Option<Proposer>, StateError> {
    writer.row(Table::Proposer, &key::node(node))
}

/// The latest start of `node` that proposed anything.
pub(in crate::state) fn boot_of(rows: &impl Rows, node: NodeId) -> Result<Option<u64>, StateError> {
    let row: Option<Proposer> = rows.row(Table::Proposer, &key::node(node))?;
    Ok(row.map(|row| row.boot))
}

pub(super) fn look(writer: &Writer<'_>, envelope: &Envelope, planted: Planted) -> Result<Seen, StateError> {
    if writer.has(Table::Removed, &key::node(envelope.node))? {
        return Ok(Seen::Removed);
    }
    let Some(proposer) = proposer(writer, envelope.node)? else {
        return Ok(Seen::New);
    };
    if planted.is(Variant::H10NoOutcomeTable) || envelope.boot > proposer.boot {
        return Ok(Seen::New);
    }
    if envelope.boot < proposer.boot || envelope.seq.saturating_add(OUTCOMES) <= proposer.highest {
        return Ok(Seen::Forgotten);
    }
    let key = key::recent(envelope.node, envelope.boot, envelope.seq);
    match writer.get(Table::Recent, &key)? {
        None => Ok(Seen::New),
        Some(bytes) => Ok(Seen::Before(decode_applied(Bytes::from(bytes))?)),
    }
}

pub(super) fn remember(
    writer: &mut Writer<'_>,
    envelope: &Envelope,
    applied: &Applied,
) -> Result<(), StateError> {
    let Envelope { node, boot, seq, .. } = *envelope;
    // The command may have removed its own proposer.
    if writer.has(Table::Removed, &key::node(node))? {
        return Ok(());
    }
    let before = proposer(writer, node)?;
    let highest = match &before {
        Some(before) if before.boot == boot => before.highest.max(seq),
        _ => seq,
    };
    let oldest = |highest: u64| highest.saturating_sub(OUTCOMES - 1);
    match &before {
        Some(before) if before.boot != boot => forget(writer, node)?,
        // What was below the window is gone: to go over it again would cost what was removed there.
        Some(before) => {
            let window = oldest(before.highest)..oldest(highest);
            remove_all(
                writer,
                &key::recent(node, boot, window.start),
                Some(&key::recent(node, boot, window.end)),
            )?;
        }
        None => {}
    }
    writer.put_row(Table::Proposer, &key::node(node), &Proposer { boot, highest })?;
    writer.put(Table::Recent, &key::recent(node, boot, seq), &encode_applied(applied))
}

/// Forgets all outcomes of `node`.
pub(super) fn forget(writer: &mut Writer<'_>, node: NodeId) -> Result<(), StateError> {
    let from = key::node(node);
    remove_all(writer, &from, key::after_prefix(&from).as_deref())
}

fn remove_all(writer: &mut Writer<'_>, from: &[u8], to: Option<&[u8]>) -> Result<(), StateError> {
    let mut old = Vec::new();
    writer.scan(Table::Recent, from, to, &mut |key, _| {
        old.push(key.to_vec());
        Ok(true)
    })?;
    for key in old {
        writer.remove(Table::Recent, &key)?;
    }
    Ok(())
}
