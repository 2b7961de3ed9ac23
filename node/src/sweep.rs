//! Unlinking blobs that this node need not keep, behind a fence.
//!
//! Removing a file is never an effect of a command. The sweeper first has the cluster agree on a
//! new generation of this store, which voids all evidence that this node ever gave; then, under
//! each digest's lock and on the state as it is at that moment, it unlinks what [`rule`] allows.
//! A blob that was acknowledged since the fence stays, whatever the state says of it; a cached file
//! that the state does not know is none of the sweeper's business.

mod rule;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use trow_raft::metadata::ProposeError;
use trow_raft::state::StateError;
use trow_raft::{Command, Digest, Evidence, Generation, NodeId, Outcome, Planted, Refusal, Variant};

use crate::copies::{Agreed, Others};
use crate::store::{Store, StoreError, blocking};

/// How often everything is looked at, whatever was heard.
const FULL: Duration = Duration::from_secs(3600);
/// The least time between two fences: each voids evidence that uploads are about to use.
const PAUSE: Duration = Duration::from_secs(3);
/// How long to gather more before the first fence after a quiet time.
const GATHER: Duration = Duration::from_millis(300);
/// First and longest pause before trying again what could not be unlinked.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How long a fence may take to be applied here once it is committed.
const APPLY: Duration = Duration::from_secs(10);
/// Blobs confirmed and unlinked at a time: confirmations are used while they are fresh.
const BATCH: usize = 256;
/// A generation that acknowledged more blobs than this is ended, for its memory's sake.
const ACKNOWLEDGED_MAX: usize = 50_000;

