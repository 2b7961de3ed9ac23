//! The content store of one node: blobs as plain files under their digest.
//!
//! Owns everything below the data directory that concerns blob bytes: `blobs/` (exact bytes),
//! `checksums/` (a CRC-32C per chunk of each blob), `staging/`, `quarantine/`, `store.gen` and
//! `index.sled`. Always holds: a file under `blobs/` was verified against its name, fsynced and
//! only then renamed there, cached ones included; what is served was checked chunk by chunk;
//! unlinking, holding, keeping and confirming one digest exclude each other. Never does: decide which blobs should be here, talk
//! to peers, or try an fsync again that failed (the process ends instead).

mod cached;
mod checksum;
mod error;
mod hash;
mod hold;
mod index;
mod layout;
mod ledger;
mod locks;
mod quarantine;
mod read;
mod small;
mod space;
mod stage;
mod sync;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fs, io};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use trow_api::hot::CacheStats;
use trow_raft::{Algorithm, Digest, Evidence, Generation, NodeId, Planted};

pub use cached::CachedFile;
#[cfg(test)]
pub use cached::CachedTotals;
pub use error::{HoldError, ReadError, StoreError};
pub use ledger::Acknowledged;
pub use read::BlobBody;
pub use small::SMALL;
pub(crate) use space::headroom;
pub use space::{MakeRoom, Reserved};
pub use stage::{Staged, StagedReader};

/// Bytes that one checksum covers, and the most that a read yields at once.
pub const CHUNK: usize = 256 << 10;

/// The store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    layout: layout::Layout,
    planted: Planted,
    dirs: sync::Directories,
    locks: locks::Locks,
    ledger: Mutex<ledger::Ledger>,
    index: index::Index,
    cached: cached::Cached,
    small: small::Small,
    /// Bytes of all blobs.
    usage: AtomicU64,
    staged: AtomicU64,
    /// Counts the changes of each directory of blobs, so that an audit looks only where it must.
    touched: Vec<AtomicU64>,
    damaged: broadcast::Sender<Digest>,
    /// Counts the blobs that were found damaged.
    quarantined: AtomicU64,
    /// Asked before a cached file is begun.
    make_room: OnceLock<space::MakeRoom>,
    /// Notified when the disk was found full up to the headroom.
    short: Notify,
    /// A test says that there is no room.
    #[cfg(test)]
    full: std::sync::atomic::AtomicBool,
}

/// A blob that is verified and durable here: what evidence is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its size in bytes.
    pub size: u64,
    /// The store's generation in which this was said.
    pub generation: Generation,
}

impl Held {
    /// This store's word as evidence of `node`, whose store it is.
    pub fn evidence(self, node: NodeId) -> Evidence {
        Evidence { node, generation: self.generation }
    }
}

/// The file system that the store lies on, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Size of the file system.
    pub total: u64,
    /// What is left to unprivileged writers.
    pub free: u64,
    /// What the blobs' bytes take.
    pub blobs: u64,
}

