//! Rows that were applied and are not in the file yet.
//!
//! A row is random in its table more often than not, so that writing each batch into the file
//! costs a page or two for every row; here a change costs what a map in memory costs, however
//! large the state is, and [`State::save`](super::State::save) writes many at once, in the order
//! of their keys. This is the table in memory of an LSM tree (O'Neil et al. 1996), over a B-tree.
//!
//! Always holds: a row is kept as it was after each batch that changed it, so that a reader sees
//! one batch's state however many follow. Never does: forget a version; all go together.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::key::Table;

const TABLES: usize = Table::ALL.len();
/// What a version takes in memory besides its key and value, in bytes, about.
const OVERHEAD: usize = 120;
/// Keys that a reader takes at once, in the beginning and at most.
const FIRST: usize = 4;
const MOST: usize = 512;

/// A row's bytes; none when it was removed.
pub(super) type Value = Option<Arc<[u8]>>;

type Key = Box<[u8]>;
type ByKey = BTreeMap<Key, Vec<Version>>;

/// A row as it was after a batch.
#[derive(Debug)]
struct Version {
    batch: u64,
    value: Value,
}

/// The rows of some batches.
#[derive(Debug, Default)]
pub(super) struct Pending {
    tables: [RwLock<ByKey>; TABLES],
    bytes: AtomicUsize,
}

impl Pending {
    fn rows(&self, table: Table) -> RwLockReadGuard<'_, ByKey> {
        self.tables[table as usize].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self, table: Table) -> bool {
        self.rows(table).is_empty()
    }

    /// The row after `batch`, if one of the batches up to it changed it.
    pub(super) fn get(&self, table: Table, key: &[u8], batch: u64) -> Option<Value> {
        seen(self.rows(table).get(key)?, batch)
    }

    /// Changes the row in `batch`, which is not before any other that changed it.
    pub(super) fn put(&self, table: Table, key: &[u8], value: Value, batch: u64) {
        let mut rows = self.tables[table as usize].write().unwrap_or_else(PoisonError::into_inner);
        let len = |value: &Value| value.as_ref().map_or(0, |value| value.len());
        let new = len(&value);
        match rows.get_mut(key) {
            Some(versions) => match versions.last_mut() {
                Some(last) if last.batch == batch => {
                    let old = len(&last.value);
                    last.value = value;
                    self.bytes.fetch_sub(old, Ordering::Relaxed);
                    self.bytes.fetch_add(new, Ordering::Relaxed);
                }
                _ => {
                    versions.push(Version { batch, value });
                    self.bytes.fetch_add(new + OVERHEAD, Ordering::Relaxed);
                }
            },
            None => {
                rows.insert(key.into(), vec![Version { batch, value }]);
                self.bytes.fetch_add(key.len() + new + OVERHEAD, Ordering::Relaxed);
            }
        }
    }

    /// Takes in the changes of later batches.
    pub(super) fn absorb(&self, later: Pending) {
        self.bytes.fetch_add(later.bytes(), Ordering::Relaxed);
        for (table, later) in self.tables.iter().zip(later.tables) {
            let later = later.into_inner().unwrap_or_else(PoisonError::into_inner);
            if later.is_empty() {
                continue;
            }
            let mut rows = table.write().unwrap_or_else(PoisonError::into_inner);
            for (key, versions) in later {
                match rows.get_mut(&key) {
                    Some(before) => before.extend(versions),
                    None => drop(rows.insert(key, versions)),
                }
            }
        }
    }

    /// Shows `see` the last version of each row of a table, in the order of the keys.
    pub(super) fn last<E>(
        &self,
        table: Table,
        mut see: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (key, versions) in self.rows(table).iter() {
            if let Some(last) = versions.last() {
                see(key, last.value.as_deref())?;
            }
        }
        Ok(())
    }

    /// The rows from `from` up to but not including `to` as they are after `batch`.
    pub(super) fn range<'p>(
        &'p self,
        table: Table,
        from: &[u8],
        to: Option<&'p [u8]>,
        batch: u64,
    ) -> Range<'p> {
        let from = Bound::Included(from.into());
        let mut range = Range { pending: self, table, from, to, batch, page: FIRST, rows: VecDeque::new() };
        range.fill();
        range
    }
}

/// What a reader after `batch` sees of a row.
fn seen(versions: &[Version], batch: u64) -> Option<Value> {
    let last = versions.iter().rev().find(|version| version.batch <= batch);
    last.map(|version| version.value.clone())
}

/// Rows of a table, ascending; a few are taken at a time, so that no writer waits for a reader.
pub(super) struct Range<'p> {
    pending: &'p Pending,
    table: Table,
    /// Where the next page begins; unbounded when there is none.
    from: Bound<Key>,
    to: Option<&'p [u8]>,
    batch: u64,
    page: usize,
    rows: VecDeque<(Key, Value)>,
}

impl Range<'_> {
    /// The key that comes next.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.rows.front().map(|(key, _)| &key[..])
    }

    /// The row that comes next, a removed one too.
    pub(super) fn next(&mut self) -> Option<(Key, Value)> {
        let row = self.rows.pop_front();
        if self.rows.is_empty() {
            self.fill();
        }
        row
    }

    /// Takes pages until one has a row in it, or there is no more.
    fn fill(&mut self) {
        while self.rows.is_empty() {
            let from = match &self.from {
                Bound::Included(key) => Bound::Included(&key[..]),
                Bound::Excluded(key) => Bound::Excluded(&key[..]),
                Bound::Unbounded => return,
            };
            let (Bound::Included(first) | Bound::Excluded(first)) = from else { return };
            if self.to.is_some_and(|to| first >= to) {
                self.from = Bound::Unbounded;
                return;
            }
            let to = self.to.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = self.pending.rows(self.table);
            let mut last = None;
            for (key, versions) in rows.range::<[u8], _>((from, to)).take(self.page) {
                if let Some(value) = seen(versions, self.batch) {
                    self.rows.push_back((key.clone(), value));
                }
                last = Some(key);
            }
            self.from = last.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
            self.page = (self.page * 4).min(MOST);
        }
    }
}
