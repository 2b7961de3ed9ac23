//! Images of upstream registries as people and Kubernetes name them: the one place where such a name is read.
//!
//! Always holds: `nginx` is `docker.io/library/nginx:latest`, as it is for a kubelet; of a tag and a digest beside
//! each other the digest counts. Never does: look anything up.

use std::fmt;
use std::str::FromStr;

use trow_raft::RepoName;

use super::UpstreamName;
use crate::route::Reference;

/// An image of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_kubernetes_names_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("acme/app", "docker.io/acme/app:latest".to_owned()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("quay.io/a/b:v1", "quay.io/a/b:v1".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("localhost:5001/a/b", "localhost:5001/a/b:latest".to_owned()),
            ("localhost:5001/a:v2", "localhost:5001/a:v2".to_owned()),
            (&format!("quay.io/a@{digest}"), format!("quay.io/a@{digest}")),
            (&format!("quay.io/a:v1@{digest}"), format!("quay.io/a@{digest}")),
        ] {
            let image: Image = text.parse().unwrap();
            assert_eq!(image.to_string(), whole, "{text}");
            assert_eq!(whole.parse(), Ok(image), "{text}");
        }
        let long = "a/".repeat(125) + "a";
        for bad in
            ["", "Nginx", "nginx:", ":v1", "nginx@", "nginx@sha256:00", "a b", "quay.io/", "nginx:a/", &long]
        {
            assert!(bad.parse::<Image>().is_err(), "{bad:?} names something");
        }
    }
}
