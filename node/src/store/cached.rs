//! Which files here are cached, when each was last asked for, and by which upstream's name it came.
//!
//! A cached file came through a pull-through repository and was never promised to anybody: the
//! sweeper leaves it alone, and the evictor takes the least recently used. All of it is in memory,
//! some 200 bytes a file, so that a read notes its access without touching the disk; the index on
//! disk follows coarsely, since an eviction may well be wrong by minutes. Always holds: a digest is
//! here only while its file is, because both change under the digest's lock. Never does: say that
//! a blob is *only* cached, which the state knows: it may have become durable since.

use std::collections::{BinaryHeap, HashMap};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use trow_raft::{Digest, RepoName};

use super::error::StoreError;
use super::index::{Index, millis};
use super::{Inner, Store};

/// How old what the index on disk says of an access may be, in milliseconds.
const COARSE: u64 = 5 * 60 * 1000;

/// How much of this store is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedTotals {
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A cached file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedFile {
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When it was last asked for, in ms since 1970.
    pub accessed: u64,
}

pub(super) struct Cached {
    files: Mutex<Files>,
    /// Whether every cached file is known to be one.
    known: AtomicBool,
}

#[derive(Default)]
struct Files {
    rows: HashMap<Digest, Row>,
    bytes: u64,
}

struct Row {
    size: u64,
    accessed: u64,
    /// What the index on disk says of it.
    noted: u64,
    /// The name by which an upstream gave the bytes; none when that is not known.
    origin: Option<RepoName>,
}

impl Cached {
    /// What the index says of files that are here. `size_of` gives the size of a file that is.
    pub(super) fn load(index: &Index, size_of: impl Fn(&Digest) -> Option<u64>, empty: bool) -> Cached {
        let mut files = Files::default();
        for (digest, accessed) in index.cached() {
            match size_of(&digest) {
                Some(size) => {
                    let origin = index.origin(&digest);
                    files.put(digest, Row { size, accessed, noted: accessed, origin });
                }
                None => {
                    index.forget_cached(&digest);
                    index.forget(&digest);
                }
            }
        }
        Cached { files: Mutex::new(files), known: AtomicBool::new(index.is_whole() || empty) }
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.lock().rows.contains_key(digest)
    }

    /// Takes note of an access; true when the index on disk should hear of it.
    fn touch(&self, digest: &Digest, now: u64) -> bool {
        let mut files = self.lock();
        let Some(row) = files.rows.get_mut(digest) else { return false };
        row.accessed = row.accessed.max(now);
        let late = row.accessed.saturating_sub(row.noted) >= COARSE;
        if late {
            row.noted = row.accessed;
        }
        late
    }

    pub(super) fn remove(&self, digest: &Digest) -> bool {
        let mut files = self.lock();
        let Some(row) = files.rows.remove(digest) else { return false };
        files.bytes -= row.size;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn put(&mut self, digest: Digest, row: Row) {
        let size = row.size;
        let before = self.rows.insert(digest, row).map_or(0, |before| before.size);
        self.bytes = self.bytes - before + size;
    }
}

impl Inner {
    /// Counts a file as cached; the caller holds the digest's lock, and the file is there.
    pub(super) fn cache(&self, digest: &Digest, size: u64, accessed: u64, origin: Option<RepoName>) {
        if let Some(origin) = &origin {
            self.note_origin(digest, origin);
        }
        self.cached.lock().put(*digest, Row { size, accessed, noted: accessed, origin });
        self.note_cached(digest, accessed);
    }

    /// Counts it as cached no more; the file stays or goes as the caller decides.
    pub(super) fn uncache(&self, digest: &Digest) {
        if self.cached.remove(digest) {
            self.index.forget_cached(digest);
        }
    }

    fn note_origin(&self, digest: &Digest, origin: &RepoName) {
        if self.room(0).is_ok() {
            self.index.note_origin(digest, origin);
        }
    }

    fn note_cached(&self, digest: &Digest, accessed: u64) {
        // sled does not take a full disk well.
        if self.room(0).is_ok() {
            self.index.note_cached(digest, accessed);
        }
    }
}

impl Store {
    /// Whether the file of `digest` is here as a cached one.
    pub fn is_cached(&self, digest: &Digest) -> bool {
        self.inner.cached.contains(digest)
    }

    /// Notes that a cached file was asked for; cheap, and nothing for any other digest.
    pub fn touch(&self, digest: &Digest) {
        let now = millis(SystemTime::now());
        if self.inner.cached.touch(digest, now) {
            self.inner.note_cached(digest, now);
        }
    }

