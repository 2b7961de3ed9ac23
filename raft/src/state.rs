//! The agreed metadata on disk, and how committed entries change it.
//!
//! One redb file that one [`State`] owns. Always holds: rows change only in [`State::apply`], by
//! entries in the order of the log; what an entry does depends on the rows and the entry alone; a
//! batch is applied as a whole or not at all, with the log position that it brought the state to.
//! Applying is not durable: [`State::checkpoint`] is, and consensus calls it only when the log is
//! durable up to what was applied. Never does: parsing what clients sent, reading clocks,
//! unlinking files.

mod apply;
mod error;
mod export;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hash;
mod import;
mod key;
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod valid;
mod versions;
mod view;
mod writer;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::ReadableDatabase as _;

pub use error::StateError;
pub(crate) use export::FORMAT;
pub(crate) use import::{Import, ImportError};
pub use row::{BlobRow, LinkRow, ManifestRow, TagMove, TagRow};
pub(crate) use row::{state_number, state_of};
pub use versions::Stamp;
pub use view::{SeeReferrer, View};

use crate::command::{Applied, Envelope};
use crate::consensus::reserve::Reserve;
use crate::digest::Digest;
use crate::planted::Planted;

/// The state of one node; see the module.
#[derive(Debug)]
pub struct State {
    /// Shared with the views: they outlive the state when a snapshot takes its place.
    database: Arc<redb::Database>,
    planted: Planted,
    versions: Arc<versions::Versions>,
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
        Ok(State { database: Arc::new(file::in_memory()?), planted: Planted::NONE, versions: Arc::default() })
    }

    /// As [`State::open`]; on a full disk it goes on from `reserve`.
    pub(crate) fn open_on(
        file: &Path,
        planted: Planted,
        reserve: Option<&Arc<Reserve>>,
    ) -> Result<State, StateError> {
        let database = Arc::new(file::open(file, planted, reserve)?);
        let state = State { database, planted, versions: Arc::default() };
        match state.view()?.level()? {
            level if level > crate::command::LEVEL => Err(StateError::Level { level }),
            _ => Ok(state),
        }
    }

    /// The state as it is now, and stays in this view.
    pub fn view(&self) -> Result<View, StateError> {
        let rows = rows::Snapshot(self.database.begin_read()?);
        Ok(View::new(rows, self.database.clone(), self.versions.clone()))
    }

    /// Applies committed entries in one transaction, and says what came of each.
    ///
    /// Not durable, see [`State::checkpoint`]. Blocks: call it on a thread of its own.
    ///
    /// # Errors
    /// Nothing was applied; the process must end.
    pub fn apply(&self, entries: &[ApplyEntry]) -> Result<Vec<Applied>, StateError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(redb::Durability::None)?;
        let applied = apply::batch(&transaction, entries, &self.versions, self.planted)?;
        transaction.commit()?;
        Ok(applied)
    }

    /// Makes everything applied so far durable and returns the index of the last entry of it.
    ///
    /// Dropping the [`State`] does the same: the log must be durable by then too.
    ///
    /// # Errors
    /// As [`State::apply`]: an fsync that failed is never tried again.
    pub fn checkpoint(&self) -> Result<u64, StateError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(redb::Durability::Immediate)?;
        // Without it an unclean open walks the whole file.
        transaction.set_quick_repair(true);
        let applied = writer::Writer::open(&transaction, &self.versions, 0)?.applied()?;
        transaction.commit()?;
        Ok(applied)
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
