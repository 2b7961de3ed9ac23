//! The last request of an upload: the rest of the bytes, then every holder verifies and holds.
//!
//! Always holds: the home's own copy is held before anybody is told so; a mirror that does not
//! hold the bytes is left out of the evidence and does not fail the rest. Never does: commit.

use futures::future::join_all;
use tracing::warn;
use trow_api::blobs::ByteStream;
use trow_raft::{Digest, Evidence, RepoName};

use super::super::fault::{hold_fault, store_fault};
use super::super::sessions::{Content, Session, State};
use super::super::task;
use super::super::token::Ticket;
use super::{Uploads, drain};
use crate::peer_blobs::Upload;
use crate::peer_blobs::wire::{Fault, Finished, UploadQuery};
use crate::standstill::{self, Point};

impl Uploads {
    /// Appends the rest and has this node and every mirror verify and hold the whole. Repeating
    /// it, with or without the rest, gives fresh evidence.
    ///
    /// # Errors
    /// See [`Fault`]; after [`Fault::DigestMismatch`] the session is gone.
    pub async fn finish(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        digest: &Digest,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<Finished, Fault> {
        let (session, mut state) = self.at_home(repo, ticket, true).await?;
        if let Content::Held { digest: held, size } = state.content {
            drain(body).await;
            return if held == *digest {
                self.vouch(&session, digest, size).await
            } else {
                Err(Fault::DigestMismatch)
            };
        }
        let Content::Open { staged, .. } = &state.content else { return Err(Fault::Unknown) };
        let have = staged.len();
        // A repeated last request brings its chunk again: what an earlier one left of it here is
        // skipped, and the digest says whether it was the same.
        let base = at.unwrap_or(ticket.length);
        if base > have {
            return Err(Fault::OutOfOrder { have });
        }
        self.take_in(&session, &mut state, body, have - base).await?;
        standstill::reached(Point::WholeWritten).await;
        let (this, digest) = (self.clone(), *digest);
        task::to_the_end(async move { this.hold_all(&session, &mut state, &digest).await }).await
    }

    async fn hold_all(
        &self,
        session: &Session,
        state: &mut State,
        digest: &Digest,
    ) -> Result<Finished, Fault> {
        let Content::Open { staged, reservation: _share } =
            std::mem::replace(&mut state.content, Content::Gone)
        else {
            return Err(Fault::Unknown);
        };
        let size = staged.len();
        let status = session.status();
        let ticket = self.ticket_text(session);
        let query = UploadQuery { digest: Some(*digest), length: Some(size), ..UploadQuery::default() };
        let upload = Upload { repo: &session.repo, ticket: &ticket };
        let mirrors =
            status.mirrors.iter().map(|mirror| self.inner.peers.mirror_hold(*mirror, upload, &query));
        let (here, mirrors) = tokio::join!(staged.hold(digest), join_all(mirrors));
        let held = match here {
            Ok(held) => held,
            Err(error) => {
                self.forget(session, state);
                return Err(hold_fault(error));
            }
        };
        state.content = Content::Held { digest: *digest, size };
        session.update(|status| status.closed = true);
        self.inner.sessions.closed(session.id);
        self.dismiss(session, state);
        let mut evidence = vec![held.evidence(self.inner.me)];
        for (mirror, answer) in status.mirrors.iter().zip(mirrors) {
            match answer {
                Ok(finished) => evidence.extend(finished.evidence.into_iter().filter(|e| e.node == *mirror)),
                Err(error) => {
                    warn!(%mirror, %error, upload = %session.id, "a mirror does not hold the upload, which goes on with the others; nothing to do unless it repeats, then look at that node")
                }
            }
        }
        Ok(Finished { size, evidence })
    }

    /// Fresh evidence for a session that was closed before.
    async fn vouch(&self, session: &Session, digest: &Digest, size: u64) -> Result<Finished, Fault> {
        let mirrors = session.status().mirrors;
        let asked =
            mirrors.iter().map(|mirror| self.inner.peers.confirm(*mirror, std::slice::from_ref(digest)));
        let (here, mirrors) = tokio::join!(self.inner.store.confirm(digest), join_all(asked));
        let mut evidence: Vec<Evidence> = mirrors.into_iter().flatten().flatten().flatten().collect();
        evidence.extend(here.map_err(store_fault)?.map(|held| held.evidence(self.inner.me)));
        Ok(Finished { size, evidence })
    }
}
