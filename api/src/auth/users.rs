//! Checking passwords: slow by design, so bounded, shared and remembered.
//!
//! Always holds: credentials that were checked are not checked again while the file of users is
//! the same; at most [`Limits::at_once`] checks run and few wait, of one address fewer still, so
//! that a flood of guesses costs the others a short wait at most; the same credentials sent many
//! times at once are checked once. Never does: read files.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::htpasswd::Htpasswd;
use super::verdicts::{Key, Keyed, Verdicts};

/// What checking may cost.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Checks at work; each takes a core.
    at_once: usize,
    /// Checks at work or waiting.
    all: usize,
    /// Of those, the ones asked for from one address.
    of_one: usize,
    /// How long a request waits for its verdict.
    wait: Duration,
}

/// Those who can log in. Cheap to clone; clones are the same users.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    places: Semaphore,
    keyed: Keyed,
    limits: Limits,
}

struct State {
    file: Arc<Htpasswd>,
    verdicts: Verdicts,
    /// Checks at work or waiting.
    pending: HashMap<Key, watch::Receiver<Option<bool>>>,
    /// How many of them were asked for from where.
    from: HashMap<Option<IpAddr>, usize>,
}

/// Too many checks at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub struct Busy;

impl Users {
    /// The users of a file.
    pub fn new(file: Htpasswd) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // The other half of the cores goes on serving those who are known.
        let at_once = (cores / 2).max(1);
        Users::with(file, Limits { at_once, all: 64, of_one: 16, wait: Duration::from_secs(10) })
    }

    fn with(file: Htpasswd, limits: Limits) -> Self {
        let state = State {
            file: Arc::new(file),
            verdicts: Verdicts::default(),
            pending: HashMap::new(),
            from: HashMap::new(),
        };
        let places = Semaphore::new(limits.at_once);
        Users(Arc::new(Inner { state: Mutex::new(state), places, keyed: Keyed::new(), limits }))
    }

    /// From now on these are the users; what was found out about the old ones is forgotten.
    pub fn replace(&self, file: Htpasswd) {
        let mut state = self.0.lock();
        state.file = Arc::new(file);
        state.verdicts = Verdicts::default();
        // Checks against the old file go on, and nobody joins them any more.
        state.pending.clear();
    }

    /// Whether the password is the user's; `from` is who asks.
    ///
    /// # Errors
    /// Too many are asking.
    pub async fn verify(&self, name: &str, password: &[u8], from: Option<IpAddr>) -> Result<bool, Busy> {
        let key = self.0.keyed.key(name, password);
        let mut verdict = {
            let mut state = self.0.lock();
            if let Some(right) = state.verdicts.get(&key, Instant::now()) {
                return Ok(right);
            }
            match state.pending.get(&key) {
                Some(verdict) => verdict.clone(),
                None => self.begin(&mut state, key, (name, password), from)?,
            }
        };
        let decided = tokio::time::timeout(self.0.limits.wait, verdict.wait_for(Option::is_some)).await;
        // A check whose task is gone was cut off by the end of the process.
        decided.map_err(|_| Busy)?.ok().and_then(|verdict| *verdict).ok_or(Busy)
    }

    /// Begins a check, which goes on when the client does not wait for it.
    fn begin(
        &self,
        state: &mut State,
        key: Key,
        (name, password): (&str, &[u8]),
        from: Option<IpAddr>,
    ) -> Result<watch::Receiver<Option<bool>>, Busy> {
        let (limits, from) = (self.0.limits, from.map(network));
        let of_one = state.from.get(&from).copied().unwrap_or_default();
        let all: usize = state.from.values().sum();
        if all >= limits.all || of_one >= limits.of_one {
            return Err(Busy);
        }
        state.from.insert(from, of_one + 1);
        let (send, verdict) = watch::channel(None);
        state.pending.insert(key, verdict.clone());
        let (inner, file) = (self.0.clone(), state.file.clone());
        let (name, password) = (name.to_owned(), password.to_owned());
        tokio::spawn(async move {
            let _place = inner.places.acquire().await;
            let check = {
                let file = file.clone();
                tokio::task::spawn_blocking(move || file.check(&name, &password).0).await
            };
            let mut state = inner.lock();
            if let Some(of_one) = state.from.get_mut(&from) {
                *of_one -= 1;
                if *of_one == 0 {
                    state.from.remove(&from);
                }
            }
            let right = check.ok();
            if Arc::ptr_eq(&state.file, &file) {
                state.pending.remove(&key);
                if let Some(right) = right {
                    state.verdicts.put(key, right, Instant::now());
                }
            }
            drop(state);
            send.send_replace(right);
        });
        Ok(verdict)
    }
}

/// What counts as one address: whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

