//! The manifests that this node served lately, in memory: what is not recorded yet, or cannot be.
//!
//! Always holds: what is kept weighs no more than the limit, and what was used last goes last; a blob is listed
//! under a name only by a manifest of that name that is kept. Never does: I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use trow_api::manifest::parse::Parsed;
use trow_raft::{Digest, RepoName};

/// Nothing is kept for longer: by then it is in the state or was purged from it, and what could not be recorded is
/// asked for again.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// What an entry weighs besides its bytes, and each digest that it lists.
const OVERHEAD: usize = 512;
const PER_DIGEST: usize = 256;

/// A manifest as an upstream gave it.
#[derive(Clone, Debug)]
pub struct Served {
    /// Of its bytes.
    pub digest: Digest,
    /// As the upstream sent it.
    pub media_type: String,
    /// What it is.
    pub bytes: Bytes,
    /// What it says, if it can be read as strictly as a pushed one.
    pub parsed: Option<Arc<Parsed>>,
}

impl Served {
    /// The size that it gives for a blob that it lists.
    pub fn size_of(&self, blob: &Digest) -> Option<u64> {
        let parsed = self.parsed.as_ref()?;
        parsed.manifest.blobs.binary_search(blob).ok()?;
        parsed.sizes.get(blob).copied()
    }

    fn lists(&self) -> &[Digest] {
        self.parsed.as_ref().map_or(&[], |parsed| &parsed.manifest.blobs)
    }

    fn weight(&self) -> usize {
        let digests = self.parsed.as_ref().map_or(0, |parsed| parsed.sizes.len());
        self.bytes.len() + OVERHEAD + PER_DIGEST * digests
    }
}

type Key = (RepoName, Digest);

/// The memory.
#[derive(Debug)]
pub struct Recent {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, (Served, u64, Instant)>,
    /// By when each was last used.
    order: BTreeMap<u64, Key>,
    /// The manifests that list a blob.
    listed: HashMap<Key, BTreeSet<Digest>>,
    uses: u64,
    weight: usize,
}

