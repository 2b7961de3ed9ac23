//! Ending a session that no blob comes of, and telling those that have bytes of it.

use futures::future::join_all;
use trow_raft::RepoName;

use super::super::sessions::{Content, Session, State};
use super::super::token::Ticket;
use super::Uploads;
use crate::peer_blobs::wire::Fault;
use crate::peer_blobs::{PeerError, Upload};

impl Uploads {
    /// Ends a session here and on its mirrors.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it is not here, or closed; [`Fault::Stale`] when it was taken over.
    pub async fn cancel(&self, repo: &RepoName, ticket: &Ticket) -> Result<(), Fault> {
        let (session, mut state) = self.at_home(repo, ticket, false).await?;
        if !matches!(state.content, Content::Open { .. }) {
            return Err(Fault::Unknown);
        }
        // One that cannot be reached is no reason to keep the session: it expires there.
        let text = self.ticket_text(&session);
        let upload = Upload { repo, ticket: &text };
        let mirrors = session.status().mirrors;
        let told = join_all(mirrors.iter().map(|mirror| self.inner.peers.mirror_drop(*mirror, upload))).await;
        let stale = told.into_iter().find_map(|told| match told {
            Err(PeerError::Fault(fault @ Fault::Stale { .. })) => Some(fault),
            _ => None,
        });
        self.settle_fault(&session, &mut state, stale.map_or(Ok(()), Err))?;
        session.update(|status| status.mirrors.clear());
        self.forget(&session, &mut state);
        Ok(())
    }

    /// Ends a session whose content is of no use any more. It is remembered as such, so that no
    /// mirror takes it over meanwhile; the mirrors are told in the background.
    pub(super) fn forget(&self, session: &Session, state: &mut State) {
        state.content = Content::Gone;
        session.update(|status| status.ended = true);
        self.inner.sessions.closed(session.id);
        state.former.extend(session.status().mirrors);
        self.dismiss(session, state);
    }

    /// Has the nodes that are no part of the session any more forget it, in the background.
    pub(super) fn dismiss(&self, session: &Session, state: &mut State) {
        let ticket = self.ticket_text(session);
        for node in std::mem::take(&mut state.former) {
            let (peers, repo, ticket) = (self.inner.peers.clone(), session.repo.clone(), ticket.clone());
            tokio::spawn(async move {
                // It expires there anyway when this does not arrive.
                let _ = peers.mirror_drop(node, Upload { repo: &repo, ticket: &ticket }).await;
            });
        }
    }
}
