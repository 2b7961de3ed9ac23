//! What a [`Metadata`](crate::Metadata) is opened with.
//!
//! Owns the seams to the process around it: how to reach a peer, who a request comes from, how
//! long a peer has been silent. Never does: addresses, TLS, discovery.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use super::Metadata;
use crate::id::NodeId;
use crate::member::Member;
use crate::planted::Planted;

/// Gives a channel to a peer that is proven to be that peer. Called per request: it must be
/// cheap when the peer is connected, and may itself reconnect and back off.
pub type Connect = Arc<dyn Fn(NodeId) -> BoxFuture<'static, Result<Channel, ConnectError>> + Send + Sync>;

/// Adds to a call what the peer is to know of whom it is made for, such as a request's id. Runs in
/// the task that proposes.
pub type Annotate = Arc<dyn Fn(&mut MetadataMap) + Send + Sync>;

/// How long a peer has been silent; `None` when it was never heard of in this process.
pub type Silence = Arc<dyn Fn(NodeId) -> Option<Duration> + Send + Sync>;

/// The peer cannot be reached now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("reach {node}: {why}")]
pub struct ConnectError {
    /// Whom.
    pub node: NodeId,
    /// Why not, for the log.
    pub why: String,
}

/// Who sent a request, as the listener established it from the TLS handshake. The listener
/// inserts it into the request's extensions; a request without one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerId(pub NodeId);

/// What a [`Metadata`](crate::Metadata) is opened with.
#[derive(Clone)]
pub struct Settings {
    /// This node.
    pub id: NodeId,
    /// What this node's row is to say of name, zone, weight and addresses; without it, what it says.
    pub row: Option<Member>,
    /// The directory of log, state, reserve and start counter; made when missing. It belongs to
    /// this process alone: the caller holds the data directory's lock.
    pub dir: PathBuf,
    /// How often a leader speaks when it has nothing to say.
    pub heartbeat: Duration,
    /// A follower campaigns after the lease (the upper bound) and a random time in this range.
    pub election: Range<Duration>,
    /// How long a member may be silent before it loses its partitions.
    pub grace: Duration,
    /// How often the leader advances state time; each time costs an fsync on every node. What is
    /// counted in state time is late by as much.
    pub tick: Duration,
    /// The log is cut when it has grown by this many bytes, but for the newest 12 MiB, or a
    /// quarter of a smaller limit. A member that then needs what was cut is sent the state.
    pub log_limit: u64,
    /// The wrong rule in force, in a test build.
    pub planted: Planted,
    /// How to reach a peer.
    pub connect: Connect,
    /// How long a peer has been silent.
    pub silence: Silence,
    /// What goes along with a proposal that is handed on to the leader.
    pub annotate: Annotate,
}

impl Settings {
    /// [`Settings::tick`] unless something shorter is counted in it.
    pub const TICK: Duration = Duration::from_secs(60);
    /// [`Settings::log_limit`] unless a test wants another.
    pub const LOG_LIMIT: u64 = 256 << 20;

    /// A node that has no peers, with the default timers: a single-node registry, or a test.
    pub fn alone(id: NodeId, dir: impl Into<PathBuf>) -> Self {
        Settings {
            id,
            row: None,
            dir: dir.into(),
            heartbeat: Duration::from_millis(150),
            election: Duration::from_millis(500)..Duration::from_millis(800),
            grace: Duration::from_secs(600),
            tick: Settings::TICK,
            log_limit: Settings::LOG_LIMIT,
            planted: Planted::NONE,
            connect: Arc::new(|node| {
                let why = "this node was configured without peers".to_owned();
                Box::pin(async move { Err(ConnectError { node, why }) })
            }),
            silence: Arc::new(|_| None),
            annotate: Arc::new(|_| ()),
        }
    }
}

impl Metadata {
    /// How long a member may be silent before it loses its partitions.
    pub fn grace(&self) -> Duration {
        self.0.settings.grace
    }

    /// How often state time advances.
    pub(crate) fn tick(&self) -> Duration {
        self.0.settings.tick
    }
}
