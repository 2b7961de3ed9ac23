//! Patterns of repositories that respect the boundaries of segments.
//!
//! A pattern is segments between slashes, the first of them a host where hosts are matched. `*` stands for any
//! part of one segment, and `**` as a whole segment for any number of them: one or more at the end, none or
//! more elsewhere. Always holds: what has no `*` matches itself alone, so that `docker.io` never matches
//! `docker.io.example.com`, nor `acme` what begins with it. Matching takes time of the lengths' product.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest pattern there is.
const LENGTH_MAX: usize = 512;

/// A pattern of repositories.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

/// The text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is segments of lower-case letters, digits, '.', '_', '-', ':' and '*' between slashes, such as \
     docker.io/library/* or ghcr.io/acme/**; ** is a segment of its own"
)]
pub struct InvalidPattern;

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-:*".contains(&b);
        let segment = |segment: &str| {
            let stars = segment.contains("**") && segment != "**";
            !segment.is_empty() && !stars && segment.bytes().all(plain)
        };
        if text.len() > LENGTH_MAX || !text.split('/').all(segment) {
            return Err(InvalidPattern);
        }
        Ok(Pattern(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// `**`.
    pub fn anything() -> Pattern {
        Pattern("**".into())
    }

    /// Whether it stands for `name`, segments between slashes.
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let name: Vec<&str> = name.split('/').collect();
        // Whether what follows in the pattern matches the name from each position; filled from the end.
        let mut rest: Vec<bool> = (0..=name.len()).map(|at| at == name.len()).collect();
        for (segment, is_last) in
            pattern.iter().rev().zip(std::iter::once(true).chain(std::iter::repeat(false)))
        {
            rest = (0..=name.len())
                .map(|at| match *segment {
                    "**" if is_last => at < name.len(),
                    "**" => rest[at..].contains(&true),
                    one => name.get(at).is_some_and(|name| rest[at + 1] && within(one, name)),
                })
                .collect();
        }
        rest[0]
    }
}

/// Whether `*` in `pattern` can stand for parts of `text` so that they are the same.
pub(crate) fn within(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    // The first place for each part leaves the most to the others.
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matches: &[&str], others: &[&str]) {
        let parsed: Pattern = pattern.parse().unwrap();
        matches.iter().for_each(|name| assert!(parsed.matches(name), "{pattern} does not match {name}"));
        others.iter().for_each(|name| assert!(!parsed.matches(name), "{pattern} matches {name}"));
    }

    #[test]
    fn segments_are_matched_whole() {
        check(
            "docker.io/library/nginx",
            &["docker.io/library/nginx"],
            &["docker.io/library/nginx2", "docker.io/library", "x/docker.io/library/nginx"],
        );
        check(
            "docker.io/**",
            &["docker.io/a", "docker.io/a/b"],
            &["docker.io", "docker.io.example.com/a", "xdocker.io/a"],
        );
        check(
            "docker.io/library/*",
            &["docker.io/library/x"],
            &["docker.io/library", "docker.io/library/x/y"],
        );
        check("ghcr.io/acme/**", &["ghcr.io/acme/a/b"], &["ghcr.io/acme", "ghcr.io/acme2/a"]);
        check("**", &["a", "a/b/c"], &[]);
        check("**/secret", &["secret", "a/secret", "a/b/secret"], &["a/secrets", "secret/a"]);
        check("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a/b", "z", "a"]);
        check("**/**", &["a", "a/b"], &[]);
    }

    #[test]
    fn a_star_stays_within_its_segment() {
        check(
            "*.example.com/**",
            &["a.example.com/x", "a.b.example.com/x"],
            &["example.com/x", "a/b.example.com/x"],
        );
        check("old-*", &["old-", "old-x"], &["old", "old-x/y", "bold-x"]);
        check("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb", "abcd"]);
        check("*", &["a"], &["a/b"]);
        check("aa*aa", &["aaaa", "aaxaa"], &["aaa"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "/", "a/", "/a", "a//b", "a/***", "a**", "A/b", "a b", "ä", "[a]", "a/{b}"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(LENGTH_MAX + 1).parse::<Pattern>().is_err());
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let pattern: Pattern = vec!["**"; 100].join("/").parse().unwrap();
        assert!(pattern.matches(&vec!["a"; 128].join("/")));
        let pattern: Pattern = format!("{}b", "a*".repeat(250)).parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(255)));
    }
}
