//! Blobs of upstreams for the API: who may have what under which name, and from where.
//!
//! Always holds: bytes are given under a name only when a manifest of that name lists the blob, or the upstream
//! itself says under that very name that it has it, whatever is here; and only as [`super::origins`] lets it.
//! Never does: wait for the log.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use trow_api::blobs::Blobs as _;
use trow_api::pull::{Content, PullError, UpstreamName};
use trow_raft::{Digest, Evidence};

use super::Cache;
use super::fill::{Means, pull_error};
use super::pull::{self, Asked};
use super::reads::Kind;
use crate::replicated::task;

/// How long a mount waits until enough members hold the blob. It goes on then, for the push that follows.
const HOLD: Duration = Duration::from_secs(20);

/// The size of a blob as a manifest of the name lists it; `None` when none is known to.
pub type ListedSize =
    Arc<dyn Fn(UpstreamName, Digest) -> BoxFuture<'static, Result<Option<u64>, PullError>> + Send + Sync>;

impl Cache {
    /// The size of a blob, in bytes. Fetches nothing.
    ///
    /// # Errors
    /// As the upstream says, when no manifest here lists it under this name.
    pub async fn blob_size(&self, name: &UpstreamName, digest: &Digest) -> Result<u64, PullError> {
        let registries = &self.inner.fills.means().registries;
        let rules = registries.rules(name);
        rules.allowed.map_err(PullError::Denied)?;
        if let Some(size) = (self.inner.listed)(name.clone(), *digest).await? {
            return Ok(size);
        }
        if rules.offline {
            return Err(PullError::Offline);
        }
        // Whoever asks at the same time is answered by the same HEAD.
        let (registries, name, digest) = (registries.clone(), name.clone(), *digest);
        let asked = self.inner.sizes.join((name.local().clone(), digest), move || async move {
            registries.blob_size(&name, &digest).await.map_err(pull_error)
        });
        asked.outcome().await.unwrap_or(Err(PullError::Failed))
    }

    /// The bytes of a blob as they arrive: all, or the `range` that is made of its size.
    ///
    /// # Errors
    /// As the upstream says before the first byte.
    pub async fn blob(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        range: &(dyn for<'s> Fn(u64) -> Option<Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError> {
        let size = self.blob_size(name, digest).await?;
        let range = range(size).filter(|range| range.start <= range.end && range.end <= size);
        let range = range.ok_or(PullError::Range { size })?;
        let content = |body| Content { size, range: range.clone(), body };
        if self.is_durable(digest, size)
            && self.inner.fills.means().origins.may_give(name, digest)
            && let Ok(body) = self.inner.blobs.open(digest, size, range.clone()).await
        {
            self.inner.reads.count(Kind::Durable);
            return Ok(content(body));
        }
        let asked = Asked { name: name.clone(), digest: *digest, size, range: range.clone() };
        Ok(content(pull::open(&self.inner.fills, &self.inner.reads, asked).await?))
    }

    /// Has a write quorum hold a blob that is cached and may be given under `name`: its size and their evidence.
    /// `None` when there is none, or too few hold it now.
    pub async fn hold(&self, name: &UpstreamName, digest: &Digest) -> Option<(u64, Vec<Evidence>)> {
        self.inner.fills.means().registries.rules(name).allowed.ok()?;
        (self.inner.listed)(name.clone(), *digest).await.ok()??;
        if !self.has_for(name, digest).await {
            return None;
        }
        let (blobs, digest) = (self.inner.blobs.clone(), *digest);
        let held = task::spawn(async move { blobs.hold_cached(&digest).await });
        let held = tokio::time::timeout(HOLD, held).await.ok()?.ok()??;
        Some((held.size, held.evidence))
    }

    /// Whether some node has it and may give it under the name.
    async fn has_for(&self, name: &UpstreamName, digest: &Digest) -> bool {
        let Means { me, homes, peers, origins, store, registries, .. } = self.inner.fills.means();
        if store.has(digest).is_some() && origins.may_give(name, digest) {
            return true;
        }
        let for_user = registries.needs_user(name);
        let others = homes.healthy().into_iter().filter(|node| node != me);
        let mut answers: FuturesUnordered<_> =
            others.map(|node| peers.look_cached(node, name.local(), digest, for_user)).collect();
        while let Some(answer) = answers.next().await {
            if answer.is_ok_and(|there| there.is_some_and(|there| !there.is_arriving)) {
                return true;
            }
        }
        false
    }

    /// Whether the cluster keeps it anyway.
    fn is_durable(&self, digest: &Digest, size: u64) -> bool {
        let row = (self.inner.agreed.view)().and_then(|view| view.blob(digest));
        matches!(row, Ok(Some(row)) if !row.lost && row.size == size)
    }
}
