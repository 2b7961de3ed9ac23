//! How old an answer about a tag may be: the rule, decided purely.
//!
//! From what the state has, what an upstream said last and when, the settings and the time comes a
//! [`Verdict`]. Always holds: an answer that is not marked is at most twice the freshness old, and nobody is
//! asked while `offline` is set. Never does: I/O, or looking at a clock.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use trow_raft::Digest;

/// How long an upstream's word that something is not there is believed when nothing of it is cached.
pub const NEGATIVE: Duration = Duration::from_secs(5);

/// What the settings say of an upstream's repository.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Nobody is asked.
    pub offline: bool,
    /// How long the upstream's word is believed.
    pub freshness: Duration,
    /// A tag that the upstream deleted goes here too.
    pub follow_deletes: bool,
}

/// The tag in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it points.
    pub digest: Digest,
    /// The log index of the entry that moved it there.
    pub revision: u64,
}

/// What an upstream said of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is this.
    Is {
        /// Of the manifest.
        digest: Digest,
        /// Its media type.
        media_type: String,
        /// Its length in bytes.
        size: u64,
    },
    /// There is no such thing.
    Gone,
}

/// An upstream's last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it said.
    pub said: Said,
    /// When it was asked.
    pub at: Instant,
    /// The tag's revision that the word is as new as: what was seen before asking, and once the word is
    /// recorded the revision of that. 0 when there was no such tag.
    pub revision: u64,
    /// The percentage of the freshness for which this word is believed without asking again, so that what was
    /// asked at once is not asked again at once.
    pub lot: u8,
}

/// In what way an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It cannot be asked now.
    Unavailable,
    /// It does not give it to us.
    Denied,
    /// It gave something else.
    Bad,
}

/// The last attempt to ask came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In what way, which those who ask meanwhile are told as well.
    pub kind: Kind,
    /// For clients.
    pub why: String,
    /// Nobody asks again before.
    pub until: Instant,
}

/// What is remembered of a reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The last answer.
    pub word: Option<Word>,
    /// What went wrong since.
    pub failure: Option<Failure>,
}

/// Why an answer may be old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Nobody may be asked.
    Offline,
    /// The upstream has it no longer.
    Deleted,
    /// It could not be asked.
    Failed(String),
}

/// What to do with a request for a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer with this, marked if need be; `refresh` behind it.
    Answer {
        /// Of the manifest.
        digest: Digest,
        /// How it is marked.
        stale: Option<Stale>,
        /// Ask the upstream meanwhile.
        refresh: bool,
    },
    /// Ask the upstream and wait, but not for long when there is something to answer with.
    Ask {
        /// What to answer with when it takes too long or fails.
        instead: Option<Digest>,
    },
    /// The upstream said lately that there is none.
    Missing,
    /// It is not cached, and nobody may be asked.
    Offline,
    /// It is not cached, and the upstream failed too lately to be asked again.
    Down {
        /// In what way it failed.
        kind: Kind,
        /// For the client.
        why: String,
        /// When to try again.
        retry: Duration,
    },
}

impl Word {
    /// Whether the state has not moved on since: a tag that somebody else moved, or dropped, makes it void.
    fn holds(&self, row: Option<Row>) -> bool {
        match (&self.said, row) {
            (Said::Is { digest, .. }, Some(row)) => row.digest == *digest || row.revision <= self.revision,
            (Said::Is { .. }, None) => self.revision == 0,
            (Said::Gone, Some(row)) => row.revision <= self.revision,
            (Said::Gone, None) => true,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn is_fresh(&self, policy: &Policy, now: Instant) -> bool {
        self.age(now) < policy.freshness * u32::from(self.lot) / 100
    }
}

impl Memory {
    /// The last word, if the state has not moved on since.
    pub fn valid(&self, row: Option<Row>) -> Option<&Word> {
        self.word.as_ref().filter(|word| word.holds(row))
    }

    fn failed(&self, now: Instant) -> Option<&Failure> {
        self.failure.as_ref().filter(|failure| now < failure.until)
    }
}

/// Decides. `row` is the tag as the state has it.
pub fn decide(row: Option<Row>, memory: &Memory, policy: &Policy, now: Instant) -> Verdict {
    let word = memory.valid(row);
    let cached = match word.map(|word| &word.said) {
        Some(Said::Is { digest, .. }) => Some(*digest),
        Some(Said::Gone) if policy.follow_deletes => None,
        Some(Said::Gone) | None => row.map(|row| row.digest),
    };
    if policy.offline {
        let answer = |digest| Verdict::Answer { digest, stale: Some(Stale::Offline), refresh: false };
        return cached.map_or(Verdict::Offline, answer);
    }
    match word {
        Some(word) if word.said == Said::Gone => gone(word, cached, memory, policy, now),
        Some(word) => {
            let Some(digest) = cached else { return Verdict::Ask { instead: None } };
            let fresh = word.is_fresh(policy, now);
            match memory.failed(now) {
                _ if fresh => Verdict::Answer { digest, stale: None, refresh: false },
                Some(failure) => failing(digest, failure),
                None if word.age(now) < policy.freshness * 2 => {
                    Verdict::Answer { digest, stale: None, refresh: true }
                }
                None => Verdict::Ask { instead: Some(digest) },
            }
        }
        None => match (memory.failed(now), cached) {
            (Some(failure), Some(digest)) => failing(digest, failure),
            (Some(failure), None) => down(failure, now),
            (None, instead) => Verdict::Ask { instead },
        },
    }
}

/// The upstream said that there is none; `kept` is what is kept of it nevertheless.
fn gone(word: &Word, kept: Option<Digest>, memory: &Memory, policy: &Policy, now: Instant) -> Verdict {
    let failure = memory.failed(now);
    let Some(digest) = kept else {
        return match failure {
            _ if word.age(now) < NEGATIVE => Verdict::Missing,
            Some(failure) => down(failure, now),
            None => Verdict::Ask { instead: None },
        };
    };
    let deleted = |refresh| Verdict::Answer { digest, stale: Some(Stale::Deleted), refresh };
    match failure {
        // It is marked in any case: there is nothing to wait for.
        Some(_) => deleted(false),
        None => deleted(!word.is_fresh(policy, now)),
    }
}

fn failing(digest: Digest, failure: &Failure) -> Verdict {
    Verdict::Answer { digest, stale: Some(Stale::Failed(failure.why.clone())), refresh: false }
}

fn down(failure: &Failure, now: Instant) -> Verdict {
    let Failure { kind, why, until } = failure.clone();
    Verdict::Down { kind, why, retry: until.saturating_duration_since(now) }
}
