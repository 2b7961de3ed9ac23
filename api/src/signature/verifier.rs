//! Which keys signed an image, as far as it is known, and what is remembered of that.
//!
//! Always holds: concurrent questions about an image are one look at its signatures, which ends within
//! [`LOOK_TIME`]; that an image is signed is agreed among the nodes, by its digest and the policy's revision, so that
//! it stays known when the signature cannot be read any more; that it is not signed is forgotten after
//! [`UNSIGNED_FOR`], so that it may be signed then; what was only tried leaves nothing in the agreed state. Never
//! does: make a question wait for that agreement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{self, BoxFuture, Shared};
use tokio::sync::Semaphore;
use trow_raft::command::SYSTEM;
use trow_raft::{Command, Digest, Metadata, Outcome, StateError};

use super::PublicKey;
use super::look;
use super::place::{Place, Repository};
use crate::blobs::Blobs;
use crate::policy::Fact;
use crate::pull::Upstreams;

/// Longest look at the signatures of an image; the API server waits 10 s for a webhook unless it is told otherwise.
pub const LOOK_TIME: Duration = Duration::from_secs(5);
/// How long it is believed that an image is not signed, or that this cannot be found out.
pub const UNSIGNED_FOR: Duration = Duration::from_secs(3);
/// How long this node alone remembers that an image is signed, for as long as it is not agreed.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// Looks at once on a node.
const AT_ONCE: usize = 32;
/// Most answers that are remembered, and questions that are open.
const KEPT_MAX: usize = 4096;

/// Answers which keys signed an image. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    metadata: Metadata,
    blobs: Arc<dyn Blobs>,
    upstreams: Arc<dyn Upstreams>,
    at_once: Semaphore,
    kept: Mutex<HashMap<Question, Flight>>,
}

/// A look that is under way, or what came of it.
type Flight = Shared<BoxFuture<'static, Answer>>;

/// Why it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The image is to run: that it is signed is worth being agreed.
    Run,
    /// Somebody tries what would be decided: nothing is written.
    Try,
}

/// A look for each purpose, so that one that was begun to try is not taken for one that is agreed.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    purpose: Purpose,
    repository: Repository,
    image: Digest,
    revision: u64,
    keys: Vec<(String, PublicKey)>,
}

#[derive(Clone)]
struct Answer {
    at: Instant,
    names: Fact<Vec<String>>,
}

impl Answer {
    fn now(names: Fact<Vec<String>>) -> Answer {
        Answer { at: Instant::now(), names }
    }

    fn holds(&self) -> bool {
        let signed = matches!(&self.names, Fact::Known(names) if !names.is_empty());
        self.at.elapsed() < if signed { SIGNED_FOR } else { UNSIGNED_FOR }
    }
}

impl Verifier {
    /// Reads from our own repositories, and from others through `upstreams`.
    pub fn new(metadata: Metadata, blobs: Arc<dyn Blobs>, upstreams: Arc<dyn Upstreams>) -> Verifier {
        let (at_once, kept) = (Semaphore::new(AT_ONCE), Mutex::default());
        Verifier { inner: Arc::new(Inner { metadata, blobs, upstreams, at_once, kept }) }
    }

    /// The names of those of `keys` that signed the manifest `image` of the repository, ascending: at least one of
    /// them if any did, none if none did. The keys are those of the policy's `revision`. The answer comes from
    /// what is applied here: whoever must not miss what was signed a moment ago has that confirmed before.
    pub async fn signed_by(
        &self,
        purpose: Purpose,
        repository: &Repository,
        image: &Digest,
        revision: u64,
        keys: &[(&str, &PublicKey)],
    ) -> Fact<Vec<String>> {
        match self.inner.agreed(image, revision, keys) {
            Ok(Some(names)) => return Fact::Known(names),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(cause = %error, "verdicts on signatures cannot be read");
                return Fact::Unknown("this node failed, and its log says how".to_owned());
            }
        }
        let keys = keys.iter().map(|(name, key)| ((*name).to_owned(), (*key).clone())).collect();
        let question = Question { purpose, repository: repository.clone(), image: *image, revision, keys };
        let flight = self.inner.flight(question);
        flight.await.names
    }
}

