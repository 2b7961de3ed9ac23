//! Handing on the uploads that this node is home of, when it is told to end.
//!
//! Always holds: a session is handed on only when the mirrors that its client was told of have
//! every byte, as they said just now; one of them takes it over with the next request, wherever
//! that arrives. What cannot be handed on is served here to the end. Never does: break into a body
//! in progress, or begin a takeover itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::super::sessions::{Content, Session};
use super::Uploads;

/// Sessions that are seen to at once; most wait for a request, or ask their mirror one question.
const AT_ONCE: usize = 64;

impl Uploads {
    /// Whether this node is about to end, so that nothing should begin here.
    pub fn is_leaving(&self) -> bool {
        self.inner.leaving.load(Ordering::Relaxed)
    }

    /// From now on no upload begins here if another member can be its home. Hands on those that
    /// are open, the ones with a request under way once that is done; takes at most `limit`.
    pub async fn leave(&self, limit: Duration) {
        self.inner.leaving.store(true, Ordering::Relaxed);
        let until = Instant::now() + limit;
        let open = self.inner.sessions.open_at(self.inner.me);
        let all = open.len();
        let handed = stream::iter(open)
            .map(|session| async move { timeout_at(until, self.hand_on(&session)).await.unwrap_or(false) });
        let handed =
            handed.buffer_unordered(AT_ONCE).filter(|handed| std::future::ready(*handed)).count().await;
        if all > 0 {
            info!(open = all, handed, "handed the open uploads on to their mirrors");
        }
    }

    async fn hand_on(&self, session: &Arc<Session>) -> bool {
        let mut state = session.wait().await;
        let status = session.status();
        let here = status.home == self.inner.me && !status.ended && self.inner.sessions.has(session);
        if !here || !matches!(state.content, Content::Open { .. }) || status.mirrors.is_empty() {
            return false;
        }
        // A mirror may have restarted since it was last heard, and have nothing any more.
        state.acked.clear();
        let caught_up = self.catch_up(session, &mut state).await;
        if let Err(fault) = self.settle_fault(session, &mut state, caught_up) {
            debug!(upload = %session.id, %fault, "an upload cannot be handed on");
            return false;
        }
        // The client knows the mirrors of before, and looks for the upload nowhere else.
        session.update(|now| {
            now.handed = now.mirrors == status.mirrors;
            now.handed
        })
    }
}
