//! fsync, which either works or ends the process.
//!
//! After a failed fsync the kernel marks the pages clean although they never reached the disk, so
//! that a second fsync would succeed and lie. The only safe answer is to acknowledge nothing more
//! and start again from what the disk has.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::StoreError;

/// Makes a file's bytes and size durable, or ends the process.
pub(super) fn file(file: &File, path: &Path) {
    if let Err(err) = file.sync_all() {
        end(path, &err);
    }
}

/// Makes the names in a directory durable, or ends the process.
///
/// # Errors
/// The directory cannot be opened; nothing was tried then.
pub(super) fn directory(path: &Path) -> Result<(), StoreError> {
    let dir = File::open(path).map_err(|err| StoreError::io("open", path, err))?;
    file(&dir, path);
    Ok(())
}

/// Makes everything durable that was ever done to the file system of `path`, or ends the process.
///
/// # Errors
/// The directory cannot be opened; nothing was tried then.
pub(super) fn file_system(path: &Path) -> Result<(), StoreError> {
    let dir = File::open(path).map_err(|err| StoreError::io("open", path, err))?;
    if let Err(err) = rustix::fs::syncfs(&dir) {
        end(path, &err.into());
    }
    Ok(())
}

fn end(path: &Path, err: &io::Error) -> ! {
    tracing::error!(
        path = %path.display(),
        cause = %err,
        "fsync failed: what was just written may be lost, so this process ends without \
         acknowledging it; check the disk, then start the node again"
    );
    std::process::exit(1)
}

/// Directories that are known to survive a power cut.
#[derive(Default)]
pub(super) struct Directories {
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Makes `dirs`, parents first, and takes them for durable; the caller syncs the file system
    /// before anything relies on it.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub(super) fn prepare(&self, dirs: impl Iterator<Item = PathBuf>) -> Result<(), StoreError> {
        for dir in dirs {
            fs::create_dir_all(&dir).map_err(|err| StoreError::io("create directory", &dir, err))?;
            self.durable().insert(dir);
        }
        Ok(())
    }

    /// Makes sure that `dir` exists and that its name is durable; `root` exists already.
    ///
    /// That another thread just made it is not enough, since it may not have fsynced it yet.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub(super) fn ensure(&self, root: &Path, dir: &Path) -> Result<(), StoreError> {
        if dir == root || self.durable().contains(dir) {
            return Ok(());
        }
        let Some(parent) = dir.parent() else { return Ok(()) };
        self.ensure(root, parent)?;
        match fs::create_dir(dir) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create directory", dir, err));
            }
            _ => {}
        }
        directory(parent)?;
        self.durable().insert(dir.to_owned());
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
