//! What can be done to a request, and to which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::time::Instant;

use super::seen::{Kind, Seen};

/// Something that is waited for until the test lets go.
#[derive(Clone, Debug)]
pub struct Hold {
    released: Arc<watch::Sender<bool>>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Hold {
    fn default() -> Self {
        Hold { released: Arc::new(watch::Sender::new(false)), waiting: Arc::default() }
    }
}

impl Hold {
    /// Lets go, of those that come later too.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Waits until so many requests are held.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub async fn reached(&self, count: usize, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let waiting = self.waiting.load(Ordering::Relaxed);
            if waiting >= count {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{waiting} requests are held after {limit:?}, not {count}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn wait(&self) {
        let mut released = self.released.subscribe();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The sender lives as long as this does.
        let _ = released.wait_for(|released| *released).await;
    }
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Twist {
    /// Answers with this status, and nothing that was asked for.
    Answer(u16),
    /// Adds a header to the answer, or puts it in the place of one.
    Header(&'static str, String),
    /// Leaves a header of the answer out.
    Without(&'static str),
    /// Redirects (307): `{path}` stands for path and query.
    Redirect(String),
    /// Answers after so long.
    Late(Duration),
    /// Answers when released.
    Silent(Hold),
    /// Sends so many bytes of the body; the rest when released.
    Half(u64, Hold),
    /// Breaks the connection after so many bytes of the body.
    Truncate(u64),
    /// Flips the bits of every byte from this one on.
    Wrong(u64),
    /// Waits this long before each 64 KiB.
    Slow(Duration),
    /// Sends the whole, whatever range is asked for.
    NoRange,
}

/// What is done to which requests.
#[derive(Clone, Debug)]
pub struct Rule {
    method: Option<&'static str>,
    kind: Option<Kind>,
    part: String,
    left: Arc<AtomicU64>,
    pub(super) twist: Twist,
}

impl Rule {
    /// Does this to every request.
    pub fn new(twist: Twist) -> Self {
        Rule {
            method: None,
            kind: None,
            part: String::new(),
            left: Arc::new(AtomicU64::new(u64::MAX)),
            twist,
        }
    }

    /// To those with this method alone.
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// To those of this kind alone.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// To those whose path and query contain this alone.
    pub fn path(mut self, part: impl Into<String>) -> Self {
        self.part = part.into();
        self
    }

    /// To the first so many that match.
    pub fn times(self, times: u64) -> Self {
        self.left.store(times, Ordering::Relaxed);
        self
    }

    /// Whether it is done to this one; each time counts.
    pub(super) fn takes(&self, seen: &Seen) -> bool {
        let fits = self.method.is_none_or(|method| seen.method == method)
            && self.kind.is_none_or(|kind| seen.kind == kind)
            && seen.target.contains(&self.part);
        let spent = |left: u64| left.checked_sub(1);
        fits && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}
