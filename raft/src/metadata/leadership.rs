//! Who leads and whether there is a quorum, as this node can tell.
//!
//! openraft's follower goes on naming a leader that died; whether it is in office is known from
//! when it last spoke to us.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::watch;

use super::{Leadership, Metadata};
use crate::consensus::disk::fatal;
use crate::id::NodeId;

pub(super) struct Observer {
    now: watch::Sender<Leadership>,
    /// When a leader last spoke to us.
    heard: Mutex<Option<Instant>>,
}

impl Default for Observer {
    fn default() -> Self {
        let none = Leadership { leader: None, term: 0, quorum: false, since: SystemTime::now() };
        Observer { now: watch::Sender::new(none), heard: Mutex::new(None) }
    }
}

impl Observer {
    pub(super) fn now(&self) -> Leadership {
        *self.now.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Leadership> {
        self.now.subscribe()
    }

    /// A leader spoke to us and we follow it.
    pub(super) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
    }

    fn heard_within(&self, limit: Duration) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        heard.is_some_and(|heard| heard.elapsed() < limit)
    }

    fn set(&self, leader: Option<NodeId>, term: u64) {
        let quorum = leader.is_some();
        self.now.send_if_modified(|now| {
            let since = if now.quorum == quorum { now.since } else { SystemTime::now() };
            let new = Leadership { leader, term, quorum, since };
            let old = std::mem::replace(now, new);
            match (old.quorum, leader) {
                (true, None) => {
                    tracing::warn!(
                        term,
                        "no leader is heard: names are served as stale and writes wait; if it lasts, start the members that are down"
                    );
                }
                (_, Some(leader)) if old.leader != Some(leader) => {
                    tracing::info!(%leader, term, "a quorum follows this leader");
                }
                _ => {}
            }
            old != new
        });
    }
}

/// Keeps [`Observer`] up to date, and ends the process when consensus stopped by itself.
pub(super) async fn observe(metadata: Metadata) {
    let inner = &metadata.0;
    let mut metrics = inner.raft.metrics();
    // Twice the lease: a busy machine delays a heartbeat more often than a leader dies.
    let limit = inner.settings.election.end * 2;
    let mut tick = tokio::time::interval(inner.settings.heartbeat / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        let (leader, term) = {
            let metrics = metrics.borrow_watched();
            match &metrics.running_state {
                Ok(()) => {}
                // Somebody shut it down on purpose.
                Err(Fatal::Stopped) => return,
                Err(error) => fatal("consensus", error),
            }
            let me = inner.settings.id.0;
            let alone = metrics.membership_config.membership().voter_ids().eq([me]);
            let in_office = match metrics.current_leader {
                Some(leader) if leader == me => {
                    alone || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < limit)
                }
                Some(_) => inner.leadership.heard_within(limit),
                None => false,
            };
            (metrics.current_leader.filter(|_| in_office).map(NodeId), metrics.current_term)
        };
        if leader.is_some() && term != seen {
            seen = term;
            inner.machine.meter().elected();
        }
        inner.leadership.set(leader, term);
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
    }
}
