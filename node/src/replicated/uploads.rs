//! The part of an upload that its home does: take the client's bytes, keep its mirrors level,
//! and at the end have all of them verify and hold.
//!
//! Always holds: an acknowledgement means that the home and every mirror have written the bytes,
//! and that each mirror said so during this very request; a home that was taken over learns it
//! that way before it acknowledges anything. Forks do no harm: only verified bytes are ever
//! committed.
//! Never does: commit (the node that the client talks to does), or find the home of a ticket.

mod claim;
mod leave;
mod level;
mod mirror;
mod pour;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use tracing::{debug, warn};
use trow_api::blobs::ByteStream;
use trow_raft::{Algorithm, Digest, Evidence, Member, NodeId, Planted, RepoName};

pub(super) use pour::drain;

use super::agreement::Agreement;
use super::sessions::{Content, Figures, Glance, Limits, Session, Sessions, State};
use super::task;
use super::token::{Seal, Ticket, UploadId};
use crate::peer_blobs::wire::{Claimed, Fault, Finished, UploadQuery};
use crate::peer_blobs::{PeerBlobs, PeerError, Upload};
use crate::standstill::{self, Point};
use crate::store::{HoldError, Store, StoreError};

/// The uploads that this node is home or mirror of. Cheap to clone.
#[derive(Clone)]
pub struct Uploads {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    store: Store,
    agreed: Agreement,
    peers: PeerBlobs,
    seal: Seal,
    sessions: Sessions,
    /// This node is about to end.
    leaving: AtomicBool,
    planted: Planted,
}

impl Uploads {
    /// None yet, within `limits`.
    pub fn new(
        me: NodeId,
        store: Store,
        agreed: Agreement,
        peers: PeerBlobs,
        seal: Seal,
        (limits, planted): (Limits, Planted),
    ) -> Uploads {
        let sessions = Sessions::new(limits);
        let leaving = AtomicBool::new(false);
        Uploads { inner: Arc::new(Inner { me, store, agreed, peers, seal, sessions, leaving, planted }) }
    }

    /// Seals and opens tickets.
    pub fn seal(&self) -> &Seal {
        &self.inner.seal
    }

    /// The ticket that a peer sends.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it is not one of this cluster for `repo`, or has expired.
    pub fn open(&self, repo: &RepoName, text: &str) -> Result<Ticket, Fault> {
        self.inner.seal.open(repo, text, now()).map_err(|_| Fault::Unknown)
    }

    /// What is open and staged here.
    pub fn figures(&self) -> Figures {
        self.inner.sessions.figures(self.inner.me)
    }

    /// Drops expired sessions; called every now and then.
    pub fn expire(&self) {
        let expired = self.inner.sessions.expire(now());
        if expired > 0 {
            debug!(expired, "upload sessions expired");
        }
    }

    /// Begins a session with this node as its home.
    ///
    /// # Errors
    /// The limits, the disk, or too few members that could be mirrors.
    pub async fn begin(&self, repo: &RepoName, hint: Option<Algorithm>) -> Result<Claimed, Fault> {
        let share = self.inner.sessions.admit()?;
        let staged = self.inner.store.stage(hint).await.map_err(store_fault)?;
        let content = Content::Open { staged: Box::new(staged), share };
        let glance = Glance::new(1, self.inner.me);
        let who = (UploadId::random(), repo.clone(), hint);
        let session = Session::new(who, glance, content, self.expiry());
        let mut state = session.lock().await?;
        if let Err(fault) = self.level(&session, &mut state).await {
            // Those that did become its mirrors need not wait for its expiry.
            self.forget(&session, &mut state);
            return Err(fault);
        }
        drop(state);
        self.inner.sessions.insert(session.clone());
        Ok(self.claimed(&session))
    }

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

