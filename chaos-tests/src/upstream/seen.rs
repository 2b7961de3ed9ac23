//! What the upstream was asked, request by request.

use std::fmt;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `/v2/`.
    Base,
    /// The token service.
    Token,
    /// A manifest, by tag or digest.
    Manifest,
    /// A blob.
    Blob,
    /// The list of tags.
    Tags,
    /// Referrers.
    Referrers,
    /// Anything else.
    Other,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `HEAD`.
    pub method: String,
    /// What it is about.
    pub kind: Kind,
    /// Path and query.
    pub target: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Accept`.
    pub accept: Option<String>,
    /// The header `User-Agent`.
    pub agent: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The status of the answer, once there is one.
    pub status: Option<u16>,
}

impl Seen {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        if let Some(range) = &self.range {
            write!(f, " ({range})")?;
        }
        write!(f, " -> {}", self.status.map_or_else(|| "-".to_owned(), |status| status.to_string()))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) seen: Vec<Seen>,
    /// Requests before the last time that everything was forgotten.
    forgotten: usize,
    now: usize,
    pub(super) most: usize,
}

impl Book {
    /// A request began; its number.
    pub(super) fn begin(&mut self, seen: Seen) -> usize {
        self.seen.push(seen);
        self.now += 1;
        self.most = self.most.max(self.now);
        self.forgotten + self.seen.len() - 1
    }

    pub(super) fn answered(&mut self, number: usize, status: u16) {
        let seen = number.checked_sub(self.forgotten).and_then(|index| self.seen.get_mut(index));
        if let Some(seen) = seen {
            seen.status = Some(status);
        }
    }

    /// Its answer was sent to the end, or its connection broke.
    pub(super) fn end(&mut self) {
        self.now -= 1;
    }

    pub(super) fn forget(&mut self) {
        self.forgotten += self.seen.len();
        self.seen.clear();
        self.most = self.now;
    }
}
