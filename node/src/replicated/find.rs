//! Which node an upload's request belongs to.
//!
//! Always holds: the ticket's home is asked first, and its mirrors only when it does not answer or
//! has lost the session (it restarted); a mirror that is asked then takes the session over.

use tracing::info;
use trow_raft::{NodeId, RepoName};

use super::Replicated;
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
