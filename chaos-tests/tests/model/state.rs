//! The model: what a registry is, in as few words as possible.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::{self, REPOS};

/// What a repository has.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    pub blobs: BTreeSet<u8>,
    /// Each with the log id of its push.
    pub manifests: BTreeMap<u8, u64>,
    /// Each with where it points and the log id of its last move.
    pub tags: BTreeMap<u8, (u8, u64)>,
}

impl Repo {
    /// Whether it shows in the catalog.
    pub fn exists(&self) -> bool {
        !self.blobs.is_empty() || !self.manifests.is_empty()
    }

    /// Whether a manifest may be pushed: what it names is here, but for its subject.
    pub fn has_all_of(&self, manifest: u8) -> bool {
        content::blobs(manifest).iter().all(|blob| self.blobs.contains(blob))
            && content::children(manifest).iter().all(|child| self.manifests.contains_key(child))
    }

    pub fn uses(&self, blob: u8) -> bool {
        self.manifests.keys().any(|manifest| content::blobs(*manifest).contains(&blob))
    }

    /// The manifests whose subject is `subject`.
    pub fn referrers(&self, subject: u8) -> impl Iterator<Item = u8> {
        let all = self.manifests.keys().copied();
        all.filter(move |manifest| content::subject(*manifest) == Some(subject))
    }
}

/// All repositories of a run.
#[derive(Clone, Debug)]
pub struct Model {
    repos: Vec<Repo>,
    /// The log id of the last change.
    pub last: u64,
}

impl Model {
    pub fn new() -> Self {
        Model { repos: vec![Repo::default(); usize::from(REPOS)], last: 0 }
    }

    pub fn repo(&self, repo: u8) -> &Repo {
        &self.repos[usize::from(repo)]
    }

    pub fn change(&mut self, repo: u8) -> &mut Repo {
        &mut self.repos[usize::from(repo)]
    }

    /// Whether a blob is in any repository.
    pub fn anywhere(&self, blob: u8) -> bool {
        self.repos.iter().any(|repo| repo.blobs.contains(&blob))
    }
}

/// A condition of a request on a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match` with the digest of this manifest.
    Is(u8),
}

impl Condition {
    pub fn holds(self, repo: &Repo, tag: u8) -> bool {
        let now = repo.tags.get(&tag).map(|(manifest, _)| *manifest);
        match self {
            Condition::None => true,
            Condition::Absent => now.is_none(),
            Condition::Is(manifest) => now == Some(manifest),
        }
    }
}
