//! A memory of what is read often, bounded in bytes, and how well it does.
//!
//! Always holds: what is kept weighs no more than the limit; whoever asks says what is still good,
//! and anything else counts as not there. What is asked for once does not push out what is asked
//! for often. Never does: know what it keeps, or when that changes.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder};
pub use quick_cache::{Equivalent, Weighter};

/// How many of the largest one shard has room for.
const PER_SHARD: usize = 16;

/// The memory. Cheap to clone; clones share it.
pub struct Hot<K, V, W> {
    inner: Arc<Inner<K, V, W>>,
}

struct Inner<K, V, W> {
    cache: Cache<K, V, W>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How well a memory does, since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Asked for and given.
    pub hits: u64,
    /// Asked for and not there, or not good any more.
    pub misses: u64,
    /// What is kept now weighs this much.
    pub bytes: u64,
}

impl<K, V, W> Clone for Hot<K, V, W> {
    fn clone(&self) -> Self {
        Hot { inner: self.inner.clone() }
    }
}

impl<K: Eq + Hash, V: Clone, W: Weighter<K, V> + Clone> Hot<K, V, W> {
    /// Of at most `limit` bytes as `weigh` counts them, most of what is kept being about `typical`
    /// and nothing more than `largest`, of which it has room for some dozens.
    pub fn new(limit: u64, typical: u64, largest: u64, weigh: W) -> Self {
        let count = |part: u64| usize::try_from(limit / part.max(1)).unwrap_or(usize::MAX);
        let mut options = OptionsBuilder::new();
        options.weight_capacity(limit).estimated_items_capacity(count(typical));
        // Each shard has its part of the limit, and must not be too small for what is large: by
        // default there are more of them the more cores there are.
        options.shards((count(largest) / PER_SHARD).clamp(1, 64));
        let options = options.build().expect("limit and items are set");
        let cache =
            Cache::with_options(options, weigh, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Hot { inner: Arc::new(Inner { cache, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }) }
    }

    /// What is kept under `key`, if it is still `good`.
    pub fn get<Q>(&self, key: &Q, good: impl Fn(&V) -> bool) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let found = self.inner.cache.get(key);
        let stale = found.as_ref().is_some_and(|value| !good(value));
        if stale {
            // Another reader may have put a better one there meanwhile.
            self.inner.cache.remove_if(key, |value| !good(value));
        }
        let found = found.filter(|_| !stale);
        let counter = if found.is_some() { &self.inner.hits } else { &self.inner.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps `value`, in the place of what may be there.
    pub fn put(&self, key: K, value: V) {
        self.inner.cache.insert(key, value);
    }

    /// Forgets what is kept under `key`.
    pub fn forget<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.inner.cache.remove(key);
    }

    /// How well it does.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.inner.hits.load(Ordering::Relaxed),
            misses: self.inner.misses.load(Ordering::Relaxed),
            bytes: self.inner.cache.weight(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Length;

    impl Weighter<u32, Vec<u8>> for Length {
        fn weight(&self, _: &u32, value: &Vec<u8>) -> u64 {
            value.len() as u64
        }
    }

    #[test]
    fn what_is_kept_stays_within_the_limit() {
        let hot = Hot::new(100_000, 1_000, 1_500, Length);
        for key in 0..5_000u32 {
            hot.put(key, vec![0; 500 + key as usize % 1_000]);
            assert!(hot.stats().bytes <= 100_000);
        }
        assert!(hot.stats().bytes > 50_000, "it keeps next to nothing");
    }

    #[test]
    fn the_largest_have_room() {
        let hot = Hot::new(64 << 20, 4 << 10, 256 << 10, Length);
        for key in 0..128u32 {
            hot.put(key, vec![0; 256 << 10]);
        }
        let kept = (0..128).filter(|key| hot.get(key, |_| true).is_some()).count();
        assert!(kept >= 120, "{kept} of 128, which are half of the limit");
    }

    #[test]
    fn what_is_not_good_any_more_is_not_given_and_not_kept() {
        let hot = Hot::new(100_000, 1_000, 1_500, Length);
        hot.put(1, vec![1; 10]);
        assert_eq!(hot.get(&1, |_| true), Some(vec![1; 10]));
        assert_eq!(hot.get(&1, |_| false), None);
        assert_eq!(hot.stats(), CacheStats { hits: 1, misses: 1, bytes: 0 });
        hot.put(2, vec![2; 10]);
        hot.forget(&2);
        assert_eq!(hot.get(&2, |_| true), None);
    }
}
