//! From held copies to a blob that exists: enough evidence, then one command.
//!
//! Always holds: a blob is committed with the word of W members in their current generation, and
//! also a blob that the state knows already, since the copies just made may be all that is left
//! of it. Never does: give up on evidence that went stale, as long as members can be reached.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use futures::future::join_all;
use tracing::{debug, warn};
use trow_api::blobs::UploadError;
use trow_raft::metadata::ProposeError;
use trow_raft::{Applied, Command, Digest, Evidence, Member, NodeId, Outcome, Refusal, RepoName};

use super::fault::{hold_fault, peer_fault, store_fault};
use super::{Replicated, candidates, evidence};
use crate::peer_blobs::PeerError;
use crate::peer_blobs::wire::{Fault, Finished};
use crate::standstill::{self, Point};

/// How often evidence is gathered before the client is told to come back.
const ATTEMPTS: u32 = 16;
/// The wait before the first of these; each is twice as long, up to [`LONGEST`]. A holder that just
/// started vouches in vain until its fence is agreed on, which takes some commits of the log.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// After this long no further attempt is begun.
const PATIENCE: Duration = Duration::from_secs(15);

impl Replicated {
    /// Makes the blob exist in `repo` on the word of `finished` and of as many more as it takes.
    pub(super) async fn commit(
        &self,
        repo: &RepoName,
        digest: &Digest,
        finished: Finished,
        actor: &str,
    ) -> Result<Applied, UploadError> {
        let size = finished.size;
        let mut evidence = finished.evidence;
        let mut needed = 0;
        let begun = Instant::now();
        let mut missing = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                if begun.elapsed() > PATIENCE {
                    break;
                }
                tokio::time::sleep((PAUSE * (1 << (attempt - 1))).min(LONGEST)).await;
                evidence = self.ask_all(digest).await?;
            }
            if let Err(error) = self.gather(digest, &mut evidence, needed).await {
                debug!(%digest, %error, "too little evidence for now");
                missing = Some(error);
                continue;
            }
            let command =
                Command::CommitBlob { repo: repo.clone(), digest: *digest, size, evidence: evidence.clone() };
            standstill::reached(Point::BeforeCommit).await;
            let applied = match (self.inner.agreed.propose)(actor, command).await {
                Ok(applied) => applied,
                Err(ProposeError::Unknown(why)) => return Err(UploadError::OutcomeUnknown(why)),
                Err(error) => return Err(UploadError::Unavailable(error.to_string())),
            };
            match &applied.outcome {
                Outcome::Done => {
                    standstill::reached(Point::AfterCommit).await;
                    return Ok(applied);
                }
                Outcome::Refused(Refusal::StaleEvidence { needed: more }) => {
                    debug!(%digest, ?evidence, needed = more, "evidence went stale and is gathered again");
                    needed = *more as usize;
                }
                Outcome::Refused(refusal) => {
                    warn!(%digest, %repo, %refusal, "the state refuses a blob that is held; the client is told why, nothing to do");
                    return Ok(applied);
                }
            }
        }
        let stale = || UploadError::Unavailable("the holders' word went stale again and again".into());
        Err(missing.unwrap_or_else(stale))
    }

    /// The commit of an upload that is gone, if the blob is in `repo`: the client repeats a
    /// request whose reply it did not see.
    pub(super) async fn linked(
        &self,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<Option<Applied>, UploadError> {
        let unavailable = |error: &dyn std::fmt::Display| UploadError::Unavailable(error.to_string());
        let view = (self.inner.agreed.confirmed)().await.map_err(|error| unavailable(&error))?;
        let link = view.link(repo, digest).map_err(|error| unavailable(&error))?;
        let blob = view.blob(digest).map_err(|error| unavailable(&error))?;
        let index = view.applied().map_err(|error| unavailable(&error))?;
        let there = link.is_some() && blob.is_some_and(|blob| !blob.lost);
        Ok(there.then_some(Applied { index, outcome: Outcome::Done }))
    }

    /// Has a write quorum hold a blob that some members have as cached, and gives its size and their word. `None`
    /// when nobody has it, or too few hold it now.
    pub async fn hold_cached(&self, digest: &Digest) -> Option<Finished> {
        let mut evidence = self.ask_all(digest).await.ok()?;
        let first = evidence.first()?.node;
        let size = match self.inner.store.has(digest) {
            Some(size) => size,
            None => self.inner.peers.look(first, digest).await.ok()??.size,
        };
        if let Err(error) = self.gather(digest, &mut evidence, 0).await {
            debug!(%digest, %error, "a cached blob is held by too few");
            return None;
        }
        Some(Finished { size, evidence })
    }

    fn members(&self) -> Result<Vec<Member>, UploadError> {
        let members = (self.inner.agreed.view)().and_then(|view| view.members());
        members.map_err(|error| UploadError::Unavailable(error.to_string()))
    }

    /// Fresh evidence of every member that holds the blob and answers.
    async fn ask_all(&self, digest: &Digest) -> Result<Vec<Evidence>, UploadError> {
        let members = self.members()?;
        let asked = members.iter().map(|member| async {
            if member.id == self.inner.me {
                let held = self.inner.store.confirm(digest).await.ok().flatten();
                return held.map(|held| held.evidence(self.inner.me));
            }
            let answer = self.inner.peers.confirm(member.id, std::slice::from_ref(digest)).await;
            answer.ok()?.into_iter().flatten().next()
        });
        Ok(join_all(asked).await.into_iter().flatten().collect())
    }

    /// Has more members hold the blob until `needed` of them, and no fewer than the write quorum,
    /// vouch for it; owners first. What is left in `evidence` stands.
    async fn gather(
        &self,
        digest: &Digest,
        evidence: &mut Vec<Evidence>,
        needed: usize,
    ) -> Result<(), UploadError> {
        let members = self.members()?;
        let unavailable = |error: trow_raft::StateError| UploadError::Unavailable(error.to_string());
        let view = (self.inner.agreed.view)().map_err(unavailable)?;
        let needed = needed.max(view.write_quorum().map_err(unavailable)?);
        let partition = view.partition(digest.partition()).map_err(unavailable)?;
        let away = view.blob(digest).map_err(unavailable)?.map(|blob| blob.away).unwrap_or_default();
        drop(view);
        let owners: Vec<NodeId> = partition.owners.iter().map(|owner| owner.node).collect();
        let holders: Vec<NodeId> = evidence.iter().map(|word| word.node).collect();
        evidence::strike(evidence, &members);
        let mut asked = holders.clone();
        let silence = |node| {
            if node == self.inner.me { Some(Default::default()) } else { self.inner.peers.silence(node) }
        };
        // Whoever vouched has the bytes; of a blob that was known before, others may as well.
        let others = candidates::to_read(self.inner.me, &partition, &away, &members, &silence);
        let mut sources = holders;
        for node in others {
            if !sources.contains(&node) {
                sources.push(node);
            }
        }
        let mut full = false;
        while evidence.len() < needed {
            let next =
                candidates::to_hold(&asked, &owners, &members, &silence, rand::random()).into_iter().next();
            let Some(next) = next else {
                let have = evidence.len();
                let why = format!("{have} of the {needed} members that must hold the blob can be reached");
                return Err(if full { UploadError::NoSpace } else { UploadError::Unavailable(why) });
            };
            asked.push(next);
            match self.hold_at(next, digest, &sources).await {
                Ok(finished) => evidence.extend(finished.evidence.into_iter().filter(|e| e.node == next)),
                Err(error) => {
                    debug!(node = %next, %digest, %error, "a member does not hold a blob for us");
                    full |= matches!(error, PeerError::Fault(Fault::NoSpace));
                }
            }
        }
        Ok(())
    }

    async fn hold_at(
        &self,
        node: NodeId,
        digest: &Digest,
        sources: &[NodeId],
    ) -> Result<Finished, PeerError> {
        if node == self.inner.me {
            return Ok(self.hold_here(digest, sources).await?);
        }
        self.inner.peers.hold(node, digest, sources).await
    }

    /// Vouches for the blob, fetching it from one of `sources` if it is not here.
    pub(super) async fn hold_here(&self, digest: &Digest, sources: &[NodeId]) -> Result<Finished, Fault> {
        let (me, store) = (self.inner.me, &self.inner.store);
        if let Some(held) = store.confirm(digest).await.map_err(store_fault)? {
            return Ok(Finished { size: held.size, evidence: vec![held.evidence(me)] });
        }
        let mut last = Fault::Unknown;
        for source in sources.iter().filter(|source| **source != me) {
            match self.fetch_and_hold(*source, digest).await {
                Ok(finished) => return Ok(finished),
                Err(fault) => {
                    debug!(%source, %digest, %fault, "a copy did not come over");
                    last = fault;
                }
            }
        }
        Err(last)
    }

    async fn fetch_and_hold(&self, source: NodeId, digest: &Digest) -> Result<Finished, Fault> {
        let fetched = self.inner.peers.fetch(source, digest, None).await.map_err(peer_fault)?;
        let mut staged = self.inner.store.stage(Some(digest.algorithm())).await.map_err(store_fault)?;
        let mut body = fetched.body;
        while let Some(bytes) = body.try_next().await.map_err(Fault::unavailable)? {
            staged.write(bytes).await.map_err(store_fault)?;
        }
        let held = staged.hold(digest).await.map_err(hold_fault)?;
        Ok(Finished { size: held.size, evidence: vec![held.evidence(self.inner.me)] })
    }
}
