//! A reserve of disk space, so that the log goes on when the disk is full.
//!
//! Owns one file of allocated blocks. When the log or the state cannot grow, the file gives up
//! some of them; when space returns it takes them back. Never does: anything for blobs, which
//! are refused long before.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{FallocateFlags, fallocate};

/// Bytes held back.
pub(crate) const RESERVE: u64 = 64 << 20;

/// The reserve of one directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    file: Mutex<File>,
}

impl Reserve {
    /// Opens or makes the file; on a disk that is full already it holds what it held before.
    pub(crate) fn open(path: &Path) -> io::Result<Reserve> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let reserve = Reserve { file: Mutex::new(file) };
        reserve.refill();
        Ok(reserve)
    }

    /// Gives up at least `bytes`; false when there is nothing left.
    pub(crate) fn give(&self, bytes: u64) -> bool {
        let file = self.lock();
        let held = file.metadata().map(|meta| meta.len()).unwrap_or(0);
        if held == 0 {
            return false;
        }
        let left = held.saturating_sub(bytes.max(4 << 20));
        tracing::warn!(
            left,
            "the disk is full and the log lives on its reserve, of which so many bytes are left; make room now, or this node ends"
        );
        file.set_len(left).is_ok()
    }

    /// Takes back what was given up, as far as there is space.
    pub(crate) fn refill(&self) {
        let file = self.lock();
        let held = file.metadata().map(|meta| meta.len()).unwrap_or(RESERVE);
        if held < RESERVE && fallocate(&*file, FallocateFlags::empty(), 0, RESERVE).is_err() {
            // Partly allocated blocks beyond the end are given back; the length says what is held.
            let _ = file.set_len(held);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
