//! One session: its bytes, its place in the cluster, and its lock.
//!
//! Always holds: one request works on it at a time; one that does not end is broken into rather
//! than waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use trow_raft::{Algorithm, Digest, NodeId, RepoName};

use super::super::token::UploadId;
use super::{Reservation, lock};
use crate::peer_blobs::wire::Fault;
use crate::store::Staged;

/// A request waits this long for another one of the session, then breaks into its body.
const POLITE: Duration = Duration::from_secs(2);
/// The longest wait after that: the other one may be flushing a big blob to a slow disk.
const PATIENT: Duration = Duration::from_secs(120);

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
    status: Mutex<SessionStatus>,
    /// Counts requests that break into the body in progress.
    breaks: watch::Sender<u64>,
    /// Seconds since 1970.
    pub(super) expiry: AtomicU64,
}

/// The session's place in the cluster; changes only under its lock, but for `before`.
#[derive(Clone, Debug)]
pub struct SessionStatus {
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

/// The bytes of a session.
pub enum Content {
    /// Still arriving.
    Open {
        /// The file.
        staged: Box<Staged>,
        /// Its share of the node's limits.
        reservation: Reservation,
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

impl SessionStatus {
    /// Of a session that begins.
    pub fn new(term: u64, home: NodeId) -> SessionStatus {
        let (before, mirrors) = (None, Vec::new());
        SessionStatus { term, home, before, mirrors, length: 0, closed: false, ended: false, handed: false }
    }
}

impl Session {
    /// A session that expires at `expiry`, in seconds since 1970.
    pub fn new(
        (id, repo, hint): (UploadId, RepoName, Option<Algorithm>),
        status: SessionStatus,
        content: Content,
        expiry: u64,
    ) -> Arc<Session> {
        Arc::new(Session {
            id,
            repo,
            hint,
            state: Arc::new(tokio::sync::Mutex::new(State::new(content))),
            status: Mutex::new(status),
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
    pub(super) fn is_busy(&self) -> bool {
        self.state.try_lock().is_err()
    }

    /// Resolves when [`Session::seize`] is called; to be taken before a body is begun.
    pub fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }

    /// A copy of the session's place.
    pub fn status(&self) -> SessionStatus {
        lock(&self.status).clone()
    }

    /// Changes the session's place; the caller has its lock.
    pub fn update<T>(&self, change: impl FnOnce(&mut SessionStatus) -> T) -> T {
        change(&mut lock(&self.status))
    }

    /// Puts the expiry off to `expiry`, in seconds since 1970.
    pub fn prolong(&self, expiry: u64) {
        self.expiry.fetch_max(expiry, Ordering::Relaxed);
    }
}
