//! What upstreams said last of tags and digests, in the memory of the node that asks them.
//!
//! Always holds: it is bounded; what is forgotten is asked again. Never does: survive the process, or judge.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use trow_api::route::Reference;
use trow_raft::{Digest, RepoName, Tag};

use super::freshness::{Memory, Said};

/// The memory of one node.
#[derive(Debug)]
pub struct Words {
    limit: usize,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    repos: HashMap<RepoName, HashMap<Reference, Memory>>,
    count: usize,
}

impl Words {
    /// Of at most `limit` references.
    pub fn new(limit: usize) -> Words {
        Words { limit, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is remembered of the reference.
    pub fn get(&self, repo: &RepoName, reference: &Reference) -> Memory {
        let all = self.lock();
        all.repos.get(repo).and_then(|one| one.get(reference)).cloned().unwrap_or_default()
    }

    /// Changes what is remembered of the reference.
    pub fn update(&self, repo: &RepoName, reference: &Reference, change: impl FnOnce(&mut Memory)) {
        let mut all = self.lock();
        let All { repos, count } = &mut *all;
        let one = repos.entry(repo.clone()).or_default();
        let before = one.len();
        change(one.entry(reference.clone()).or_default());
        *count += one.len() - before;
        if *count > self.limit {
            all.halve();
        }
    }

    /// The tags of the repository that the upstream said point to this, with the revisions seen before it was
    /// asked.
    pub fn pointing_to(&self, repo: &RepoName, wanted: &Digest) -> Vec<(Tag, u64)> {
        let all = self.lock();
        let found = all.repos.get(repo).into_iter().flatten().filter_map(|(reference, memory)| {
            let word = memory.word.as_ref()?;
            match (reference, &word.said) {
                (Reference::Tag(tag), Said::Is { digest, .. }) if digest == wanted => {
                    Some((tag.clone(), word.revision))
                }
                _ => None,
            }
        });
        found.collect()
    }
}

impl All {
    /// Forgets what is older than the middle.
    fn halve(&mut self) {
        let mut times: Vec<Instant> =
            self.repos.values().flatten().filter_map(|(_, one)| time(one)).collect();
        let middle = times.len() / 2;
        let Some((_, middle, _)) = (!times.is_empty()).then(|| times.select_nth_unstable(middle)) else {
            return;
        };
        let middle = *middle;
        self.repos.retain(|_, one| {
            one.retain(|_, memory| time(memory).is_some_and(|at| at > middle));
            !one.is_empty()
        });
        self.count = self.repos.values().map(HashMap::len).sum();
    }
}

/// When it was last heard of.
fn time(memory: &Memory) -> Option<Instant> {
    let word = memory.word.as_ref().map(|word| word.at);
    word.max(memory.failure.as_ref().map(|failure| failure.until))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::freshness::Word;

    fn tag(n: usize) -> Reference {
        Reference::Tag(format!("t{n}").parse().unwrap())
    }

    fn said(of: &str, at: Instant, revision: u64) -> Option<Word> {
        let digest = Digest::sha256(of.as_bytes());
        let said = Said::Is { digest, media_type: String::new(), size: 0 };
        Some(Word { said, at, revision, lot: 100 })
    }

    #[test]
    fn the_newest_stay_when_there_are_too_many() {
        let (words, start) = (Words::new(100), Instant::now());
        for n in 0..1000 {
            let repo: RepoName = format!("f/x/r{}", n % 7).parse().unwrap();
            let at = start + Duration::from_secs(n as u64);
            words.update(&repo, &tag(n), |memory| memory.word = said("a", at, 0));
            assert!(words.get(&repo, &tag(n)).word.is_some(), "the newest was forgotten");
            let all = words.lock();
            assert_eq!(all.count, all.repos.values().map(HashMap::len).sum::<usize>());
            assert!(all.count <= 100);
        }
        assert!(words.lock().count > 40, "it keeps next to nothing");
    }

    #[test]
    fn tags_are_found_by_what_they_point_to() {
        let (words, now, repo) = (Words::new(100), Instant::now(), "f/x/r".parse().unwrap());
        words.update(&repo, &tag(1), |memory| memory.word = said("a", now, 7));
        words.update(&repo, &tag(2), |memory| memory.word = said("b", now, 8));
        let itself = Reference::Digest(Digest::sha256(b"a"));
        words.update(&repo, &itself, |memory| memory.word = said("a", now, 0));
        assert_eq!(words.pointing_to(&repo, &Digest::sha256(b"a")), [("t1".parse().unwrap(), 7)]);
        assert!(words.pointing_to(&"f/x/s".parse().unwrap(), &Digest::sha256(b"a")).is_empty());
    }
}
