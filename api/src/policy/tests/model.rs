//! What a policy should decide, found by looking at every rule: written apart from what it judges, for tests.

use std::cmp::Ordering;

/// A policy as the tests make it up.
#[derive(Clone, Debug)]
pub struct Model {
    /// Whether each denies, and its pattern; those that allow may require a digest, or say that none is needed.
    pub rules: Vec<(bool, String, Option<bool>)>,
    pub default_allows: bool,
    pub forbidden: Vec<String>,
    pub require_digest: bool,
}

/// An image: host and path, tag, and whether a digest is written.
pub type Seen<'a> = (&'a str, Option<&'a str>, bool);

impl Model {
    /// Whether it is allowed, and what decides: which of the rules, or another part of the policy.
    pub fn decide(&self, (name, tag, digest): Seen<'_>) -> (bool, Result<usize, &'static str>) {
        let matching = (0..self.rules.len()).filter(|rule| matches(&self.rules[*rule].1, name, tag));
        let winner = matching.reduce(|best, rule| if self.beats(rule, best) { rule } else { best });
        let by = winner.ok_or("default");
        if winner.map_or(!self.default_allows, |rule| self.rules[rule].0) {
            return (false, by);
        }
        if tag.is_some_and(|tag| self.forbidden.iter().any(|glob| covers(glob.as_bytes(), tag.as_bytes()))) {
            return (false, Err("forbidTags"));
        }
        let required = winner.and_then(|rule| self.rules[rule].2).unwrap_or(self.require_digest);
        if required && !digest { (false, Err("requireDigest")) } else { (true, by) }
    }

    fn beats(&self, rule: usize, other: usize) -> bool {
        let [(path, tag), (other_path, other_tag)] = [rule, other].map(|rule| parts(&self.rules[rule].1));
        let weights = |path: Vec<&str>| path.into_iter().map(weight).collect::<Vec<i64>>();
        let order = weights(path).cmp(&weights(other_path)).then(tag.map(weight).cmp(&other_tag.map(weight)));
        order.then(self.rules[rule].0.cmp(&self.rules[other].0)) == Ordering::Greater
    }
}

fn parts(pattern: &str) -> (Vec<&str>, Option<&str>) {
    match pattern.rfind(':') {
        Some(at) if !pattern[at..].contains('/') => {
            (pattern[..at].split('/').collect(), Some(&pattern[at + 1..]))
        }
        _ => (pattern.split('/').collect(), None),
    }
}

fn weight(segment: &str) -> i64 {
    match segment {
        "**" => -1,
        some if some.contains('*') => some.chars().filter(|c| *c != '*').count() as i64,
        _ => i64::MAX,
    }
}

fn matches(pattern: &str, name: &str, tag: Option<&str>) -> bool {
    let (path, wanted) = parts(pattern);
    let name: Vec<&str> = name.split('/').collect();
    let tagged = wanted.is_none_or(|glob| tag.is_some_and(|tag| covers(glob.as_bytes(), tag.as_bytes())));
    tagged && follows(&path, &name)
}

fn follows(path: &[&str], name: &[&str]) -> bool {
    match (path, name) {
        ([], name) => name.is_empty(),
        (["**"], name) => !name.is_empty(),
        (["**", rest @ ..], name) => (0..=name.len()).any(|skip| follows(rest, &name[skip..])),
        ([one, rest @ ..], [first, others @ ..]) => {
            covers(one.as_bytes(), first.as_bytes()) && follows(rest, others)
        }
        (_, []) => false,
    }
}

fn covers(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], text) => text.is_empty(),
        ([b'*', rest @ ..], text) => (0..=text.len()).any(|skip| covers(rest, &text[skip..])),
        ([first, rest @ ..], [also, others @ ..]) => first == also && covers(rest, others),
        (_, []) => false,
    }
}
