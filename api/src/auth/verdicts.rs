//! What was found out about credentials, kept for a while.
//!
//! Always holds: bounded, and no credentials can be read from it: they are looked up by a hash
//! under a key that is made with the process. What was refused has a place of its own, so that
//! guesses do not drive out those who are known.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Most verdicts of each kind.
const MOST: usize = 4096;
/// A verdict that nobody asked for is forgotten after this long. It depends on nothing but the
/// file of users, with which all are dropped, so those in use may stay.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Stands for a name and a password.
pub(super) type Key = [u8; 32];

/// Makes [`Key`]s.
pub(super) struct Keyed([u8; 32]);

/// Verdicts by key.
#[derive(Default)]
pub(super) struct Verdicts {
    right: Kept,
    wrong: Kept,
}

#[derive(Default)]
struct Kept(HashMap<Key, Instant>);

impl Keyed {
    pub(super) fn new() -> Self {
        Keyed(rand::random())
    }

    pub(super) fn key(&self, name: &str, password: &[u8]) -> Key {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(password);
        hash.finalize().into()
    }
}

impl Verdicts {
    /// The verdict, if there is one.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<bool> {
        if self.right.touch(key, now) {
            return Some(true);
        }
        self.wrong.touch(key, now).then_some(false)
    }

    pub(super) fn put(&mut self, key: Key, right: bool, now: Instant) {
        let kept = if right { &mut self.right } else { &mut self.wrong };
        kept.put(key, now);
    }
}

impl Kept {
    fn touch(&mut self, key: &Key, now: Instant) -> bool {
        match self.0.get_mut(key) {
            Some(used) if now.duration_since(*used) < IDLE => {
                *used = now;
                true
            }
            _ => false,
        }
    }

    fn put(&mut self, key: Key, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, used| now.duration_since(*used) < IDLE);
        }
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, used)| **used).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_name_and_password_apart() {
        let keyed = Keyed::new();
        assert_eq!(keyed.key("a", b"b"), keyed.key("a", b"b"));
        assert_ne!(keyed.key("a", b"bc"), keyed.key("ab", b"c"));
        assert_ne!(keyed.key("a", b"b"), Keyed::new().key("a", b"b"));
    }

    #[test]
    fn guesses_do_not_drive_out_the_known() {
        let (keyed, mut verdicts, now) = (Keyed::new(), Verdicts::default(), Instant::now());
        let known = keyed.key("alice", b"right");
        verdicts.put(known, true, now);
        let guess = |n: usize| keyed.key("alice", &n.to_be_bytes());
        for n in 0..=MOST {
            verdicts.put(guess(n), false, now + Duration::from_millis(n as u64));
        }
        assert_eq!(verdicts.wrong.0.len(), MOST);
        assert_eq!(verdicts.get(&known, now), Some(true));
        assert_eq!(verdicts.get(&guess(0), now), None);
        assert_eq!(verdicts.get(&guess(MOST), now), Some(false));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let (keyed, mut verdicts, mut now) = (Keyed::new(), Verdicts::default(), Instant::now());
        let (used, idle) = (keyed.key("a", b"a"), keyed.key("b", b"b"));
        verdicts.put(used, true, now);
        verdicts.put(idle, true, now);
        for _ in 0..3 {
            now += IDLE / 2;
            assert_eq!(verdicts.get(&used, now), Some(true));
        }
        assert_eq!(verdicts.get(&idle, now), None);
    }
}
