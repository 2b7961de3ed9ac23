//! Whether this node is an upload's home, and becoming so when the home does not answer.
//!
//! Always holds: a takeover raises the term before anything else, so that the former home, should
//! it wake, is refused by this node and cannot acknowledge; it happens only where every byte is
//! that the ticket says was acknowledged. A claim without takeover never waits for a body in
//! progress: a busy home is a living one.

use std::collections::BTreeMap;

use tracing::info;
use trow_raft::RepoName;

use super::super::sessions::Content;
use super::super::token::Ticket;
use super::Uploads;
use crate::peer_blobs::wire::{Claimed, Fault};

impl Uploads {
    /// Says how far the session is, if this node is its home by `ticket`.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when there is no such session, [`Fault::Stale`] when it has moved on.
    pub fn claim(&self, repo: &RepoName, ticket: &Ticket, closing: bool) -> Result<Claimed, Fault> {
        let session = self.inner.sessions.get(ticket.id, repo)?;
        self.is_home(&session.glance(), ticket, closing)?;
        Ok(self.claimed(&session))
    }

    /// Becomes the home of a session that this node mirrors by `ticket`.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it does not have every acknowledged byte, [`Fault::Stale`] when the
    /// session has moved on, [`Fault::Unavailable`] when there are too few new mirrors.
    pub async fn take_over(&self, repo: &RepoName, ticket: &Ticket, closing: bool) -> Result<Claimed, Fault> {
        let me = self.inner.me;
        let session = self.inner.sessions.get(ticket.id, repo)?;
        // From here on the former home is refused, and what it was sending ends.
        let stale = |term| Err(Fault::Stale { term });
        let glance = session.glance();
        if glance.home == me && glance.term > ticket.term {
            // Somebody else's request was faster, or its reply was lost.
            return if closing { Ok(self.claimed(&session)) } else { stale(glance.term) };
        }
        if glance.term != ticket.term || glance.home != ticket.home {
            return stale(glance.term);
        }
        let mut state = session.seize().await?;
        let glance = session.glance();
        if glance.term != ticket.term || glance.home != ticket.home {
            return stale(glance.term);
        }
        match &state.content {
            Content::Open { staged, .. } if staged.len() < ticket.length => return Err(Fault::Unknown),
            Content::Gone => return Err(Fault::Unknown),
            Content::Open { .. } | Content::Held { .. } => {}
        }
        let mirrors = ticket.mirrors.iter().copied().filter(|node| *node != me && *node != ticket.home);
        session.update(|glance| {
            glance.term = ticket.term + 1;
            glance.home = me;
            glance.mirrors = mirrors.collect();
        });
        state.acked = BTreeMap::new();
        info!(upload = %session.id, term = ticket.term + 1, from = %ticket.home, "took an upload over");
        if matches!(state.content, Content::Open { .. }) {
            let level = self.level(&session, &mut state).await;
            self.settle_fault(&session, &mut state, level)?;
        }
        Ok(self.claimed(&session))
    }
}
