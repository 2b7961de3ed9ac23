//! Whether a blob may be given under a name: a manifest of that name lists it.
//!
//! Always holds: a blob of one repository is not given under another because it happens to be here. What no
//! manifest that is known lists is for the upstream to vouch for, under that very name.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use trow_api::manifest::parse;
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::{Digest, RepoName, StateError, View};

use super::manifests::{Manifests, failed};

impl Manifests {
    /// The size that a manifest of the repository gives for the blob that it lists; none when no manifest is
    /// known here or elsewhere in the cluster that lists it.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn listed(&self, name: &UpstreamName, blob: &Digest) -> Result<Option<u64>, PullError> {
        let repo = name.local();
        let here = size_in(&self.view()?, repo, blob).map_err(failed)?;
        if let Some(size) = here.or_else(|| self.recent().size_of(repo, blob)) {
            return Ok(Some(size));
        }
        // All are asked at once; the first that knows is enough.
        let (others, for_user) = (self.others(), self.needs_user(name));
        let mut answers: FuturesUnordered<_> =
            others.into_iter().map(|node| self.peers().lists(node, repo, blob, for_user)).collect();
        while let Some(answer) = answers.next().await {
            if let Ok(Some(size)) = answer {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    /// As [`Manifests::listed`], by what this node knows itself of manifests that it served lately.
    pub(super) fn listed_lately(&self, repo: &RepoName, blob: &Digest) -> Option<u64> {
        self.recent().size_of(repo, blob)
    }
}

/// By the manifests in the state.
fn size_in(view: &View, repo: &RepoName, blob: &Digest) -> Result<Option<u64>, StateError> {
    let Some(manifest) = view.lists(repo, blob)? else { return Ok(None) };
    let (Some(row), Some(bytes)) = (view.manifest(repo, &manifest)?, view.body(&manifest)?) else {
        return Ok(None);
    };
    let parsed = parse::parse(manifest, Some(&row.media_type), bytes).ok();
    Ok(parsed.and_then(|parsed| parsed.sizes.get(blob).copied()))
}
