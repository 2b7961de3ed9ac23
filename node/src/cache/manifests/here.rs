//! What this node has of a manifest, without asking anybody.

use bytes::Bytes;
use trow_api::pull::{PullError, Pulled};
use trow_raft::{Digest, RepoName, StateError, Tag, View};

use super::super::freshness::Row;
use super::super::recent::Served;
use super::{Manifests, failed};

/// A manifest that is here.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
    /// Of the entry that recorded it; none while it is in memory alone.
    pub recorded: Option<u64>,
    /// What is applied.
    pub applied: u64,
}

impl Here {
    /// As an answer to somebody who asked for it by digest.
    pub(super) fn pulled(self, head: bool) -> Pulled {
        Pulled {
            digest: self.digest,
            media_type: self.media_type,
            size: self.bytes.len() as u64,
            bytes: (!head).then_some(self.bytes),
            index: self.recorded.unwrap_or(self.applied),
            stale: None,
        }
    }
}

impl Manifests {
    /// A manifest of the repository that is in the state, or was served lately.
    pub(super) fn here(&self, repo: &RepoName, digest: &Digest) -> Result<Option<Here>, PullError> {
        let view = self.view()?;
        let recorded = recorded(&view, repo, digest).map_err(failed)?;
        if recorded.is_some() {
            // From now on what becomes of it there is what counts: it may be purged.
            self.inner.recent.forget(repo, digest);
            return Ok(recorded);
        }
        let Some(served) = self.inner.recent.get(repo, digest) else { return Ok(None) };
        let applied = view.applied().map_err(failed)?;
        let Served { digest, media_type, bytes, .. } = served;
        Ok(Some(Here { digest, media_type, bytes, recorded: None, applied }))
    }

    /// The tag as the state has it.
    pub(super) fn row(&self, repo: &RepoName, tag: &Tag) -> Result<Option<Row>, PullError> {
        let row = self.view()?.tag(repo, tag).map_err(failed)?;
        Ok(row.map(|row| Row { digest: row.digest, revision: row.revision }))
    }
}

fn recorded(view: &View, repo: &RepoName, digest: &Digest) -> Result<Option<Here>, StateError> {
    let Some(row) = view.manifest(repo, digest)? else { return Ok(None) };
    let Some(bytes) = view.body(digest)? else { return Ok(None) };
    let (recorded, applied) = (Some(row.index), view.applied()?);
    Ok(Some(Here { digest: *digest, media_type: row.media_type, bytes, recorded, applied }))
}
