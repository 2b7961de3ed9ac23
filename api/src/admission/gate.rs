//! The policy that holds now, and whether this node may still say so.
//!
//! A quorum confirms, within 200 ms, that what is applied here is as new as anything acknowledged; without one,
//! the policy that is here holds for as long as the last confirmation is younger than `webhook.max_staleness`.
//! Always holds: a node that was cut off, stopped or started without a quorum longer than that lets nothing in,
//! and says how to get out; how long it is cut off is measured from a confirmed read, by a clock that nobody
//! sets. Never does: take a heartbeat for a confirmation, which a leader without a quorum sends as well.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use trow_raft::{Metadata, StateError};

use crate::policy::Policy;

/// How long a review waits for a quorum.
const CONFIRM: Duration = Duration::from_millis(200);
/// How often a node without reviews asks for a confirmation: at least, and at most.
const IDLE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(500));
/// How long such a question waits: nobody waits for it.
const IDLE_CONFIRM: Duration = Duration::from_secs(1);

/// One node's gate.
pub(super) struct Gate {
    metadata: Metadata,
    max_staleness: Duration,
    /// When a read that was then confirmed was asked for.
    confirmed: Mutex<Option<Instant>>,
    parsed: tokio::sync::Mutex<Option<Parsed>>,
}

/// A policy as it was read, or why it cannot be.
#[derive(Clone)]
struct Parsed {
    revision: u64,
    policy: Result<Arc<Policy>, String>,
}

/// What holds for a review.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) policy: Arc<Policy>,
    /// None before the first policy.
    pub(super) revision: Option<u64>,
    /// How old it may be, when no quorum confirmed it.
    pub(super) stale: Option<Duration>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Closed {
    /// In words for whoever was refused, and whoever runs the cluster.
    Because(String),
    /// The state itself cannot be read.
    State(StateError),
}

/// How to get out when no Pod is let in.
const WAY_OUT: &str = "bring back a majority of Trow's nodes; if Pods that they need are held up by this, exempt \
    their namespace by the namespaceSelector of the webhook's configuration, or delete that configuration (kubectl \
    delete validatingwebhookconfiguration <name>) and create it again afterwards";

impl Gate {
    /// A gate that keeps in touch with the quorum for as long as it lives. Needs a Tokio runtime.
    pub(super) fn new(metadata: Metadata, max_staleness: Duration) -> Arc<Gate> {
        let gate = Arc::new(Gate {
            metadata,
            max_staleness,
            confirmed: Mutex::new(None),
            parsed: tokio::sync::Mutex::new(None),
        });
        tokio::spawn(keep_in_touch(Arc::downgrade(&gate), (max_staleness / 10).clamp(IDLE.1, IDLE.0)));
        gate
    }

    /// What holds now.
    pub(super) async fn standing(&self) -> Result<Standing, Closed> {
        let stale = if self.confirm(CONFIRM).await { None } else { Some(self.staleness()?) };
        let view_revision = self.metadata.local().policy_revision().map_err(Closed::State)?;
        let Some(revision) = view_revision else {
            return Ok(Standing { policy: Arc::new(Policy::allow_all()), revision: None, stale });
        };
        let policy = self.parsed(revision).await?;
        Ok(Standing { policy, revision: Some(revision), stale })
    }

    async fn confirm(&self, wait: Duration) -> bool {
        let asked = Instant::now();
        let confirmed = self.metadata.confirm(wait).await.is_ok();
        if confirmed {
            let mut last = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            *last = (*last).max(Some(asked));
        }
        confirmed
    }

    /// How old what is here may be, while that is young enough.
    fn staleness(&self) -> Result<Duration, Closed> {
        let last = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        match last.map(|last| last.elapsed()) {
            Some(age) if age < self.max_staleness => Ok(age),
            Some(age) => Err(Closed::Because(format!(
                "this node of Trow has been without a quorum for {} s, longer than webhook.max_staleness, so that the \
                 policy it knows may be an old one: {WAY_OUT}",
                age.as_secs()
            ))),
            None => Err(Closed::Because(format!(
                "this node of Trow has found no quorum since it started, so that the policy it knows may be an old \
                 one: {WAY_OUT}"
            ))),
        }
    }

    /// The current policy, read once for each revision.
    async fn parsed(&self, revision: u64) -> Result<Arc<Policy>, Closed> {
        let mut parsed = self.parsed.lock().await;
        let kept = parsed.as_ref().filter(|kept| kept.revision == revision);
        let kept = match kept {
            Some(kept) => kept.clone(),
            None => {
                let fresh = self.read().await?;
                parsed.insert(fresh).clone()
            }
        };
        kept.policy.map_err(|why| {
            Closed::Because(format!(
                "the policy of revision {} cannot be read by this node ({why}): if it was set by a newer Trow, upgrade \
                 this node; else set a policy that `trow policy test` accepts",
                kept.revision
            ))
        })
    }

    async fn read(&self) -> Result<Parsed, Closed> {
        let row = self.metadata.local().policy().map_err(Closed::State)?;
        let Some(row) = row else {
            // A policy is replaced and never removed, so that there is one once there was.
            return Err(Closed::Because("the policy is gone from this node's state".to_owned()));
        };
        // A large one takes longer than other work on this thread should wait.
        let policy = tokio::task::spawn_blocking(move || {
            let text = std::str::from_utf8(&row.document).map_err(|_| "it is not UTF-8".to_owned())?;
            Policy::parse(text).map(Arc::new).map_err(|errors| match errors.first() {
                Some(first) => first.to_string(),
                None => "no reason is given".to_owned(),
            })
        });
        let policy = policy.await.unwrap_or_else(|cause| Err(cause.to_string()));
        Ok(Parsed { revision: row.revision, policy })
    }
}

/// A node without reviews is still in touch, so that one that loses the quorum answers from what it knew then.
async fn keep_in_touch(gate: Weak<Gate>, every: Duration) {
    while let Some(alive) = gate.upgrade() {
        alive.confirm(IDLE_CONFIRM).await;
        drop(alive);
        tokio::time::sleep(every).await;
    }
}
