//! The file under a database: fsync that ends the process when it fails, and space in advance.
//!
//! Always holds: after a failed fsync nothing more is acknowledged, because the process is gone
//! (the kernel may have dropped the pages; a second fsync would lie). A write finds its blocks
//! allocated, or takes them from the reserve. Never does: retry an fsync.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;
use redb::StorageBackend;
use rustix::fs::{FallocateFlags, fallocate};

use super::meter;
use super::reserve::Reserve;

/// Blocks are allocated in steps of this many bytes.
const STEP: u64 = 1 << 20;

/// Ends the process because the disk failed. What it covered was not acknowledged.
pub(crate) fn fatal(what: &str, error: &dyn std::error::Error) -> ! {
    tracing::error!(
        cause = error.to_string(),
        "{what} failed; the node stops so that it acknowledges nothing it may have lost; check the disk and start it again"
    );
    std::process::exit(1)
}

/// Takes the lock on `file`, waiting a moment: one that was just closed stays locked for as long
/// as a child process that another thread forked meanwhile takes to exec.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..100 {
        if file.try_lock().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "in use by another process"))
}

/// A file that allocates ahead of writes.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    allocated: Mutex<HashSet<u64>>,
    reserve: Arc<Reserve>,
}

impl DiskFile {
    /// Opens or makes `path` for this process alone.
    pub(crate) fn open(path: &Path, reserve: Arc<Reserve>) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        lock(&file)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(DiskFile { file, allocated: Mutex::default(), reserve })
    }

    fn allocate(&self, offset: u64, bytes: usize) -> io::Result<()> {
        let mut allocated = self.allocated.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for step in offset / STEP..=(offset + bytes.max(1) as u64 - 1) / STEP {
            if allocated.contains(&step) {
                continue;
            }
            loop {
                match fallocate(&self.file, FallocateFlags::KEEP_SIZE, step * STEP, STEP) {
                    Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) if self.reserve.give(STEP) => {}
                    Err(rustix::io::Errno::NOSPC) => return Err(rustix::io::Errno::NOSPC.into()),
                    // A file system without fallocate allocates when it writes.
                    Err(_) | Ok(()) => break,
                }
            }
            allocated.insert(step);
        }
        Ok(())
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // Truncation frees blocks, so that they must be asked for again.
        self.allocated
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .retain(|step| (step + 1) * STEP <= len);
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.allocate(offset, data.len())?;
        self.file.write_all_at(data, offset)
    }
}

/// Counts and times fsyncs, ends the process when one fails, and (for a planted rule) leaves one out.
#[derive(Clone, Debug)]
pub(crate) struct Syncs {
    /// fsyncs done.
    pub count: Arc<AtomicU64>,
    /// How long each took.
    pub seconds: Histogram,
    /// While set, an fsync is skipped and called done.
    pub skip: Arc<AtomicBool>,
}

impl Default for Syncs {
    fn default() -> Self {
        Syncs { count: Arc::default(), seconds: meter::syncs(), skip: Arc::default() }
    }
}

/// A backend with [`Syncs`] in between.
#[derive(Debug)]
pub(crate) struct Synced<B> {
    pub inner: B,
    pub syncs: Syncs,
}

impl<B: StorageBackend> StorageBackend for Synced<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs.skip.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.syncs.count.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        match self.inner.sync_data() {
            Ok(()) => {
                self.syncs.seconds.observe(began.elapsed().as_secs_f64());
                Ok(())
            }
            Err(error) => fatal("fsync of log or state", &error),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
