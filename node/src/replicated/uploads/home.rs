//! Whether a client's request may work on a session here, and what ends that.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use tracing::debug;
use trow_raft::RepoName;

use super::super::sessions::{Content, Session, SessionStatus, State};
use super::super::token::Ticket;
use super::Uploads;
use crate::peer_blobs::wire::Fault;

impl Uploads {
    /// The session and its lock, when this node is its home by `ticket`.
    pub(super) async fn at_home(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        closing: bool,
    ) -> Result<(Arc<Session>, OwnedMutexGuard<State>), Fault> {
        let session = self.inner.sessions.get(ticket.id, repo)?;
        self.is_home(&session.status(), ticket, closing)?;
        let mut state = session.lock().await?;
        // It may have been taken over, or have expired, while we waited.
        self.is_home(&session.status(), ticket, closing)?;
        if !self.inner.sessions.has(&session) {
            return Err(Fault::Unknown);
        }
        state.lost.clear();
        Ok((session, state))
    }

    /// Whether `ticket` leads here. The last request may come with a ticket of before a takeover
    /// by this node: its reply may have been lost together with the newer one.
    pub(super) fn is_home(
        &self,
        status: &SessionStatus,
        ticket: &Ticket,
        closing: bool,
    ) -> Result<(), Fault> {
        let here = status.home == self.inner.me && !status.ended;
        let current = status.term == ticket.term && ticket.home == self.inner.me;
        if here && (current || (closing && status.term > ticket.term)) {
            Ok(())
        } else {
            Err(Fault::Stale { term: status.term })
        }
    }

    /// Passes `result` on; when it says that the session has moved elsewhere, or its file is
    /// broken, the session ends here.
    pub(super) fn settle_fault<T>(
        &self,
        session: &Session,
        state: &mut State,
        result: Result<T, Fault>,
    ) -> Result<T, Fault> {
        if let Err(Fault::Stale { term }) = &result {
            debug!(upload = %session.id, term, "the upload was taken over");
            state.content = Content::Gone;
        }
        if matches!(state.content, Content::Gone) {
            self.inner.sessions.remove(session);
        }
        result
    }
}
