//! Making room: the cached files that were not asked for the longest go first.
//!
//! Between [`Watermarks`] of the disk. Always holds: a file goes only under its digest's lock, on the
//! state as it is at that moment, if [`rule`] lets it: never one that the state counts on, that this
//! store acknowledged lately, or that a pin keeps; and only behind a fence of this process, since an
//! acknowledgement of the process before is in nobody's memory. What durable blobs take is none of its
//! business: where they alone fill the disk it says so once, and waits. Never does: fetch anything,
//! or wait for a file that is being read, which goes on.

mod known;
mod marks;
mod meter;
mod orphans;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use trow_raft::Digest;
use trow_raft::state::StateError;

use crate::copies::Agreed;
use crate::store::{CachedFile, MakeRoom, Reserved, Store, StoreError, blocking};
use crate::sweep::{SweepError, Sweeper};
pub use marks::Watermarks;
pub use meter::Meter;
use rule::Verdict;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing is tried again after room could not be made.
const STUCK: Duration = Duration::from_secs(10);
/// How long a pull waits for room at most; without it goes on without keeping.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// How often files are looked for that no cached manifest lists any more.
const ORPHANS: Duration = Duration::from_secs(600);
/// The least time between two fences that are only to end acknowledgements of cached files.
const FENCE_PAUSE: Duration = Duration::from_secs(60);
/// Candidates found at a time.
const BATCH: usize = 512;

/// Size of the file system and what is free of it, in bytes; zeros where it will not say.
pub type Disk = Arc<dyn Fn() -> (u64, u64) + Send + Sync>;

