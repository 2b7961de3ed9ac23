//! The rows of one batch's state: those of the file under those that are not in it yet.
//!
//! Always holds: what is read from an overlay never changes. It keeps the pages of the file that it
//! can still see, and the memory of what it was made with, so it is for the length of a request and
//! not longer.

use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadOnlyTable, ReadableDatabase as _};

use super::StateError;
use super::key::Table;
use super::pending::Pending;
use super::rows::{Rows, Visit};

type Tables = Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>;

/// The file as one transaction left it. Opened once for all who read it: to find a table costs a
/// way down a tree.
pub(super) struct Base {
    tables: Tables,
    /// A closed database refuses its readers, and a snapshot that is installed closes the one that it
    /// replaces. Dropped after the tables.
    _database: Arc<Database>,
}

impl Base {
    pub(super) fn open(database: &Arc<Database>) -> Result<Base, StateError> {
        let transaction = database.begin_read()?;
        let mut tables = Tables::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(transaction.open_table(table.definition())?);
        }
        Ok(Base { tables, _database: database.clone() })
    }
}

/// See the module.
pub(super) struct Overlay {
    /// What is not in the file: the newest first.
    pub(super) layers: Vec<Arc<Pending>>,
    /// The last batch that is seen.
    pub(super) batch: u64,
    pub(super) base: Arc<Base>,
}

impl Rows for Overlay {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        for layer in &self.layers {
            if let Some(value) = layer.get(table, key, self.batch) {
                return Ok(value.map(|value| value.to_vec()));
            }
        }
        Ok(self.base.tables[table as usize].get(key)?.map(|value| value.value().to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StateError> {
        let layers = self.layers.iter().filter(|layer| !layer.is_empty(table));
        let mut layers: Vec<_> = layers.map(|layer| layer.range(table, from, to, self.batch)).collect();
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut base = self.base.tables[table as usize].range::<&[u8]>((Bound::Included(from), end))?;
        let mut filed = base.next().transpose()?;
        loop {
            // The first key of all; of equal ones the newest layer's.
            let mut first: Option<(usize, &[u8])> = None;
            for (number, layer) in layers.iter().enumerate() {
                if let Some(key) = layer.key()
                    && first.is_none_or(|(_, other)| key < other)
                {
                    first = Some((number, key));
                }
            }
            let in_file = filed.as_ref().map(|(key, _)| key.value());
            match (first, in_file) {
                (None, None) => return Ok(()),
                (Some((number, key)), in_file) if in_file.is_none_or(|other| key <= other) => {
                    let is_filed = in_file == Some(key);
                    let Some((key, value)) = layers[number].next() else { return Ok(()) };
                    for older in &mut layers[number + 1..] {
                        if older.key() == Some(&key[..]) {
                            older.next();
                        }
                    }
                    if is_filed {
                        filed = base.next().transpose()?;
                    }
                    if let Some(value) = value
                        && !visit(&key, &value)?
                    {
                        return Ok(());
                    }
                }
                _ => {
                    let Some((key, value)) = filed.take() else { return Ok(()) };
                    if !visit(key.value(), value.value())? {
                        return Ok(());
                    }
                    filed = base.next().transpose()?;
                }
            }
        }
    }
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").finish_non_exhaustive()
    }
}