impl Inner {
    // Nothing panics while it holds the lock, so a poisoned lock's content is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Users").field(&self.0.lock().file).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    const LIMITS: Limits = Limits { at_once: 1, all: 6, of_one: 4, wait: Duration::from_secs(60) };

    fn file(users: &[(&str, &str)]) -> Htpasswd {
        let line =
            |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 5).unwrap());
        Htpasswd::parse(&users.iter().map(line).collect::<String>()).unwrap()
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some([127, 0, 0, last].into())
    }

    /// How many checks are at work or waiting.
    fn waiting(users: &Users) -> usize {
        users.0.lock().from.values().sum()
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once() {
        let users = Users::with(file(&[("alice", "old"), ("bob", "b")]), LIMITS);
        for _ in 0..2 {
            assert_eq!(users.verify("alice", b"old", None).await, Ok(true));
            assert_eq!(users.verify("alice", b"new", None).await, Ok(false));
        }
        users.replace(file(&[("alice", "new")]));
        assert_eq!(users.verify("alice", b"old", None).await, Ok(false));
        assert_eq!(users.verify("alice", b"new", None).await, Ok(true));
        assert_eq!(users.verify("bob", b"b", None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_check_of_the_old_file_is_not_remembered_for_the_new_one() {
        let users = Users::with(file(&[("alice", "old")]), LIMITS);
        // Nothing can be decided while this is held.
        let place = users.0.places.acquire().await.unwrap();
        let (asked, old) = (users.clone(), users.clone());
        let asked = tokio::spawn(async move { asked.verify("alice", b"old", None).await });
        while waiting(&old) == 0 {
            tokio::task::yield_now().await;
        }
        users.replace(file(&[("alice", "new")]));
        drop(place);
        assert_eq!(asked.await.unwrap(), Ok(true));
        assert_eq!(users.verify("alice", b"old", None).await, Ok(false));
        assert_eq!(waiting(&users), 0);
    }

    #[tokio::test]
    async fn the_same_credentials_are_checked_once() {
        let users = Users::with(file(&[("alice", "a")]), LIMITS);
        // Far more than may wait.
        let all = join_all((0..100).map(|_| users.verify("alice", b"a", address(1)))).await;
        assert!(all.iter().all(|right| *right == Ok(true)), "{all:?}");
        assert_eq!(waiting(&users), 0);
    }

    #[tokio::test]
    async fn a_flood_of_guesses_is_refused_and_the_others_get_in() {
        let users = Users::with(file(&[("alice", "a"), ("bob", "b")]), LIMITS);
        assert_eq!(users.verify("alice", b"a", address(1)).await, Ok(true));
        let place = users.0.places.acquire().await.unwrap();
        let guesses = (0..20).map(|n| {
            let users = users.clone();
            tokio::spawn(
                async move { users.verify("alice", format!("guess {n}").as_bytes(), address(9)).await },
            )
        });
        let guesses: Vec<_> = guesses.collect();
        while waiting(&users) < LIMITS.of_one {
            tokio::task::yield_now().await;
        }
        // Whoever is known does not wait; whoever comes from elsewhere has a place in the queue.
        assert_eq!(users.verify("alice", b"a", address(9)).await, Ok(true));
        let (other, bob) = (users.clone(), "bob");
        let other = tokio::spawn(async move { other.verify(bob, b"b", address(2)).await });
        while waiting(&users) <= LIMITS.of_one {
            tokio::task::yield_now().await;
        }
        drop(place);
        assert_eq!(other.await.unwrap(), Ok(true));
        let guesses: Vec<_> = join_all(guesses).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(guesses.iter().filter(|guess| **guess == Ok(false)).count(), LIMITS.of_one, "{guesses:?}");
        assert_eq!(guesses.iter().filter(|guess| **guess == Err(Busy)).count(), 20 - LIMITS.of_one);
        assert_eq!(waiting(&users), 0);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let network = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[tokio::test]
    async fn the_queue_is_bounded_for_all_together() {
        let users = Users::with(file(&[("alice", "a")]), LIMITS);
        let place = users.0.places.acquire().await.unwrap();
        let ask = |n: u8| {
            let users = users.clone();
            tokio::spawn(async move { users.verify("alice", &[n], address(n)).await })
        };
        let asked: Vec<_> = (0..LIMITS.all as u8).map(ask).collect();
        while waiting(&users) < LIMITS.all {
            tokio::task::yield_now().await;
        }
        assert_eq!(users.verify("alice", b"late", address(100)).await, Err(Busy));
        drop(place);
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Ok(false));
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let users =
            Users::with(file(&[("alice", "a")]), Limits { wait: Duration::from_millis(20), ..LIMITS });
        let place = users.0.places.acquire().await.unwrap();
        assert_eq!(users.verify("alice", b"a", None).await, Err(Busy));
        drop(place);
        // What was begun is finished all the same.
        while waiting(&users) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(users.verify("alice", b"a", None).await, Ok(true));
    }
}
