//! A new state file from another node's rows.
//!
//! Nothing of the sender's file comes along, only its rows: each is looked at before it is
//! written, and at the end they must add up to the state hash among them. Always holds: memory
//! does not grow with the state; what [`Import::finish`] has returned is durable and can be
//! opened; before that the file is worth nothing. Never does: replace a state.

use std::io::{self, Write};
use std::path::Path;

use redb::Database;

use super::export::{self, HEAD};
use super::key::{Table, meta};
use super::{StateError, View, file, hash, valid};
use crate::command::LEVEL;
use crate::limits::RPC_MAX;

/// The longest key and the longest value that are taken; what entries can make is shorter.
const KEY_MAX: usize = 4 << 10;
const VALUE_MAX: usize = RPC_MAX;
/// Rows are written in durable transactions of about this many bytes: redb need not hold them
/// all, and no single fsync at the end keeps the log's waiting.
const BATCH: usize = 8 << 20;

/// A state file under construction.
pub(crate) struct Import {
    database: Database,
    /// Bytes of a row that has not come to its end.
    begun: Vec<u8>,
    /// Rows that are not written yet.
    rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    bytes: usize,
    last: Option<(u8, Vec<u8>)>,
    /// The sum over the rows so far, and what it should come to.
    hash: u64,
    claimed: u64,
}

/// The rows do not become a state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// The sender is broken, or is not what it seems.
    #[error("these are no rows of a state: {0}")]
    Forged(String),
    /// This node's disk, or that the state is of a level above this build's.
    #[error(transparent)]
    State(#[from] StateError),
}

fn forged(why: impl Into<String>) -> ImportError {
    ImportError::Forged(why.into())
}

impl Import {
    /// Begins a new file at `path`.
    pub(crate) fn create(path: &Path) -> Result<Import, StateError> {
        let database = file::create(path)?;
        let (begun, rows) = (Vec::new(), Vec::new());
        Ok(Import { database, begun, rows, bytes: 0, last: None, hash: 0, claimed: 0 })
    }

    /// A new state file at `path` with the rows of `view`.
    pub(crate) fn copy(view: &View, path: &Path) -> Result<(), ImportError> {
        let mut import = Import::create(path)?;
        export::write(view, &mut Taking(&mut import), &mut |_| Ok(()))?;
        import.finish()
    }

    /// Takes the next bytes; a row may end anywhere in them, or later.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        self.begun.extend_from_slice(bytes);
        let mut begun = std::mem::take(&mut self.begun);
        let mut from = 0;
        while let Some((table, key, value)) = next(&begun[from..])? {
            self.take(table, key, value)?;
            from += HEAD + key.len() + value.len();
        }
        begun.drain(..from);
        self.begun = begun;
        Ok(())
    }

    fn take(&mut self, number: u8, key: &[u8], value: &[u8]) -> Result<(), ImportError> {
        let Some(table) = Table::ALL.get(usize::from(number)).copied() else {
            return Err(forged(format!("this build has no table {number}")));
        };
        let place = (number, key);
        if self.last.as_ref().is_some_and(|(number, key)| (*number, key.as_slice()) >= place) {
            return Err(forged(format!("rows of table {} are out of order", table.name())));
        }
        // It comes before the rows that a build of a lower level may not know.
        if table == Table::Meta && key == meta::LEVEL {
            let level = value.try_into().map_or(0, u64::from_be_bytes);
            if level > u64::from(LEVEL) {
                return Err(StateError::Level { level: u32::try_from(level).unwrap_or(u32::MAX) }.into());
            }
        }
        if !valid::row(table, key, value) {
            return Err(forged(format!("table {} holds a row that cannot be read", table.name())));
        }
        if table.is_agreed() {
            self.hash = self.hash.wrapping_add(hash::of_row(table, key, value));
        } else if key == meta::HASH {
            self.claimed = value.try_into().map_or(0, u64::from_be_bytes);
        }
        self.last = Some((number, key.to_vec()));
        self.bytes += key.len() + value.len();
        self.rows.push((table, key.to_vec(), value.to_vec()));
        if self.bytes >= BATCH { Ok(self.write()?) } else { Ok(()) }
    }

    /// Writes what was taken, durably.
    fn write(&mut self) -> Result<(), StateError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(redb::Durability::Immediate)?;
        transaction.set_quick_repair(true);
        for rows in self.rows.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some((table, ..)) = rows.first() else { continue };
            let mut open = transaction.open_table(table.definition())?;
            for (_, key, value) in rows {
                open.insert(key.as_slice(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// All bytes were given: the file is a state.
    pub(crate) fn finish(mut self) -> Result<(), ImportError> {
        if !self.begun.is_empty() {
            return Err(forged("they end in the middle of a row"));
        }
        if self.hash != self.claimed {
            return Err(forged("they do not add up to the state hash among them"));
        }
        self.write()?;
        Ok(())
    }
}

/// A table's number, a key and a value.
type Row<'b> = (u8, &'b [u8], &'b [u8]);

/// The row at the front of `bytes`, when it is there to its end.
fn next(bytes: &[u8]) -> Result<Option<Row<'_>>, ImportError> {
    let Some((&[number, a, b, c, d, e, f, g, h], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let (key, value) = (u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes([e, f, g, h]) as usize);
    if key > KEY_MAX || value > VALUE_MAX {
        return Err(forged("a row is longer than any can be"));
    }
    let Some((key, rest)) = rest.split_at_checked(key) else { return Ok(None) };
    Ok(rest.get(..value).map(|value| (number, key, value)))
}

/// An import as something to write to.
struct Taking<'i>(&'i mut Import);

impl Write for Taking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
