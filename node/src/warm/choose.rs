//! Which images of an index are wanted.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use trow_raft::Digest;

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// The text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a platform such as linux/amd64 or linux/arm/v7, not {0:?}")]
pub struct InvalidPlatform(String);

/// Which images of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// Those for these.
    For(Vec<Platform>),
}

/// A manifest that an index names.
pub(super) struct Child {
    pub(super) digest: Digest,
    pub(super) platform: Option<Platform>,
}

impl Platform {
    /// What this program runs on.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            other => other,
        };
        Platform { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for `other` is one for this: any variant is, where none is asked for.
    fn takes(&self, other: &Platform) -> bool {
        let variant = self.variant.is_none() || self.variant == other.variant;
        self.os == other.os && self.architecture == other.architecture && variant
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() < 2 && parts.iter().all(word) => Ok(Platform {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: rest.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

impl Wanted {
    /// Those of `children`; one that is for no platform in particular is for each.
    pub(super) fn of(&self, children: &[Child]) -> Vec<Digest> {
        let wanted = |child: &&Child| match (self, &child.platform) {
            (Wanted::All, _) | (_, None) => true,
            (Wanted::For(platforms), Some(platform)) => platforms.iter().any(|wanted| wanted.takes(platform)),
        };
        children.iter().filter(wanted).map(|child| child.digest).collect()
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::All => f.write_str("any platform"),
            Wanted::For(platforms) => {
                let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(" or "))
            }
        }
    }
}

/// The manifests that an index names, if it is one.
pub(super) fn children(index: &[u8]) -> Option<Vec<Child>> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default)]
        manifests: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        digest: String,
        #[serde(default)]
        platform: Option<Platform>,
    }
    let index: Index = serde_json::from_slice(index).ok()?;
    let child = |entry: Entry| Some(Child { digest: entry.digest.parse().ok()?, platform: entry.platform });
    index.manifests.into_iter().map(child).collect()
}