impl Inner {
    /// What the nodes have agreed on, if that is enough.
    fn agreed(
        &self,
        image: &Digest,
        revision: u64,
        keys: &[(&str, &PublicKey)],
    ) -> Result<Option<Vec<String>>, StateError> {
        let view = self.metadata.local();
        // The names may be those of other keys in another revision.
        if view.policy_revision()? != Some(revision) {
            return Ok(None);
        }
        let mut names = view.verdict(image)?.unwrap_or_default();
        names.retain(|name| keys.iter().any(|(key, _)| key == name));
        Ok((!names.is_empty()).then_some(names))
    }

    /// The look that is under way or was made a moment ago, or a new one.
    fn flight(self: &Arc<Self>, question: Question) -> Flight {
        let mut kept = self.kept();
        if let Some(flight) = kept.get(&question)
            && flight.peek().is_none_or(Answer::holds)
        {
            return flight.clone();
        }
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, flight| flight.peek().is_none_or(Answer::holds));
        }
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, flight| flight.peek().is_none());
        }
        // A look goes on when nobody waits for it any more, so that only so many are begun.
        if kept.len() >= KEPT_MAX {
            let why = "this node looks for too many signatures at once; try again".to_owned();
            return future::ready(Answer::now(Fact::Unknown(why))).boxed().shared();
        }
        // A task of its own: whoever asked first may leave, and others wait for it.
        let look = tokio::spawn(self.clone().look(question.clone()));
        let flight = async move {
            look.await.unwrap_or_else(|error| {
                tracing::warn!(cause = %error, "a look at signatures ended early; nothing to do if the node is stopping");
                Answer::now(Fact::Unknown("this node is stopping".to_owned()))
            })
        };
        let flight = flight.boxed().shared();
        kept.insert(question, flight.clone());
        flight
    }

    async fn look(self: Arc<Self>, question: Question) -> Answer {
        let Question { purpose, repository, image, revision, keys } = question;
        let place = match repository {
            Repository::Own(repo) => {
                Place::Own { metadata: self.metadata.clone(), blobs: self.blobs.clone(), repo }
            }
            Repository::Upstream(name) => Place::Upstream { upstreams: self.upstreams.clone(), name },
        };
        let look = async {
            // Never closed.
            let _permit = self.at_once.acquire().await;
            look::signed_by(&place, &image, &keys).await
        };
        let names = match tokio::time::timeout(LOOK_TIME, look).await {
            Ok(Ok(names)) => names,
            Ok(Err(why)) => return Answer::now(Fact::Unknown(why)),
            Err(_) => {
                let why = format!("its signatures could not be read within {LOOK_TIME:?}");
                return Answer::now(Fact::Unknown(why));
            }
        };
        tracing::debug!(%image, revision, ?names, "looked for signatures");
        if purpose == Purpose::Run && !names.is_empty() {
            tokio::spawn(agree(self.metadata.clone(), image, revision, names.clone()));
        }
        Answer::now(Fact::Known(names))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Question, Flight>> {
        // Every change under the lock is whole, so a panic of another holder spoils nothing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the nodes remember it. Nothing depends on it: whoever asks next looks for itself.
async fn agree(metadata: Metadata, digest: Digest, revision: u64, signed_by: Vec<String>) {
    let command = Command::PutVerdict { digest, revision, signed_by };
    if !matches!(metadata.local().level(), Ok(level) if level >= command.level()) {
        return;
    }
    match metadata.propose(SYSTEM, command).await {
        Ok(applied) if matches!(applied.outcome, Outcome::Done) => {}
        Ok(applied) => tracing::debug!(outcome = ?applied.outcome, "a verdict was refused"),
        Err(error) => tracing::debug!(cause = %error, "a verdict was not agreed"),
    }
}
