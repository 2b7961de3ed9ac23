//! Secrets that only the nodes can decrypt.
//!
//! Always holds: of two nodes that put a secret of one name at once, one is told that it came too
//! late. Never does: decrypt anything, or know how.

use bytes::Bytes;

use super::{Context, Effect};
use crate::command::Refusal;
use crate::limits::{SEALED_COUNT_MAX, SEALED_MAX, SEALED_NAME_MAX};
use crate::state::key::Table;
use crate::state::row::SealedRow;
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// `PutSealed`.
pub(super) fn put(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    name: &str,
    base: u64,
    ciphertext: &Bytes,
) -> Effect {
    let is_name =
        (1..=SEALED_NAME_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name || ciphertext.len() > SEALED_MAX {
        return Ok(Err(Refusal::Invalid));
    }
    let known: Option<SealedRow> = writer.row(Table::Sealed, name.as_bytes())?;
    let current = known.map_or(0, |row| row.index);
    if base != current {
        return Ok(Err(Refusal::RevisionDiffers { current }));
    }
    if current == 0 && writer.suffixes(Table::Sealed, &[])?.len() as u64 >= SEALED_COUNT_MAX {
        return Ok(Err(Refusal::TooMany { limit: SEALED_COUNT_MAX }));
    }
    let row = SealedRow { index: cx.index, ciphertext: ciphertext.clone() };
    writer.put_row(Table::Sealed, name.as_bytes(), &row)?;
    Ok(Ok(cx.index))
}
