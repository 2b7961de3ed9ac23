//! The policy of admission, and by which of its keys manifests are signed.
//!
//! Always holds: there is one policy at most; every verdict is of that one, since a new one may give
//! other keys the same names; verdicts are at most [`VERDICTS_MAX`] and as many as are counted. A
//! verdict only gains keys: what a key signed once it goes on having signed. Never does: read the
//! document, which whoever proposes has done.

use std::collections::BTreeSet;

use super::{Context, Effect};
use crate::command::Refusal;
use crate::digest::Digest;
use crate::limits::{POLICY_MAX, SIGNER_MAX, SIGNERS_MAX, VERDICTS_MAX};
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::row::VerdictRow;
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// `SetPolicy`: the revision is the entry's index; the current document again changes nothing and keeps the one it
/// has, verdicts included.
pub(super) fn set(writer: &mut Writer<'_>, cx: &Context<'_>, base: Option<u64>, document: &[u8]) -> Effect {
    if document.len() > POLICY_MAX {
        return Ok(Err(Refusal::Invalid));
    }
    let current = writer.number(Table::Meta, meta::POLICY)?;
    if base.is_some_and(|base| base != current) {
        return Ok(Err(Refusal::RevisionDiffers { current }));
    }
    if current > 0 && writer.get(Table::Policy, &key::index(current))?.as_deref() == Some(document) {
        return Ok(Ok(current));
    }
    for table in [Table::Verdict, Table::VerdictAt] {
        for key in writer.suffixes(table, &[])? {
            writer.remove(table, &key)?;
        }
    }
    if writer.number(Table::Meta, meta::VERDICTS)? > 0 {
        writer.set_number(Table::Meta, meta::VERDICTS, 0)?;
    }
    writer.remove(Table::Policy, &key::index(current))?;
    // An index is that of one entry alone.
    writer.put_new(Table::Policy, &key::index(cx.index), document)?;
    writer.set_number(Table::Meta, meta::POLICY, cx.index)?;
    Ok(Ok(cx.index))
}

/// `PutVerdict`: what is known already is reported with the index that made it so.
pub(super) fn put_verdict(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    digest: &Digest,
    revision: u64,
    signed_by: &[String],
) -> Effect {
    let is_name = |name: &String| (1..=SIGNER_MAX).contains(&name.len());
    if signed_by.is_empty() || !signed_by.iter().all(is_name) {
        return Ok(Err(Refusal::Invalid));
    }
    let current = writer.number(Table::Meta, meta::POLICY)?;
    if current == 0 || revision != current {
        return Ok(Err(Refusal::RevisionDiffers { current }));
    }
    let at = key::digest(digest);
    let known: Option<VerdictRow> = writer.row(Table::Verdict, &at)?;
    let names: BTreeSet<&String> =
        signed_by.iter().chain(known.iter().flat_map(|row| &row.signed_by)).collect();
    if names.len() > SIGNERS_MAX {
        return Ok(Err(Refusal::Invalid));
    }
    match &known {
        Some(row) if row.signed_by.len() == names.len() => return Ok(Ok(row.index)),
        Some(row) => drop(writer.remove(Table::VerdictAt, &key::index(row.index))?),
        None => make_room(writer)?,
    }
    let row = VerdictRow { index: cx.index, signed_by: names.into_iter().cloned().collect() };
    writer.put_row(Table::Verdict, &at, &row)?;
    // An index is that of one entry alone.
    writer.put_new(Table::VerdictAt, &key::index(cx.index), &at)?;
    Ok(Ok(cx.index))
}

/// Counts one verdict more, in whose place the oldest goes when there are as many as may be.
fn make_room(writer: &mut Writer<'_>) -> Result<(), StateError> {
    let count = writer.number(Table::Meta, meta::VERDICTS)?;
    if count < VERDICTS_MAX {
        return writer.set_number(Table::Meta, meta::VERDICTS, count + 1);
    }
    let mut oldest = None;
    writer.scan(Table::VerdictAt, &[], None, &mut |key, value| {
        oldest = Some((key.to_vec(), value.to_vec()));
        Ok(false)
    })?;
    if let Some((index, digest)) = oldest {
        writer.remove(Table::VerdictAt, &index)?;
        writer.remove(Table::Verdict, &digest)?;
    }
    Ok(())
}