impl Store {
    /// Opens the store in the data directory `dir`, creating it when it is not there.
    ///
    /// Drops what earlier processes staged and makes what they renamed durable: a rename that a
    /// process did not live to fsync must not be taken for a held blob. Blocks.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, planted: Planted) -> Result<Store, StoreError> {
        fs::create_dir_all(dir).map_err(|err| StoreError::io("create directory", dir, err))?;
        let layout = layout::Layout::new(dir);
        let staging = layout.staging();
        match fs::remove_dir_all(&staging) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("empty", &staging, err));
            }
            _ => {}
        }
        fs::create_dir(&staging).map_err(|err| StoreError::io("create directory", &staging, err))?;
        let dirs = sync::Directories::default();
        dirs.prepare(layout.common_dirs())?;
        let usage = layout.usage().map_err(|err| StoreError::io("list blobs in", dir, err))?;
        let empty = usage == 0 && !layout.index().exists();
        let index = index::Index::open(&layout.index());
        // After the index was marked as open, so that its mark is as durable as what was renamed.
        sync::file_system(dir)?;
        let size_of = |digest: &Digest| Some(fs::metadata(layout.blob(digest)).ok()?.len());
        let inner = Inner {
            ledger: Mutex::new(ledger::Ledger::open(dir, &layout.generation())?),
            cached: cached::Cached::load(&index, size_of, empty),
            index,
            small: small::Small::default(),
            layout,
            planted,
            dirs,
            locks: locks::Locks::new(),
            usage: AtomicU64::new(usage),
            staged: AtomicU64::new(0),
            touched: (0..=u8::MAX).map(|_| AtomicU64::new(0)).collect(),
            damaged: broadcast::Sender::new(1024),
            quarantined: AtomicU64::new(0),
            make_room: OnceLock::new(),
            short: Notify::new(),
            #[cfg(test)]
            full: Default::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Has the store take its disk for full from now on, or no more.
    #[cfg(test)]
    pub fn set_full(&self, full: bool) {
        self.inner.full.store(full, Ordering::Relaxed);
    }

    /// How many blobs this process found damaged and took out of service.
    pub fn quarantined(&self) -> u64 {
        self.inner.quarantined.load(Ordering::Relaxed)
    }

    /// The generation that acknowledgements carry now.
    pub fn generation(&self) -> Generation {
        self.inner.ledger().current()
    }

    /// Durably reserves a generation that this store never used, for one `FenceStore`; `agreed`
    /// is the one that the state has.
    ///
    /// # Errors
    /// The generation cannot be written.
    pub async fn reserve_generation(&self, agreed: Generation) -> Result<Generation, StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let (root, file) = (inner.layout.root(), inner.layout.generation());
            inner.ledger().reserve(root, &file, agreed)
        })
        .await
    }

    /// Acknowledges in `agreed` from now on: the state has applied a fence of this store, and
    /// evidence given so far is void. Older generations are ignored.
    pub fn adopt_generation(&self, agreed: Generation) {
        self.inner.ledger().adopt(agreed);
    }

    /// Whether what processes before this one acknowledged is void, so that the ledger of this one
    /// knows of every acknowledgement that counts.
    pub fn is_fenced(&self) -> bool {
        self.inner.ledger().is_fenced()
    }

    /// How many blobs the current generation keeps from being unlinked, which only a fence ends.
    pub fn acknowledged(&self) -> usize {
        self.inner.ledger().len()
    }

    /// Begins a blob. `hint` names the algorithm that the digest will have, when it is known;
    /// a wrong or missing hint costs one more reading of the file.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the disk is full up to the headroom.
    pub async fn stage(&self, hint: Option<Algorithm>) -> Result<Staged, StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || Staged::create(inner, hint)).await
    }

    /// Opens a held or cached blob for reading `range` (all of it when `None`), clamped to its size.
    ///
    /// # Errors
    /// [`ReadError::NotHere`] when it is not held or turned out to be damaged.
    pub async fn open_blob(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<BlobBody, ReadError> {
        self.touch(digest);
        read::open(Arc::clone(&self.inner), *digest, range).await
    }

    /// The bytes of a small blob that is kept in memory, from here or from another node. Damage to
    /// its file goes unnoticed.
    pub fn kept(&self, digest: &Digest) -> Option<Bytes> {
        self.inner.small.get(digest)
    }

    /// The bytes of a held blob of `size` bytes, at most [`SMALL`], from disk; kept in memory from
    /// now on.
    ///
    /// # Errors
    /// As [`Store::open_blob`]; [`ReadError::NotHere`] also when it has another size.
    pub async fn read_small(&self, digest: &Digest, size: u64) -> Result<Bytes, ReadError> {
        self.touch(digest);
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || read::small(inner, digest, size)).await
    }

    /// Keeps a small blob that came from another node in memory; nothing if it has not the digest.
    pub fn keep(&self, digest: &Digest, bytes: Bytes) {
        self.inner.keep_relayed(digest, bytes);
    }

    /// How well the memory of small blobs does.
    pub fn small_stats(&self) -> CacheStats {
        self.inner.small.stats()
    }

    /// The size of the blob if it is here. No promise that it stays: see [`Store::confirm`].
    pub fn has(&self, digest: &Digest) -> Option<u64> {
        Some(fs::metadata(self.inner.layout.blob(digest)).ok()?.len())
    }

    /// Acknowledges a blob that is here: from now on it is not unlinked in this generation.
    ///
    /// Its length and sidecar are checked; without a valid sidecar all of it is hashed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn confirm(&self, digest: &Digest) -> Result<Option<Held>, StoreError> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || inner.confirm(&digest)).await
    }

    /// Checks all bytes of a blob against its digest and quarantines it when they differ.
    /// `None`: it is not here.
    ///
    /// # Errors
    /// The file cannot be read.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the scrubber, which is not built yet"))]
    pub async fn verify(&self, digest: &Digest) -> Result<Option<bool>, StoreError> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || inner.verify(&digest)).await
    }

    /// When the blob's bytes were last all checked against the digest, in ms since 1970.
    pub fn verified_at(&self, digest: &Digest) -> Option<u64> {
        let written = fs::metadata(self.inner.layout.blob(digest)).ok()?.modified().ok()?;
        Some(self.inner.index.verified_at(digest).unwrap_or_else(|| index::millis(written)))
    }

    /// Unlinks a blob if `decide` says so. It is asked under the digest's lock, where nobody can
    /// acknowledge the blob; only the sweeper has a reason to call this. True when it is gone.
    ///
    /// # Errors
    /// The file cannot be unlinked.
    pub async fn unlink(
        &self,
        digest: &Digest,
        decide: impl FnOnce(Acknowledged) -> bool + Send + 'static,
    ) -> Result<bool, StoreError> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || inner.unlink(&digest, decide)).await
    }

    /// Whether the blob was acknowledged lately; see [`Store::unlink`] for an answer that holds.
    pub fn look(&self, digest: &Digest) -> Acknowledged {
        self.inner.ledger().look(digest)
    }

    /// The size of the blob's file, asked under its lock: the answer does not fall into an unlink
    /// that was decided before. Blocks.
    pub fn present(&self, digest: &Digest) -> Option<u64> {
        let _lock = self.inner.locks.lock(digest);
        self.has(digest)
    }

    /// The blobs here whose digest begins with `bucket`, unordered. Blocks.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self, bucket: u8) -> Result<Vec<Digest>, StoreError> {
        let listed = self.inner.layout.list(bucket);
        listed.map_err(|err| StoreError::io("list blobs in", self.inner.layout.root(), err))
    }

    /// Counts the comings and goings of blobs whose digest begins with `bucket`.
    pub fn touches(&self, bucket: u8) -> u64 {
        self.inner.touched[usize::from(bucket)].load(Ordering::Acquire)
    }

    /// The state of the disk; zeros if the operating system will not say.
    pub fn disk(&self) -> DiskUsage {
        let blobs = self.inner.usage.load(Ordering::Relaxed);
        let (total, free) = self.inner.statvfs().unwrap_or_default();
        DiskUsage { total, free, blobs }
    }

    /// Digests that were found damaged and quarantined, as it happens.
    pub fn damaged(&self) -> broadcast::Receiver<Digest> {
        self.inner.damaged.subscribe()
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, ledger::Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name in `staging/` that nothing else has.
    fn staging_path(&self) -> PathBuf {
        self.layout.staging().join(self.staged.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Takes a blob that is gone out of the bytes in use. Damage may have changed a length since
    /// it was counted, so this never goes below zero.
    fn uncount(&self, bytes: u64) {
        let less = |usage: u64| Some(usage.saturating_sub(bytes));
        let _ = self.usage.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Notes that the file of `digest` came, went or changed.
    fn touched(&self, digest: &Digest) {
        self.touched[usize::from(layout::bucket(digest))].fetch_add(1, Ordering::Release);
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(&mut tokio::task::spawn_blocking(work)).await
}

/// What a blocking task gave. Its panic goes on here; if the runtime is shutting down and did not
/// run it, this waits to be dropped like everything else.
async fn joined<T>(task: &mut JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(err) if err.is_panic() => std::panic::resume_unwind(err.into_panic()),
        Err(_) => std::future::pending().await,
    }
}
