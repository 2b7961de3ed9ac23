//! Recording in the agreed state what was cached, behind the pull that brought it.
//!
//! Always holds: nobody waits for it; a tag is recorded only if it is still where it was when the upstream was
//! asked; attempts are bounded in number and at once. Never does: insist. What is not recorded is served from
//! memory, and recorded when it is asked for again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::{debug, warn};
use trow_raft::command::{NewManifest, SYSTEM, TagCondition};
use trow_raft::limits::{CACHED_MAX, CACHED_TAGS_MAX};
use trow_raft::metadata::ProposeError;
use trow_raft::{Command, Digest, Outcome, Refusal, RepoName, StateError, Tag};

use super::meter::{Meter, Recorded};
use super::recent::Served;
use crate::replicated::Agreement;

/// How many are on their way to the log at a time: pushes share it.
const AT_ONCE: usize = 32;
/// The largest manifest that is recorded, in bytes; those of images have a hundredth of it.
const RECORDED_MAX: usize = 1 << 20;
/// Bytes of manifests that wait to be recorded at once.
const ROOM: usize = 32 << 20;
/// Pauses between attempts.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10), Duration::from_secs(20)];
/// What came to nothing is not tried again sooner.
const AGAIN: Duration = Duration::from_secs(60);
/// Most that are remembered of those.
const REMEMBERED: usize = 8192;

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The manifest.
    pub digest: Digest,
    /// The tag that points to it, with the revision that was seen before the upstream said so.
    pub tag: Option<(Tag, u64)>,
}

impl Wanted {
    /// A manifest that no tag is known to point to.
    pub fn manifest(digest: Digest) -> Wanted {
        Wanted { digest, tag: None }
    }
}

type Key = (RepoName, Wanted);

/// Does it. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    agreed: Agreement,
    meter: Meter,
    at_once: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// Those under way, and since when others came to nothing.
    known: Arc<Mutex<HashMap<Key, Option<Instant>>>>,
}

/// What came of an attempt.
enum Attempt {
    /// It is so, as of this log index.
    Done(u64),
    /// The tag was moved by somebody else.
    Moved,
    /// It never will.
    Never,
    /// It may the next time.
    Later,
}

