//! A chunk of an upload, written here and on every mirror before it is acknowledged; and how far
//! all of them are, for a client that asks before it sends the next.

use trow_api::blobs::ByteStream;
use trow_raft::RepoName;

use super::super::sessions::{Content, Session, State};
use super::super::token::Ticket;
use super::Uploads;
use crate::peer_blobs::wire::{Claimed, Fault};
use crate::standstill::{self, Point};

impl Uploads {
    /// Appends `body`, which begins at `at`, here and on every mirror.
    ///
    /// # Errors
    /// See [`Fault`]; what arrived before a body broke off is kept.
    pub async fn append(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<Claimed, Fault> {
        let (session, mut state) = self.at_home(repo, ticket, false).await?;
        let Content::Open { staged, .. } = &state.content else { return Err(Fault::Unknown) };
        let have = staged.len();
        if at.unwrap_or(ticket.length) != have {
            return Err(Fault::OutOfOrder { have });
        }
        self.take_in(&session, &mut state, body, 0).await?;
        standstill::reached(Point::ChunkWritten).await;
        Ok(self.claimed(&session))
    }

    /// The session's length once all its holders are level, with a ticket to go on with.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn progress(&self, repo: &RepoName, ticket: &Ticket) -> Result<Claimed, Fault> {
        let (session, mut state) = self.at_home(repo, ticket, false).await?;
        if !matches!(state.content, Content::Open { .. }) {
            return Err(Fault::Unknown);
        }
        // What they said during an earlier request may not be true any more.
        state.acked.clear();
        let caught_up = self.catch_up(&session, &mut state).await;
        self.settle_fault(&session, &mut state, caught_up)?;
        session.prolong(self.expiry());
        Ok(self.claimed(&session))
    }

    /// Writes `body` but for its first `skip` bytes, here and on every mirror.
    pub(super) async fn take_in(
        &self,
        session: &Session,
        state: &mut State,
        body: ByteStream,
        skip: u64,
    ) -> Result<(), Fault> {
        if state.acked.is_empty() {
            // After a takeover or a broken body nobody is fed yet.
            let caught_up = self.catch_up(session, state).await;
            self.settle_fault(session, state, caught_up)?;
        }
        let before = state.len();
        let received = self.receive(session, state, body, skip).await;
        self.settle_fault(session, state, received)?;
        if state.len() == before {
            // Nothing was sent to them, so that nobody was heard.
            state.acked.clear();
        }
        let caught_up = self.catch_up(session, state).await;
        self.settle_fault(session, state, caught_up)?;
        session.prolong(self.expiry());
        Ok(())
    }
}
