//! Blobs in memory: the second implementation of [`Blobs`], so that the API is tested without
//! files and peers.
//!
//! Holds to the same promises but durability: what a session staged is verified before it is
//! committed with the evidence it was made with, and a close may be repeated.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use trow_raft::{
    Algorithm, Applied, Command, Digest, Evidence, Metadata, Outcome, ProposeError, Refusal, RepoName,
    StateError,
};

use super::{Blobs, ByteStream, Held, ReadBlobError, UploadError, UploadToken};

/// Chunks that blobs are read in, small enough that tests see more than one.
const CHUNK: usize = 64 * 1024;

/// Blobs of one process, gone with it.
pub struct Memory {
    metadata: Metadata,
    evidence: Vec<Evidence>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    sessions: HashMap<UploadToken, Session>,
    blobs: BTreeMap<Digest, Bytes>,
    max_sessions: Option<usize>,
    full: bool,
}

struct Session {
    repo: RepoName,
    staged: BytesMut,
    /// The outcome, once closed.
    closed: Option<(Digest, Applied)>,
}

impl Memory {
    /// Blobs that are committed through `metadata`, vouched for by `evidence`.
    pub fn new(metadata: Metadata, evidence: Vec<Evidence>) -> Self {
        Memory { metadata, evidence, inner: Mutex::default() }
    }

    /// Drops or replaces the bytes of a blob behind the back of the state, as a bad disk would.
    pub fn damage(&self, digest: &Digest, bytes: Option<Bytes>) {
        let mut inner = self.lock();
        match bytes {
            Some(bytes) => inner.blobs.insert(*digest, bytes),
            None => inner.blobs.remove(digest),
        };
    }

    /// From now on refuses new sessions beyond `max`.
    pub fn limit_sessions(&self, max: usize) {
        self.lock().max_sessions = Some(max);
    }

    /// From now on has no space, or has again.
    pub fn fill(&self, full: bool) {
        self.lock().full = full;
    }

    /// Sessions that are open.
    pub fn open_sessions(&self) -> usize {
        self.lock().sessions.values().filter(|session| session.closed.is_none()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is whole, so a panic of another holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The length reached, with what came before the body broke off kept.
    async fn stage(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        at: Option<u64>,
        mut body: ByteStream,
    ) -> Result<u64, UploadError> {
        let have = self.lock().session(repo, token)?.staged.len() as u64;
        if at.is_some_and(|at| at != have) {
            return Err(UploadError::OutOfOrder { have, token: None });
        }
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(UploadError::ClientGone)?;
            let mut inner = self.lock();
            if inner.full {
                return Err(UploadError::NoSpace);
            }
            inner.session(repo, token)?.staged.extend_from_slice(&chunk);
        }
        let length = self.lock().session(repo, token)?.staged.len() as u64;
        Ok(length)
    }
}

impl Inner {
    fn session(&mut self, repo: &RepoName, token: &UploadToken) -> Result<&mut Session, UploadError> {
        let session = self.sessions.get_mut(token);
        session.filter(|s| s.repo == *repo && s.closed.is_none()).ok_or(UploadError::Unknown)
    }

    fn outcome(&self, repo: &RepoName, token: &UploadToken, digest: &Digest) -> Option<Applied> {
        let session = self.sessions.get(token).filter(|session| session.repo == *repo)?;
        session.closed.as_ref().filter(|(closed, _)| closed == digest).map(|(_, applied)| applied.clone())
    }
}

#[async_trait]
impl Blobs for Memory {
    async fn open(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<ByteStream, ReadBlobError> {
        let blob = self.lock().blobs.get(digest).cloned().ok_or(ReadBlobError::NotHere)?;
        let damaged = blob.len() as u64 != size || Digest::of(digest.algorithm(), &blob) != *digest;
        let mut chunks: Vec<io::Result<Bytes>> = Vec::new();
        let (mut at, end) = (range.start as usize, (range.end as usize).min(blob.len()));
        while at < end {
            let next = (at + CHUNK).min(end);
            chunks.push(Ok(blob.slice(at..next)));
            at = next;
        }
        if damaged {
            // The last chunk is withheld: a reader never gets a whole that is wrong.
            chunks.pop();
            chunks.push(Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is damaged")));
        }
        Ok(Box::pin(stream::iter(chunks)))
    }

    async fn holders(&self, digest: &Digest) -> Result<Held, StateError> {
        let is_here = self.lock().blobs.contains_key(digest);
        let by = self.evidence.iter().filter(|_| is_here).map(|word| word.node).collect();
        Ok(Held { by, silent: Vec::new() })
    }

    async fn start(&self, repo: &RepoName, _hint: Option<Algorithm>) -> Result<UploadToken, UploadError> {
        let open = self.open_sessions();
        let mut inner = self.lock();
        if inner.max_sessions.is_some_and(|max| open >= max) {
            return Err(UploadError::TooMany);
        }
        inner.next += 1;
        let state = hex::encode(rand::random::<[u8; 8]>());
        let token = UploadToken::new(format!("m{}", inner.next), state).ok_or(UploadError::Unknown)?;
        let session = Session { repo: repo.clone(), staged: BytesMut::new(), closed: None };
        inner.sessions.insert(token.clone(), session);
        Ok(token)
    }

    async fn append(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<(UploadToken, u64), UploadError> {
        let length = self.stage(repo, token, at, body).await?;
        Ok((token.clone(), length))
    }

    async fn progress(
        &self,
        repo: &RepoName,
        token: &UploadToken,
    ) -> Result<(UploadToken, u64), UploadError> {
        let length = self.lock().session(repo, token)?.staged.len() as u64;
        Ok((token.clone(), length))
    }

    async fn finish(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        digest: &Digest,
        at: Option<u64>,
        body: ByteStream,
        actor: &str,
    ) -> Result<Applied, UploadError> {
        if let Some(applied) = self.lock().outcome(repo, token, digest) {
            return Ok(applied);
        }
        self.stage(repo, token, at, body).await?;
        let blob = self.lock().session(repo, token)?.staged.clone().freeze();
        if Digest::of(digest.algorithm(), &blob) != *digest {
            // What was staged can never become what the client means.
            self.lock().sessions.remove(token);
            return Err(UploadError::DigestMismatch);
        }
        let size = blob.len() as u64;
        self.lock().blobs.insert(*digest, blob);
        let command = Command::CommitBlob {
            repo: repo.clone(),
            digest: *digest,
            size,
            evidence: self.evidence.clone(),
        };
        let applied = self.metadata.propose(actor, command).await.map_err(|error| match error {
            ProposeError::Unknown(why) => UploadError::OutcomeUnknown(why),
            other => UploadError::Unavailable(other.to_string()),
        })?;
        if let Outcome::Refused(refusal @ Refusal::StaleEvidence { .. }) = &applied.outcome {
            return Err(UploadError::Unavailable(refusal.to_string()));
        }
        if let Some(session) = self.lock().sessions.get_mut(token) {
            session.staged = BytesMut::new();
            session.closed = Some((*digest, applied.clone()));
        }
        Ok(applied)
    }

    async fn cancel(&self, repo: &RepoName, token: &UploadToken) -> Result<(), UploadError> {
        let mut inner = self.lock();
        inner.session(repo, token)?;
        inner.sessions.remove(token);
        Ok(())
    }
}
