//! What peers say to each other about manifests and lists of upstream registries.
//!
//! Either travels as one line of JSON that says what it is, and its bytes behind it.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trow_api::route::Reference;
use trow_raft::limits::MANIFEST_MAX;
use trow_raft::{Digest, RepoName, Tag};

/// The longest line before a manifest's or a list's bytes.
const LINE_MAX: usize = 64 << 10;
/// The largest reply with a manifest or a list, in bytes.
pub const PULLED_MAX: usize = LINE_MAX + MANIFEST_MAX;

/// `POST /cache/manifest`: what does the upstream have there?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskManifest {
    /// The repository, as it is named here.
    pub repo: RepoName,
    /// What is asked for.
    pub reference: TagOrDigest,
    /// What it is, without its bytes.
    pub head: bool,
    /// The asker has the bytes of this one.
    pub have: Option<Digest>,
    /// The asker holds the name for one that needs a user, and so knows who asks. An older build does not say so.
    #[serde(default)]
    pub for_user: bool,
}

/// A [`Reference`] on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagOrDigest {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl From<Reference> for TagOrDigest {
    fn from(reference: Reference) -> TagOrDigest {
        match reference {
            Reference::Tag(tag) => TagOrDigest::Tag(tag),
            Reference::Digest(digest) => TagOrDigest::Digest(digest),
        }
    }
}

impl From<TagOrDigest> for Reference {
    fn from(reference: TagOrDigest) -> Reference {
        match reference {
            TagOrDigest::Tag(tag) => Reference::Tag(tag),
            TagOrDigest::Digest(digest) => Reference::Digest(digest),
        }
    }
}

/// What a node found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Of the manifest.
    pub digest: Digest,
    /// As the upstream sent it.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// The log index of the entry that recorded it, or that was applied.
    pub index: u64,
    /// Why it may be old.
    pub stale: Option<String>,
    /// Its bytes follow.
    pub follows: bool,
}

impl Told {
    /// As the body of a reply.
    pub fn write(&self, bytes: &[u8]) -> Vec<u8> {
        with_line(self, bytes)
    }

    /// What a reply's body says; none when it is not as [`Told::write`] makes it. The digest is the reader's to
    /// verify.
    pub fn read(body: &Bytes) -> Option<(Told, Bytes)> {
        let (told, bytes): (Told, Bytes) = line_of(body)?;
        let whole = if told.follows { bytes.len() as u64 == told.size } else { bytes.is_empty() };
        whole.then_some((told, bytes))
    }
}

fn with_line(line: &impl Serialize, bytes: &[u8]) -> Vec<u8> {
    // Our own types of strings and numbers always serialise, and without a line break.
    let mut body = serde_json::to_vec(line).unwrap_or_default();
    body.push(b'\n');
    body.extend_from_slice(bytes);
    body
}

fn line_of<T: DeserializeOwned>(body: &Bytes) -> Option<(T, Bytes)> {
    let end = body.iter().take(LINE_MAX).position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&body[..end]).ok()?, body.slice(end + 1..)))
}

/// `POST /cache/list`: what does the upstream list there?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskList {
    /// The repository, as it is named here.
    pub repo: RepoName,
    /// Which list.
    pub list: List,
    /// The asker holds the name for one that needs a user, and so knows who asks. An older build does not say so.
    #[serde(default)]
    pub for_user: bool,
}

/// A list of an upstream's repository, or a page of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Its tags.
    Tags {
        /// At most so many.
        n: Option<usize>,
        /// Those after this one.
        last: Option<String>,
    },
    /// What refers to a manifest.
    Referrers {
        /// Which manifest.
        subject: Digest,
        /// Of this type alone.
        artifact_type: Option<String>,
    },
}

/// A list that a node found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldList {
    /// Its length in bytes.
    pub size: u64,
    /// `last` of the next page, when there is one.
    pub next: Option<String>,
    /// The upstream applied the filter itself.
    pub filtered: bool,
    /// Why it may be old or not whole.
    pub stale: Option<String>,
}

impl ToldList {
    /// As the body of a reply.
    pub fn write(&self, json: &[u8]) -> Vec<u8> {
        with_line(self, json)
    }

    /// What a reply's body says; none when it is not as [`ToldList::write`] makes it.
    pub fn read(body: &Bytes) -> Option<(ToldList, Bytes)> {
        line_of(body).filter(|(told, json): &(ToldList, Bytes)| json.len() as u64 == told.size)
    }
}

/// `POST /cache/lists`: does a manifest of the repository that you served lately list the blob?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskLists {
    /// The repository, as it is named here.
    pub repo: RepoName,
    /// Which blob.
    pub blob: Digest,
    /// The asker holds the name for one that needs a user, and so knows who asks. An older build does not say so.
    #[serde(default)]
    pub for_user: bool,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    /// The size that it says, in bytes.
    pub size: Option<u64>,
}

/// `POST /cache/has`: which of these blobs are on your disk, cached ones included?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskHas {
    /// At most [`super::CONFIRM_MAX`].
    pub digests: Vec<Digest>,
    /// The upstream's repository under which they would be given: what may not be given under it counts as not
    /// there. Without one all that is there counts.
    #[serde(default)]
    pub repo: Option<RepoName>,
    /// The asker holds the name for one that needs a user, and so knows who asks. An older build does not say so.
    #[serde(default)]
    pub for_user: bool,
}

/// The answer, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    /// Without a promise that they stay.
    pub has: Vec<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_travels_whole_or_not_at_all() {
        let bytes = Bytes::from_static(b"{\n}\n");
        let digest = Digest::sha256(&bytes);
        let stale = Some("upstream x: \"down\"\nsince ä".to_owned());
        let told = Told { digest, media_type: "m".into(), size: 4, index: 9, stale, follows: true };
        let body = Bytes::from(told.write(&bytes));
        assert_eq!(Told::read(&body), Some((told.clone(), bytes)));
        assert_eq!(Told::read(&body.slice(..body.len() - 1)), None, "a byte is missing");
        let head = Told { follows: false, ..told };
        assert_eq!(Told::read(&head.write(b"").into()), Some((head.clone(), Bytes::new())));
        assert_eq!(Told::read(&head.write(b"x").into()), None);
        assert_eq!(Told::read(&Bytes::from_static(b"{}\n")), None);
        assert_eq!(Told::read(&vec![b' '; LINE_MAX + 10].into()), None);
    }

    #[test]
    fn a_list_travels_whole_or_not_at_all() {
        let json = Bytes::from_static(b"{\"tags\":[\n]}");
        let stale = Some("upstream x: 503".to_owned());
        let told = ToldList { size: 12, next: Some("b".to_owned()), filtered: true, stale };
        let body = Bytes::from(told.write(&json));
        assert_eq!(ToldList::read(&body), Some((told, json)));
        assert_eq!(ToldList::read(&body.slice(..body.len() - 1)), None, "a byte is missing");
        assert_eq!(ToldList::read(&Bytes::from_static(b"{}\n")), None);
    }
}
