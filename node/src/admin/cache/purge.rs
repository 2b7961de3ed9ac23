//! `DELETE cache`: dropping what is cached, of one image, of one registry, or all of it.
//!
//! Always holds: what is pinned stays.

use std::collections::{BTreeMap, BTreeSet};

use http::Uri;
use serde::Deserialize;
use trow_api::pull::Image;
use trow_api::route::Reference;
use trow_raft::{Command, Digest, RepoName, StateError, View};

use super::super::document::cache::PurgedDocument;
use super::super::{ACTOR, Admin, AdminError, QUORUM, SPREAD, accepted};
use super::{image, place, place_of, prefix, query};

/// Manifests that one request drops at most; the reply says where the next goes on.
const STEP: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    image: Option<String>,
    host: Option<String>,
    all: Option<bool>,
    after: Option<String>,
}

impl Admin {
    pub(in crate::admin) async fn purge(&self, uri: &Uri) -> Result<PurgedDocument, AdminError> {
        let What { image: of, host, all, after } = query(uri)?;
        let after = place_of(after.as_deref())?;
        match (of, host, all.unwrap_or(false)) {
            (Some(of), None, false) if after.is_none() => self.purge_image(&image(&of)?).await,
            (None, Some(host), false) => self.purge_below(&prefix(Some(&host))?, after).await,
            (None, None, true) => self.purge_below(&prefix(None)?, after).await,
            _ => Err(AdminError::BadRequest(
                "expected one of image=, host= and all=true, so that nothing goes by mistake".to_owned(),
            )),
        }
    }

    async fn purge_image(&self, image: &Image) -> Result<PurgedDocument, AdminError> {
        let view = self.metadata.read(QUORUM).await?;
        let repo = image.name.local();
        let digest = match &image.reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => view.tag(repo, tag)?.map(|row| row.digest),
        };
        let cached = match digest {
            Some(digest) => view.manifest(repo, &digest)?.map(|_| digest),
            None => None,
        };
        let digest = cached.ok_or_else(|| AdminError::NotFound(format!("{image} is not cached")))?;
        let pinned = view.pinned()?;
        if pinned.contains(&(repo.clone(), digest)) {
            return Err(AdminError::Conflict(format!(
                "{image} is pinned: `trow cache list` names the pins, `trow cache unpin` takes one away"
            )));
        }
        let all = with_children(&view, repo, digest)?;
        let (kept, dropped): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|digest| pinned.contains(&(repo.clone(), *digest)));
        drop(view);
        self.drop_cached(BTreeMap::from([(repo.clone(), dropped)]), kept.len(), None).await
    }

    async fn purge_below(
        &self,
        prefix: &str,
        after: Option<(RepoName, Digest)>,
    ) -> Result<PurgedDocument, AdminError> {
        let view = self.metadata.read(QUORUM).await?;
        let pinned = view.pinned()?;
        let found = view.cached(prefix, after.as_ref().map(|(repo, digest)| (repo, digest)), STEP)?;
        drop(view);
        let next = (found.len() == STEP).then(|| found.last().map(|last| place(&last.repo, &last.digest)));
        let (mut dropped, mut kept) = (BTreeMap::<RepoName, Vec<Digest>>::new(), 0);
        for one in found {
            match pinned.contains(&(one.repo.clone(), one.digest)) {
                true => kept += 1,
                false => dropped.entry(one.repo).or_default().push(one.digest),
            }
        }
        self.drop_cached(dropped, kept, next.flatten()).await
    }

    async fn drop_cached(
        &self,
        manifests: BTreeMap<RepoName, Vec<Digest>>,
        pinned: usize,
        next: Option<String>,
    ) -> Result<PurgedDocument, AdminError> {
        let mut done = PurgedDocument { pinned: pinned as u64, next, ..PurgedDocument::default() };
        for (repo, digests) in manifests {
            let count = digests.len() as u64;
            let command = Command::DropCached { repo: repo.clone(), digests };
            let applied = accepted(self.metadata.propose(ACTOR, command).await?)?;
            tracing::info!(%repo, count, index = applied.index, "cached manifests were dropped");
            (done.dropped, done.log_id) = (done.dropped + count, Some(applied.index));
        }
        if let Some(index) = done.log_id {
            self.metadata.wait_applied_everywhere(index, SPREAD).await;
        }
        Ok(done)
    }
}

/// The manifest and those that nothing but it and others here names as a child.
fn with_children(view: &View, repo: &RepoName, digest: Digest) -> Result<BTreeSet<Digest>, StateError> {
    let (mut all, mut rest) = (BTreeSet::new(), vec![digest]);
    while let Some(digest) = rest.pop() {
        let Some(row) = view.manifest(repo, &digest)? else { continue };
        if !all.insert(digest) {
            continue;
        }
        for child in row.children {
            // One that a tag points to is an image of its own.
            if view.tags_of(repo, &child)?.is_empty()
                && view.parents(repo, &child)?.iter().all(|parent| all.contains(parent))
            {
                rest.push(child);
            }
        }
    }
    Ok(all)
}
