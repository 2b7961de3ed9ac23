//! Whether rows that were read from a view are still so, without reading them again.
//!
//! For what readers keep in memory of tags and manifests. Rows are told apart by a hash; each hash has the log index of
//! the last batch that changed a row of it, which [`Writer`](super::writer::Writer) notes before
//! the batch can be seen. A [`Stamp`] is the index of the view that the rows were read from, and
//! the hashes of their keys: it holds while none of them was changed since.
//!
//! Always holds: a stamp that holds after index `i` was applied is on rows as they are at `i` or
//! later. It makes no difference when a reader puts away what it read, since the stamp is as old
//! as the view, and a change between the two is noted already when the stamp is first asked. A
//! state that a snapshot replaces is retired before the switch, and no stamp of it holds ever
//! again. Two rows that share a hash cost a reader one look too many, and never a wrong answer.
//! Never does: keep rows.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::key::Table;

/// A row that is not written to is taken for changed once in about as many writes.
const SLOTS: usize = 1 << 14;

/// The last changes of one state's rows.
#[derive(Debug)]
pub(super) struct Versions {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    retired: AtomicBool,
}

impl Default for Versions {
    fn default() -> Self {
        Versions {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            retired: AtomicBool::new(false),
        }
    }
}

impl Versions {
    /// Notes that the batch whose first entry has `index` changes the row. To be called before
    /// any view can see the change.
    pub(super) fn changes(&self, table: Table, key: &[u8], index: u64) {
        if matches!(table, Table::Tag | Table::Manifest) {
            self.slots[self.slot(table, key)].fetch_max(index, Ordering::AcqRel);
        }
    }

    /// Another state takes this one's place.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn slot(&self, table: Table, key: &[u8]) -> usize {
        self.hasher.hash_one((table as u8, key)) as usize % SLOTS
    }
}

/// Says whether rows are as they were when they were read; see the module.
#[derive(Clone, Debug)]
pub struct Stamp {
    versions: Arc<Versions>,
    at: u64,
    slots: [usize; 2],
}

impl Stamp {
    /// On two rows that were read from a view at index `at`.
    pub(super) fn new(versions: &Arc<Versions>, at: u64, rows: [(Table, &[u8]); 2]) -> Self {
        let slots = rows.map(|(table, key)| versions.slot(table, key));
        Stamp { versions: versions.clone(), at, slots }
    }

    /// Whether the rows are as they were.
    pub fn holds(&self) -> bool {
        let changed = |slot: &usize| self.versions.slots[*slot].load(Ordering::Acquire) > self.at;
        // Index 0 is the state of before the first entry as well.
        self.at > 0 && !self.versions.retired.load(Ordering::Acquire) && !self.slots.iter().any(changed)
    }

    /// The log index of the view.
    pub fn at(&self) -> u64 {
        self.at
    }
}
