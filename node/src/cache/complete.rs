//! Whether an image is here as a whole, so that whoever is told of it also gets the rest of it.
//!
//! An index is here when one of its images is: only what is asked for is fetched, and that somebody looked at the
//! manifest of another platform takes nothing from those who run this one. Never does: fetch, or
//! promise that what is here stays.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::{Digest, RepoName, StateError, View};

use super::manifests::{Manifests, failed};
use super::recent::Recent;

/// Indexes within indexes that are looked into.
const DEPTH: u8 = 3;
/// Manifests that are looked for; what has more does not count as whole.
const LOOKED_AT: usize = 10_000;

/// What a manifest needs.
struct Needs {
    blobs: Vec<Digest>,
    children: Vec<Digest>,
}

impl Manifests {
    /// Whether the manifest and all blobs of it, or of one image of an index, are held somewhere in the cluster
    /// where they may be given under this name.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(super) async fn is_complete(&self, repo: &RepoName, digest: &Digest) -> Result<bool, PullError> {
        let missing = {
            let view = self.view()?;
            let (images, seen) = Default::default();
            let mut gathered = Gathered { view: &view, recent: self.recent(), repo, images, seen };
            if !gathered.add(digest, DEPTH).map_err(failed)? {
                return Ok(false);
            }
            let mut missing = Vec::new();
            for image in gathered.images {
                let mut of_image = BTreeSet::new();
                for blob in image {
                    if !self.has_for(repo, &blob) {
                        of_image.insert(blob);
                    }
                }
                missing.push(of_image);
            }
            missing
        };
        if missing.iter().any(BTreeSet::is_empty) {
            return Ok(true);
        }
        let asked: Vec<Digest> =
            missing.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let found = self.found_elsewhere(repo, &asked).await;
        let elsewhere: BTreeSet<&Digest> =
            asked.iter().zip(found).filter_map(|(blob, found)| found.then_some(blob)).collect();
        Ok(missing.iter().any(|image| image.iter().all(|blob| elsewhere.contains(blob))))
    }

    /// Whether this node has the blob, and may give it under the name `repo`.
    pub(super) fn has_for(&self, repo: &RepoName, blob: &Digest) -> bool {
        let name = UpstreamName::of_local(repo);
        self.store().has(blob).is_some() && name.is_some_and(|name| self.origins().may_give(&name, blob))
    }

    /// Which of these the others have between them for this name.
    async fn found_elsewhere(&self, repo: &RepoName, blobs: &[Digest]) -> Vec<bool> {
        let for_user = self.for_user(repo);
        let answers = self.others().into_iter();
        let answers = answers.map(|node| self.peers().has(node, blobs, Some(repo), for_user));
        let answers = join_all(answers).await;
        let mut found = vec![false; blobs.len()];
        for has in answers.into_iter().flatten() {
            for (found, has) in found.iter_mut().zip(has) {
                *found |= has;
            }
        }
        found
    }
}

/// The blobs of the images of an index, or of the one that is looked at.
struct Gathered<'a> {
    view: &'a View,
    recent: &'a Recent,
    repo: &'a RepoName,
    images: Vec<Vec<Digest>>,
    /// The manifests that were looked for, and whether they are here.
    seen: BTreeMap<Digest, bool>,
}

impl Gathered<'_> {
    /// Adds what the manifest needs; whether it is here, with at least one manifest of each index.
    fn add(&mut self, digest: &Digest, depth: u8) -> Result<bool, StateError> {
        if let Some(is_here) = self.seen.get(digest) {
            return Ok(*is_here);
        }
        if self.seen.len() >= LOOKED_AT {
            return Ok(false);
        }
        self.seen.insert(*digest, false);
        let Some(needs) = needs(self.view, self.recent, self.repo, digest)? else { return Ok(false) };
        let mut is_here = needs.children.is_empty();
        if is_here {
            self.images.push(needs.blobs);
        }
        for child in needs.children {
            is_here |= depth > 0 && self.add(&child, depth - 1)?;
        }
        self.seen.insert(*digest, is_here);
        Ok(is_here)
    }
}

fn needs(
    view: &View,
    recent: &Recent,
    repo: &RepoName,
    digest: &Digest,
) -> Result<Option<Needs>, StateError> {
    if let Some(row) = view.manifest(repo, digest)? {
        return Ok(Some(Needs { blobs: row.blobs, children: row.children }));
    }
    let parsed = recent.get(repo, digest).and_then(|served| served.parsed);
    Ok(parsed.map(|parsed| Needs {
        blobs: parsed.manifest.blobs.clone(),
        children: parsed.manifest.children.clone(),
    }))
}
