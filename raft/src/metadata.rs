//! The one handle on what the cluster agrees on: propose, read, watch.
//!
//! Always holds: a proposal keeps its (node, boot, seq) through every retry, so that it is
//! applied once; a confirmed read sees everything acknowledged before it arrived. A storage error
//! ends the process. Never does: HTTP, blobs, discovery.

mod error;
mod settings;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

pub use error::{InitializeError, JoinError, NoQuorum, OpenError, ProposeError};
pub use settings::{Connect, ConnectError, PeerId, Settings, Silence};

use crate::command::{Applied, Command};
use crate::id::{ClusterId, NodeId};
use crate::member::Member;
pub use crate::state::View;

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, when one is known to be in office.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// Whether this node has reason to believe in a quorum: it leads with a fresh lease, or
    /// follows a leader that spoke within the lease.
    pub quorum: bool,
    /// When `quorum` last changed, by this node's clock.
    pub since: SystemTime,
}

/// Figures for the metrics endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The current term.
    pub term: u64,
    /// Log index applied here.
    pub applied: u64,
    /// Log index known to be committed here.
    pub committed: u64,
    /// fsyncs of the log since the start of the process.
    pub log_fsyncs: u64,
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Metadata;

impl Metadata {
    /// Opens log and state in `settings.dir` and starts consensus.
    ///
    /// # Errors
    /// The files are not usable.
    pub async fn open(_settings: Settings) -> Result<Metadata, OpenError> {
        Err(OpenError::Consensus("not built yet".into()))
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        NodeId(0)
    }

    /// Whether this node was ever a member: there is a vote or an entry on its disk.
    pub fn has_log(&self) -> bool {
        false
    }

    /// Records the first voter set. All nodes of it call this with the identical set, each only
    /// when it was never a member and all are bound to the set.
    ///
    /// # Errors
    /// The node was a member already.
    pub async fn initialize(&self, _set: BTreeSet<NodeId>) -> Result<(), InitializeError> {
        Err(InitializeError("not built yet".into()))
    }

    /// Names a newborn cluster: whoever leads proposes its first commands; the others wait until
    /// they see them. Called by every node of the first set whenever `local()` has no cluster id
    /// (so also after a restart in the middle); takes effect once. Waits without limit.
    pub async fn birth(&self, _rf: u32, _members: Vec<Member>) -> ClusterId {
        ClusterId(0)
    }

    /// Adds `member` as a joining learner, in one entry with its row. Runs on any member.
    ///
    /// # Errors
    /// No quorum, or the node is refused.
    pub async fn join(&self, _member: Member) -> Result<ClusterId, JoinError> {
        Err(JoinError::Unborn)
    }

    /// Proposes `command` on behalf of `actor`; waits up to 5 s for a leader, and up to 1 s until
    /// it is applied here too.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, _actor: &str, _command: Command) -> Result<Applied, ProposeError> {
        Err(ProposeError::NoLeader)
    }

    /// A snapshot that sees everything acknowledged anywhere before this call.
    ///
    /// # Errors
    /// No quorum confirmed it within `wait`.
    pub async fn read(&self, _wait: Duration) -> Result<View, NoQuorum> {
        Err(NoQuorum { since: SystemTime::UNIX_EPOCH })
    }

    /// What is applied here; may be behind.
    pub fn local(&self) -> View {
        unimplemented!("comes with the state machine")
    }

    /// What is applied here, for hits by digest: a starting node first waits for its first
    /// confirmed read, or to know that there is no quorum.
    pub async fn digest_view(&self) -> View {
        unimplemented!("comes with the state machine")
    }

    /// The index applied here; changes with each batch.
    pub fn applied(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// The members that vote, as of the last membership that is known here; during a change, of
    /// both configurations.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }

    /// Who leads, and whether there is a quorum as far as this node knows.
    pub fn leadership(&self) -> Leadership {
        Leadership { leader: None, term: 0, quorum: false, since: SystemTime::UNIX_EPOCH }
    }

    /// Wakes when [`Metadata::leadership`] changes.
    pub fn leadership_watch(&self) -> watch::Receiver<Leadership> {
        watch::channel(self.leadership()).1
    }

    /// Waits until every reachable member applied `index`, at most `limit`.
    pub async fn wait_applied_everywhere(&self, _index: u64, _limit: Duration) {}

    /// Figures for the metrics endpoint.
    pub fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// When this node leads: hands leadership to a caught-up voter, bounded in time.
    pub async fn transfer_leadership(&self) {}

    /// Stops consensus, writes a checkpoint of the state and closes the files.
    pub async fn shutdown(&self) {}
}