    /// Writes `body` but for its first `skip` bytes, here and on every mirror.
    async fn take_in(
        &self,
        session: &Session,
        state: &mut State,
        body: ByteStream,
        skip: u64,
    ) -> Result<(), Fault> {
        if state.acked.is_empty() {
            // After a takeover or a broken body nobody is fed yet.
            let level = self.level(session, state).await;
            self.settle_fault(session, state, level)?;
        }
        let before = state.len();
        let poured = self.pour(session, state, body, skip).await;
        self.settle_fault(session, state, poured)?;
        if state.len() == before {
            // Nothing was sent to them, so that nobody was heard.
            state.acked.clear();
        }
        let level = self.level(session, state).await;
        self.settle_fault(session, state, level)?;
        session.prolong(self.expiry());
        Ok(())
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
        let level = self.level(&session, &mut state).await;
        self.settle_fault(&session, &mut state, level)?;
        session.prolong(self.expiry());
        Ok(self.claimed(&session))
    }

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
        let mirrors = session.glance().mirrors;
        let told = join_all(mirrors.iter().map(|mirror| self.inner.peers.mirror_drop(*mirror, upload))).await;
        let stale = told.into_iter().find_map(|told| match told {
            Err(PeerError::Fault(fault @ Fault::Stale { .. })) => Some(fault),
            _ => None,
        });
        self.settle_fault(&session, &mut state, stale.map_or(Ok(()), Err))?;
        session.update(|glance| glance.mirrors.clear());
        self.forget(&session, &mut state);
        Ok(())
    }

    /// The session and its lock, when this node is its home by `ticket`.
    async fn at_home(
        &self,
        repo: &RepoName,
        ticket: &Ticket,
        closing: bool,
    ) -> Result<(Arc<Session>, tokio::sync::OwnedMutexGuard<State>), Fault> {
        let session = self.inner.sessions.get(ticket.id, repo)?;
        self.is_home(&session.glance(), ticket, closing)?;
        let mut state = session.lock().await?;
        // It may have been taken over, or have expired, while we waited.
        self.is_home(&session.glance(), ticket, closing)?;
        if !self.inner.sessions.has(&session) {
            return Err(Fault::Unknown);
        }
        state.lost.clear();
        Ok((session, state))
    }

    /// Whether `ticket` leads here. The last request may come with a ticket of before a takeover
    /// by this node: its reply may have been lost together with the newer one.
    fn is_home(&self, glance: &Glance, ticket: &Ticket, closing: bool) -> Result<(), Fault> {
        let here = glance.home == self.inner.me && !glance.ended;
        let current = glance.term == ticket.term && ticket.home == self.inner.me;
        if here && (current || (closing && glance.term > ticket.term)) {
            Ok(())
        } else {
            Err(Fault::Stale { term: glance.term })
        }
    }

    async fn hold_all(
        &self,
        session: &Session,
        state: &mut State,
        digest: &Digest,
    ) -> Result<Finished, Fault> {
        let Content::Open { staged, share: _share } = std::mem::replace(&mut state.content, Content::Gone)
        else {
            return Err(Fault::Unknown);
        };
        let size = staged.len();
        let glance = session.glance();
        let ticket = self.ticket_text(session);
        let query = UploadQuery { digest: Some(*digest), length: Some(size), ..UploadQuery::default() };
        let upload = Upload { repo: &session.repo, ticket: &ticket };
        let mirrors =
            glance.mirrors.iter().map(|mirror| self.inner.peers.mirror_hold(*mirror, upload, &query));
        let (here, mirrors) = tokio::join!(staged.hold(digest), join_all(mirrors));
        let held = match here {
            Ok(held) => held,
            Err(error) => {
                self.forget(session, state);
                return Err(hold_fault(error));
            }
        };
        state.content = Content::Held { digest: *digest, size };
        session.update(|glance| glance.closed = true);
        self.inner.sessions.closed(session.id);
        self.dismiss(session, state);
        let mut evidence = vec![held.evidence(self.inner.me)];
        for (mirror, answer) in glance.mirrors.iter().zip(mirrors) {
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
        let mirrors = session.glance().mirrors;
        let asked =
            mirrors.iter().map(|mirror| self.inner.peers.confirm(*mirror, std::slice::from_ref(digest)));
        let (here, mirrors) = tokio::join!(self.inner.store.confirm(digest), join_all(asked));
        let mut evidence: Vec<Evidence> = mirrors.into_iter().flatten().flatten().flatten().collect();
        evidence.extend(here.map_err(store_fault)?.map(|held| held.evidence(self.inner.me)));
        Ok(Finished { size, evidence })
    }

    /// Ends a session whose content is of no use any more. It is remembered as such, so that no
    /// mirror takes it over meanwhile; the mirrors are told in the background.
    fn forget(&self, session: &Session, state: &mut State) {
        state.content = Content::Gone;
        session.update(|glance| glance.ended = true);
        self.inner.sessions.closed(session.id);
        state.former.extend(session.glance().mirrors);
        self.dismiss(session, state);
    }

    /// Has the nodes that are no part of the session any more forget it, in the background.
    fn dismiss(&self, session: &Session, state: &mut State) {
        let ticket = self.ticket_text(session);
        for node in std::mem::take(&mut state.former) {
            let (peers, repo, ticket) = (self.inner.peers.clone(), session.repo.clone(), ticket.clone());
            tokio::spawn(async move {
                // It expires there anyway when this does not arrive.
                let _ = peers.mirror_drop(node, Upload { repo: &repo, ticket: &ticket }).await;
            });
        }
    }

    /// Passes `result` on; when it says that the session has moved elsewhere, or its file is
    /// broken, the session ends here.
    fn settle_fault<T>(
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

    fn ticket(&self, session: &Session) -> Ticket {
        let glance = session.glance();
        Ticket {
            id: session.id,
            term: glance.term,
            home: glance.home,
            mirrors: glance.mirrors,
            length: glance.length,
            expiry: self.expiry(),
            hint: session.hint,
        }
    }

    fn ticket_text(&self, session: &Session) -> String {
        self.inner.seal.seal(&session.repo, &self.ticket(session))
    }

    fn claimed(&self, session: &Session) -> Claimed {
        let glance = session.glance();
        Claimed { ticket: self.ticket_text(session), length: glance.length, closed: glance.closed }
    }

    fn expiry(&self) -> u64 {
        now().saturating_add(self.inner.sessions.limits().expiry.as_secs().max(1))
    }
}

impl Inner {
    /// How many members must hold a blob, and who they may be.
    fn holders(&self) -> Result<(usize, Vec<Member>), Fault> {
        let view = (self.agreed.view)().map_err(Fault::unavailable)?;
        let quorum = view.write_quorum().map_err(Fault::unavailable)?;
        Ok((quorum, view.members().map_err(Fault::unavailable)?))
    }
}

/// The wall clock in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(super) fn store_fault(error: StoreError) -> Fault {
    match error {
        StoreError::NoSpace => Fault::NoSpace,
        error => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the store failed an upload, and the client is told to try again; check the disk"
            );
            Fault::unavailable("the store of the node failed; its log says how")
        }
    }
}

pub(super) fn hold_fault(error: HoldError) -> Fault {
    match error {
        HoldError::DigestMismatch { .. } => Fault::DigestMismatch,
        HoldError::Store(error) => store_fault(error),
    }
}

/// What a peer's answer means to the upload: its own word, or that it cannot be reached.
pub(super) fn peer_fault(error: PeerError) -> Fault {
    match error {
        PeerError::Fault(fault) => fault,
        PeerError::Unreachable { .. } => Fault::unavailable(error),
    }
}
