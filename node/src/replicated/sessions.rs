//! The upload sessions that this node is home or mirror of: their table, limits and expiry.
//!
//! Always holds: at most `max_sessions` sessions are open and at most `max_bytes` bytes staged
//! here, other nodes' mirrored uploads included; a session that nobody works on ends at its expiry
//! and frees its file. A closed session is remembered by its digest and size alone, for the repeated last request.
//! Never does: network, or deciding who is home.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use trow_raft::{Algorithm, Digest, NodeId, RepoName};

use super::token::UploadId;
use crate::peer_blobs::wire::Fault;
use crate::store::Staged;

/// Closed sessions remembered; the oldest goes first. A repeated last request of a forgotten one
/// is answered from the state.
const CLOSED_MAX: usize = 10_000;
/// A request waits this long for another one of the session, then breaks into its body.
const POLITE: Duration = Duration::from_secs(2);
/// The longest wait after that: the other one may be flushing a big blob to a slow disk.
const PATIENT: Duration = Duration::from_secs(120);

/// How much may be staged here.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Life of a session since its last acknowledgement.
    pub expiry: Duration,
    /// Most open sessions.
    pub max_sessions: usize,
    /// Most staged bytes.
    pub max_bytes: u64,
}

/// One session as this node has it.
pub struct Session {
    /// Which.
    pub id: UploadId,
    /// The repository that it is for.
    pub repo: RepoName,
    /// What the digest will be computed with, when the client said so.
    pub hint: Option<Algorithm>,
    state: Arc<tokio::sync::Mutex<State>>,
    /// What claims are answered from without waiting for a body in progress.
    glance: Mutex<Glance>,
    /// Counts requests that break into the body in progress.
    breaks: watch::Sender<u64>,
    /// Seconds since 1970.
    expiry: AtomicU64,
}

/// The session's place in the cluster; changes only under its lock, but for `before`.
#[derive(Clone, Debug)]
pub struct Glance {
    /// Rises with each takeover.
    pub term: u64,
    /// Who takes the client's bytes.
    pub home: NodeId,
    /// The home of the term before, as long as its tickets are good here: until the client is
    /// seen with one of this term, since it may not have been told of it, or that home wakes up.
    pub before: Option<NodeId>,
    /// Who must have each byte before it is acknowledged; empty on a mirror.
    pub mirrors: Vec<NodeId>,
    /// Bytes here.
    pub length: u64,
    /// The bytes are held; nothing can be appended.
    pub closed: bool,
    /// Cancelled, or not what its digest said: nobody may take it over.
    pub ended: bool,
    /// This node is home no longer than until a mirror takes over: it is about to end.
    pub handed: bool,
}

/// What the session's lock guards.
pub struct State {
    /// The bytes.
    pub content: Content,
    /// What each mirror said that it has, when it was last heard after a body; at the home only.
    pub acked: BTreeMap<NodeId, u64>,
    /// Mirrors that were lost in the request under way: others are asked before them.
    pub lost: Vec<NodeId>,
    /// Nodes that may still have bytes of the session though it is not theirs any more.
    pub former: BTreeSet<NodeId>,
}

/// What is open and staged on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Open sessions that this node is the home of.
    pub home: u64,
    /// Open sessions that it mirrors for others.
    pub mirror: u64,
    /// Bytes staged for both.
    pub bytes: u64,
}

