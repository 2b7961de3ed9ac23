//! Opening and closing: log, state, consensus and the tasks around them, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use super::{
    InitializeError, Inner, Metadata, OpenError, Settings, boot, complaints, install, leader, leadership,
    propose, reads, receive, row, upkeep,
};
use crate::consensus::ahead::Ahead;
use crate::consensus::align;
use crate::consensus::log_store::LogStore;
use crate::consensus::machine::Machine;
use crate::consensus::network::{Acknowledged, Network};
use crate::consensus::reserve::Reserve;
use crate::consensus::types::Raft;
use crate::controller;
use crate::id::NodeId;

/// A snapshot transfer is given up after this long without progress.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(60);

/// How long a leader that is to hand over waits for somebody to catch up.
const SUCCESSOR: Duration = Duration::from_secs(1);

/// Whether there is somebody to hand leadership to.
enum Successor {
    /// This node does not lead, or is the only voter.
    NotNeeded,
    /// Nobody has caught up just now.
    Behind,
    Ready(u64),
}

impl Metadata {
    /// Opens log and state in `settings.dir` and starts consensus.
    ///
    /// # Errors
    /// The files are not usable, or the timers contradict each other.
    pub async fn open(settings: Settings) -> Result<Metadata, OpenError> {
        let config = Arc::new(config(&settings)?);
        let dir = settings.dir.clone();
        let io = |path: std::path::PathBuf| move |source| OpenError::Io { path, source };
        std::fs::create_dir_all(&dir).map_err(io(dir.clone()))?;
        let reserve = Arc::new(Reserve::open(&dir.join("reserve")).map_err(io(dir.join("reserve")))?);
        let path = dir.join("log.redb");
        // The state is made after the log: with the one and without the other, a disk was damaged.
        let log_is_there = std::fs::metadata(&path).is_ok_and(|found| found.len() > 0);
        if !log_is_there && Machine::exists(&dir.join("state")) {
            return Err(OpenError::LogLost { path });
        }
        let log = LogStore::open(&path, reserve.clone(), settings.planted)
            .map_err(|error| OpenError::Log { path, why: error.to_string() })?;
        // Or cutting a short log would not make it shorter.
        log.keep_at_most(settings.log_limit / 4);
        let path = dir.join("state");
        let machine = Machine::open(&path, log.flushed(), settings.planted, Some(reserve.clone()))
            .map_err(|error| OpenError::State { path, why: error.to_string() })?;
        log.tell(Ahead::of(&machine).map_err(io(dir.clone()))?);
        if machine.applied_any() && !log.is_used() {
            return Err(OpenError::LogLost { path: dir.join("log.redb") });
        }
        align::drop_what_was_replaced(&mut log.clone(), &mut machine.clone())
            .await
            .map_err(|error| OpenError::Consensus(error.to_string()))?;
        let boot = boot::count(&dir, machine.boot_of(settings.id)).map_err(io(dir.join("boot")))?;

        let network = Network {
            me: settings.id,
            connect: settings.connect.clone(),
            machine: machine.clone(),
            acknowledged: Acknowledged::default(),
        };
        let raft = Raft::new(settings.id.0, config, network, log.clone(), machine.clone());
        let raft = raft.await.map_err(|error| OpenError::Consensus(error.to_string()))?;

        let (rounds, asked) = reads::Rounds::new();
        let metadata = Metadata(Arc::new(Inner {
            proposer: propose::Proposer::new(settings.id, boot),
            room: leader::Room::default(),
            rounds,
            leadership: leadership::Observer::default(),
            started: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            opened: Instant::now(),
            settings,
            raft,
            log,
            machine,
            receiving: receive::Receiving::default(),
            installing: install::Installing::default(),
            complaints: complaints::Complaints::default(),
        }));
        metadata.spawn(leadership::observe(metadata.clone()));
        metadata.spawn(reads::run_rounds(metadata.clone(), asked));
        metadata.spawn(reads::first_read(metadata.clone()));
        metadata.spawn(upkeep::run(metadata.clone(), reserve));
        metadata.spawn(row::correct(metadata.clone()));
        #[cfg(feature = "next-level")]
        metadata.spawn(super::level::probe(metadata.clone()));
        metadata.spawn(controller::run(metadata.clone()));
        Ok(metadata)
    }

