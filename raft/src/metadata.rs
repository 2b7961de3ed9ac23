//! The one handle on what the cluster agrees on: propose, read, watch.
//!
//! Always holds: a proposal keeps its (node, boot, seq) through every retry, so that it is
//! applied once; a confirmed read sees everything acknowledged before it arrived. A storage error
//! ends the process. Never does: HTTP, blobs, discovery.

mod applied;
mod birth;
mod boot;
mod complaints;
mod error;
mod followed;
mod install;
mod join;
mod leader;
mod leadership;
mod level;
mod liveness;
mod membership;
mod open;
mod propose;
mod reads;
mod receive;
mod row;
mod service;
mod settings;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use openraft::async_runtime::WatchReceiver;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use error::{InitializeError, JoinError, NoQuorum, OpenError, ProposeError};
pub(crate) use liveness::Liveness;
pub use service::Service;
pub use settings::{Annotate, Connect, ConnectError, PeerId, Settings, Silence};

use crate::changes::Changes;
use crate::consensus::log_store::LogStore;
use crate::consensus::machine::Machine;
use crate::consensus::types::Raft;
use crate::id::NodeId;
use crate::proto::raft::raft_server::RaftServer;
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
    /// Log index up to which the log was cut.
    pub purged: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Snapshots of the state installed since the start of the process.
    pub installed: u64,
    /// fsyncs of the log since the start of the process.
    pub log_fsyncs: u64,
    /// Entries applied since the start of the process.
    pub applied_entries: u64,
    /// The time that applying them took.
    pub apply_time: Duration,
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Metadata(Arc<Inner>);

struct Inner {
    settings: Settings,
    raft: Raft,
    log: LogStore,
    machine: Machine,
    receiving: receive::Receiving,
    installing: install::Installing,
    complaints: complaints::Complaints,
    proposer: propose::Proposer,
    room: leader::Room,
    rounds: reads::Rounds,
    leadership: leadership::Observer,
    /// Whether this process may serve hits by digest.
    started: watch::Sender<bool>,
    /// Turns true when the handle shuts down.
    stop: watch::Sender<bool>,
    opened: Instant,
}

impl Metadata {
    /// This node.
    pub fn id(&self) -> NodeId {
        self.0.settings.id
    }

    /// The tonic service for the peer listener, which must insert [`PeerId`] into requests.
    pub fn service(&self) -> RaftServer<Service> {
        service::server(self.clone())
    }

    /// Whether this node was ever a member: there is a vote or an entry on its disk.
    pub fn has_log(&self) -> bool {
        self.0.log.is_used()
    }

    /// What is applied here; may be behind.
    pub fn local(&self) -> View {
        self.0.machine.view()
    }

    /// What is applied here, for hits by digest: a starting node first waits for its first
    /// confirmed read, or to know that there is no quorum.
    pub async fn digest_view(&self) -> View {
        self.started().await;
        self.local()
    }

    /// Whether a starting node is done with waiting for its first confirmed read.
    pub fn has_looked(&self) -> bool {
        *self.0.started.borrow()
    }

    /// Waits until hits by digest may be answered; see [`Metadata::digest_view`].
    pub async fn started(&self) {
        if !*self.0.started.borrow() {
            // The sender lives as long as the handle, so that the wait ends.
            let _ = self.0.started.subscribe().wait_for(|started| *started).await;
        }
    }

    /// Which blobs and partitions applied entries touched.
    pub fn changes(&self) -> Arc<Changes> {
        self.0.machine.changes().clone()
    }

    /// Counts the snapshots that replaced the state; after each, everything derived is void.
    pub fn installed(&self) -> watch::Receiver<u64> {
        self.0.machine.installed()
    }

    /// The members that vote, as of the last membership that is known here; during a change, of
    /// both configurations.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.0.raft.voter_ids().map(NodeId).collect()
    }

    /// Who leads, and whether there is a quorum as far as this node knows.
    pub fn leadership(&self) -> Leadership {
        self.0.leadership.now()
    }

    /// Wakes when [`Metadata::leadership`] changes.
    pub fn leadership_watch(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.watch()
    }

    /// Figures for the metrics endpoint.
    pub fn metrics(&self) -> Metrics {
        let raft = self.0.raft.metrics();
        let raft = raft.borrow_watched();
        let (applied_entries, apply_time) = self.0.machine.apply_cost();
        Metrics {
            term: raft.current_term,
            applied: *self.0.machine.applied().borrow(),
            committed: raft.local_committed.map_or(0, |id| id.index),
            purged: raft.purged.map_or(0, |id| id.index),
            log_bytes: self.0.log.bytes(),
            installed: *self.0.machine.installed().borrow(),
            log_fsyncs: self.0.log.fsyncs(),
            applied_entries,
            apply_time,
        }
    }

    /// Shows what is counted as it happens. `registry` has no prefix of its own.
    pub fn register(&self, registry: &mut Registry) {
        self.0.machine.meter().register(registry);
        let help = "Time that each fsync of the log took";
        registry.register("trow_raft_log_fsync_seconds", help, self.0.log.fsync_seconds());
    }
}
