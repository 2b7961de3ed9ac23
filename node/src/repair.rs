//! Bringing here what this node owns and does not have.
//!
//! Compares the partitions that this node owns with its files: all at start and every hour, and
//! after each applied batch what it touched, so that the copies a commit lacks are made right
//! after it. Reports partitions ready, settles blobs that came home, and records as lost what
//! every member denies. Always holds: a partition is reported ready only for a change that was
//! applied before the comparison that found nothing missing. Never does: removing anything.

mod compare;
mod fetch;
mod limit;
mod meter;
mod settle;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use trow_raft::{Command, Digest, Outcome, PartitionId, Touched};

use crate::copies::{Agreed, Others};
use crate::store::Store;
use compare::Found;
use fetch::Fetched;
pub use meter::Meter;
use work::{Attempt, FETCHES, RETRY, Work};

/// How often everything is compared, whatever was heard.
const FULL: Duration = Duration::from_secs(3600);
/// Partitions compared before other work gets its turn.
const PARTITIONS: usize = 32;
/// Blobs settled in one proposal.
const SETTLE: usize = 256;
/// How long each further owner leaves it to the ones before it to settle a blob.
const SETTLE_TURN: Duration = Duration::from_secs(2);
/// A blob must be denied by all this often before it is recorded lost.
const DENIALS: u32 = 4;

/// Repairs one store.
pub struct Repair {
    store: Store,
    agreed: Agreed,
    others: Others,
    limit: Arc<limit::Limit>,
    meter: Meter,
    work: Work,
    tasks: JoinSet<Done>,
}

/// What a task finished.
enum Done {
    Fetched(Digest, Fetched),
    Settled { asked: Vec<Digest>, left: Vec<Digest> },
    Ready(Vec<(PartitionId, u64)>, bool),
    Lost,
}

impl Repair {
    /// Of this store of this node; fetches at most `rate` bytes per second (0: no bound).
    pub fn new(store: Store, agreed: Agreed, others: Others, rate: u64) -> Repair {
        let limit = Arc::new(limit::Limit::new(rate));
        let meter = Meter::new(Arc::clone(&limit));
        Repair { store, agreed, others, limit, meter, work: Work::default(), tasks: JoinSet::new() }
    }

    /// Where it counts.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Repairs for ever.
    pub async fn run(mut self) {
        let mut applied = self.agreed.applied.clone();
        let mut damaged = self.store.damaged();
        let mut full_at = Instant::now();
        loop {
            applied.mark_unchanged();
            if full_at <= Instant::now() {
                self.work.position = self.agreed.changes.position();
                self.work.partitions.extend(PartitionId::all());
                full_at = Instant::now() + FULL;
            }
            self.listen();
            self.compare().await;
            self.start();
            self.meter.queue.set(self.work.missing.len() as i64);
            let wake = self.work.next_due().map_or(full_at, |due| due.min(full_at));
            tokio::select! {
                changed = applied.changed() => if changed.is_err() { return },
                digest = damaged.recv() => match digest {
                    Ok(digest) => { self.work.blobs.insert(digest); }
                    Err(RecvError::Lagged(_)) => full_at = Instant::now(),
                    Err(RecvError::Closed) => return,
                },
                Some(done) = self.tasks.join_next() => {
                    match done {
                        Ok(done) => self.finish(done),
                        Err(err) if err.is_panic() => std::panic::resume_unwind(err.into_panic()),
                        Err(_) => return,
                    }
                }
                _ = timeout_at(wake, std::future::pending::<()>()) => {}
            }
        }
    }

    /// Takes note of what the state's last changes touched.
    fn listen(&mut self) {
        let (touched, position) = self.agreed.changes.since(self.work.position);
        self.work.position = position;
        for touched in touched {
            match touched {
                Touched::Blob(digest) => self.work.blobs.insert(digest),
                Touched::Partition(id) => self.work.partitions.insert(id),
            };
        }
    }

