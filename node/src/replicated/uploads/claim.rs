//! Whether this node is an upload's home, and becoming so when the home does not answer.
//!
//! Always holds: a takeover raises the term before anything else, so that the former home, should
//! it wake, is refused by this node and cannot acknowledge; it happens only where every byte is
//! that the ticket says was acknowledged. No claim waits for bytes to be copied, and one without
//! takeover not even for a body in progress: a busy home is a living one.
//!
//! The ticket of before a takeover stays good here until the client is seen with one of the new
//! term: until then nobody knows whether it was told. It ends at once when the former home wakes,
//! so that its tickets mean nothing anywhere.

use std::collections::BTreeMap;

use tracing::info;
use trow_raft::RepoName;

use super::super::sessions::{Content, Session, SessionStatus};
use super::super::token::Ticket;
use super::Uploads;
use crate::peer_blobs::wire::{Claimed, Fault};

impl Uploads {
    /// Says how far the session is, if this node is its home by `ticket`.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when there is no such session, [`Fault::Stale`] when it has moved on,
    /// [`Fault::Unavailable`] when a mirror is to take it over.
    pub fn claim(&self, repo: &RepoName, ticket: &Ticket, closing: bool) -> Result<Claimed, Fault> {
        let session = self.inner.sessions.get(ticket.id, repo)?;
        let status = session.status();
        self.is_home(&status, ticket, closing)?;
        if status.handed {
            return Err(Fault::unavailable("this node is about to end and has handed the upload on"));
        }
        if status.term == ticket.term {
            session.update(|status| status.before = None);
        }
        Ok(self.claimed(&session))
    }

    /// Becomes the home of a session that this node mirrors by `ticket`. Its mirrors are brought
    /// level by the request that follows.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it does not have every acknowledged byte, [`Fault::Stale`] when the
    /// session has moved on.
    pub async fn take_over(&self, repo: &RepoName, ticket: &Ticket, closing: bool) -> Result<Claimed, Fault> {
        let me = self.inner.me;
        let session = self.inner.sessions.get(ticket.id, repo)?;
        // From here on the former home is refused, and what it was sending ends.
        let moved = |status: &SessionStatus| status.term != ticket.term || status.home != ticket.home;
        let status = session.status();
        if moved(&status) {
            return self.taken_already(&session, &status, ticket, closing);
        }
        let mut state = session.seize().await?;
        let status = session.status();
        if moved(&status) {
            return self.taken_already(&session, &status, ticket, closing);
        }
        match &state.content {
            Content::Open { staged, .. } if staged.len() < ticket.length => return Err(Fault::Unknown),
            Content::Gone => return Err(Fault::Unknown),
            Content::Open { .. } | Content::Held { .. } => {}
        }
        // What came in a body that broke off counts from now on.
        let flushed = self.flush(&session, &mut state).await;
        self.settle_fault(&session, &mut state, flushed)?;
        let mirrors = ticket.mirrors.iter().copied().filter(|node| *node != me && *node != ticket.home);
        session.update(|status| {
            status.term = ticket.term + 1;
            status.home = me;
            status.before = Some(ticket.home);
            status.mirrors = mirrors.collect();
        });
        session.prolong(self.expiry());
        state.acked = BTreeMap::new();
        state.lost = Vec::new();
        state.former.insert(ticket.home);
        info!(upload = %session.id, term = ticket.term + 1, from = %ticket.home, "took an upload over");
        Ok(self.claimed(&session))
    }

    /// The session is not the ticket's any more: somebody else's request was faster, or the reply
    /// to it was lost, or the client goes on with an old ticket.
    fn taken_already(
        &self,
        session: &Session,
        status: &SessionStatus,
        ticket: &Ticket,
        closing: bool,
    ) -> Result<Claimed, Fault> {
        let here = status.home == self.inner.me && status.term > ticket.term && !status.ended;
        let kept = status.before == Some(ticket.home) && status.term == ticket.term + 1;
        if here && (closing || kept) {
            Ok(self.claimed(session))
        } else {
            Err(Fault::Stale { term: status.term })
        }
    }

    /// Refuses a node that takes itself for the session's home by `ticket`. If that is the home
    /// of before, it is awake: whoever has its tickets is answered by it from now on.
    pub(super) fn refuse(&self, session: &Session, ticket: &Ticket) -> Fault {
        session.update(|status| {
            if status.before == Some(ticket.home) {
                status.before = None;
            }
            Fault::Stale { term: status.term }
        })
    }
}
