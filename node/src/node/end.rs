//! Why a run ends, and what that means for the next one.
//!
//! Always holds: it ends when it is told to, when this node is removed, and when a part ends that
//! must not; a removed node runs again under a new id alone, and only where there is whom to join.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use trow_raft::ClusterId;

use crate::birth::{self, BirthError};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::peer::Peers;

/// How a run ended that did not fail.
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// The cluster does not know this node's id any more, and this run never was part of it.
    Removed,
}

/// The signals that tell a node to end, caught from the moment that this is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn catch() -> anyhow::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("catch SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("catch SIGINT")?,
        })
    }
}

/// Waits until the run has to end. `member` ends once, when this node belongs to a cluster;
/// `clients` must not end at all. `confirmed` says whether this run was part of its cluster.
pub(super) async fn reached(
    mut signals: Signals,
    mut member: JoinHandle<Result<ClusterId, BirthError>>,
    clients: &mut JoinHandle<anyhow::Result<()>>,
    peers: &Peers,
    confirmed: &AtomicBool,
) -> anyhow::Result<Ended> {
    let mut removed = peers.removed();
    let mut belonged = false;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(Ended::Stopped),
            _ = signals.interrupt.recv() => return Ok(Ended::Stopped),
            joined = &mut member, if !belonged => match joined {
                Ok(Ok(cluster)) => {
                    belonged = true;
                    tracing::info!(%cluster, "member of the cluster");
                }
                Ok(Err(BirthError::Removed { .. })) => return Ok(Ended::Removed),
                Ok(Err(error)) => return Err(error.into()),
                Err(error) => return Err(error.into()),
            },
            _ = removed.wait_for(|removed| *removed) => return after_removal(confirmed),
            served = &mut *clients => return match served {
                Ok(Ok(())) => Err(anyhow::anyhow!("the client listener ended")),
                Ok(Err(error)) => Err(error),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// A node that finds itself removed when it starts joins again under a new id. One that is
/// removed while it runs was meant to leave: it ends, and whoever starts it again means it.
fn after_removal(confirmed: &AtomicBool) -> anyhow::Result<Ended> {
    if confirmed.load(Ordering::Relaxed) {
        anyhow::bail!(
            "this node was removed from its cluster; started again with --join, it joins under a new id"
        )
    }
    Ok(Ended::Removed)
}

/// Forgets who a removed node was, so that the next run joins its cluster again.
pub(super) fn prepare_to_join_again(config: &Config) -> anyhow::Result<()> {
    // Without anybody to join it would be born as a cluster of its own, and its blobs, unknown
    // there, would be swept.
    if config.cluster.join.is_empty() {
        anyhow::bail!(
            "this node was removed from its cluster: start it with --join to join again under a new id, \
             or empty {} to begin anew",
            config.data_dir.display()
        )
    }
    tracing::warn!("this node was removed from its cluster: it joins again under a new id, with its blobs");
    let data = DataDir::open(&config.data_dir)?;
    birth::forget(data.path(), &data.path().join("raft")).context("forget the old identity")
}
