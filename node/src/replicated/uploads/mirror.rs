//! The part of an upload that a mirror does: write what its home sends, hold when told.
//!
//! Always holds: it obeys one home per term and none of an older term; it says how much it has
//! only of what is in its file. Each request of the home breaks into an earlier one that still
//! runs: the home sends one at a time and knows that the earlier one is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::OwnedMutexGuard;
use trow_api::blobs::ByteStream;
use trow_raft::{Digest, RepoName};

use super::super::fault::{hold_fault, store_fault};
use super::super::sessions::{Content, Session, SessionStatus, State};
use super::super::task;
use super::super::token::Ticket;
use super::Uploads;
use crate::peer_blobs::wire::{Fault, Finished, Length};

/// A home that sends nothing for this long in mid-body is gone; its clients are cut off sooner.
const IDLE: Duration = Duration::from_secs(75);

impl Uploads {
    /// Becomes a mirror of the session, from nothing when it was none of this home and term, or
    /// when the home says `reset`.
    ///
    /// # Errors
    /// [`Fault::Stale`] when the session has moved on; the limits; the disk.
    pub async fn mirror_open(&self, repo: &RepoName, ticket: &Ticket, reset: bool) -> Result<Length, Fault> {
        let session = match self.inner.sessions.get(ticket.id, repo) {
            Ok(session) => session,
            Err(_) => return self.mirror_new(repo, ticket).await,
        };
        self.may_obey(&session, ticket)?;
        let mut state = session.seize().await?;
        // It may have become the home itself while we waited.
        let obeyed = self.may_obey(&session, ticket)?;
        match &state.content {
            Content::Open { staged, .. } if obeyed && !reset => {
                session.prolong(ticket.expiry);
                Ok(Length { length: staged.len() })
            }
            Content::Held { .. } if obeyed => Err(Fault::unavailable("the mirror is closed")),
            // Another home may have another history, so that the bytes here prove nothing.
            _ => {
                state.content = Content::Gone;
                self.mirror_new(repo, ticket).await
            }
        }
    }

    async fn mirror_new(&self, repo: &RepoName, ticket: &Ticket) -> Result<Length, Fault> {
        let reservation = self.inner.sessions.reserve()?;
        let staged = self.inner.store.stage(ticket.hint).await.map_err(store_fault)?;
        let content = Content::Open { staged: Box::new(staged), reservation };
        let status = SessionStatus::new(ticket.term, ticket.home);
        let who = (ticket.id, repo.clone(), ticket.hint);
        self.inner.sessions.insert_mirror(Session::new(who, status, content, ticket.expiry))?;
        Ok(Length { length: 0 })
    }

    /// Writes what the home sends, which begins at `at`.
    ///
    /// # Errors
    /// See [`Fault`]; what arrived before an error is kept.
    pub async fn mirror_append(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        at: u64,
        mut body: ByteStream,
    ) -> Result<Length, Fault> {
        let (session, mut state) = self.obey(repo, ticket).await?;
        let State { content, .. } = &mut *state;
        let Content::Open { staged, reservation } = content else {
            return Err(Fault::unavailable("the mirror is closed"));
        };
        if staged.len() != at {
            return Err(Fault::OutOfOrder { have: staged.len() });
        }
        let mut breaks = session.breaks();
        let result = loop {
            let next = tokio::select! {
                _ = breaks.changed() => break Err(Fault::unavailable("another request broke in")),
                next = tokio::time::timeout(IDLE, body.next()) => next,
            };
            let bytes = match next {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(Fault::BrokeOff { why: error.to_string() }),
                Err(_) => break Err(Fault::BrokeOff { why: format!("nothing came for {IDLE:?}") }),
            };
            if let Err(fault) = self.inner.sessions.charge(reservation, bytes.len() as u64) {
                break Err(fault);
            }
            if let Err(error) = staged.write(bytes).await {
                *content = Content::Gone;
                return Err(store_fault(error));
            }
        };
        if let Err(error) = staged.flush().await {
            *content = Content::Gone;
            return Err(store_fault(error));
        }
        let length = staged.len();
        session.update(|status| status.length = length);
        session.prolong(self.expiry());
        result.map(|()| Length { length })
    }

    /// Verifies what is here, which must be `length` bytes, against `digest`, and holds it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn mirror_hold(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        digest: &Digest,
        length: u64,
    ) -> Result<Finished, Fault> {
        let (session, mut state) = self.obey(repo, ticket).await?;
        let (this, digest) = (self.clone(), *digest);
        task::to_the_end(async move { this.hold_mirrored(&session, &mut state, &digest, length).await }).await
    }

    async fn hold_mirrored(
        &self,
        session: &Session,
        state: &mut State,
        digest: &Digest,
        length: u64,
    ) -> Result<Finished, Fault> {
        let me = self.inner.me;
        match std::mem::replace(&mut state.content, Content::Gone) {
            Content::Open { staged, reservation } if staged.len() != length => {
                let have = staged.len();
                state.content = Content::Open { staged, reservation };
                Err(Fault::OutOfOrder { have })
            }
            Content::Open { staged, .. } => {
                let held = staged.hold(digest).await.map_err(|error| {
                    self.inner.sessions.remove(session);
                    hold_fault(error)
                })?;
                state.content = Content::Held { digest: *digest, size: held.size };
                session.update(|status| status.closed = true);
                self.inner.sessions.closed(session.id);
                Ok(Finished { size: held.size, evidence: vec![held.evidence(me)] })
            }
            Content::Held { digest: was, size } => {
                state.content = Content::Held { digest: was, size };
                let held = self.inner.store.confirm(digest).await.map_err(store_fault)?;
                let held = held.filter(|_| was == *digest).ok_or(Fault::Unknown)?;
                Ok(Finished { size: held.size, evidence: vec![held.evidence(me)] })
            }
            Content::Gone => Err(Fault::Unknown),
        }
    }

    /// Forgets the session, as its home or the home of a later term says.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it is not here, [`Fault::Stale`] when it has another home.
    pub async fn mirror_drop(&self, repo: &RepoName, ticket: &Ticket) -> Result<(), Fault> {
        let session = self.inner.sessions.get(ticket.id, repo)?;
        self.may_obey(&session, ticket)?;
        let mut state = session.seize().await?;
        self.may_obey(&session, ticket)?;
        state.content = Content::Gone;
        state.acked = BTreeMap::new();
        self.inner.sessions.remove(&session);
        Ok(())
    }

    async fn obey(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
    ) -> Result<(Arc<Session>, OwnedMutexGuard<State>), Fault> {
        let session = self.inner.sessions.get(ticket.id, repo)?;
        let check = || match self.may_obey(&session, ticket)? {
            true => Ok(()),
            // A later home begins with `mirror_open`.
            false => Err(Fault::Unknown),
        };
        check()?;
        let state = session.seize().await?;
        check()?;
        session.prolong(ticket.expiry);
        Ok((session, state))
    }

    /// Whether the home of `ticket` is the one that is obeyed already, and not a new one.
    ///
    /// # Errors
    /// [`Fault::Stale`] for a home of before, or another one of the same term.
    fn may_obey(&self, session: &Session, ticket: &Ticket) -> Result<bool, Fault> {
        let status = session.status();
        let obeyed = status.term == ticket.term && status.home == ticket.home;
        if obeyed || status.term < ticket.term { Ok(obeyed) } else { Err(self.refuse(session, ticket)) }
    }
}