    /// How much is cached.
    pub fn cached(&self) -> CachedTotals {
        let files = self.inner.cached.lock();
        CachedTotals { blobs: files.rows.len() as u64, bytes: files.bytes }
    }

    /// How many are cached, and the least `most` numbers of their digests, in order.
    pub fn cached_least(&self, most: usize) -> (u64, Vec<u64>) {
        let mut numbers: Vec<u64> = self.inner.cached.lock().rows.keys().map(Digest::number).collect();
        let count = numbers.len() as u64;
        if numbers.len() > most {
            numbers.select_nth_unstable(most);
            numbers.truncate(most);
        }
        numbers.sort_unstable();
        (count, numbers)
    }

    /// Up to `count` cached files that `pass` lets through, the least recently used first.
    pub fn oldest_cached(&self, count: usize, pass: impl Fn(&CachedFile) -> bool) -> Vec<CachedFile> {
        let files = self.inner.cached.lock();
        // A heap of the oldest so far, the newest of them on top: memory for `count` whatever is here.
        let mut heap: BinaryHeap<(u64, Digest, u64)> = BinaryHeap::new();
        for (digest, row) in &files.rows {
            if heap.len() == count && heap.peek().is_none_or(|(newest, ..)| *newest <= row.accessed) {
                continue;
            }
            if pass(&CachedFile { digest: *digest, size: row.size, accessed: row.accessed }) {
                heap.push((row.accessed, *digest, row.size));
                if heap.len() > count {
                    heap.pop();
                }
            }
        }
        let oldest = heap.into_sorted_vec().into_iter();
        oldest.map(|(accessed, digest, size)| CachedFile { digest, size, accessed }).collect()
    }

    /// All cached files, unordered.
    pub fn all_cached(&self) -> Vec<Digest> {
        self.inner.cached.lock().rows.keys().copied().collect()
    }

    /// When the file was last asked for, in ms since 1970, if it is cached.
    pub fn accessed(&self, digest: &Digest) -> Option<u64> {
        self.inner.cached.lock().rows.get(digest).map(|row| row.accessed)
    }

    /// The name by which an upstream gave the bytes of a file that is here, whether it is cached still or became
    /// durable since; none when that is not known.
    pub fn origin(&self, digest: &Digest) -> Option<RepoName> {
        if let Some(row) = self.inner.cached.lock().rows.get(digest) {
            return row.origin.clone();
        }
        self.has(digest).and_then(|_| self.inner.index.origin(digest))
    }

    /// Says by which name the bytes of a file that is here came, or came as well; nothing for any other digest.
    /// Blocks.
    pub fn set_origin(&self, digest: &Digest, origin: RepoName) {
        let _lock = self.inner.locks.lock(digest);
        if self.has(digest).is_some() {
            self.inner.note_origin(digest, &origin);
            if let Some(row) = self.inner.cached.lock().rows.get_mut(digest) {
                row.origin = Some(origin);
            }
        }
    }

    /// Forgets by which name the bytes came, as when the index is lost.
    #[cfg(test)]
    pub fn lose_origin(&self, digest: &Digest) {
        self.inner.index.forget(digest);
        if let Some(row) = self.inner.cached.lock().rows.get_mut(digest) {
            row.origin = None;
        }
    }

    /// Counts the file of a blob that became durable as cached no more: repair, sweep and evidence
    /// go by the state. Blocks.
    pub fn is_durable_now(&self, digest: &Digest) {
        let _lock = self.inner.locks.lock(digest);
        self.inner.uncache(digest);
    }

    /// Whether every cached file is known to be one. Until [`Store::all_cached_known`] the sweeper
    /// must leave alone what the state does not know: an index that was lost or not closed may have
    /// forgotten some.
    pub fn knows_cached(&self) -> bool {
        self.inner.cached.known.load(Ordering::Acquire)
    }

    /// Says that every file that is cached was counted as one.
    pub fn all_cached_known(&self) {
        self.inner.cached.known.store(true, Ordering::Release);
    }

    /// Counts a file that is here as cached, as of the time when it was written, unless it is counted already.
    /// True when it was counted now. Blocks.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn count_as_cached(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _lock = self.inner.locks.lock(digest);
        let path = self.inner.layout.blob(digest);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(StoreError::io("stat", &path, err)),
        };
        if self.is_cached(digest) {
            return Ok(false);
        }
        let written = metadata.modified().map_or_else(|_| millis(SystemTime::now()), millis);
        let origin = self.inner.index.origin(digest);
        self.inner.cache(digest, metadata.len(), written, origin);
        Ok(true)
    }
}
