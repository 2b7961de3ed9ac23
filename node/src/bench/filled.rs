//! What `trow bench fill` makes, by number: manifest `i` of `n`, spread over the repositories.
//!
//! Always holds: repository, tag and bytes follow from the number and the settings alone, so that
//! another command, or another run, finds the same manifests; more manifests in the same
//! repositories add to those that are there.

use bytes::Bytes;
use trow_raft::{Digest, RepoName};

use super::content::{Blob, config, manifest};

/// The manifests of a fill.
#[derive(Clone, Debug)]
pub struct Filled {
    /// What the repositories' names begin with.
    prefix: RepoName,
    /// How many manifests.
    manifests: u64,
    /// Over how many repositories; at least one.
    repositories: u64,
    config: Blob,
    layer: Blob,
}

impl Filled {
    /// `manifests` manifests in `repositories` repositories below `prefix`.
    pub fn new(prefix: RepoName, manifests: u64, repositories: u64) -> Filled {
        let layer = Blob::of(Bytes::from("a layer that says nothing\n".repeat(40)));
        Filled { prefix, manifests, repositories: repositories.max(1), config: config(), layer }
    }

    pub(super) fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    pub(super) fn manifests(&self) -> u64 {
        self.manifests
    }

    /// The repositories that hold at least one manifest.
    pub(super) fn repositories(&self) -> u64 {
        self.repositories.min(self.manifests)
    }

    /// The two blobs that every manifest names.
    pub(super) fn blobs(&self) -> [&Blob; 2] {
        [&self.config, &self.layer]
    }

    /// The repository of manifest `i`.
    pub(super) fn repository(&self, i: u64) -> String {
        format!("{}/r{:05}", self.prefix, i % self.repositories)
    }

    /// Its tag.
    pub(super) fn tag(&self, i: u64) -> String {
        format!("t{:08}", i / self.repositories)
    }

    /// Its bytes.
    pub(super) fn manifest(&self, i: u64) -> Bytes {
        manifest(&self.config, &self.layer, &i.to_string())
    }

    pub(super) fn path_by_tag(&self, i: u64) -> String {
        format!("/v2/{}/manifests/{}", self.repository(i), self.tag(i))
    }

    pub(super) fn path_by_digest(&self, i: u64) -> String {
        format!("/v2/{}/manifests/{}", self.repository(i), Digest::sha256(&self.manifest(i)))
    }

    /// How many tags the repository of manifest `i` has.
    pub(super) fn tags_beside(&self, i: u64) -> u64 {
        let in_all = self.manifests / self.repositories;
        in_all + u64::from(i % self.repositories < self.manifests % self.repositories)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_fill_adds_to_a_smaller_one() {
        let small = Filled::new("trow-bench/filled".parse().unwrap(), 10, 3);
        let large = Filled::new("trow-bench/filled".parse().unwrap(), 1000, 3);
        for i in 0..10 {
            assert_eq!(small.path_by_tag(i), large.path_by_tag(i));
            assert_eq!(small.manifest(i), large.manifest(i));
        }
    }

    #[test]
    fn every_manifest_has_a_place_of_its_own() {
        let filled = Filled::new("a".parse().unwrap(), 10, 3);
        let places: std::collections::BTreeSet<String> = (0..10).map(|i| filled.path_by_tag(i)).collect();
        assert_eq!(places.len(), 10);
        let counts: Vec<u64> = (0..3).map(|i| filled.tags_beside(i)).collect();
        assert_eq!(counts, [4, 3, 3]);
    }

    #[test]
    fn fewer_manifests_than_repositories_need_no_more_repositories() {
        assert_eq!(Filled::new("a".parse().unwrap(), 2, 1000).repositories(), 2);
    }
}
