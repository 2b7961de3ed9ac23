//! Images as people and Kubernetes name them.
//!
//! Always holds: `nginx` is `docker.io/library/nginx:latest`, as it is for a kubelet. A digest beside a tag is
//! what counts.

use std::fmt;
use std::str::FromStr;

use trow_api::pull::UpstreamName;
use trow_api::route::Reference;
use trow_raft::RepoName;

/// An image of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub name: UpstreamName,
    /// Which of those there.
    pub reference: Reference,
}

/// The text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no image: {why}")]
pub struct InvalidImage {
    text: String,
    why: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if matches!(self.reference, Reference::Tag(_)) { ':' } else { '@' };
        write!(f, "{}{mark}{}", self.name, self.reference)
    }
}

impl FromStr for Image {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let invalid = |why: &dyn fmt::Display| InvalidImage { text: text.to_owned(), why: why.to_string() };
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let (named, tag) = match named.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
            _ => (named, None),
        };
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (host, repo) = match named.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => ("docker.io", named),
        };
        let host = host.parse().map_err(|why| invalid(&why))?;
        let repo = repo.parse::<RepoName>().map_err(|why| invalid(&why))?;
        let tag = tag.unwrap_or("latest").parse().map(Reference::Tag).map_err(|why| invalid(&why))?;
        let reference = match digest {
            Some(digest) => digest.parse().map(Reference::Digest).map_err(|why| invalid(&why))?,
            None => tag,
        };
        let name = UpstreamName::new(host, &repo).ok_or_else(|| invalid(&"the name is too long"))?;
        Ok(Image { name, reference })
    }
}
