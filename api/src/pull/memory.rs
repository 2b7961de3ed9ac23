//! Upstream registries in memory: the second implementation of [`Upstreams`], so that the API is tested
//! without a network.
//!
//! Holds to the same promises but keeping: nothing is cached, every answer is what the upstream has at
//! that moment. What goes wrong is said beforehand, name by name.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use trow_raft::{Digest, Evidence, Tag};

use super::UpstreamName;
use super::port::{Content, PullError, Pulled, Relayed, Upstreams};
use crate::blobs::ByteStream;
use crate::route::Reference;

/// Pieces that blobs come in, small enough that tests see more than one.
const CHUNK: usize = 64 * 1024;

/// Registries of one process, gone with it.
#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    repos: HashMap<UpstreamName, Repo>,
    asked: Vec<String>,
}

/// A repository of an upstream.
#[derive(Clone, Default)]
pub struct Repo {
    /// By digest: the type, and the bytes.
    pub manifests: BTreeMap<Digest, (String, Bytes)>,
    /// What each points to.
    pub tags: BTreeMap<Tag, Digest>,
    /// By digest; what they are worth is not looked at.
    pub blobs: BTreeMap<Digest, Bytes>,
    /// What lists of referrers say.
    pub referrers: Option<Relayed>,
    /// It is fetched with credentials.
    pub needs_user: bool,
    /// Why answers are old.
    pub stale: Option<String>,
    /// What every question is answered with.
    pub fails: Option<PullError>,
    /// Bodies break off after so many bytes, with this kind of error, or end there when none.
    pub breaks: Option<(usize, Option<io::ErrorKind>)>,
    /// A quorum's word for every blob, if it can be had.
    pub evidence: Vec<Evidence>,
}

impl Memory {
    /// Has this repository from now on.
    pub fn put(&self, name: UpstreamName, repo: Repo) {
        self.lock().repos.insert(name, repo);
    }

    /// What was asked so far, as `<method> <name> <reference>`.
    pub fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is whole, so a panic of another holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn repo(
        &self,
        method: &str,
        name: &UpstreamName,
        what: impl std::fmt::Display,
    ) -> Result<Repo, PullError> {
        let mut inner = self.lock();
        inner.asked.push(format!("{method} {name} {what}"));
        let repo = inner.repos.get(name).cloned().ok_or(PullError::NotFound)?;
        match repo.fails {
            Some(error) => Err(error),
            None => Ok(repo),
        }
    }
}

#[async_trait]
impl Upstreams for Memory {
    fn needs_user(&self, name: &UpstreamName) -> bool {
        self.lock().repos.get(name).is_some_and(|repo| repo.needs_user)
    }

    async fn manifest(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        head: bool,
    ) -> Result<Pulled, PullError> {
        let repo = self.repo(if head { "head" } else { "get" }, name, reference)?;
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => *repo.tags.get(tag).ok_or(PullError::NotFound)?,
        };
        let (media_type, bytes) = repo.manifests.get(&digest).cloned().ok_or(PullError::NotFound)?;
        let size = bytes.len() as u64;
        let bytes = (!head).then_some(bytes);
        Ok(Pulled { digest, media_type, size, bytes, index: 1, stale: repo.stale })
    }

    async fn blob_size(&self, name: &UpstreamName, digest: &Digest) -> Result<u64, PullError> {
        let repo = self.repo("size", name, digest)?;
        repo.blobs.get(digest).map(|blob| blob.len() as u64).ok_or(PullError::NotFound)
    }

    async fn blob(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        range: &(dyn for<'s> Fn(u64) -> Option<Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError> {
        let repo = self.repo("blob", name, digest)?;
        let blob = repo.blobs.get(digest).cloned().ok_or(PullError::NotFound)?;
        let size = blob.len() as u64;
        let range = range(size).ok_or(PullError::Range { size })?;
        let part = blob.slice(range.start as usize..range.end as usize);
        let (part, end) = match repo.breaks {
            Some((after, kind)) => (part.slice(..after.min(part.len())), kind.map(io::Error::from)),
            None => (part, None),
        };
        let chunks: Vec<io::Result<Bytes>> =
            part.chunks(CHUNK).map(|chunk| Ok(part.slice_ref(chunk))).chain(end.map(Err)).collect();
        let body: ByteStream = stream::iter(chunks).boxed();
        Ok(Content { size, range, body })
    }

    async fn tags(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Relayed, PullError> {
        let repo = self.repo("tags", name, last.unwrap_or_default())?;
        let after = repo.tags.keys().map(Tag::as_str).filter(|tag| last.is_none_or(|last| *tag > last));
        let mut tags: Vec<&str> = after.collect();
        let more = n.is_some_and(|n| n > 0 && tags.len() > n);
        tags.truncate(n.unwrap_or(usize::MAX));
        let next = tags.last().filter(|_| more).map(|tag| (*tag).to_owned());
        let json = serde_json::json!({ "name": name.repo(), "tags": tags }).to_string().into();
        Ok(Relayed { json, next, filtered: false, stale: repo.stale })
    }

    async fn referrers(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Relayed, PullError> {
        let repo = self.repo("referrers", name, format!("{subject} {}", artifact_type.unwrap_or("all")))?;
        repo.referrers.ok_or(PullError::NotFound)
    }

    async fn hold(&self, name: &UpstreamName, digest: &Digest) -> Option<(u64, Vec<Evidence>)> {
        let repo = self.repo("hold", name, digest).ok()?;
        let size = repo.blobs.get(digest)?.len() as u64;
        (!repo.evidence.is_empty()).then_some((size, repo.evidence))
    }
}
