//! The fills of this node: one for a blob of an upstream at a time, whoever asks.
//!
//! Always holds: readers of a blob share its fill, also those that ask under other names of the same registry, as
//! long as it may still come; never under another registry's, which could give them what it likes, or nothing,
//! until the digest is known, nor under a name for everybody what is fetched by one that needs a user; at most [`AT_ONCE`] run, and [`PER_HOST`] for one registry, the others wait; a failure is remembered for [`REMEMBERED`], so that a
//! crowd that comes back asks the upstream once. A fill goes on when its readers leave. Never does: start one for
//! a blob that is here and may be given.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use trow_api::pull::{Host, PullError, UpstreamName};
use trow_raft::Digest;

use super::fill::{Ended, Fill, Means, Reader, pour};
use super::pull::Asked;
use super::reads::{Kind, Reads};
use super::second::Seconds;
use crate::replicated::task;

/// Fills at once on this node. Each takes about two batches of the store in memory, and a connection.
const AT_ONCE: usize = 48;
/// Of them for one registry: one that is slow leaves others their turn.
const PER_HOST: usize = 16;
/// Failures are remembered for this long.
const REMEMBERED: Duration = Duration::from_secs(3);

/// The fills. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fills {
    inner: Arc<Inner>,
}

struct Inner {
    means: Means,
    running: Mutex<HashMap<Key, Arc<Fill>>>,
    permits: Semaphore,
    turns: Mutex<HashMap<Host, Arc<Semaphore>>>,
    seconds: Seconds,
    counted: Counted,
}

/// A blob as one registry gives it, and whether to users alone.
type Key = (Host, bool, Digest, u64);

/// What became of fills so far.
#[derive(Default)]
pub(super) struct Counted {
    /// The blob is kept.
    pub(super) kept: AtomicU64,
    /// It passed, for want of room.
    pub(super) passed: AtomicU64,
    /// It failed.
    pub(super) failed: AtomicU64,
}

/// What there is of a blob on this node.
pub(super) enum Joined {
    /// It is in the store.
    Here,
    /// It is on its way.
    Reader(Reader),
}

impl Fills {
    pub(super) fn new(means: Means) -> Fills {
        let seconds =
            Seconds::start(means.me, means.homes.clone(), means.peers.clone(), means.origins.clone());
        let inner = Inner {
            means,
            running: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
            turns: Mutex::default(),
            seconds,
            counted: Counted::default(),
        };
        Fills { inner: Arc::new(inner) }
    }

    /// Reads `range` of the blob, which is fetched under `name` unless it is on its way already.
    pub(super) fn join(&self, asked: &Asked, reads: &Reads) -> Joined {
        let Asked { name, digest, size, range } = asked;
        let (size, range) = (*size, range.clone());
        let key = self.key(name, digest, size);
        let mut running = self.running();
        if let Some(fill) = running.get(&key)
            && (!fill.has_failed() || fill.name == *name)
        {
            reads.count(Kind::Shared);
            return Joined::Reader(fill.reader(range));
        }
        // What was kept was in the store before it left the table.
        let Means { store, origins, .. } = &self.inner.means;
        if store.has(digest) == Some(size) && origins.may_give(name, digest) {
            return Joined::Here;
        }
        reads.count(Kind::Fill);
        let fill = Fill::new(name.clone(), *digest, size);
        let reader = fill.reader(range);
        running.insert(key.clone(), Arc::clone(&fill));
        drop(running);
        let fills = self.clone();
        // It goes on when whoever asked is gone.
        task::spawn(async move { fills.run(key, fill).await });
        Joined::Reader(reader)
    }

    /// Reads a range of a blob that is on its way here from the upstream itself.
    pub(super) fn arriving(&self, asked: &Asked) -> Option<Reader> {
        let (running, range) = (self.running(), asked.range.clone());
        let key = self.key(&asked.name, &asked.digest, asked.size);
        running.get(&key).filter(|fill| fill.is_source()).map(|fill| fill.reader(range))
    }

    /// The size of a blob that is on its way here from the upstream itself, for readers under this name.
    pub(super) fn is_arriving(&self, name: &UpstreamName, digest: &Digest) -> Option<u64> {
        let (host, for_users, digest, _) = self.key(name, digest, 0);
        let running = self.running();
        let fits = |key: &Key| (&key.0, key.1, key.2) == (&host, for_users, digest);
        let mut arriving = running.iter().filter(|(key, fill)| fits(key) && fill.is_source());
        arriving.next().map(|((.., size), _)| *size)
    }

    fn key(&self, name: &UpstreamName, digest: &Digest, size: u64) -> Key {
        (name.host().clone(), self.inner.means.registries.needs_user(name), *digest, size)
    }

    /// What fills work with.
    pub(super) fn means(&self) -> &Means {
        &self.inner.means
    }

    /// How many are under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.running().values().filter(|fill| !fill.has_ended()).count() as u64
    }

    /// What became of those that ended.
    pub(super) fn counted(&self) -> &Counted {
        &self.inner.counted
    }

    async fn run(&self, key: Key, fill: Arc<Fill>) {
        let Inner { means, permits, seconds, counted, .. } = &*self.inner;
        let host = fill.name.host().clone();
        let turn =
            self.turns().entry(host.clone()).or_insert_with(|| Arc::new(Semaphore::new(PER_HOST))).clone();
        // Whoever waits for its registry's turn does not hold up the others'.
        let permit = async { (turn.acquire().await, permits.acquire().await) };
        let ended = match permit.await {
            (Ok(_turn), Ok(_permit)) if fill.is_wanted() => pour(&fill, means).await,
            // Whoever asked did not wait for its turn.
            _ => {
                fill.failed(PullError::Failed);
                Ended::Failed
            }
        };
        {
            let mut turns = self.turns();
            drop(turn);
            if turns.get(&host).is_some_and(|turn| Arc::strong_count(turn) == 1) {
                turns.remove(&host);
            }
        }
        let count = match ended {
            Ended::Kept { .. } => &counted.kept,
            Ended::Passed => &counted.passed,
            Ended::Failed => &counted.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if ended == Ended::Failed {
            tokio::time::sleep(REMEMBERED).await;
        }
        let mut running = self.running();
        // One of another name may have taken its place since.
        if running.get(&key).is_some_and(|there| Arc::ptr_eq(there, &fill)) {
            running.remove(&key);
        }
        drop(running);
        if ended == (Ended::Kept { from_peer: false }) {
            seconds.want(fill.digest);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<Fill>>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<Host, Arc<Semaphore>>> {
        self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
