//! A client's request of an upload, carried out at the upload's home wherever that is.
//!
//! Always holds: a body is sent once. When the home is lost while it has the request, the outcome
//! is found out from the mirror that takes over; where the mirror lacks some of the body the
//! client is told to try again, never that its content was wrong.

use tracing::debug;
use trow_api::blobs::{ByteStream, UploadError};
use trow_raft::{Algorithm, Digest, RepoName};

use super::Replicated;
use super::candidates;
use super::fault::{peer_fault, upload_error};
use super::find::Place;
use super::passed::{Passed, counted};
use super::token::{Ticket, now};
use super::uploads::drain;
use crate::peer_blobs::wire::{Claimed, Fault, Finished, UploadQuery};
use crate::peer_blobs::{PeerError, Upload, body_of};

impl Replicated {
    /// Begins a session here, or at another member when this node's word does not count as
    /// evidence yet; at another one if possible when this node is about to end.
    pub(super) async fn forward_begin(
        &self,
        repo: &RepoName,
        hint: Option<Algorithm>,
    ) -> Result<Claimed, Fault> {
        let view = (self.inner.agreed.view)().map_err(Fault::unavailable)?;
        let members = view.members().map_err(Fault::unavailable)?;
        drop(view);
        let me = self.inner.me;
        let counts = members.iter().any(|member| member.id == me && member.state.counts());
        if counts && !self.inner.uploads.is_leaving() {
            return self.inner.uploads.begin(repo, hint).await;
        }
        let query = UploadQuery { hint: hint.map(Into::into), ..UploadQuery::default() };
        let silence = |node| self.inner.peers.silence(node);
        let mut last = Fault::unavailable("this node is no full member yet and reaches none that is");
        for home in candidates::to_hold(&[me], &[], &members, &silence, rand::random()) {
            match self.inner.peers.begin(home, repo, &query).await {
                Ok(claimed) => return Ok(claimed),
                Err(error) => {
                    debug!(%home, %error, "a member did not begin an upload");
                    last = peer_fault(error);
                }
            }
        }
        if counts { self.inner.uploads.begin(repo, hint).await } else { Err(last) }
    }