impl Recorder {
    /// Over the agreed state.
    pub fn new(agreed: Agreement, meter: Meter) -> Recorder {
        let (at_once, room) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(ROOM)));
        Recorder { agreed, meter, at_once, room, known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Option<Instant>>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Begins, unless it is under way or came to nothing a moment ago. `tell` hears the tag's revision once it
    /// is recorded, or nothing when it was moved by somebody else.
    pub fn record(
        &self,
        repo: &RepoName,
        served: &Served,
        wanted: Wanted,
        now: Instant,
        tell: impl FnOnce(Option<u64>) + Send + 'static,
    ) {
        // Only what can be read as strictly as what is pushed has a place in the state.
        let Some(parsed) = &served.parsed else { return };
        // Large ones are a way to fill the logs and states of all nodes; they are served from memory.
        let bytes = parsed.manifest.bytes.len();
        if bytes > RECORDED_MAX {
            return;
        }
        let Ok(room) = u32::try_from(bytes).map(|bytes| self.room.clone().try_acquire_many_owned(bytes))
        else {
            return;
        };
        // The next time that it is asked for it is tried again.
        let Ok(room) = room else { return };
        let key = (repo.clone(), wanted);
        {
            let mut known = self.lock();
            match known.get(&key) {
                Some(None) => return,
                Some(Some(since)) if now.saturating_duration_since(*since) < AGAIN => return,
                _ => {}
            }
            if known.len() >= REMEMBERED {
                known.retain(|_, failed| failed.is_none());
            }
            known.insert(key.clone(), None);
        }
        let (this, manifest) = (self.clone(), parsed.manifest.clone());
        tokio::spawn(async move {
            let outcome = this.bring_through(&key, &manifest).await;
            drop(room);
            let mut known = this.lock();
            match outcome {
                Attempt::Later | Attempt::Never => known.insert(key, Some(now)),
                _ => known.remove(&key),
            };
            drop(known);
            match outcome {
                Attempt::Done(revision) => tell(Some(revision)),
                Attempt::Moved => tell(None),
                Attempt::Never | Attempt::Later => {}
            }
        });
    }

    async fn bring_through(&self, (repo, wanted): &Key, manifest: &NewManifest) -> Attempt {
        for pause in PAUSES.iter().map(Some).chain([None]) {
            let attempt = {
                let Ok(_turn) = self.at_once.acquire().await else { return Attempt::Later };
                match self.already(repo, wanted) {
                    Ok(None) => self.attempt(repo, wanted, manifest).await,
                    Ok(Some(attempt)) => attempt,
                    Err(error) => {
                        debug!(cause = %error, "the state cannot be read");
                        Attempt::Later
                    }
                }
            };
            match (attempt, pause) {
                (Attempt::Later, Some(pause)) => tokio::time::sleep(*pause).await,
                (attempt, _) => {
                    if matches!(attempt, Attempt::Later) {
                        self.meter.recorded(Recorded::Failed);
                        debug!(%repo, digest = %wanted.digest, "a cached manifest is not recorded for now");
                    }
                    return attempt;
                }
            }
        }
        Attempt::Later
    }

    /// Whether there is nothing to do any more.
    fn already(&self, repo: &RepoName, wanted: &Wanted) -> Result<Option<Attempt>, StateError> {
        let view = (self.agreed.view)()?;
        let Some((tag, seen)) = &wanted.tag else {
            let row = view.manifest(repo, &wanted.digest)?;
            return Ok(row.map(|row| Attempt::Done(row.index)));
        };
        let row = view.tag(repo, tag)?;
        let revision = row.as_ref().map_or(0, |row| row.revision);
        Ok(match row {
            Some(row) if row.digest == wanted.digest => Some(Attempt::Done(row.revision)),
            _ if revision > *seen => {
                self.meter.recorded(Recorded::Dropped);
                Some(Attempt::Moved)
            }
            _ => None,
        })
    }

    /// What to propose; nothing when it would be refused for want of room, and be in all logs for nothing.
    fn command(
        &self,
        repo: &RepoName,
        wanted: &Wanted,
        manifest: &NewManifest,
    ) -> Result<Option<Command>, StateError> {
        let view = (self.agreed.view)()?;
        let (repo, digest) = (repo.clone(), wanted.digest);
        if wanted.tag.is_some() && view.tag_count(&repo, &digest)? >= CACHED_TAGS_MAX {
            return Ok(None);
        }
        if view.asked_for(&repo, &digest)?.is_some()
            && let Some((tag, seen)) = wanted.tag.clone()
        {
            // Its bytes are in the state already, and a tag costs its own alone.
            return Ok(Some(Command::TagCached { repo, digest, tag, seen }));
        }
        if view.cached_bytes()? + manifest.weight() > CACHED_MAX {
            return Ok(None);
        }
        Ok(Some(Command::PutCached { repo, manifest: manifest.clone(), tag: wanted.tag.clone() }))
    }

    async fn attempt(&self, repo: &RepoName, wanted: &Wanted, manifest: &NewManifest) -> Attempt {
        let command = match self.command(repo, wanted, manifest) {
            Ok(Some(command)) => command,
            Ok(None) => {
                self.meter.recorded(Recorded::Failed);
                debug!(%repo, digest = %wanted.digest, "a cached manifest or its tag is served from memory alone: the state takes no more of them");
                return Attempt::Never;
            }
            Err(error) => {
                debug!(cause = %error, "the state cannot be read");
                return Attempt::Later;
            }
        };
        match (self.agreed.propose)(SYSTEM, command).await {
            Ok(applied) => match applied.outcome {
                Outcome::Done => {
                    self.meter.recorded(Recorded::Stored);
                    Attempt::Done(applied.index)
                }
                Outcome::Refused(Refusal::ConditionFailed { .. }) => {
                    self.meter.recorded(Recorded::Dropped);
                    Attempt::Moved
                }
                // It went in between, and is put as a whole the next time.
                Outcome::Refused(Refusal::NotFound) => Attempt::Later,
                // The leader makes room and says so (`forget`).
                Outcome::Refused(refusal @ Refusal::TooMany { .. }) => {
                    self.meter.recorded(Recorded::Failed);
                    debug!(%repo, digest = %wanted.digest, %refusal, "a cached manifest is served from memory alone: the state takes no more of them");
                    Attempt::Never
                }
                Outcome::Refused(refusal) => {
                    self.meter.recorded(Recorded::Failed);
                    warn!(%repo, digest = %wanted.digest, %refusal, "the state does not take a cached manifest, which is served from memory alone; report this line");
                    Attempt::Never
                }
            },
            Err(error @ ProposeError::TooLarge(_)) => {
                self.meter.recorded(Recorded::Failed);
                debug!(%repo, digest = %wanted.digest, %error, "a cached manifest is not recorded, and served from memory alone");
                Attempt::Never
            }
            // Also a node that joins just now, and a cluster whose level is about to rise.
            Err(_) => Attempt::Later,
        }
    }

    /// Removes a tag that the upstream deleted, if it still is where it was.
    pub fn delete_tag(&self, repo: &RepoName, tag: &Tag, is: Digest) {
        let (this, repo, tag) = (self.clone(), repo.clone(), tag.clone());
        tokio::spawn(async move {
            let Ok(_turn) = this.at_once.acquire().await else { return };
            let condition = Some(TagCondition::Is(is));
            let command = Command::DeleteTag { repo: repo.clone(), tag: tag.clone(), condition };
            if let Err(error) = (this.agreed.propose)(SYSTEM, command).await {
                debug!(%repo, %tag, %error, "a tag that the upstream deleted stays for now");
            }
        });
    }
}