impl Recent {
    /// Of at most `limit` bytes.
    pub fn new(limit: usize) -> Recent {
        Recent { limit, kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The manifest, if it is kept.
    pub fn get(&self, repo: &RepoName, digest: &Digest) -> Option<Served> {
        let mut kept = self.lock();
        kept.touch(&(repo.clone(), *digest))
    }

    /// Keeps a manifest of the repository.
    pub fn put(&self, repo: &RepoName, served: Served) {
        let key = (repo.clone(), served.digest);
        let mut kept = self.lock();
        if kept.touch(&key).is_some() {
            return;
        }
        kept.uses += 1;
        kept.weight += served.weight();
        for blob in served.lists() {
            kept.listed.entry((repo.clone(), *blob)).or_default().insert(served.digest);
        }
        let at = kept.uses;
        kept.order.insert(at, key.clone());
        kept.entries.insert(key, (served, at, Instant::now()));
        while kept.weight > self.limit {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            kept.remove(&oldest);
        }
    }

    /// Forgets a manifest of the repository.
    pub fn forget(&self, repo: &RepoName, digest: &Digest) {
        self.lock().remove(&(repo.clone(), *digest));
    }

    /// The size of a blob that a kept manifest of the repository lists.
    pub fn size_of(&self, repo: &RepoName, blob: &Digest) -> Option<u64> {
        let mut kept = self.lock();
        let manifest = *kept.listed.get(&(repo.clone(), *blob))?.first()?;
        kept.touch(&(repo.clone(), manifest))?.size_of(blob)
    }

    /// What is kept weighs this much, in bytes.
    #[cfg(test)]
    pub fn weight(&self) -> usize {
        self.lock().weight
    }
}

impl Kept {
    /// The entry, which was used now.
    fn touch(&mut self, key: &Key) -> Option<Served> {
        if self.entries.get(key)?.2.elapsed() > KEPT_FOR {
            self.remove(key);
            return None;
        }
        let (served, at, _) = self.entries.get_mut(key)?;
        self.order.remove(at);
        self.uses += 1;
        *at = self.uses;
        self.order.insert(self.uses, key.clone());
        Some(served.clone())
    }

    fn remove(&mut self, key: &Key) {
        let Some((served, at, _)) = self.entries.remove(key) else { return };
        self.order.remove(&at);
        self.weight -= served.weight();
        for blob in served.lists() {
            let blob = (key.0.clone(), *blob);
            if let Some(by) = self.listed.get_mut(&blob) {
                by.remove(&served.digest);
                if by.is_empty() {
                    self.listed.remove(&blob);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

    fn repo(name: &str) -> RepoName {
        name.parse().unwrap()
    }

    fn blob(of: u64) -> Digest {
        Digest::sha256(&of.to_be_bytes())
    }

    /// A manifest that lists these blobs, each as long as its number, and is padded.
    fn served(blobs: &[u64], padding: usize) -> Served {
        let one = |of: &u64| json!({ "mediaType": "application/x", "digest": blob(*of), "size": of });
        let layers: Vec<_> = blobs[1..].iter().map(one).collect();
        let text = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "config": one(&blobs[0]), "layers": layers,
            "annotations": { "padding": "x".repeat(padding) },
        });
        let bytes = Bytes::from(text.to_string());
        let digest = Digest::sha256(&bytes);
        let parsed = trow_api::manifest::parse::parse(digest, Some(IMAGE), bytes.clone()).unwrap();
        Served { digest, media_type: IMAGE.into(), bytes, parsed: Some(Arc::new(parsed)) }
    }

    #[test]
    fn a_blob_is_listed_under_the_name_whose_manifest_lists_it() {
        let recent = Recent::new(1 << 20);
        let (one, other) = (served(&[1, 2], 0), served(&[2, 3], 0));
        recent.put(&repo("f/a/x"), one.clone());
        recent.put(&repo("f/a/x"), other.clone());
        recent.put(&repo("f/a/y"), served(&[4], 0));
        for (name, of, size) in [
            ("f/a/x", 1, Some(1)),
            ("f/a/x", 2, Some(2)),
            ("f/a/x", 4, None),
            ("f/a/y", 4, Some(4)),
            ("f/a/y", 1, None),
        ] {
            assert_eq!(recent.size_of(&repo(name), &blob(of)), size, "{name} {of}");
        }
        recent.forget(&repo("f/a/x"), &one.digest);
        assert_eq!(recent.size_of(&repo("f/a/x"), &blob(1)), None);
        assert_eq!(recent.size_of(&repo("f/a/x"), &blob(2)), Some(2), "another manifest lists it");
        recent.forget(&repo("f/a/x"), &other.digest);
        assert_eq!(recent.size_of(&repo("f/a/x"), &blob(2)), None);
        assert!(recent.get(&repo("f/a/x"), &one.digest).is_none());
        assert_eq!(recent.get(&repo("f/a/y"), &served(&[4], 0).digest).unwrap().media_type, IMAGE);
    }

    #[test]
    fn what_is_kept_stays_within_the_limit_and_what_is_used_stays() {
        let recent = Recent::new(200_000);
        let name = repo("f/a/x");
        let used = served(&[1], 0);
        recent.put(&name, used.clone());
        for of in 10..300 {
            recent.put(&name, served(&[of, of + 1000], 10_000));
            assert!(recent.get(&name, &used.digest).is_some(), "what is used goes before what is not");
            assert!(recent.weight() <= 200_000);
        }
        assert!(recent.weight() > 150_000, "it keeps next to nothing");
        assert_eq!(recent.size_of(&name, &blob(10)), None);
        assert_eq!(recent.size_of(&name, &blob(299)), Some(299));
        let kept = recent.lock();
        let listed: usize = kept.listed.values().map(BTreeSet::len).sum();
        assert_eq!(listed, kept.entries.values().map(|(served, ..)| served.lists().len()).sum::<usize>());
        assert_eq!(kept.order.len(), kept.entries.len());
    }

    #[test]
    fn the_same_manifest_twice_weighs_once() {
        let recent = Recent::new(1 << 20);
        let name = repo("f/a/x");
        recent.put(&name, served(&[1], 0));
        let weight = recent.weight();
        recent.put(&name, served(&[1], 0));
        assert_eq!(recent.weight(), weight);
        recent.forget(&name, &served(&[1], 0).digest);
        assert_eq!(recent.weight(), 0);
    }

    #[test]
    fn what_is_larger_than_everything_is_not_kept() {
        let recent = Recent::new(2_000);
        recent.put(&repo("f/a/x"), served(&[1], 10_000));
        assert_eq!(recent.weight(), 0);
    }
}
