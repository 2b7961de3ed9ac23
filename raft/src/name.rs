//! Repository names and tags, as the distribution-spec's "Pulling manifests" defines them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest repository name that is accepted, in bytes. Clients limit host and name to 255.
pub const REPO_NAME_MAX: usize = 255;
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

impl RepoName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
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
}
