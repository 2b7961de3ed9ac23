//! Which node an upload's request belongs to.
//!
//! Always holds: the ticket's home is asked first, and its mirrors only when it does not answer or
//! has lost the session (it restarted); a mirror that is asked then takes the session over.

use tracing::{debug, info};
use trow_raft::{Algorithm, NodeId, RepoName};

use super::Replicated;
use super::candidates;
use super::fault::peer_fault;
use super::token::Ticket;
use crate::peer_blobs::wire::{Claimed, Fault, UploadQuery};
use crate::peer_blobs::{PeerError, Upload};

/// Where a session is.
pub(super) struct Place {
    /// Its home now.
    pub home: NodeId,
    /// What the home says of it.
    pub claimed: Claimed,
}

impl Replicated {
    /// Begins a session here, or at another member when this node's word does not count as
    /// evidence yet; at another one if possible when this node is about to end.
    pub(super) async fn begin(&self, repo: &RepoName, hint: Option<Algorithm>) -> Result<Claimed, Fault> {
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

    /// The session's home, which a mirror becomes if need be. `closing`: for its last request,
    /// which a ticket from before a takeover may make too, so that a former home's word that it is
    /// none any more is not the last one.
    pub(super) async fn find(&self, repo: &RepoName, ticket: &Ticket, closing: bool) -> Result<Place, Fault> {
        self.ask(repo, ticket, closing, Some(ticket.home), None).await
    }

    /// As [`Replicated::find`], after the ticket's home failed a request with `fault`: it is not
    /// asked once more, which would take as long again.
    pub(super) async fn find_without_home(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        closing: bool,
        fault: Fault,
    ) -> Result<Place, Fault> {
        self.ask(repo, ticket, closing, None, Some(fault)).await
    }

    /// Asks `home`, then the ticket's mirrors; `failed` is the answer when nobody knows.
    async fn ask(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        closing: bool,
        home: Option<NodeId>,
        mut failed: Option<Fault>,
    ) -> Result<Place, Fault> {
        let home = home.map(|home| (home, false));
        let mirrors = ticket.mirrors.iter().map(|mirror| (*mirror, true));
        for (node, takeover) in home.into_iter().chain(mirrors) {
            match self.claim(repo, ticket, node, takeover, closing).await {
                Ok(claimed) => {
                    if takeover {
                        let from = ticket.home;
                        info!(upload = %ticket.id, %from, to = %node, "an upload has another home");
                    }
                    return Ok(Place { home: node, claimed });
                }
                Err(PeerError::Fault(Fault::Unknown)) => {}
                Err(PeerError::Fault(Fault::Stale { .. })) if closing => {}
                Err(PeerError::Fault(fault)) if !matches!(fault, Fault::Unavailable { .. }) => {
                    return Err(fault);
                }
                Err(error) => failed = Some(peer_fault(error)),
            }
        }
        Err(failed.unwrap_or(Fault::Unknown))
    }

    async fn claim(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        node: NodeId,
        takeover: bool,
        closing: bool,
    ) -> Result<Claimed, PeerError> {
        let uploads = &self.inner.uploads;
        if node == self.inner.me {
            return Ok(match takeover {
                true => uploads.take_over(repo, ticket, closing).await?,
                false => uploads.claim(repo, ticket, closing)?,
            });
        }
        let text = uploads.seal().seal(repo, ticket);
        let query = UploadQuery { takeover, closing, ..UploadQuery::default() };
        self.inner.peers.claim(node, Upload { repo, ticket: &text }, &query).await
    }
}