    /// Appends at the home.
    pub(super) async fn forward_append(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<Claimed, UploadError> {
        let place = self.find(repo, ticket, false).await.map_err(upload_error)?;
        if place.claimed.closed {
            return Err(UploadError::Unknown);
        }
        // Without an offset a chunk begins where the client was last told that the upload ends.
        let begin = at.unwrap_or(ticket.length);
        if begin != place.claimed.length {
            return Err(self.out_of_order(repo, &place).await);
        }
        let (body, passed) = counted(body);
        let lost = match self.append_at(repo, &place, begin, Box::pin(body)).await {
            Ok(claimed) => return Ok(claimed),
            Err(PeerError::Fault(Fault::OutOfOrder { .. })) => {
                return Err(self.out_of_order(repo, &place).await);
            }
            Err(error) => error,
        };
        let current = self.opened(repo, &place).map_err(upload_error)?;
        let place = self.after_loss(repo, &current, begin, &passed, lost, false).await?;
        // What the home has counts once its mirrors have it too.
        self.progress_at(repo, &place).await.map_err(upload_error)
    }

    async fn append_at(
        &self,
        repo: &RepoName,
        place: &Place,
        begin: u64,
        body: ByteStream,
    ) -> Result<Claimed, PeerError> {
        if place.home == self.inner.me {
            let current = self.opened(repo, place)?;
            return Ok(self.inner.uploads.append(repo, &current, Some(begin), body).await?);
        }
        let query = UploadQuery { at: Some(begin), ..UploadQuery::default() };
        let upload = Upload { repo, ticket: &place.claimed.ticket };
        self.inner.peers.append(place.home, upload, &query, body_of(body)).await
    }

    /// Brings the rest to the home and has it held.
    pub(super) async fn forward_finish(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        digest: &Digest,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<Finished, UploadError> {
        let place = match self.find(repo, ticket, true).await {
            Ok(place) => place,
            Err(fault) => {
                // What is left of it may be the blob itself; its sender must hear so.
                drain(body).await;
                return Err(upload_error(fault));
            }
        };
        let begin = at.unwrap_or(ticket.length);
        // Behind the end only in a repetition of what the client was told before.
        let in_order = begin == place.claimed.length || begin == ticket.length;
        if !place.claimed.closed && (!in_order || begin > place.claimed.length) {
            return Err(self.out_of_order(repo, &place).await);
        }
        let (body, passed) = counted(body);
        let lost = match self.finish_at(repo, &place, digest, begin, Box::pin(body)).await {
            Ok(finished) => return Ok(finished),
            Err(PeerError::Fault(Fault::OutOfOrder { .. })) => {
                return Err(self.out_of_order(repo, &place).await);
            }
            Err(error) => error,
        };
        let current = self.opened(repo, &place).map_err(upload_error)?;
        let place = self.after_loss(repo, &current, begin, &passed, lost, true).await?;
        let end = place.claimed.length;
        let nothing = Box::pin(futures::stream::empty());
        let again = self.finish_at(repo, &place, digest, end, nothing).await;
        again.map_err(|error| upload_error(peer_fault(error)))
    }

    async fn finish_at(
        &self,
        repo: &RepoName,
        place: &Place,
        digest: &Digest,
        begin: u64,
        body: ByteStream,
    ) -> Result<Finished, PeerError> {
        if place.home == self.inner.me {
            let current = self.opened(repo, place)?;
            return Ok(self.inner.uploads.finish(repo, &current, digest, Some(begin), body).await?);
        }
        let query = UploadQuery { at: Some(begin), digest: Some(*digest), ..UploadQuery::default() };
        let upload = Upload { repo, ticket: &place.claimed.ticket };
        self.inner.peers.finish(place.home, upload, &query, body_of(body)).await
    }

    /// Asks the home how far everybody is.
    pub(super) async fn forward_progress(&self, repo: &RepoName, ticket: &Ticket) -> Result<Claimed, Fault> {
        let place = self.find(repo, ticket, false).await?;
        if place.claimed.closed {
            return Err(Fault::Unknown);
        }
        self.progress_at(repo, &place).await
    }

    async fn progress_at(&self, repo: &RepoName, place: &Place) -> Result<Claimed, Fault> {
        if place.home == self.inner.me {
            let current = self.opened(repo, place)?;
            return self.inner.uploads.progress(repo, &current).await;
        }
        let upload = Upload { repo, ticket: &place.claimed.ticket };
        self.inner.peers.progress(place.home, upload).await.map_err(peer_fault)
    }

    /// Ends the session at its home.
    pub(super) async fn forward_cancel(&self, repo: &RepoName, ticket: &Ticket) -> Result<(), Fault> {
        let place = self.find(repo, ticket, false).await?;
        if place.claimed.closed {
            return Err(Fault::Unknown);
        }
        if place.home == self.inner.me {
            let current = self.opened(repo, &place)?;
            return self.inner.uploads.cancel(repo, &current).await;
        }
        let upload = Upload { repo, ticket: &place.claimed.ticket };
        self.inner.peers.cancel(place.home, upload).await.map_err(peer_fault)
    }

    fn opened(&self, repo: &RepoName, place: &Place) -> Result<Ticket, Fault> {
        let opened = self.inner.uploads.seal().open(repo, &place.claimed.ticket, now());
        opened.map_err(|_| Fault::unavailable("the ticket that a home gave out is not valid here"))
    }

    /// Where the client must go on. It may let go of everything before, so that only what the
    /// home and all its mirrors have is told.
    async fn out_of_order(&self, repo: &RepoName, place: &Place) -> UploadError {
        let told = self.progress_at(repo, place).await.map_err(upload_error);
        match told.and_then(|claimed| self.token(repo, &claimed)) {
            Ok((token, have)) => UploadError::OutOfOrder { have, token: Some(token) },
            Err(error) => error,
        }
    }

    /// After the home failed a request with `error`: if it was lost with the whole body already
    /// sent, the home that takes over, provided that it has all of the body.
    async fn after_loss(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        begin: u64,
        passed: &Passed,
        error: PeerError,
        closing: bool,
    ) -> Result<Place, UploadError> {
        if let Some(broke) = passed.broke() {
            return Err(UploadError::ClientGone(broke));
        }
        let lost = match &error {
            PeerError::Unreachable { .. } => true,
            // It was taken over and did not know.
            PeerError::Fault(Fault::Stale { .. }) => closing,
            PeerError::Fault(_) => false,
        };
        if !lost {
            return Err(upload_error(peer_fault(error)));
        }
        if !passed.is_ended() {
            return Err(UploadError::Unavailable(error.to_string()));
        }
        let end = begin + passed.count();
        let fault = peer_fault(error);
        let place = self.find_without_home(repo, ticket, closing, fault).await.map_err(upload_error)?;
        if place.claimed.length >= end || (closing && place.claimed.closed) {
            Ok(place)
        } else {
            let have = place.claimed.length;
            Err(UploadError::Unavailable(format!(
                "the upload moved in mid-body and has {have} bytes of {end}"
            )))
        }
    }
}
