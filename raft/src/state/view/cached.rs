//! What a view shows of upstream registries' repositories.

use std::collections::BTreeSet;

use super::{View, past, resume, unreadable};
use crate::digest::Digest;
use crate::name::{CACHED, Reference, RepoName, Tag};
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::row;
use crate::state::rows::Rows as _;

/// A cached manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The upstream's repository.
    pub repo: RepoName,
    /// The manifest.
    pub digest: Digest,
    /// When it was last recorded or asked for: state time in milliseconds.
    pub asked_for: u64,
}

impl View {
    /// A manifest of the repository that lists the blob, if one does.
    pub fn lists(&self, repo: &RepoName, blob: &Digest) -> Result<Option<Digest>, StateError> {
        let prefix = key::repo_digest(repo, blob);
        let mut found = None;
        self.rows.scan_prefix(Table::Use, &prefix, &mut |key, _| {
            let digest = key::split_digest(&key[prefix.len()..]);
            found = Some(digest.ok_or_else(|| unreadable(Table::Use))?.0);
            Ok(false)
        })?;
        Ok(found)
    }

    /// The manifests of the repository that name this one as their child.
    pub fn parents(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<Digest>, StateError> {
        let parents = self.rows.suffixes(Table::Child, &key::repo_digest(repo, digest))?;
        let parent = |key: Vec<u8>| key::split_digest(&key).map(|(digest, _)| digest);
        parents.into_iter().map(|key| parent(key).ok_or_else(|| unreadable(Table::Child))).collect()
    }

    /// The tags that point to the manifest, in byte order.
    pub fn tags_of(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<Tag>, StateError> {
        let names = self.rows.suffixes(Table::TagOf, &key::repo_digest(repo, digest))?;
        let tag = |name: Vec<u8>| String::from_utf8(name).ok()?.parse().ok();
        names.into_iter().map(|name| tag(name).ok_or_else(|| unreadable(Table::TagOf))).collect()
    }

    /// At most `limit` cached manifests of repositories whose name begins with `prefix`, after
    /// `after`, in order.
    pub fn cached(
        &self,
        prefix: &str,
        after: Option<(&RepoName, &Digest)>,
        limit: usize,
    ) -> Result<Vec<Cached>, StateError> {
        let to = key::after_prefix(prefix.as_bytes());
        let from = match after {
            Some((repo, digest)) => resume(&key::repo_digest(repo, digest), Some(&[])),
            None => prefix.as_bytes().to_vec(),
        };
        let mut found = Vec::new();
        self.rows.scan(Table::Cached, &from, to.as_deref(), &mut |key, value| {
            if found.len() == limit {
                return Ok(false);
            }
            let (repo, rest) = key::split_repo(key).ok_or_else(|| unreadable(Table::Cached))?;
            let (digest, _) = key::split_digest(rest).ok_or_else(|| unreadable(Table::Cached))?;
            let asked_for = value.try_into().map_err(|_| unreadable(Table::Cached))?;
            found.push(Cached { repo, digest, asked_for: u64::from_be_bytes(asked_for) });
            Ok(true)
        })?;
        Ok(found)
    }

    /// When the cached manifest was last recorded or asked for, in state time.
    pub fn asked_for(&self, repo: &RepoName, digest: &Digest) -> Result<Option<u64>, StateError> {
        let at = key::repo_digest(repo, digest);
        if !self.rows.has(Table::Cached, &at)? {
            return Ok(None);
        }
        self.rows.number(Table::Cached, &at).map(Some)
    }

    /// How many tags point to the manifest.
    pub fn tag_count(&self, repo: &RepoName, digest: &Digest) -> Result<u64, StateError> {
        self.rows.count_prefix(Table::TagOf, &key::repo_digest(repo, digest))
    }

    /// About how many bytes of the state are there because of the cached manifest, its tags included; none
    /// when it is not there.
    pub fn cached_weight(&self, repo: &RepoName, digest: &Digest) -> Result<Option<u64>, StateError> {
        let Some(row) = self.manifest(repo, digest)? else { return Ok(None) };
        Ok(Some(row.weight() + row::TAG * self.tag_count(repo, digest)?))
    }

    /// What cached manifests take together, as [`View::cached_weight`] counts them; at most
    /// [`crate::limits::CACHED_MAX`].
    pub fn cached_bytes(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Meta, meta::CACHED_BYTES)
    }

    /// At most `limit` repositories of upstream registries after `after`, in byte order.
    pub fn cached_repos(&self, after: Option<&str>, limit: usize) -> Result<Vec<RepoName>, StateError> {
        let to = key::after_prefix(CACHED.as_bytes());
        let mut from = after.map_or_else(|| CACHED.as_bytes().to_vec(), past);
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(name) = self.first_repo(&[Table::Manifest], &from, to.as_deref())? else { break };
            from = past(name.as_str());
            found.push(name);
        }
        Ok(found)
    }

    /// All pins, by repository.
    pub fn pins(&self) -> Result<Vec<(RepoName, Reference)>, StateError> {
        let mut pins = Vec::new();
        self.rows.scan(Table::Pin, &[], None, &mut |key, _| {
            pins.push(key::split_pin(key).ok_or_else(|| unreadable(Table::Pin))?);
            Ok(true)
        })?;
        Ok(pins)
    }

    /// How many pins there are.
    pub fn pin_count(&self) -> Result<u64, StateError> {
        self.rows.number(Table::Meta, meta::PINS)
    }

    /// Whether there is a pin of exactly this reference.
    pub fn is_pinned(&self, repo: &RepoName, reference: &Reference) -> Result<bool, StateError> {
        self.rows.has(Table::Pin, &key::pin(repo, reference))
    }

    /// The manifests that pins lead to now, with all that they name as children and that is cached.
    pub fn pinned(&self) -> Result<BTreeSet<(RepoName, Digest)>, StateError> {
        let mut pinned = BTreeSet::new();
        for (repo, reference) in self.pins()? {
            let digest = match reference {
                Reference::Digest(digest) => Some(digest),
                Reference::Tag(tag) => self.tag(&repo, &tag)?.map(|row| row.digest),
            };
            let mut rest: Vec<Digest> = digest.into_iter().collect();
            while let Some(digest) = rest.pop() {
                let Some(row) = self.manifest(&repo, &digest)? else { continue };
                if pinned.insert((repo.clone(), digest)) {
                    rest.extend(row.children);
                }
            }
        }
        Ok(pinned)
    }
}
