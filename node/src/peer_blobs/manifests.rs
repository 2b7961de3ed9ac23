//! What a node asks others about manifests and lists of upstream registries, and about what manifests list.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use trow_raft::{Digest, NodeId, RepoName};

use super::blobs::{json, posted};
use super::send::{QUICK, garbled};
use super::wire::{self, AskHas, AskList, AskLists, AskManifest, Has, Lists, PULLED_MAX, Told, ToldList};
use super::{PeerBlobs, PeerError};
use crate::upstream::Places;

/// How long the bytes of a manifest or a list, which are there, may be on their way.
const ARRIVES: Duration = Duration::from_secs(10);

impl PeerBlobs {
    /// What `node` finds out about a manifest, on behalf of all, and its bytes if they were asked for and are
    /// not here. Waits at most `limit`, and no longer than the node lives.
    ///
    /// # Errors
    /// [`wire::Fault::Upstream`] for what comes of asking; any other when the node did not do its part.
    pub async fn manifest(
        &self,
        node: NodeId,
        limit: Duration,
        question: &AskManifest,
    ) -> Result<(Told, Bytes), PeerError> {
        let body = self.pulled(node, limit, "/cache/manifest", json(question)).await?;
        let (told, bytes) = Told::read(&body).ok_or_else(|| garbled(node, "no manifest"))?;
        let is_right = !told.follows || Digest::of(told.digest.algorithm(), &bytes) == told.digest;
        if is_right { Ok((told, bytes)) } else { Err(garbled(node, "a manifest with another digest")) }
    }

    /// A list that `node` finds out on behalf of all. Waits at most `limit`, and no longer than the node lives.
    ///
    /// # Errors
    /// [`wire::Fault::Upstream`] for what comes of asking; any other when the node did not do its part, as one
    /// that is too old to know the question.
    pub async fn list(
        &self,
        node: NodeId,
        limit: Duration,
        question: &AskList,
    ) -> Result<(ToldList, Bytes), PeerError> {
        let body = self.pulled(node, limit, "/cache/list", json(question)).await?;
        ToldList::read(&body).ok_or_else(|| garbled(node, "no list"))
    }

    async fn pulled(
        &self,
        node: NodeId,
        limit: Duration,
        path: &'static str,
        question: Body,
    ) -> Result<Bytes, PeerError> {
        let reply = self.send(node, limit, posted(path), question).await?;
        let read = axum::body::to_bytes(reply.into_body(), PULLED_MAX);
        self.watched(node, ARRIVES, read).await?.map_err(|error| garbled(node, error))
    }

    /// The size of a blob that a manifest of the repository lists which `node` served lately; `for_user` when this
    /// node holds the repository for one that needs a user.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn lists(
        &self,
        node: NodeId,
        repo: &RepoName,
        blob: &Digest,
        for_user: bool,
    ) -> Result<Option<u64>, PeerError> {
        let question = AskLists { repo: repo.clone(), blob: *blob, for_user };
        let answer: Lists = self.ask(node, QUICK, posted("/cache/lists"), json(&question)).await?;
        Ok(answer.size)
    }

    /// For what there ever were credentials, as far as `node` knows.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn logins(&self, node: NodeId) -> Result<Places, PeerError> {
        self.ask(node, QUICK, Request::get("/cache/logins"), Body::empty()).await
    }

    /// Which of the blobs are on the disk of `node` now, in order; with `repo` those alone that it may give under
    /// that upstream's name, `for_user` when this node holds it for one that needs a user.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn has(
        &self,
        node: NodeId,
        digests: &[Digest],
        repo: Option<&RepoName>,
        for_user: bool,
    ) -> Result<Vec<bool>, PeerError> {
        let mut all = Vec::with_capacity(digests.len());
        for part in digests.chunks(wire::CONFIRM_MAX) {
            let question = AskHas { digests: part.to_vec(), repo: repo.cloned(), for_user };
            let answer: Has = self.ask(node, QUICK, posted("/cache/has"), json(&question)).await?;
            if answer.has.len() != part.len() {
                return Err(garbled(node, "another number of answers than questions"));
            }
            all.extend(answer.has);
        }
        Ok(all)
    }
}