/// Why files that may be evicted stay for now. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum EvictError {
    /// The fence without which nothing may be unlinked.
    #[error("fence the store")]
    Fence(#[from] SweepError),
    /// The state cannot be read.
    #[error("read the state")]
    State(#[from] StateError),
    /// The files cannot be read or unlinked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What went, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Files unlinked.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that only a late acknowledgement keeps.
    pub acknowledged: u64,
}

/// Evicts from one store. Cheap to clone.
#[derive(Clone)]
pub struct Evictor {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    agreed: Agreed,
    sweeper: Sweeper,
    marks: Watermarks,
    disk: Disk,
    meter: Meter,
    /// Bytes that cached files on their way will take.
    reserved: Arc<AtomicU64>,
    /// One at a time makes room, and others wait for what it makes.
    passes: tokio::sync::Mutex<()>,
    /// When room could not be made, until when not to try again.
    stuck: Mutex<Option<Instant>>,
    fenced: Mutex<Option<Instant>>,
}

impl Evictor {
    /// Of this store of this node, which `sweeper` fences; the store asks it for room from now on.
    pub fn new(store: Store, agreed: Agreed, sweeper: Sweeper, marks: Watermarks) -> Evictor {
        let files = store.clone();
        let disk = move || {
            let disk = files.disk();
            (disk.total, disk.free)
        };
        Evictor::over(store, agreed, sweeper, marks, Arc::new(disk))
    }

    /// As [`Evictor::new`], on a disk that is as `disk` says.
    pub fn over(store: Store, agreed: Agreed, sweeper: Sweeper, marks: Watermarks, disk: Disk) -> Evictor {
        let evictor = Evictor {
            inner: Arc::new(Inner {
                store,
                agreed,
                sweeper,
                marks,
                disk,
                meter: Meter::default(),
                reserved: Arc::default(),
                passes: tokio::sync::Mutex::default(),
                stuck: Mutex::default(),
                fenced: Mutex::default(),
            }),
        };
        // The store must be closed when all others let go of it.
        let weak = Arc::downgrade(&evictor.inner);
        let make: MakeRoom = Arc::new(move |bytes| {
            let evictor = weak.upgrade().map(|inner| Evictor { inner });
            Box::pin(async move { evictor?.room_for(bytes).await })
        });
        evictor.inner.store.make_room_with(make);
        evictor
    }

    /// Where it counts.
    pub fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    /// Evicts whenever the disk is fuller than it may be. Never returns.
    pub async fn run(self) {
        let inner = &self.inner;
        let mut position = inner.agreed.changes.position();
        self.learn().await;
        let (mut orphans_at, mut full) = (Instant::now() + LOOK, false);
        loop {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = inner.store.is_short() => {}
            }
            position = self.forget_durable(position).await;
            if orphans_at <= Instant::now() {
                self.report("files that no cached manifest lists", self.orphans(orphans::AGE).await);
                orphans_at = Instant::now() + ORPHANS;
            }
            let over = self.over_high(0) > 0;
            if over && inner.store.cached().blobs > 0 && !self.is_stuck() {
                let _one = inner.passes.lock().await;
                let made = self.make_room(0).await;
                self.report("files to make room", made);
            }
            let still = over && self.over_high(0) > 0;
            if still && !full {
                tracing::warn!(
                    "the disk is fuller than cache.high, and what is cached and may go is gone: what is pulled through is not kept until there is room; add disk or delete what is not the node's"
                );
            } else if full && !still {
                tracing::info!("there is room for the cache again");
            }
            full = still;
        }
    }

    /// Room for `bytes` more of a cached file, made if need be and possible.
    pub async fn room_for(&self, bytes: u64) -> Option<Reserved> {
        if let Some(reserved) = self.reserve(bytes) {
            return Some(reserved);
        }
        let made = timeout(ROOM_WAIT, async {
            let _one = self.inner.passes.lock().await;
            if let Some(reserved) = self.reserve(bytes) {
                return Some(reserved);
            }
            if self.is_stuck() || !self.can_fit(bytes) {
                return None;
            }
            let made = self.make_room(bytes).await;
            self.report("files to make room for another", made);
            self.reserve(bytes)
        });
        // Somebody else may have made it meanwhile.
        made.await.unwrap_or_else(|_| self.reserve(bytes))
    }

    fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let (total, free) = (self.inner.disk)();
        let (high, _) = self.inner.marks.bytes(total);
        let used = total.saturating_sub(free);
        let fits = |reserved: u64| {
            let then = reserved.saturating_add(bytes);
            (total == 0 || used.saturating_add(then) <= high).then_some(then)
        };
        let all = &self.inner.reserved;
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Reserved::of(all, bytes))
    }

    /// By how much the disk is above the high mark, were `bytes` more on it.
    fn over_high(&self, bytes: u64) -> u64 {
        let (total, free) = (self.inner.disk)();
        let (high, _) = self.inner.marks.bytes(total);
        if total == 0 { 0 } else { (total - free.min(total)).saturating_add(bytes).saturating_sub(high) }
    }

    /// Whether evicting could make room for it at all: nothing should go for one that will not fit.
    fn can_fit(&self, bytes: u64) -> bool {
        self.over_high(bytes) <= self.inner.store.cached().bytes
    }

    /// Evicts down to the low mark, or as far as `bytes` more need it. The caller has the turn.
    async fn make_room(&self, bytes: u64) -> Result<Evicted, EvictError> {
        let (total, free) = (self.inner.disk)();
        let (high, low) = self.inner.marks.bytes(total);
        let coming = bytes.saturating_add(self.inner.reserved.load(Ordering::Relaxed));
        let goal = total.saturating_sub(free).saturating_sub(low.min(high.saturating_sub(coming)));
        let made = self.evict(goal).await;
        let short = self.over_high(bytes) > 0;
        *self.stuck() = (short || made.is_err()).then(|| Instant::now() + STUCK);
        if short && made.as_ref().is_ok_and(|made| made.acknowledged > 0) && self.may_fence() {
            // Two fences from now nobody counts on them.
            self.inner.sweeper.fence().await?;
        }
        made
    }

    /// Unlinks cached files, the least recently used first, until `goal` bytes are gone or no other
    /// may go.
    async fn evict(&self, goal: u64) -> Result<Evicted, EvictError> {
        let (mut gone, mut stay) = (Evicted::default(), HashSet::new());
        while gone.bytes < goal {
            let (store, stayed) = (self.inner.store.clone(), std::mem::take(&mut stay));
            let find = move || (store.oldest_cached(BATCH, |file| !stayed.contains(&file.digest)), stayed);
            let (batch, stayed) = blocking(find).await;
            stay = stayed;
            if batch.is_empty() {
                break;
            }
            self.evict_these(&batch, goal, &mut gone, &mut stay).await?;
        }
        Ok(gone)
    }

    /// Unlinks of `batch` what may go, until `goal` bytes are gone; the rest is put in `stay`.
    async fn evict_these(
        &self,
        batch: &[CachedFile],
        goal: u64,
        gone: &mut Evicted,
        stay: &mut HashSet<Digest>,
    ) -> Result<(), EvictError> {
        let inner = &self.inner;
        if !inner.store.is_fenced() {
            inner.sweeper.fence().await?;
        }
        let agreed = inner.agreed.clone();
        // Looked at anew for each batch, since pins come and tags move.
        let pinned = Arc::new(blocking(move || rule::pinned(&(agreed.view)()?)).await?);
        for file in batch {
            if gone.bytes >= goal {
                break;
            }
            match self.evict_one(file, &pinned).await? {
                Verdict::Go => {
                    tracing::debug!(digest = %file.digest, size = file.size, "evicted");
                    inner.meter.evicted(file.size);
                    gone.blobs += 1;
                    gone.bytes += file.size;
                }
                verdict => {
                    gone.acknowledged += u64::from(verdict == Verdict::Acknowledged);
                    stay.insert(file.digest);
                }
            }
        }
        Ok(())
    }

    /// Unlinks a file if it may go.
    async fn evict_one(
        &self,
        file: &CachedFile,
        pinned: &Arc<HashSet<Digest>>,
    ) -> Result<Verdict, EvictError> {
        let (digest, pinned) = (file.digest, Arc::clone(pinned));
        let (agreed, store) = (self.inner.agreed.clone(), self.inner.store.clone());
        let (said, verdict) = std::sync::mpsc::channel();
        let decide = move |acknowledged| {
            let decided = (agreed.view)().and_then(|view| {
                rule::verdict(&view, &digest, acknowledged, store.is_cached(&digest), &pinned)
            });
            let goes = matches!(decided, Ok(Verdict::Go));
            let _ = said.send(decided);
            goes
        };
        let unlinked = self.inner.store.unlink(&digest, decide).await?;
        match verdict.try_recv() {
            // It was gone already.
            Ok(Ok(Verdict::Go)) if !unlinked => Ok(Verdict::NotCached),
            Ok(decided) => Ok(decided?),
            Err(_) => Ok(Verdict::NotCached),
        }
    }

    fn report(&self, what: &str, done: Result<Evicted, EvictError>) {
        match done {
            Ok(Evicted { blobs: 0, .. }) => {}
            Ok(Evicted { blobs, bytes, .. }) => tracing::info!(blobs, bytes, what, "evicted from the cache"),
            Err(err) => tracing::debug!(cause = %err, what, "evicting is tried again"),
        }
    }

    fn stuck(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.inner.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stuck(&self) -> bool {
        self.stuck().is_some_and(|until| Instant::now() < until)
    }

    fn may_fence(&self) -> bool {
        let mut fenced = self.inner.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        let may = fenced.is_none_or(|at| at + FENCE_PAUSE <= Instant::now());
        if may {
            *fenced = Some(Instant::now());
        }
        may
    }
}
