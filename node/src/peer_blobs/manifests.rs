//! What a node asks others about manifests of upstream registries, and about what these list.

use std::time::Duration;

use bytes::Bytes;
use trow_raft::{Digest, NodeId, RepoName};

use super::blobs::{json, posted};
use super::send::{QUICK, garbled};
use super::wire::{self, AskHas, AskLists, AskManifest, Has, Lists, PULLED_MAX, Told};
use super::{PeerBlobs, PeerError};

/// How long the bytes of a manifest, which are there, may be on their way.
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
        let reply = self.send(node, limit, posted("/cache/manifest"), json(question)).await?;
        let read = axum::body::to_bytes(reply.into_body(), PULLED_MAX);
        let body = self.watched(node, ARRIVES, read).await?.map_err(|error| garbled(node, error))?;
        let (told, bytes) = Told::read(&body).ok_or_else(|| garbled(node, "no manifest"))?;
        let is_right = !told.follows || Digest::of(told.digest.algorithm(), &bytes) == told.digest;
        if is_right { Ok((told, bytes)) } else { Err(garbled(node, "a manifest with another digest")) }
    }

    /// The size of a blob that a manifest of the repository lists which `node` served lately.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn lists(
        &self,
        node: NodeId,
        repo: &RepoName,
        blob: &Digest,
    ) -> Result<Option<u64>, PeerError> {
        let question = AskLists { repo: repo.clone(), blob: *blob };
        let answer: Lists = self.ask(node, QUICK, posted("/cache/lists"), json(&question)).await?;
        Ok(answer.size)
    }

    /// Which of the blobs are on the disk of `node` now, in order; with `repo` those alone that it may give under
    /// that upstream's name.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn has(
        &self,
        node: NodeId,
        digests: &[Digest],
        repo: Option<&RepoName>,
    ) -> Result<Vec<bool>, PeerError> {
        let mut all = Vec::with_capacity(digests.len());
        for part in digests.chunks(wire::CONFIRM_MAX) {
            let question = AskHas { digests: part.to_vec(), repo: repo.cloned() };
            let answer: Has = self.ask(node, QUICK, posted("/cache/has"), json(&question)).await?;
            if answer.has.len() != part.len() {
                return Err(garbled(node, "another number of answers than questions"));
            }
            all.extend(answer.has);
        }
        Ok(all)
    }
}
