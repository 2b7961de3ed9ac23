//! The state as files: which one is current, how another takes its place, and what a snapshot is.
//!
//! Always holds: `CURRENT` names a complete, durable state file; the switch to another is one
//! rename. A snapshot is a view of the rows, exported to a file when it is sent, so that a slow
//! receiver holds up neither pages nor memory; the receiver makes a new state file of the rows.
//! Never does: trust what was received: rows are looked at when they come, their position here.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::statvfs;

use super::reserve::{RESERVE, Reserve};
use crate::durable;
use crate::planted::Planted;
use crate::state::{State, StateError, View};

const CURRENT: &str = "CURRENT";
/// The state file of a new directory.
const FIRST: &str = "state-0.redb";

/// What a snapshot is on its way.
pub(crate) enum SnapshotData {
    /// Rows of this node's state.
    Rows(View),
    /// A state file made of received rows, complete and durable.
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
        let (number, state) = match fs::read_to_string(dir.join(CURRENT)) {
            Ok(name) => {
                let name = name.trim();
                let number = number_of(name).ok_or_else(|| damaged(dir, format!("it says {name:?}")))?;
                // Opening would make the file that is missing, and fill the one that is empty.
                match fs::metadata(dir.join(name)) {
                    Ok(found) if found.is_file() && found.len() > 0 => {}
                    Ok(_) => return Err(damaged(dir, format!("{name} is empty"))),
                    Err(error) => return Err(damaged(dir, format!("{name}: {error}"))),
                }
                (number, files.state(name, planted)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(name) = files.states()?.into_iter().find(|name| name != FIRST) {
                    return Err(damaged(dir, format!("it is missing, and there is {name}")));
                }
                // Without `CURRENT` the file was never complete.
                let _ = fs::remove_file(dir.join(FIRST));
                drop(files.state(FIRST, planted)?);
                files.set_current(FIRST)?;
                (0, files.state(FIRST, planted)?)
            }
            Err(error) => return Err(error.into()),
        };
        files.next.store(number + 1, Ordering::Relaxed);
        files.delete_scratch()?;
        files.delete_others(&state_name(number))?;
        Ok((files, state))
    }

    /// Whether there is a directory of state files at `dir`, complete or damaged.
    pub(crate) fn exist(dir: &Path) -> bool {
        dir.join(CURRENT).exists()
    }

    /// A path nobody uses, for a file under construction.
    pub(crate) fn scratch(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{kind}-{}.tmp", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Whether `bytes` more leave as much as the reserve holds, or a quarter of a small disk. A
    /// disk that does not say is taken to have room: writing will tell.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        statvfs(&self.dir).map_or(true, |disk| {
            let (total, free) = (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize);
            free >= bytes.saturating_add(RESERVE.min(total / 4))
        })
    }

    /// Makes the complete and durable file at `from` the current state and opens it, if `check`
    /// accepts it; otherwise deletes it and leaves the current state as it is.
    pub(crate) fn install(
        &self,
        from: &Path,
        planted: Planted,
        check: impl FnOnce(&State) -> io::Result<()>,
    ) -> Result<State, FilesError> {
        let name = state_name(self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.dir.join(&name);
        fs::rename(from, &path)?;
        let checked = self.state(&name, planted).map_err(FilesError::from).and_then(|state| {
            check(&state)?;
            Ok(state)
        });
        let state = checked.inspect_err(|_| {
            // What is left over is deleted at the next start.
            let _ = fs::remove_file(&path);
        })?;
        self.set_current(&name)?;
        self.delete_others(&name)?;
        Ok(state)
    }

    fn state(&self, name: &str, planted: Planted) -> Result<State, StateError> {
        self.open_at(&self.dir.join(name), planted)
    }

    /// Opens a state file, whether it is one of these or not; on a full disk from the reserve.
    pub(crate) fn open_at(&self, path: &Path, planted: Planted) -> Result<State, StateError> {
        State::open_on(path, planted, self.reserve.as_ref())
    }

    fn set_current(&self, name: &str) -> io::Result<()> {
        // What `CURRENT` names must be there, under that name, before it is named.
        File::open(&self.dir)?.sync_all()?;
        durable::write(&self.dir, CURRENT, name.as_bytes())
    }

    /// The names of the state files.
    fn states(&self) -> io::Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| number_of(name).is_some());
        Ok(names)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Only at the start: later, somebody is at work on such a file.
    fn delete_scratch(&self) -> io::Result<()> {
        let mut names = self.names()?;
        names.retain(|name| name.ends_with(".tmp"));
        names.iter().try_for_each(|name| self.delete(name))
    }

    fn delete_others(&self, current: &str) -> io::Result<()> {
        let mut names = self.states()?;
        names.retain(|name| name != current);
        names.iter().try_for_each(|name| self.delete(name))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn state_name(number: u64) -> String {
    format!("state-{number}.redb")
}

/// The number in the name of a state file; none for any other name.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("state-")?.strip_suffix(".redb")?.parse().ok()?;
    (state_name(number) == name).then_some(number)
}

fn damaged(dir: &Path, why: String) -> FilesError {
    FilesError::Current { path: dir.join(CURRENT), why }
}

/// A state file cannot be opened or switched to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error(
        "{} does not name a state file: {why}; nothing was deleted; restore the file, or empty the data directory so that the node joins again under a new id", path.display()
    )]
    Current { path: PathBuf, why: String },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<FilesError> for io::Error {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Io(error) => error,
            error => io::Error::other(error),
        }
    }
}
