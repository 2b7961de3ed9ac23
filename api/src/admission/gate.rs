//! The policy that holds now, and whether this node may still say so.
//!
//! A quorum confirms, within 200 ms, that what is applied here is as new as anything acknowledged; without one,
//! the policy that is here holds for as long as the last confirmation is younger than `webhook.max_staleness`.
//! A node that stood still itself gives the quorum [`RETURN`] to be found again before it goes by what it has.
//! Always holds: a node that was cut off, stopped or started without a quorum longer than `max_staleness` lets
//! nothing in, and says how to get out; how long that is, is measured from when a confirmed read was asked for, by
//! a clock that nobody sets and that goes on in a sleep, and once more when the decision is made. Never does: take
//! a heartbeat for a confirmation, which a leader without a quorum sends as well.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use trow_raft::{Metadata, StateError};

use super::pause::{Moment, Watch};
use crate::policy::Policy;

/// How long a review waits for a quorum.
const CONFIRM: Duration = Duration::from_millis(200);
/// How long after a pause of this process a review waits for one. Until then what failed is more likely to be what
/// the pause left behind, such as connections that the others closed, than that there is no quorum; and a policy may
/// have been set without this node. Longer than an election takes, shorter than API servers wait.
const RETURN: Duration = Duration::from_secs(3);
/// How often a node without reviews asks for a confirmation: at least, and at most.
const IDLE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(500));
/// How long such a question waits: nobody waits for it.
const IDLE_CONFIRM: Duration = Duration::from_secs(1);

/// One node's gate.
pub(super) struct Gate {
    metadata: Metadata,
    max_staleness: Duration,
    watch: Arc<Watch>,
    /// How long after a pause it is waited for a quorum.
    patience: Duration,
    /// When a read that was then confirmed was asked for.
    confirmed: Mutex<Option<Moment>>,
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

/// What held at a moment.
pub(super) struct Look {
    pub(super) standing: Standing,
    asked: Moment,
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
        let gate = Arc::new(Gate::by(Watch::new(), metadata, max_staleness));
        tokio::spawn(keep_in_touch(Arc::downgrade(&gate), (max_staleness / 10).clamp(IDLE.1, IDLE.0)));
        gate
    }

    fn by(watch: Arc<Watch>, metadata: Metadata, max_staleness: Duration) -> Gate {
        let (confirmed, parsed) = (Mutex::new(None), tokio::sync::Mutex::new(None));
        Gate { metadata, max_staleness, watch, patience: RETURN, confirmed, parsed }
    }

    /// What holds now. After `until` it waits no longer than it always does.
    pub(super) async fn look(&self, until: Instant) -> Result<Look, Closed> {
        let mut asked = self.watch.now();
        let mut confirmed = self.confirm(self.wait(until)).await;
        // A question that a pause interrupted found no quorum because nobody waited for the answer.
        if !confirmed && self.watch.paused_since(asked) {
            asked = self.watch.now();
            confirmed = self.confirm(self.wait(until)).await;
        }
        let stale = if confirmed { None } else { Some(self.staleness()?) };
        let Some(revision) = self.revision()? else {
            let standing = Standing { policy: Arc::new(Policy::allow_all()), revision: None, stale };
            return Ok(Look { standing, asked });
        };
        let policy = self.parsed(revision).await?;
        Ok(Look { standing: Standing { policy, revision: Some(revision), stale }, asked })
    }

    /// Whether what was seen still holds, once it is decided by it: no other policy came here meanwhile, and this
    /// process did not stand still, so that one could have come elsewhere.
    ///
    /// # Errors
    /// No quorum had confirmed it, and it has become too old.
    pub(super) fn still_holds(&self, look: &Look) -> Result<bool, Closed> {
        if self.watch.paused_since(look.asked) {
            return Ok(false);
        }
        if look.standing.stale.is_some() {
            self.staleness()?;
        }
        Ok(self.revision()? == look.standing.revision)
    }

    fn revision(&self) -> Result<Option<u64>, Closed> {
        self.metadata.local().policy_revision().map_err(Closed::State)
    }

    /// How long a review waits for a quorum now.
    fn wait(&self, until: Instant) -> Duration {
        let left = self.watch.resumed().map(|ago| self.patience.saturating_sub(ago));
        left.unwrap_or_default().min(until.saturating_duration_since(Instant::now())).max(CONFIRM)
    }

    async fn confirm(&self, wait: Duration) -> bool {
        // Before the question, which is what the answer is about: not when the answer was noticed.
        let asked = self.watch.now();
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
        match last.map(|last| self.watch.now().since(last)) {
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
