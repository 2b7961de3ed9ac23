//! The part of an upload that its home does: take the client's bytes, keep its mirrors level,
//! and at the end have all of them verify and hold. And the part of a mirror, which obeys.
//!
//! In the order of a push: `begin`; `chunk`, with `receive`, `feed` and `catch_up` below it;
//! `finish` or `cancel`. `mirror` is the other end of these. `home` says whose request may work on
//! a session, `claim` and `leave` how it moves to another home.
//!
//! Always holds: an acknowledgement means that the home and every mirror have written the bytes,
//! and that each mirror said so during this very request; a home that was taken over learns it
//! that way before it acknowledges anything. Forks do no harm: only verified bytes are ever
//! committed.
//! Never does: commit (the node that the client talks to does), or find the home of a ticket.

mod begin;
mod cancel;
mod catch_up;
mod chunk;
mod claim;
mod feed;
mod finish;
mod home;
mod leave;
mod mirror;
mod receive;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tracing::debug;
use trow_raft::{Member, NodeId, Planted, RepoName};

pub(super) use receive::drain;

use super::agreement::Agreement;
use super::sessions::{Limits, Session, Sessions, UploadStats};
use super::token::{Seal, Ticket, now};
use crate::peer_blobs::PeerBlobs;
use crate::peer_blobs::wire::{Claimed, Fault};
use crate::store::Store;

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
    pub fn stats(&self) -> UploadStats {
        self.inner.sessions.stats(self.inner.me)
    }

    /// Drops expired sessions; called every now and then.
    pub fn expire(&self) {
        let expired = self.inner.sessions.expire(now());
        if expired > 0 {
            debug!(expired, "upload sessions expired");
        }
    }

    fn ticket(&self, session: &Session) -> Ticket {
        let status = session.status();
        Ticket {
            id: session.id,
            term: status.term,
            home: status.home,
            mirrors: status.mirrors,
            length: status.length,
            expiry: self.expiry(),
            hint: session.hint,
        }
    }

    fn ticket_text(&self, session: &Session) -> String {
        self.inner.seal.seal(&session.repo, &self.ticket(session))
    }

    fn claimed(&self, session: &Session) -> Claimed {
        let status = session.status();
        Claimed { ticket: self.ticket_text(session), length: status.length, closed: status.closed }
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