/// Why a pass ended early. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// This node is no member, so nothing can be fenced.
    #[error("this node is not a member")]
    NoMember,
    /// The fence was not agreed on.
    #[error("fence the store")]
    Propose(#[from] ProposeError),
    /// The fence was refused.
    #[error("the fence was refused: {0}")]
    Refused(Refusal),
    /// The fence was agreed on, but this node lags.
    #[error("the fence was not applied here in time")]
    Lagging,
    /// The state cannot be read.
    #[error("read the state")]
    State(#[from] StateError),
    /// The files cannot be read or unlinked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs unlinked.
    pub unlinked: usize,
    /// Blobs that need not be kept but could not be unlinked yet.
    pub left: usize,
}

/// The sweeper of one store.
#[derive(Clone)]
pub struct Sweeper {
    store: Store,
    agreed: Agreed,
    others: Others,
    planted: Planted,
}

impl Sweeper {
    /// Of this store of this node.
    pub fn new(store: Store, agreed: Agreed, others: Others, planted: Planted) -> Sweeper {
        Sweeper { store, agreed, others, planted }
    }

    /// Sweeps whenever something may have become superfluous. Never returns.
    pub async fn run(self) {
        let mut applied = self.agreed.applied.clone();
        let mut position = self.agreed.changes.position();
        let mut candidates: BTreeSet<Digest> = BTreeSet::new();
        let mut full_at = Instant::now();
        let mut next = Instant::now();
        let mut retry = RETRY.0;
        loop {
            let (touched, seen) = self.agreed.changes.since(position);
            position = seen;
            let known = candidates.len();
            if !touched.is_empty() {
                let sweeper = self.clone();
                candidates.extend(blocking(move || sweeper.superfluous(&touched)).await.unwrap_or_default());
            }
            if candidates.len() > known {
                retry = RETRY.0;
            }
            let full = full_at <= Instant::now();
            let work = full || !candidates.is_empty() || self.needs_fence();
            if work && next <= Instant::now() {
                let swept = self.pass(&mut candidates, full).await;
                match &swept {
                    Ok(swept) if *swept == Swept::default() => {}
                    Ok(swept) => tracing::info!(unlinked = swept.unlinked, left = swept.left, "swept"),
                    Err(err) => tracing::debug!(cause = %err, "the sweep is tried again"),
                }
                if full && swept.is_ok() {
                    // What is taken for cached until it is known better is looked at again soon.
                    let soon = if self.store.knows_cached() { FULL } else { RETRY.1 };
                    full_at = Instant::now() + soon;
                }
                (next, retry) = match swept {
                    Ok(Swept { left: 0, .. }) => (Instant::now() + PAUSE, RETRY.0),
                    // Evidence counts only once the new member's store is fenced.
                    Err(SweepError::NoMember) => (Instant::now() + GATHER, RETRY.0),
                    _ => (Instant::now() + retry, (2 * retry).min(RETRY.1)),
                };
            } else if work {
                sleep_until(next).await;
            } else {
                let _ = timeout_at(full_at, applied.changed()).await;
                next = next.max(Instant::now() + GATHER);
            }
        }
    }

    /// Whether acknowledgements carry a generation that is not the agreed one, or the generation
    /// grew too large.
    fn needs_fence(&self) -> bool {
        let view = (self.agreed.view)();
        let member = view.and_then(|view| view.member(self.agreed.me)).ok().flatten();
        member.is_some_and(|member| {
            self.store.adopt_generation(member.generation);
            member.generation != self.store.generation() || self.store.acknowledged() > ACKNOWLEDGED_MAX
        })
    }

    /// Unlinks what of `digests` (and of everything here when `full`) need not be kept, and leaves
    /// in `digests` what could not go yet. A full pass also ends the generation when it alone
    /// protects blobs that the state does not know.
    ///
    /// # Errors
    /// See [`SweepError`]; what was not unlinked is as it was.
    pub async fn pass(&self, digests: &mut BTreeSet<Digest>, full: bool) -> Result<Swept, SweepError> {
        if (self.agreed.view)()?.member(self.agreed.me)?.is_none() {
            return Err(SweepError::NoMember);
        }
        let (sweeper, asked) = (self.clone(), digests.clone());
        let look = blocking(move || sweeper.survey(&asked, full)).await?;
        let waiting = full && look.waiting > 0;
        *digests = look.candidates;
        if !self.planted.is(Variant::C2NoFence) && (!digests.is_empty() || waiting || self.needs_fence()) {
            self.fence().await?;
        }
        let mut swept = Swept::default();
        let candidates: Vec<Digest> = digests.iter().copied().collect();
        for batch in candidates.chunks(BATCH) {
            self.rescue(batch).await?;
            for digest in self.batch(batch).await? {
                digests.remove(&digest);
                swept.unlinked += 1;
            }
        }
        swept.left = digests.len();
        Ok(swept)
    }

    /// Starts a new generation: agreed on and applied here before it returns.
    ///
    /// # Errors
    /// See [`SweepError`]; acknowledgements are as they were.
    pub async fn fence(&self) -> Result<Generation, SweepError> {
        let me = self.agreed.me;
        let member = (self.agreed.view)()?.member(me)?.ok_or(SweepError::NoMember)?;
        let generation = self.store.reserve_generation(member.generation).await?;
        let applied = (self.agreed.propose)(Command::FenceStore { node: me, generation }).await?;
        if let Outcome::Refused(refusal) = applied.outcome {
            return Err(SweepError::Refused(refusal));
        }
        let mut batches = self.agreed.applied.clone();
        let here = async {
            loop {
                batches.mark_unchanged();
                let member = (self.agreed.view)()?.member(me)?.ok_or(SweepError::NoMember)?;
                if member.generation >= generation {
                    return Ok::<_, SweepError>(());
                }
                batches.changed().await.map_err(|_| SweepError::Lagging)?;
            }
        };
        timeout(APPLY, here).await.map_err(|_| SweepError::Lagging)??;
        self.store.adopt_generation(generation);
        Ok(generation)
    }

    /// Has the owners confirm a batch, then unlinks what the rule allows; those that went.
    async fn batch(&self, digests: &[Digest]) -> Result<Vec<Digest>, SweepError> {
        let mut confirmed = self.confirm(digests).await?;
        let mut unlinked = Vec::new();
        for digest in digests {
            let said = confirmed.remove(digest).unwrap_or_default();
            let (agreed, store, planted, digest) =
                (self.agreed.clone(), self.store.clone(), self.planted, *digest);
            let decide = move |acknowledged| {
                let view = match (agreed.view)() {
                    Ok(view) => view,
                    Err(_) => return false,
                };
                let cached = may_be_cached(&store, &digest);
                rule::may_unlink(&view, agreed.me, &digest, acknowledged, cached, &said, planted)
                    .unwrap_or(false)
            };
            if self.store.unlink(&digest, decide).await? {
                tracing::debug!(%digest, "unlinked");
                unlinked.push(digest);
            }
        }
        Ok(unlinked)
    }

    /// Gives evidence of blobs that count as lost: this node came back with what may be the only
    /// copy. They are away here then, and their owners fetch them.
    async fn rescue(&self, digests: &[Digest]) -> Result<(), SweepError> {
        let mut blobs = Vec::new();
        for digest in digests {
            let lost = (self.agreed.view)()?.blob(digest)?.is_some_and(|row| row.lost);
            if lost && let Some(held) = self.store.confirm(digest).await? {
                blobs.push((*digest, vec![held.evidence(self.agreed.me)]));
            }
        }
        if !blobs.is_empty() {
            tracing::info!(count = blobs.len(), "blobs that were lost are here");
            (self.agreed.propose)(Command::SettleBlobs { blobs }).await?;
        }
        Ok(())
    }

    /// Fresh evidence of the owners for each blob that the state knows.
    async fn confirm(&self, digests: &[Digest]) -> Result<HashMap<Digest, Vec<Evidence>>, SweepError> {
        let mut questions: HashMap<NodeId, Vec<Digest>> = HashMap::new();
        {
            let view = (self.agreed.view)()?;
            for digest in digests {
                if view.blob(digest)?.is_none() {
                    continue;
                }
                for owner in view.partition(digest.partition())?.owners {
                    questions.entry(owner.node).or_default().push(*digest);
                }
            }
        }
        questions.remove(&self.agreed.me);
        let mut confirmed: HashMap<Digest, Vec<Evidence>> = HashMap::new();
        for (_, said) in self.others.confirm_all(questions).await {
            for (digest, evidence) in said {
                confirmed.entry(digest).or_default().extend(evidence);
            }
        }
        Ok(confirmed)
    }
}

/// Whether a file is cached, or whether it is cannot be said yet.
fn may_be_cached(store: &Store, digest: &Digest) -> bool {
    store.is_cached(digest) || !store.knows_cached()
}
