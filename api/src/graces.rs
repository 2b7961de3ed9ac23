//! Links that clients count on: one that is asked for late in its grace gets it anew.
//!
//! A client that hears that a blob is there does not push it, and names it in a manifest a little
//! later; a reclaim in between would fail that push. Always holds: HEAD of a link that nothing
//! uses, past half of its grace, is answered after the grace began again, when there is a leader;
//! without one nothing can be reclaimed either, so the answer does not wait, and the link is
//! wanted again as soon as a leader is there. Questions that come together share one entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use trow_raft::command::SYSTEM;
use trow_raft::{Applied, Command, Digest, Metadata, ProposeError, RepoName, StateError, View};

/// An answer waits this long for a grace to begin again.
const WAIT: Duration = Duration::from_secs(2);
/// Links in one entry.
const BATCH: usize = 1000;
/// Links that are kept while there is no leader; beyond that, the first in order of names go.
const KEPT: usize = 10_000;
/// How often those are proposed again.
const AGAIN: Duration = Duration::from_secs(1);

type Link = (RepoName, Digest);
type Propose = Arc<dyn Fn(Command) -> BoxFuture<'static, Result<Applied, ProposeError>> + Send + Sync>;

/// The graces of links. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Graces {
    grace: Duration,
    ask: mpsc::Sender<(Link, oneshot::Sender<()>)>,
}

impl Graces {
    /// `grace` is `gc.grace`. Needs a Tokio runtime; ends with its last clone.
    pub(crate) fn new(metadata: Metadata, grace: Duration) -> Self {
        let propose: Propose = Arc::new(move |command| {
            let metadata = metadata.clone();
            Box::pin(async move {
                // A proposal would wait for one.
                if !metadata.leadership().quorum {
                    return Err(ProposeError::NoLeader);
                }
                metadata.propose(SYSTEM, command).await
            })
        });
        Graces::with(propose, grace)
    }

    fn with(propose: Propose, grace: Duration) -> Self {
        let (ask, asked) = mpsc::channel(KEPT);
        tokio::spawn(run(propose, asked));
        Graces { grace, ask }
    }

    /// Whether the link is unused and past half of its grace, in state time.
    pub(crate) fn is_due(&self, view: &View, repo: &RepoName, digest: &Digest) -> Result<bool, StateError> {
        let Some(link) = view.link(repo, digest)? else { return Ok(false) };
        let age = Duration::from_millis(view.time()?.saturating_sub(link.linked_at.max(link.wanted_at)));
        Ok(age > self.grace / 2 && !view.in_use(repo, digest)?)
    }

    /// Begins the link's grace again, or gives up waiting for it.
    pub(crate) async fn renew(&self, repo: &RepoName, digest: &Digest) {
        let (done, wait) = oneshot::channel();
        // Beyond what is kept anyway nobody waits.
        if self.ask.try_send(((repo.clone(), *digest), done)).is_ok() {
            let _ = tokio::time::timeout(WAIT, wait).await;
        }
    }
}

/// Proposes what is asked for; what comes meanwhile goes into the next entry.
async fn run(propose: Propose, mut asked: mpsc::Receiver<(Link, oneshot::Sender<()>)>) {
    // Not done yet, for want of a leader.
    let mut kept: BTreeSet<Link> = BTreeSet::new();
    loop {
        let first = match kept.is_empty() {
            true => asked.recv().await,
            false => match tokio::time::timeout(AGAIN, asked.recv()).await {
                Ok(first) => first,
                Err(_) => {
                    attempt(&propose, &mut kept).await;
                    continue;
                }
            },
        };
        let Some(first) = first else { return };
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some((link, done)) = next {
            kept.insert(link);
            waiting.push(done);
            next = if waiting.len() < BATCH { asked.try_recv().ok() } else { None };
        }
        attempt(&propose, &mut kept).await;
        // Done, or not to be waited for; whoever went away needs no word.
        for done in waiting {
            let _ = done.send(());
        }
        while kept.len() > KEPT {
            kept.pop_first();
        }
    }
}

async fn attempt(propose: &Propose, kept: &mut BTreeSet<Link>) {
    while !kept.is_empty() {
        let links: Vec<Link> = kept.iter().take(BATCH).cloned().collect();
        // What is gone by now is refused, and needs nothing any more.
        match propose(Command::WantLinks { links: links.clone() }).await {
            Ok(_) => {
                for link in &links {
                    kept.remove(link);
                }
            }
            Err(cause) => {
                tracing::debug!(%cause, links = kept.len(), "wanted links are kept for later");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use trow_raft::Outcome;

    use super::*;

    /// What was proposed, and whether there is a leader.
    #[derive(Default)]
    struct Log {
        entries: Mutex<Vec<Vec<Link>>>,
        leaderless: AtomicBool,
        slow: AtomicBool,
    }

    fn graces(log: &Arc<Log>) -> Graces {
        let log = log.clone();
        let propose: Propose = Arc::new(move |command| {
            let log = log.clone();
            Box::pin(async move {
                let Command::WantLinks { links } = command else { panic!("{command:?}") };
                if log.slow.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                if log.leaderless.load(Ordering::Relaxed) {
                    return Err(ProposeError::NoLeader);
                }
                // Long enough for others to come meanwhile.
                tokio::time::sleep(Duration::from_millis(20)).await;
                log.entries.lock().unwrap().push(links);
                Ok(Applied { index: 1, outcome: Outcome::Done })
            })
        });
        Graces::with(propose, Duration::from_secs(10))
    }

    fn link(n: usize) -> Link {
        (format!("r{}", n % 7).parse().unwrap(), Digest::sha256(&[n as u8]))
    }

    #[tokio::test]
    async fn questions_that_come_together_share_an_entry() {
        let log = Arc::new(Log::default());
        let graces = graces(&log);
        let asks = (0..300).map(|n| {
            let (graces, (repo, digest)) = (graces.clone(), link(n % 100));
            async move { graces.renew(&repo, &digest).await }
        });
        futures::future::join_all(asks).await;
        let entries = log.entries.lock().unwrap();
        assert!(entries.len() <= 3, "{} entries for what came at once", entries.len());
        let all: BTreeSet<Link> = entries.iter().flatten().cloned().collect();
        assert_eq!(all.len(), (0..100).map(link).collect::<BTreeSet<_>>().len());
    }

    #[tokio::test]
    async fn without_a_leader_the_answer_does_not_wait_and_the_link_is_wanted_later() {
        let log = Arc::new(Log::default());
        log.leaderless.store(true, Ordering::Relaxed);
        let graces = graces(&log);
        let (repo, digest) = link(1);
        let began = Instant::now();
        graces.renew(&repo, &digest).await;
        assert!(began.elapsed() < Duration::from_millis(500) && log.entries.lock().unwrap().is_empty());
        log.leaderless.store(false, Ordering::Relaxed);
        while log.entries.lock().unwrap().is_empty() {
            assert!(began.elapsed() < AGAIN * 10, "it is forgotten");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(*log.entries.lock().unwrap(), [vec![(repo, digest)]]);
    }

    #[tokio::test]
    async fn an_answer_waits_for_a_bounded_while() {
        let log = Arc::new(Log::default());
        log.slow.store(true, Ordering::Relaxed);
        let graces = graces(&log);
        let (repo, digest) = link(1);
        let kept = tokio::time::timeout(WAIT + Duration::from_millis(100), graces.renew(&repo, &digest));
        assert!(kept.await.is_ok());
    }
}