    /// Runs `task` until shutdown.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.0.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = task => {}
            }
        });
    }

    /// Records the first voter set. All nodes of it call this with the identical set, each only
    /// when it was never a member and all are bound to the set. A peer of the set that was faster
    /// is no error: its vote request or its entries may have come first.
    ///
    /// # Errors
    /// The node was a member already, of another set.
    pub async fn initialize(&self, set: BTreeSet<NodeId>) -> Result<(), InitializeError> {
        let ids: BTreeSet<u64> = set.iter().map(|id| id.0).collect();
        let Err(error) = self.0.raft.initialize(ids.clone()).await else { return Ok(()) };
        let voters: BTreeSet<u64> = self.0.raft.voter_ids().collect();
        if voters.is_empty() || voters == ids { Ok(()) } else { Err(InitializeError(error.to_string())) }
    }

    /// When this node leads: hands leadership to a caught-up voter and waits until it has gone,
    /// at most 3 s. Heartbeats and proposals stop meanwhile, so a voter that lags gets none. False
    /// when this node leads still.
    pub async fn transfer_leadership(&self) -> bool {
        let mut metrics = self.0.raft.metrics();
        let term = metrics.borrow_watched().current_term;
        let found = tokio::time::timeout(SUCCESSOR, async {
            loop {
                match self.successor() {
                    Successor::NotNeeded => return None,
                    Successor::Ready(target) => return Some(target),
                    // Under load everybody is a few entries behind at times.
                    Successor::Behind if metrics.changed().await.is_ok() => {}
                    Successor::Behind => return None,
                }
            }
        });
        let target = match found.await {
            Ok(Some(target)) => target,
            Ok(None) => return true,
            Err(_) => return false,
        };
        if self.0.raft.trigger().transfer_leader(target).await.is_err() {
            return false;
        }
        let moved = async {
            loop {
                let now = metrics.borrow_watched().clone();
                if now.current_term > term && now.current_leader.is_some() {
                    return;
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(3), moved).await.is_ok()
    }

    /// Who is to lead next: of the voters that are caught up the one furthest ahead, and rather one
    /// that was heard lately, since one that died may have had everything.
    fn successor(&self) -> Successor {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        let Some(replication) = metrics.replication.as_ref().filter(|_| voters.len() > 1) else {
            return Successor::NotNeeded;
        };
        let last = metrics.last_log_index.unwrap_or(0);
        let lately = self.0.settings.election.end * 2;
        let heard = |id| (self.0.settings.silence)(NodeId(id)).is_some_and(|quiet| quiet < lately);
        let caught_up = |(id, matched): (&u64, &Option<_>)| {
            let matched: Option<u64> = matched.as_ref().map(|id: &crate::consensus::types::LogId| id.index);
            let near = matched.is_some_and(|matched| matched + 16 >= last);
            (*id != self.id().0 && voters.contains(id) && near).then(|| (heard(*id), matched, *id))
        };
        let best = replication.iter().filter_map(caught_up).max();
        best.map_or(Successor::Behind, |(.., id)| Successor::Ready(id))
    }

    /// Stops consensus, writes a checkpoint of the state and closes the log. The handle answers
    /// reads of applied state afterwards, and nothing else.
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::error!(cause = %error, "consensus did not stop cleanly; nothing acknowledged is lost, start the node again");
        }
        // In this order: the state may be durable only up to the log.
        if self.0.log.flush().await.is_ok() {
            self.0.machine.checkpoint().await;
        }
        let log = self.0.log.clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
    }
}

fn config(settings: &Settings) -> Result<Config, OpenError> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let longest = millis(settings.election.end);
    let config = Config {
        cluster_name: "trow".into(),
        heartbeat_interval: millis(settings.heartbeat),
        election_timeout_min: millis(settings.election.start),
        election_timeout_max: longest,
        install_snapshot_timeout: millis(SNAPSHOT_IDLE),
        // Snapshots are triggered by the bytes of the log, see `upkeep`.
        snapshot_policy: SnapshotPolicy::Never,
        // A member is sent the state only when the log does not reach back to it.
        replication_lag_threshold: u64::MAX,
        // Nothing is cut by count: `upkeep` cuts by bytes.
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 512,
        backoff: "50ms 100ms 200ms ...500ms".into(),
        enable_pre_vote: Some(true),
        // The lease and then one election must fit before the leader that lost its quorum
        // speaks again, or it would keep others from being elected.
        quorum_loss_probe_interval: Some(2 * longest),
        // A restarted leader is elected again: its applied state may have been newer.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| OpenError::Timers(error.to_string()))
}
