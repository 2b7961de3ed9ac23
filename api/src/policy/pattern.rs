//! Patterns of images, `host/path[:tag]`, and which of two is the more specific one.
//!
//! Always holds: the order of specificity is total and is about the patterns alone, so that of all that match an
//! image the same one wins whatever the image is. Never does: match an image; `index` does, for many at once.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest pattern there is.
const LENGTH_MAX: usize = 512;

/// A pattern of images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ImagePattern {
    text: Arc<str>,
    segments: Vec<Segment>,
    tag: Option<Glob>,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// Any number of segments: one or more at the end, none or more elsewhere.
    Any,
    /// One of them.
    One(Glob),
}

/// Text in which `*` stands for any part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Glob(Box<str>);

/// How specific a part is; the greater, the more. The derived order is the rule itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// `**`.
    Any,
    /// With `*`, and this many other characters.
    Stars(usize),
    /// Without.
    Literal,
}

/// How specific a pattern is: its segments from the left, then its tag.
pub(super) type Specificity = (Vec<Weight>, Option<Weight>);

/// The text is no pattern of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidImagePattern {
    #[error(
        "a pattern is host/path[:tag], such as docker.io/library/*, ghcr.io/acme/** or quay.io/acme/app:1.*: in lower \
         case but for the tag, * within a segment, ** as a segment of its own"
    )]
    Form,
    #[error("a pattern has no digest: say requireDigest, or what images are named by")]
    Digest,
    #[error("a pattern has at most {LENGTH_MAX} characters")]
    Long,
}

impl Glob {
    /// The text, if it is of these bytes and `*`, and has no `**`.
    pub(super) fn new(text: &str, plain: impl Fn(u8) -> bool) -> Option<Glob> {
        let valid = !text.is_empty() && !text.contains("**") && text.bytes().all(|b| b == b'*' || plain(b));
        valid.then(|| Glob(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        crate::pattern::within(&self.0, text)
    }

    /// Whether everything that `other` stands for is something that this stands for: no text has a `*`, so that
    /// one of `other`'s lies within one of these.
    pub(super) fn covers(&self, other: &Glob) -> bool {
        self.matches(&other.0)
    }

    pub(super) fn weight(&self) -> Weight {
        match self.0.bytes().filter(|b| *b != b'*').count() {
            length if length == self.0.len() => Weight::Literal,
            length => Weight::Stars(length),
        }
    }
}

/// Whether a tag may have the byte.
pub(super) fn in_tag(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

impl ImagePattern {
    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn tag(&self) -> Option<&Glob> {
        self.tag.as_ref()
    }

    /// How specific it is. A pattern whose segments are the beginning of another's is the less specific one.
    pub(super) fn specificity(&self) -> Specificity {
        let weight = |segment: &Segment| match segment {
            Segment::Any => Weight::Any,
            Segment::One(glob) => glob.weight(),
        };
        (self.segments.iter().map(weight).collect(), self.tag.as_ref().map(Glob::weight))
    }

    /// A key that sorts the most specific first.
    pub(super) fn rank(&self) -> Reverse<Specificity> {
        Reverse(self.specificity())
    }
}

impl FromStr for ImagePattern {
    type Err = InvalidImagePattern;

    fn from_str(text: &str) -> Result<Self, InvalidImagePattern> {
        if text.len() > LENGTH_MAX {
            return Err(InvalidImagePattern::Long);
        }
        if text.contains('@') {
            return Err(InvalidImagePattern::Digest);
        }
        // A colon before the last slash is that of a port.
        let (named, tag) = match text.rsplit_once(':') {
            Some((named, tag)) if !tag.contains('/') => (named, Some(tag)),
            _ => (text, None),
        };
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-:".contains(&b);
        let segment = |segment: &str| match segment {
            "**" => Some(Segment::Any),
            one => Glob::new(one, plain).map(Segment::One),
        };
        let segments: Option<Vec<Segment>> = named.split('/').map(segment).collect();
        let tag = tag.map(|tag| Glob::new(tag, in_tag).ok_or(InvalidImagePattern::Form)).transpose()?;
        let segments = segments.ok_or(InvalidImagePattern::Form)?;
        Ok(ImagePattern { text: text.into(), segments, tag })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ImagePattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_is_host_path_and_tag() {
        assert_eq!(pattern("localhost:5000/a").tag(), None);
        assert_eq!(pattern("localhost:5000/a:v1").tag().map(Glob::as_str), Some("v1"));
        assert_eq!(pattern("quay.io/a/**:V1.*").segments().len(), 3);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a/***",
            "a**",
            "a/b**/c",
            "A/b",
            "a b",
            "ä/b",
            "a/b:",
            "a/b:v 1",
            "a/b:**",
            "a/b:é",
            "a/{b}",
            "a/b\n",
            ":v1",
            "[::1]:5000/a",
        ] {
            assert_eq!(bad.parse::<ImagePattern>(), Err(InvalidImagePattern::Form), "{bad:?}");
        }
        assert_eq!("a/b@sha256:00".parse::<ImagePattern>(), Err(InvalidImagePattern::Digest));
        assert_eq!("a/".repeat(300).parse::<ImagePattern>(), Err(InvalidImagePattern::Long));
    }

    /// Each of these is more specific than all after it.
    #[test]
    fn the_order_is_that_of_segments_from_the_left_and_then_of_tags() {
        let order = [
            "quay.io/acme/app:v1",
            "quay.io/acme/app:v1*",
            "quay.io/acme/app:*",
            "quay.io/acme/app",
            "quay.io/acme/ap*:v1",
            "quay.io/acme/ap*",
            "quay.io/acme/*p",
            "quay.io/acme/*",
            "quay.io/acme/**/x",
            "quay.io/acme/**:v1",
            "quay.io/acme/**",
            "quay.io/*/app:v1",
            "quay.io/*/*",
            "quay.io/**/app",
            "quay.io/**",
            "*.io/acme/app:v1",
            "*/acme/app",
            "**/acme/app:v1",
            "**:v1",
            "**",
        ];
        for (at, first) in order.iter().enumerate() {
            for second in &order[at + 1..] {
                assert!(pattern(first).specificity() > pattern(second).specificity(), "{first} {second}");
            }
        }
        for (first, second) in [("a.b/x-*", "a.b/*-x"), ("a.b/*x*", "a.b/x*"), ("a.b/c:*1*", "a.b/c:1*")] {
            assert_eq!(pattern(first).specificity(), pattern(second).specificity(), "{first} {second}");
        }
        assert!(pattern("a.b/x*y").specificity() > pattern("a.b/*x*").specificity());
    }

    #[test]
    fn a_glob_covers_what_lies_within_it() {
        let glob = |text| Glob::new(text, in_tag).unwrap();
        for (wide, narrow, covers) in [
            ("dev-*", "dev-a*", true),
            ("dev-*", "dev-a", true),
            ("*", "*a*", true),
            ("dev-a*", "dev-*", false),
            ("a*b", "ab*", false),
        ] {
            assert_eq!(glob(wide).covers(&glob(narrow)), covers, "{wide} {narrow}");
        }
    }
}
