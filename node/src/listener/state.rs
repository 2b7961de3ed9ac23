//! What is known of one connection, shared between its stream, its requests and its watch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::framing::At;

/// Most requests that a connection may give up before their answer began; each answer makes up
/// for one. HTTP/2 counts streams that are open, and one that was given up is not: without this a
/// client could have any number of requests begun for it.
const GIVEN_UP_MAX: usize = 500;

/// Shared between the parts of one connection.
#[derive(Clone)]
pub(super) struct Shared(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    http2: AtomicBool,
    flooded: Notify,
}

#[derive(Debug)]
struct State {
    at: At,
    /// When the head being read began.
    head_since: Option<Instant>,
    /// Requests that have not been answered to the last byte.
    in_flight: usize,
    /// Of those, the ones whose answer has begun.
    answering: usize,
    /// Requests that were given up, less those that were answered.
    given_up: usize,
    /// A request was read to the end of its head.
    served: bool,
    /// When bytes last went either way, or a request ended.
    progress: Instant,
}

/// What the time that passed calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Nothing is under way: close as HTTP asks.
    Finish,
    /// The other side does not go on: close at once.
    Abort,
}

impl Shared {
    pub(super) fn new() -> Self {
        let state = State {
            at: At::Between,
            head_since: None,
            in_flight: 0,
            answering: 0,
            given_up: 0,
            served: false,
            progress: Instant::now(),
        };
        let (state, http2, flooded) = (Mutex::new(state), AtomicBool::new(false), Notify::new());
        Shared(Arc::new(Inner { state, http2, flooded }))
    }

    // Nothing panics while it holds the lock, so a poisoned lock's content is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.0.http2.load(Ordering::Relaxed)
    }

    /// Bytes were read, after which the connection stands at `at`.
    pub(super) fn read(&self, at: At) {
        let now = Instant::now();
        if at == At::Opaque {
            self.0.http2.store(true, Ordering::Relaxed);
        }
        let mut state = self.lock();
        if at != At::Head {
            state.head_since = None;
        } else if state.at != At::Head || state.head_since.is_none() {
            state.head_since = Some(now);
        }
        state.served = state.served || matches!(at, At::Body | At::Opaque);
        (state.at, state.progress) = (at, now);
    }

    pub(super) fn wrote(&self) {
        self.lock().progress = Instant::now();
    }

    /// A request is under way until the returned value is dropped.
    pub(super) fn begin(&self) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.served = true;
        InFlight { shared: self.clone(), answering: false }
    }

    /// Returns when the client gave up more requests than it may.
    pub(super) async fn flooded(&self) {
        self.0.flooded.notified().await;
    }

    /// What is to be done `now`; while the listener closes, since `draining`.
    pub(super) fn due(&self, limits: &Limits, draining: Option<(Instant, std::time::Duration)>) -> Due {
        let (now, state) = (Instant::now(), self.lock());
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if state.answering > 0 {
            return if passed(state.progress, limits.stall) { Due::Abort } else { Due::Nothing };
        }
        if state.in_flight > 0 {
            // A handler is at work, or waits for the body, which has its own watch.
            return Due::Nothing;
        }
        if let Some(since) = state.head_since {
            return if passed(since, limits.head_time) { Due::Abort } else { Due::Nothing };
        }
        if let Some((since, quiet)) = draining {
            let over = passed(state.progress.max(since), quiet);
            return if over { Due::Finish } else { Due::Nothing };
        }
        let patience = if state.served { limits.idle } else { limits.head_time };
        if passed(state.progress, patience) { Due::Finish } else { Due::Nothing }
    }
}

/// Counts one request as long as it lives.
pub(super) struct InFlight {
    shared: Shared,
    answering: bool,
}

impl InFlight {
    /// The answer begins.
    pub(super) fn answer(&mut self) {
        if !self.answering {
            self.answering = true;
            let mut state = self.shared.lock();
            state.answering += 1;
            state.given_up = state.given_up.saturating_sub(1);
            state.progress = Instant::now();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight -= 1;
        state.answering -= usize::from(self.answering);
        state.progress = Instant::now();
        if !self.answering {
            state.given_up += 1;
            if state.given_up > GIVEN_UP_MAX {
                self.shared.0.flooded.notify_one();
            }
        }
    }
}
