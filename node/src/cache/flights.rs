//! One attempt at a time for each thing, whoever asks: the others share what comes of it.
//!
//! Always holds: an attempt goes on without those who wait for it, and what it leaves behind is there before
//! the next one can begin. So whoever begins one looks first whether it is still needed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::Instant;

type Outcome<T> = Shared<BoxFuture<'static, Option<T>>>;

/// The attempts that are under way.
pub struct Flights<K, T> {
    open: Arc<Mutex<HashMap<K, Flight<T>>>>,
}

/// An attempt, to be waited for or not.
#[derive(Clone)]
pub struct Flight<T> {
    begun: Instant,
    outcome: Outcome<T>,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Flights { open: Arc::default() }
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The attempt at `key` that is under way, or `begin`'s as a new one. Needs a Tokio runtime.
    pub fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut open = lock(&self.open);
        if let Some(flight) = open.get(&key) {
            return flight.clone();
        }
        let (done, outcome) = oneshot::channel();
        let flight = Flight { begun: Instant::now(), outcome: outcome.map(Result::ok).boxed().shared() };
        open.insert(key.clone(), flight.clone());
        let (work, all) = (begin(), self.open.clone());
        tokio::spawn(async move {
            let outcome = work.await;
            lock(&all).remove(&key);
            // Nobody may be waiting.
            let _ = done.send(outcome);
        });
        flight
    }

    /// How many attempts are under way.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        lock(&self.open).len()
    }
}

impl<T: Clone> Flight<T> {
    /// What came of it; `None` when this node is about to end.
    pub async fn outcome(self) -> Option<T> {
        self.outcome.await
    }

    /// What came of it within `limit` of its beginning, however late one joined.
    pub async fn within(self, limit: Duration) -> Option<T> {
        tokio::time::timeout_at(self.begun + limit, self.outcome).await.ok().flatten()
    }
}

fn lock<K, T>(open: &Mutex<HashMap<K, T>>) -> MutexGuard<'_, HashMap<K, T>> {
    open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn who_comes_meanwhile_shares_and_who_leaves_ends_nothing() {
        let flights: Flights<u32, usize> = Flights::default();
        let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let begin = || {
            let (count, go) = (count.clone(), go.clone());
            move || async move {
                go.notified().await;
                count.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let first = flights.join(1, begin());
        let others: Vec<_> = (0..100).map(|_| flights.join(1, begin())).collect();
        assert_eq!(first.within(Duration::from_millis(1)).await, None, "it waits no longer than that");
        go.notify_one();
        for other in others {
            assert_eq!(other.outcome().await, Some(1));
        }
        assert_eq!(flights.len(), 0);
        go.notify_one();
        assert_eq!(flights.join(1, begin()).outcome().await, Some(2), "what is over is over");
    }
}
