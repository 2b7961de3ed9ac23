//! The upload sessions that this node is home or mirror of: their table and expiry.
//!
//! Always holds: at most `max_sessions` sessions are open and at most `max_bytes` bytes staged
//! here, other nodes' mirrored uploads included; a session that nobody works on ends at its expiry
//! and frees its file. A closed session is remembered by its digest and size alone, for the repeated last request.
//! Never does: network, or deciding who is home.

mod limits;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trow_raft::{NodeId, RepoName};

use super::token::UploadId;
use crate::peer_blobs::wire::Fault;
use limits::Usage;
pub use limits::{Limits, Reservation};
pub use session::{Content, Session, SessionStatus, State};

/// Closed sessions remembered; the oldest goes first. A repeated last request of a forgotten one
/// is answered from the state.
const CLOSED_MAX: usize = 10_000;

/// The table.
pub struct Sessions {
    limits: Limits,
    usage: Arc<Usage>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<UploadId, Arc<Session>>,
    closed: VecDeque<UploadId>,
}

/// What is open and staged on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadStats {
    /// Open sessions that this node is the home of.
    pub home: u64,
    /// Open sessions that it mirrors for others.
    pub mirror: u64,
    /// Bytes staged for both.
    pub bytes: u64,
}

impl Sessions {
    /// An empty table.
    pub fn new(limits: Limits) -> Sessions {
        Sessions { limits, usage: Arc::default(), table: Mutex::default() }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Enters a session, replacing one of the same id.
    pub fn insert(&self, session: Arc<Session>) {
        lock(&self.table).sessions.insert(session.id, session);
    }

    /// Enters a mirror's session, unless one of a later term is here: another home may have come
    /// first while this one's file was made.
    ///
    /// # Errors
    /// [`Fault::Stale`].
    pub fn insert_mirror(&self, session: Arc<Session>) -> Result<(), Fault> {
        let mut table = lock(&self.table);
        let there = table.sessions.get(&session.id).map(|there| there.status().term);
        if let Some(term) = there.filter(|term| *term > session.status().term) {
            return Err(Fault::Stale { term });
        }
        table.sessions.insert(session.id, session);
        Ok(())
    }

    /// The session `id` of `repo`, if it is here.
    ///
    /// # Errors
    /// [`Fault::Unknown`].
    pub fn get(&self, id: UploadId, repo: &RepoName) -> Result<Arc<Session>, Fault> {
        let found = lock(&self.table).sessions.get(&id).cloned();
        found.filter(|session| session.repo == *repo).ok_or(Fault::Unknown)
    }

    /// Whether this very session is still in the table: it may have expired or been replaced.
    pub fn has(&self, session: &Arc<Session>) -> bool {
        lock(&self.table).sessions.get(&session.id).is_some_and(|there| Arc::ptr_eq(there, session))
    }

    /// Forgets a session, unless another one has its id by now.
    pub fn remove(&self, session: &Session) {
        let mut table = lock(&self.table);
        if table.sessions.get(&session.id).is_some_and(|there| std::ptr::eq(&**there, session)) {
            table.sessions.remove(&session.id);
        }
    }

    /// The open sessions that the node `me` is home of.
    pub fn open_at(&self, me: NodeId) -> Vec<Arc<Session>> {
        let table = lock(&self.table);
        let open = |session: &&Arc<Session>| {
            let status = session.status();
            status.home == me && !status.closed && !status.ended && !status.handed
        };
        table.sessions.values().filter(open).cloned().collect()
    }

    /// What is open and staged here, on the node `me`.
    pub fn stats(&self, me: NodeId) -> UploadStats {
        let mut stats =
            UploadStats { bytes: self.usage.bytes.load(Ordering::Relaxed), ..UploadStats::default() };
        for session in lock(&self.table).sessions.values() {
            match session.status() {
                SessionStatus { closed: true, .. } | SessionStatus { ended: true, .. } => {}
                SessionStatus { home, .. } if home == me => stats.home += 1,
                _ => stats.mirror += 1,
            }
        }
        stats
    }

    /// Notes that a session was closed, so that the memory of closed ones stays bounded.
    pub fn closed(&self, id: UploadId) {
        let mut table = lock(&self.table);
        table.closed.push_back(id);
        while table.closed.len() > CLOSED_MAX
            && let Some(oldest) = table.closed.pop_front()
        {
            // By now it may be open again: as a mirror of another home.
            let over = |session: &Arc<Session>| session.status().closed || session.status().ended;
            if table.sessions.get(&oldest).is_some_and(over) {
                table.sessions.remove(&oldest);
            }
        }
    }

    /// Drops what expired before `now` (seconds since 1970) and is not in use; says how many.
    pub fn expire(&self, now: u64) -> usize {
        let mut table = lock(&self.table);
        let before = table.sessions.len();
        table.sessions.retain(|_, session| now < session.expiry.load(Ordering::Relaxed) || session.is_busy());
        let Table { sessions, closed } = &mut *table;
        closed.retain(|id| sessions.contains_key(id));
        before - sessions.len()
    }
}

/// A panic elsewhere ends the process, so that a poisoned lock is never one of broken data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