/// The bytes of a session.
pub enum Content {
    /// Still arriving.
    Open {
        /// The file.
        staged: Box<Staged>,
        /// Its share of the node's limits.
        share: Share,
    },
    /// Verified and held under its digest.
    Held {
        /// The digest that it was closed with.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The bytes are gone: cancelled, failed, or not what their digest said.
    Gone,
}

/// A session's share of the limits, given back when dropped.
pub struct Share {
    usage: Arc<Usage>,
    bytes: u64,
}

#[derive(Default)]
struct Usage {
    sessions: AtomicU64,
    bytes: AtomicU64,
}

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

impl Sessions {
    /// An empty table.
    pub fn new(limits: Limits) -> Sessions {
        Sessions { limits, usage: Arc::default(), table: Mutex::default() }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Room for one more session.
    ///
    /// # Errors
    /// [`Fault::TooMany`].
    pub fn admit(&self) -> Result<Share, Fault> {
        let share = Share { usage: self.usage.clone(), bytes: 0 };
        let before = self.usage.sessions.fetch_add(1, Ordering::Relaxed);
        // Made first, so that its drop takes the count back on refusal.
        if before >= self.limits.max_sessions as u64 || self.is_full(1) {
            return Err(Fault::TooMany);
        }
        Ok(share)
    }

    /// Counts `bytes` more toward `share`.
    ///
    /// # Errors
    /// [`Fault::TooMany`] when the node's staged bytes would exceed the limit.
    pub fn charge(&self, share: &mut Share, bytes: u64) -> Result<(), Fault> {
        if self.is_full(bytes) {
            return Err(Fault::TooMany);
        }
        share.usage.bytes.fetch_add(bytes, Ordering::Relaxed);
        share.bytes += bytes;
        Ok(())
    }

    fn is_full(&self, more: u64) -> bool {
        self.usage.bytes.load(Ordering::Relaxed).saturating_add(more) > self.limits.max_bytes
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
        let there = table.sessions.get(&session.id).map(|there| there.glance().term);
        if let Some(term) = there.filter(|term| *term > session.glance().term) {
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
            let glance = session.glance();
            glance.home == me && !glance.closed && !glance.ended && !glance.handed
        };
        table.sessions.values().filter(open).cloned().collect()
    }

    /// What is open and staged here, on the node `me`.
    pub fn figures(&self, me: NodeId) -> Figures {
        let mut figures = Figures { bytes: self.usage.bytes.load(Ordering::Relaxed), ..Figures::default() };
        for session in lock(&self.table).sessions.values() {
            match session.glance() {
                Glance { closed: true, .. } | Glance { ended: true, .. } => {}
                Glance { home, .. } if home == me => figures.home += 1,
                _ => figures.mirror += 1,
            }
        }
        figures
    }

    /// Notes that a session was closed, so that the memory of closed ones stays bounded.
    pub fn closed(&self, id: UploadId) {
        let mut table = lock(&self.table);
        table.closed.push_back(id);
        while table.closed.len() > CLOSED_MAX
            && let Some(oldest) = table.closed.pop_front()
        {
            // By now it may be open again: as a mirror of another home.
            let over = |session: &Arc<Session>| session.glance().closed || session.glance().ended;
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

impl State {
    fn new(content: Content) -> State {
        State { content, acked: BTreeMap::new(), lost: Vec::new(), former: BTreeSet::new() }
    }

    /// Bytes that are staged.
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::Open { staged, .. } => staged.len(),
            Content::Held { .. } | Content::Gone => 0,
        }
    }
}

impl Glance {
    /// Of a session that begins.
    pub fn new(term: u64, home: NodeId) -> Glance {
        let (before, mirrors) = (None, Vec::new());
        Glance { term, home, before, mirrors, length: 0, closed: false, ended: false, handed: false }
    }
}

impl Session {
    /// A session that expires at `expiry`, in seconds since 1970.
    pub fn new(
        (id, repo, hint): (UploadId, RepoName, Option<Algorithm>),
        glance: Glance,
        content: Content,
        expiry: u64,
    ) -> Arc<Session> {
        Arc::new(Session {
            id,
            repo,
            hint,
            state: Arc::new(tokio::sync::Mutex::new(State::new(content))),
            glance: Mutex::new(glance),
            breaks: watch::Sender::new(0),
            expiry: AtomicU64::new(expiry),
        })
    }

    /// The session for one request alone. One that has a body in progress is waited for shortly
    /// and then broken into: its sender may be a node or client that is gone without a word.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the other request does not end.
    pub async fn lock(&self) -> Result<OwnedMutexGuard<State>, Fault> {
        match tokio::time::timeout(POLITE, self.state.clone().lock_owned()).await {
            Ok(state) => Ok(state),
            Err(_) => self.seize().await,
        }
    }

    /// As [`Session::lock`], breaking into a body in progress at once.
    ///
    /// # Errors
    /// As [`Session::lock`].
    pub async fn seize(&self) -> Result<OwnedMutexGuard<State>, Fault> {
        self.breaks.send_modify(|count| *count += 1);
        let wait = tokio::time::timeout(PATIENT, self.state.clone().lock_owned());
        wait.await.map_err(|_| Fault::unavailable("another request of the upload does not end"))
    }

    /// The session once nothing works on it, however long that takes.
    pub async fn wait(&self) -> OwnedMutexGuard<State> {
        self.state.clone().lock_owned().await
    }

    /// Whether a request works on it just now.
    fn is_busy(&self) -> bool {
        self.state.try_lock().is_err()
    }

    /// Resolves when [`Session::seize`] is called; to be taken before a body is begun.
    pub fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }

    /// A copy of the session's place.
    pub fn glance(&self) -> Glance {
        lock(&self.glance).clone()
    }

    /// Changes the session's place; the caller has its lock.
    pub fn update<T>(&self, change: impl FnOnce(&mut Glance) -> T) -> T {
        change(&mut lock(&self.glance))
    }

    /// Puts the expiry off to `expiry`, in seconds since 1970.
    pub fn prolong(&self, expiry: u64) {
        self.expiry.fetch_max(expiry, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.usage.sessions.fetch_sub(1, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A panic elsewhere ends the process, so that a poisoned lock is never one of broken data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
