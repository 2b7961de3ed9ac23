//! Repository names, tags and references, as the distribution-spec's "Pulling manifests" defines them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, InvalidDigest};

/// The longest repository name that is accepted, in bytes. Clients limit host and name to 255.
pub const REPO_NAME_MAX: usize = 255;
/// What the name of every repository of an upstream registry begins with, and no other does.
pub const CACHED: &str = "f/";
/// The longest tag, in bytes.
pub const TAG_MAX: usize = 128;

/// A repository name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` components joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName(Arc<str>);

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// It has a colon, which no tag has.
    Digest(Digest),
    /// Everything else that is a tag.
    Tag(Tag),
}

/// The text is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a repository name has at most 255 characters: lower-case letters and digits, \
     with single '.', '_', '__' or dashes between them, in components joined by '/'"
)]
pub struct InvalidRepoName;

/// The text is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to 128 characters: letters, digits, '_', '.' and '-', not beginning with '.' or '-'")]
pub struct InvalidTag;

/// The text is neither a digest nor a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It has a colon.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// It has none.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
}

impl RepoName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a repository of an upstream registry: the state has what is cached of it.
    pub fn is_cached(&self) -> bool {
        self.0.starts_with(CACHED)
    }
}

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

impl FromStr for RepoName {
    type Err = InvalidRepoName;

    fn from_str(text: &str) -> Result<Self, InvalidRepoName> {
        let valid = text.len() <= REPO_NAME_MAX && text.split('/').all(is_component);
        if valid { Ok(RepoName(text.into())) } else { Err(InvalidRepoName) }
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = text.as_bytes();
        let valid = bytes.len() <= TAG_MAX
            && bytes.first().is_some_and(|b| word(*b))
            && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'));
        if valid { Ok(Tag(text.into())) } else { Err(InvalidTag) }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') {
            return Ok(Reference::Digest(text.parse()?));
        }
        Ok(Reference::Tag(text.parse()?))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Digest(digest) => digest.fmt(f),
            Reference::Tag(tag) => tag.fmt(f),
        }
    }
}

macro_rules! text {
    ($($name:ident: $error:ident;)*) => {$(
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> { text.parse() }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String { name.0.as_ref().to_owned() }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", &*self.0) }
        }
    )*};
}
text! { RepoName: InvalidRepoName; Tag: InvalidTag; }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_spec() {
        for good in ["a", "library/nginx", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", &"a".repeat(255)] {
            assert!(good.parse::<RepoName>().is_ok(), "{good:?} refused");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            ".",
            "..",
            "a/../b",
            "%2e",
            "a b",
            "ä",
            "a\0",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad:?} accepted");
        }
    }

    #[test]
    fn tags_follow_the_spec() {
        for good in ["a", "_", "1.0-RC_1", "A", &"t".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good:?} refused");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "ä", &"t".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} accepted");
        }
    }

    #[test]
    fn a_reference_is_a_digest_or_a_tag_and_reads_as_it_is_written() {
        let digest = Digest::sha256(b"m");
        for (text, is) in [
            (digest.to_string(), Some(Reference::Digest(digest))),
            ("v1".to_owned(), Some(Reference::Tag("v1".parse().unwrap()))),
            ("sha256".to_owned(), Some(Reference::Tag("sha256".parse().unwrap()))),
            ("sha256:".to_owned(), None),
            (format!("v1@{digest}"), None),
            (String::new(), None),
        ] {
            assert_eq!(text.parse::<Reference>().ok(), is, "{text:?}");
            assert!(is.is_none_or(|is| is.to_string() == text));
        }
    }

    #[test]
    fn what_is_cached_is_told_by_its_name() {
        for (name, cached) in
            [("f/docker.io/a", true), ("f/a", true), ("f", false), ("f-g/a", false), ("af/a", false)]
        {
            assert_eq!(name.parse::<RepoName>().is_ok_and(|name| name.is_cached()), cached, "{name}");
        }
    }
}
