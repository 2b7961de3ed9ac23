//! Images as people and Kubernetes name them: the one place where such a name is read.
//!
//! Always holds: `nginx` is `docker.io/library/nginx:latest`, as it is for a kubelet; of a tag and a digest beside
//! each other the digest counts for what is pulled. Never does: look anything up.

use std::fmt;
use std::str::FromStr;

use trow_raft::{Digest, RepoName, Tag};

use super::{Host, UpstreamName};
use crate::route::Reference;

/// An image as it is named in a Pod: what it is called, whoever has it.
///
/// It has a tag, or a digest, or both. It is read as a kubelet reads it: without a registry it is
/// docker.io's, there without an organisation `library`'s, and with neither tag nor digest `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    /// The registry, in lower case; a port is part of it.
    pub host: Host,
    /// The repository there, with `library/` where docker.io has it.
    pub path: RepoName,
    /// The tag that is written, or `latest`.
    pub tag: Option<Tag>,
    /// The digest that is written.
    pub digest: Option<Digest>,
}

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

/// How much of a text that names no image is repeated.
const SHOWN: usize = 300;

impl InvalidImage {
    pub(crate) fn new(text: &str, why: impl fmt::Display) -> Self {
        InvalidImage { text: text.chars().take(SHOWN).collect(), why: why.to_string() }
    }

    /// The beginning of the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with it.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for ImageName {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let invalid = |why: &dyn fmt::Display| InvalidImage::new(text, why);
        // What a container runtime takes for the id of something it has already says nothing of where that is from.
        if is_id(text) {
            return Err(invalid(&"it is the id of an image, which does not say where it is from"));
        }
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
        let (host, path) = match named.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => ("docker.io", named),
        };
        let host: Host = host.parse().map_err(|why| invalid(&why))?;
        let path = path.parse::<RepoName>().map_err(|why| invalid(&why))?;
        let path = host.full(&path).ok_or_else(|| invalid(&"the name is too long"))?;
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        };
        let tag =
            tag.map(str::parse).transpose().map_err(|why: trow_raft::name::InvalidTag| invalid(&why))?;
        let digest = digest.map(str::parse).transpose();
        let digest = digest.map_err(|why: trow_raft::digest::InvalidDigest| invalid(&why))?;
        Ok(ImageName { host, path, tag, digest })
    }
}

/// Whether it is the 64 digits that images have as their ids; or what a runtime takes for the beginning of one, so that
/// `sha256:0a` runs whichever image of that id a node has, and is no tag of a repository `sha256`.
fn is_id(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match text.strip_prefix("sha256:") {
        Some(digits) => !digits.is_empty() && is_hex(digits),
        None => text.len() == 64 && is_hex(text),
    }
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
        let name: ImageName = text.parse()?;
        Image::of(&name).ok_or_else(|| InvalidImage::new(text, "the name is too long"))
    }
}

impl Image {
    /// What is pulled when an image is named so; none when the name is too long for one of an upstream's here.
    pub fn of(image: &ImageName) -> Option<Image> {
        let reference = match (image.digest, &image.tag) {
            (Some(digest), _) => Reference::Digest(digest),
            (None, tag) => Reference::Tag(tag.clone()?),
        };
        Some(Image { name: UpstreamName::new(image.host.clone(), &image.path)?, reference })
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

    #[test]
    fn a_name_keeps_what_is_written() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            (&format!("nginx:1.27@{digest}"), format!("docker.io/library/nginx:1.27@{digest}")),
            (&format!("nginx@{digest}"), format!("docker.io/library/nginx@{digest}")),
            ("QUAY.io:443/a/b", "quay.io:443/a/b:latest".to_owned()),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), whole, "{text}");
            assert_eq!(whole.parse(), Ok(name), "{text}");
        }
        // A registry and a repository that are each as long as they may be are too long together only for us.
        let long = format!("{}.example/{}", ["a"; 90].join("."), ["a"; 126].join("/"));
        assert!(long.parse::<ImageName>().is_ok() && long.parse::<Image>().is_err());
    }

    #[test]
    fn the_id_of_an_image_is_no_name() {
        let id = "0a".repeat(32);
        // A node's runtime looks for an image by the beginning of its id as well.
        let begun = [1, 12, 63].map(|digits| format!("sha256:{}", &id[..digits]));
        for text in begun.into_iter().chain([id.clone(), format!("sha256:{id}"), format!("sha256:{id}0")]) {
            let why = text.parse::<ImageName>().unwrap_err().to_string();
            assert!(why.contains("the id of an image"), "{text}: {why}");
        }
        for text in [
            &format!("acme/{id}"),
            &id[..63],
            "sha256:v1",
            "sha256:0A",
            "sha256",
            "acme/sha256:0a",
            "sha1:0a",
        ] {
            assert!(text.parse::<ImageName>().is_ok(), "{text}");
        }
        assert!("sha256:".parse::<ImageName>().is_err());
    }

    #[test]
    fn what_names_no_image_is_repeated_within_bounds() {
        let text = "ä".repeat(100_000);
        assert_eq!(text.parse::<ImageName>().unwrap_err().text().chars().count(), SHOWN);
    }
}
