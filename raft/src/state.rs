//! The agreed metadata on disk, and how committed entries change it.
//!
//! One redb file that one [`State`] owns, and in memory the rows that are newer than it. Always
//! holds: rows change only in [`State::apply`], by entries in the order of the log; what an entry
//! does depends on the rows and the entry alone; a batch is applied as a whole or not at all, with
//! the log position that it brought the state to. Applying writes no file: a checkpoint does, and
//! consensus makes one only when the log is durable up to what was applied. What is in memory alone
//! is lost with the process and comes again from the log. Never does: parsing what clients sent,
//! reading clocks, unlinking files.

mod apply;
mod branches;
mod error;
mod export;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hash;
mod import;
mod key;
mod overlay;
mod pending;
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod valid;
mod versions;
mod view;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

pub use error::StateError;
pub(crate) use export::FORMAT;
pub(crate) use import::{Import, ImportError};
pub use row::{BlobRow, LinkRow, ManifestRow, PolicyRow, SealedRow, TagMove, TagRow};
pub(crate) use row::{state_number, state_of};
pub use versions::Stamp;
pub use view::{Cached, SeeReferrer, View};

use crate::command::{Applied, Envelope};
use crate::consensus::reserve::Reserve;
use crate::digest::Digest;
use crate::planted::Planted;
use overlay::{Base, Overlay};
use pending::Pending;

/// The state of one node; see the module.
#[derive(Debug)]
pub struct State {
    /// Shared with the views: they outlive the state when a snapshot takes its place.
    database: Arc<redb::Database>,
    planted: Planted,
    versions: Arc<versions::Versions>,
    shown: RwLock<Shown>,
    /// Held by whoever applies.
    applying: Mutex<()>,
}

/// What the next view sees.
#[derive(Debug)]
struct Shown {
    base: Arc<Base>,
    /// Rows that are being written into the file, over its own.
    frozen: Option<Arc<Pending>>,
    /// Rows that are newer than these.
    active: Arc<Pending>,
    /// The last batch, counted from the start of the process.
    batch: u64,
}

/// A committed entry as apply takes it.
#[derive(Clone, Debug)]
pub struct ApplyEntry {
    /// Its log index.
    pub index: u64,
    /// Its log id in consensus' own form; stored and never looked into.
    pub log_id: Bytes,
    /// The command, if it carries one.
    pub envelope: Option<Envelope>,
    /// The membership in consensus' own form, if it carries one; stored and never looked into.
    pub membership: Option<Bytes>,
}

/// What [`State::export`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: u64,
}

impl State {
    /// Opens the state in `file`, or makes an empty one there.
    ///
    /// # Errors
    /// The file is in use, damaged, or of a feature level above this build's.
    pub fn open(file: &Path, planted: Planted) -> Result<State, StateError> {
        State::open_on(file, planted, None)
    }

    /// An empty state that is gone with the process.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn in_memory() -> Result<State, StateError> {
        State::on(file::in_memory()?, Planted::NONE)
    }

    /// As [`State::open`]; on a full disk it goes on from `reserve`.
    pub(crate) fn open_on(
        file: &Path,
        planted: Planted,
        reserve: Option<&Arc<Reserve>>,
    ) -> Result<State, StateError> {
        let state = State::on(file::open(file, planted, reserve)?, planted)?;
        match state.view()?.level()? {
            level if level > crate::command::LEVEL => Err(StateError::Level { level }),
            _ => Ok(state),
        }
    }

    fn on(database: redb::Database, planted: Planted) -> Result<State, StateError> {
        let database = Arc::new(database);
        let base = Arc::new(Base::open(&database)?);
        let shown = Shown { base, frozen: None, active: Arc::default(), batch: 0 };
        let (versions, shown) = (Arc::default(), RwLock::new(shown));
        Ok(State { database, planted, versions, shown, applying: Mutex::new(()) })
    }

    fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown_mut(&self) -> RwLockWriteGuard<'_, Shown> {
        self.shown.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn overlay(&self) -> Overlay {
        let shown = self.shown();
        let layers = std::iter::once(&shown.active).chain(&shown.frozen).cloned().collect();
        Overlay { layers, batch: shown.batch, base: shown.base.clone() }
    }

    /// The state as it is now, and stays in this view.
    pub fn view(&self) -> Result<View, StateError> {
        Ok(View::new(self.overlay(), self.versions.clone()))
    }

    /// Applies committed entries as one batch, and says what came of each.
    ///
    /// Not durable: a checkpoint is. Reads the file: call it on a thread of its own.
    ///
    /// # Errors
    /// Nothing was applied; the process must end.
    pub fn apply(&self, entries: &[ApplyEntry]) -> Result<Vec<Applied>, StateError> {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let (applied, changes) = apply::batch(self.overlay(), entries, &self.versions, self.planted)?;
        self.publish(changes);
        Ok(applied)
    }

    /// Nobody sees the changes of a batch before the batch is the last.
    fn publish(&self, changes: Pending) {
        let active = self.shown().active.clone();
        active.absorb(changes);
        self.shown_mut().batch += 1;
    }

    /// Bytes of memory that hold what was applied since the last checkpoint was begun, about.
    pub(crate) fn pending(&self) -> usize {
        self.shown().active.bytes()
    }

    /// Begins a checkpoint of everything applied so far, which [`State::save`] ends; whether there
    /// is anything to write. Where one was begun and not ended, that is what is to be ended.
    pub(crate) fn freeze(&self) -> bool {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = self.shown_mut();
        if shown.frozen.is_none() && shown.active.bytes() > 0 {
            shown.frozen = Some(std::mem::take(&mut shown.active));
        }
        shown.frozen.is_some()
    }

    /// Makes durable what was frozen, and returns the state as it was then. Entries may be applied
    /// meanwhile. Blocks: call it on a thread of its own.
    ///
    /// # Errors
    /// As [`State::apply`]: an fsync that failed is never tried again.
    pub(crate) fn save(&self) -> Result<View, StateError> {
        let frozen = self.shown().frozen.clone();
        if let Some(frozen) = frozen {
            file::write(&self.database, &frozen)?;
            let base = Arc::new(Base::open(&self.database)?);
            let mut shown = self.shown_mut();
            (shown.base, shown.frozen) = (base, None);
        }
        let shown = self.shown();
        let saved = Overlay { layers: Vec::new(), batch: shown.batch, base: shown.base.clone() };
        Ok(View::new(saved, self.versions.clone()))
    }

    /// A whole checkpoint, for whoever applies nothing meanwhile: makes everything applied so far
    /// durable and returns the index of the last entry of it.
    ///
    /// # Errors
    /// As [`State::apply`]: an fsync that failed is never tried again.
    pub fn checkpoint(&self) -> Result<u64, StateError> {
        self.freeze();
        self.save()?.applied()
    }

    /// To be called before another state takes this one's place: what was read from this one and
    /// kept is void from now on.
    pub(crate) fn retire(&self) {
        self.versions.retire();
    }

    /// Writes all rows of `view` into a new file at `to`, as they are sent. `go_on` hears now and
    /// then how many bytes were written, and ends it with an error. Not durable: whoever sends it
    /// makes it again after a crash.
    ///
    /// # Errors
    /// `to` exists, or cannot be written, or `go_on` said so; what is there then is worth nothing.
    pub fn export(
        view: &View,
        to: &Path,
        go_on: &mut dyn FnMut(u64) -> std::io::Result<()>,
    ) -> Result<Exported, StateError> {
        export::to_file(view, to, go_on)
    }
}