    /// Compares what was touched, the single blobs first.
    async fn compare(&mut self) {
        if self.work.blobs.is_empty() && self.work.partitions.is_empty() {
            return;
        }
        let blobs = std::mem::take(&mut self.work.blobs);
        let room = self.work.room();
        let partitions: Vec<PartitionId> =
            self.work.partitions.iter().copied().take(if room { PARTITIONS } else { 0 }).collect();
        for id in &partitions {
            self.work.partitions.remove(id);
        }
        let (store, agreed) = (self.store.clone(), self.agreed.clone());
        let asked = partitions.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let view = (agreed.view)()?;
            let mut found = Found::default();
            for digest in &blobs {
                compare::blob(&store, &view, agreed.me, digest, &mut found)?;
            }
            for id in asked {
                compare::partition(&store, &view, agreed.me, id, &mut found)?;
            }
            Ok::<_, trow_raft::state::StateError>((found, view.applied()?))
        });
        match compared.await {
            Ok(Ok((found, _))) => self.found(&partitions, found),
            Ok(Err(err)) => {
                tracing::error!(cause = %err, "repair cannot read the state and tries again; if it repeats, check the disk and start the node again");
                self.work.partitions.extend(PartitionId::all());
                tokio::time::sleep(RETRY.1).await;
            }
            Err(err) if err.is_panic() => std::panic::resume_unwind(err.into_panic()),
            Err(_) => {}
        }
    }

    fn found(&mut self, partitions: &[PartitionId], found: Found) {
        let now = Instant::now();
        for digest in found.missing {
            self.work.missing.entry(digest).or_insert(Attempt::at(now));
        }
        for digest in found.unsettled {
            let turn = self.turn(&digest);
            self.work.unsettled.entry(digest).or_insert(Attempt::at(now + turn));
        }
        // What was compared anew stands; an older index would be refused.
        for id in partitions {
            self.work.unready.remove(id);
        }
        self.work.unready.extend(found.unready);
    }

    /// How long this node leaves settling to the owners before it.
    fn turn(&self, digest: &Digest) -> Duration {
        let partition = (self.agreed.view)().and_then(|view| view.partition(digest.partition()));
        let rank = partition
            .ok()
            .and_then(|partition| partition.owners.iter().position(|owner| owner.node == self.agreed.me));
        SETTLE_TURN.saturating_mul(rank.unwrap_or(0) as u32)
    }

    /// Starts what can be started.
    fn start(&mut self) {
        let due: Vec<Digest> = self
            .work
            .missing
            .iter()
            .filter(|(_, attempt)| attempt.due())
            .map(|(digest, _)| *digest)
            .take(FETCHES.saturating_sub(self.work.fetching))
            .collect();
        for digest in due {
            self.work.fetching += 1;
            self.work.missing.entry(digest).and_modify(|attempt| attempt.busy = true);
            let (store, agreed, others) = (self.store.clone(), self.agreed.clone(), self.others.clone());
            let limit = Arc::clone(&self.limit);
            self.tasks.spawn(async move {
                Done::Fetched(digest, fetch::fetch(&store, &agreed, &others, &limit, digest).await)
            });
        }
        self.start_settling();
        self.start_reporting();
    }

    fn start_settling(&mut self) {
        let due = self.work.unsettled.iter().filter(|(_, attempt)| attempt.due());
        let asked: Vec<Digest> = due.map(|(digest, _)| *digest).take(SETTLE).collect();
        if self.work.settling || asked.is_empty() {
            return;
        }
        self.work.settling = true;
        for digest in &asked {
            self.work.unsettled.entry(*digest).and_modify(|attempt| attempt.busy = true);
        }
        let (store, agreed, others) = (self.store.clone(), self.agreed.clone(), self.others.clone());
        self.tasks.spawn(async move {
            let left = settle::settle(&store, &agreed, &others, asked.clone()).await;
            Done::Settled { asked, left }
        });
    }

    /// Reports the partitions of which nothing is missing, all at once when there are many.
    fn start_reporting(&mut self) {
        let wait = self.work.ready_after.is_some_and(|after| after > Instant::now());
        // One entry for many: what is about to be compared can be reported with the rest.
        let more = self.work.room() && !self.work.partitions.is_empty();
        if self.work.reporting || wait || more {
            return;
        }
        let missing: BTreeSet<PartitionId> = self.work.missing.keys().map(Digest::partition).collect();
        let complete = self.work.unready.iter().filter(|(id, _)| !missing.contains(id));
        let partitions: Vec<(PartitionId, u64)> = complete.map(|(id, index)| (*id, *index)).collect();
        if partitions.is_empty() {
            return;
        }
        self.work.reporting = true;
        let (agreed, generation) = (self.agreed.clone(), self.store.generation());
        self.tasks.spawn(async move {
            let node = agreed.me;
            let command = Command::PartitionReady { node, generation, partitions: partitions.clone() };
            let done = (agreed.propose)(command).await;
            let done = done.is_ok_and(|applied| applied.outcome == Outcome::Done);
            Done::Ready(partitions, done)
        });
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Fetched(digest, fetched) => self.fetched(digest, fetched),
            Done::Settled { asked, left } => {
                self.work.settling = false;
                for digest in asked {
                    if !left.contains(&digest) {
                        self.work.unsettled.remove(&digest);
                    } else if let Some(attempt) = self.work.unsettled.get_mut(&digest) {
                        attempt.again();
                    }
                }
            }
            Done::Ready(partitions, done) => {
                self.work.reporting = false;
                for (id, index) in partitions {
                    // Refused or unknown: the partition may have changed, so it is compared anew.
                    if self.work.unready.get(&id) == Some(&index) {
                        self.work.unready.remove(&id);
                    }
                    if !done {
                        self.work.partitions.insert(id);
                    }
                }
                self.work.ready_after = (!done).then(|| Instant::now() + Duration::from_secs(1));
            }
            Done::Lost => {}
        }
    }

    fn fetched(&mut self, digest: Digest, fetched: Fetched) {
        self.work.fetching -= 1;
        self.meter.fetched(fetched);
        if fetched == Fetched::Done {
            self.work.missing.remove(&digest);
            // It may be home now.
            self.work.blobs.insert(digest);
            return;
        }
        let Some(attempt) = self.work.missing.get_mut(&digest) else { return };
        attempt.again();
        match fetched {
            Fetched::Denied { .. } => attempt.denials += 1,
            _ => attempt.denials = 0,
        }
        let Fetched::Denied { seen } = fetched else { return };
        if attempt.denials >= DENIALS {
            tracing::error!(%digest, "no member has this blob: it is recorded as lost; start the node that still has it, or push it again");
            let propose = Arc::clone(&self.agreed.propose);
            self.tasks.spawn(async move {
                let _ = propose(Command::SetLost { digests: vec![digest], seen }).await;
                Done::Lost
            });
        }
    }
}
