//! The state as files: which one is current, how another takes its place, and what a snapshot is.
//!
//! Always holds: `CURRENT` names a complete, durable state file; the switch to another is one
//! rename. A snapshot is a read transaction on the rows, exported to a file when it is sent, so
//! that a slow receiver pins no pages. Never does: trust a received file, whose digest the
//! network checked and whose position is checked here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reserve::Reserve;
use crate::planted::Planted;
use crate::state::{State, StateError, View};

const CURRENT: &str = "CURRENT";

/// What a snapshot is on its way.
pub(crate) enum SnapshotData {
    /// Rows of this node's state.
    Rows(View),
    /// A received file, complete and durable.
    File(PathBuf),
}

/// The directory of state files.
#[derive(Debug)]
pub(crate) struct StateFiles {
    dir: PathBuf,
    reserve: Option<Arc<Reserve>>,
    next: AtomicU64,
}

impl StateFiles {
    /// Opens the directory and the state that `CURRENT` names, or makes both. Files that a
    /// process left half made are deleted.
    pub(crate) fn open(
        dir: &Path,
        planted: Planted,
        reserve: Option<Arc<Reserve>>,
    ) -> Result<(StateFiles, State), FilesError> {
        fs::create_dir_all(dir)?;
        let files = StateFiles { dir: dir.to_owned(), reserve, next: AtomicU64::new(1) };
        let name = match fs::read_to_string(dir.join(CURRENT)) {
            Ok(name) => name.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = "state-0.redb".to_owned();
                // Without `CURRENT` the file was never complete.
                let _ = fs::remove_file(dir.join(&name));
                drop(files.state(&name, planted)?);
                files.set_current(&name)?;
                name
            }
            Err(error) => return Err(error.into()),
        };
        files.delete_others(&name)?;
        let number = name.trim_start_matches("state-").trim_end_matches(".redb").parse::<u64>();
        files.next.store(number.unwrap_or(0) + 1, Ordering::Relaxed);
        let state = files.state(&name, planted)?;
        Ok((files, state))
    }

    /// A path nobody uses, for a file under construction.
    pub(crate) fn scratch(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{kind}-{}.tmp", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes the complete and durable file at `from` the current state and opens it.
    pub(crate) fn install(&self, from: &Path, planted: Planted) -> Result<State, FilesError> {
        let name = format!("state-{}.redb", self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.dir.join(&name);
        fs::rename(from, &path)?;
        let state = self.state(&name, planted)?;
        self.set_current(&name)?;
        self.delete_others(&name)?;
        Ok(state)
    }

    fn state(&self, name: &str, planted: Planted) -> Result<State, StateError> {
        State::open_on(&self.dir.join(name), planted, self.reserve.as_ref())
    }

    fn set_current(&self, name: &str) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()?;
        let temporary = self.dir.join("CURRENT.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(name.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(CURRENT))?;
        File::open(&self.dir)?.sync_all()
    }

    fn delete_others(&self, current: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != CURRENT && name != current {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A state file cannot be opened or switched to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<FilesError> for io::Error {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Io(error) => error,
            FilesError::State(error) => io::Error::other(error),
        }
    }
}
