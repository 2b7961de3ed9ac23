//! What is odd about a policy that can be read: rules that never match, or that others make useless.
//!
//! Always holds: what is said here is so for every image; a policy with warnings is in force all the same. Never
//! does: find everything that is odd, such as a rule that several others make useless together.

use std::collections::HashMap;

use trow_raft::{RepoName, Tag};

use super::decision::{Listed, Verdict};
use super::pattern::{Glob, ImagePattern, Segment};
use super::read::{Document, Stated};
use super::rules::Ruling;
use crate::pull::Host;

/// The warnings about a document, in the order of its parts.
pub(super) fn about(document: &Document) -> Vec<String> {
    let top = &document.top;
    let mut warnings: Vec<String> = rules(top).filter_map(unmatched).collect();
    warnings.extend(forbidden(top));
    warnings.extend(alike(top, |_| true));
    if rules(top).next().is_none()
        && top.default.unwrap_or(Verdict::Deny) == Verdict::Deny
        && document.overrides.is_empty()
    {
        warnings
            .push("no image is allowed: default is deny, and there is no rule that allows any".to_owned());
    }
    for (at, over) in document.overrides.iter().enumerate() {
        let place = format!("namespaces[{at}]");
        let earlier: Vec<&[Glob]> = document.overrides[..at].iter().map(|over| &*over.names).collect();
        if let Some(earlier) = covered(&over.names, &earlier) {
            let why = format!(
                "{place} is never used: namespaces[{earlier}] comes first and matches all that it does"
            );
            warnings.push(why);
        }
        if over.names.is_empty() {
            warnings.push(format!("{place} is never used: it matches no namespace"));
        }
        if over.stated.is_empty() {
            warnings.push(format!("{place} states nothing: what holds elsewhere holds there, too"));
        }
        warnings.extend(rules(&over.stated).filter_map(unmatched));
        let stated = over.stated.or(top);
        let own = |listed: &Listed| listed.list.starts_with("namespaces");
        warnings.extend(
            forbidden(&stated).filter(|_| over.stated.allow.is_some() || over.stated.forbid_tags.is_some()),
        );
        warnings.extend(alike(&stated, own));
    }
    let used = |name: &str| {
        let stated = std::iter::once(top).chain(document.overrides.iter().map(|over| &over.stated));
        stated.flat_map(rules).any(|rule| rule.required.signed_by.iter().any(|known| known == name))
    };
    let unused = document.keys.iter().filter(|(name, _)| !used(name));
    warnings.extend(unused.map(|(name, _)| format!("keys.{name} is not used: no rule names it in signedBy")));
    warnings
}

fn rules(stated: &Stated) -> impl Iterator<Item = &Ruling> {
    stated.allow.iter().chain(&stated.deny).flatten()
}

fn named(listed: &Listed) -> String {
    format!("{}[{}] {:?}", listed.list, listed.index, &*listed.pattern)
}

fn unmatched(rule: &Ruling) -> Option<String> {
    if let Some(why) = never_matches(&rule.pattern) {
        return Some(format!("{} never matches: {why}", named(&rule.listed)));
    }
    // A rule that denies is compared with names as they are written, too.
    let [Segment::One(host), ..] = rule.pattern.segments() else { return None };
    let host = host.as_str().strip_suffix(":443").filter(|_| rule.verdict == Verdict::Allow)?;
    Some(format!(
        "{} allows nothing: images are judged without the port 443, write {host}",
        named(&rule.listed)
    ))
}

/// Rules that allow what `forbidTags` forbids whatever else is so.
fn forbidden(stated: &Stated) -> impl Iterator<Item = String> {
    let forbidden: &[Glob] = stated.forbid_tags.as_deref().unwrap_or_default();
    let rules = stated.allow.iter().flatten();
    rules.filter_map(move |rule| {
        let tag = rule.pattern.tag()?;
        let glob = forbidden.iter().find(|glob| glob.covers(tag))?;
        Some(format!(
            "{} allows nothing: forbidTags {:?} forbids its tag",
            named(&rule.listed),
            glob.as_str()
        ))
    })
}

/// Rules with the pattern of one that wins over them; one of each two is of those asked for.
fn alike(stated: &Stated, asked: impl Fn(&Listed) -> bool) -> Vec<String> {
    let mut first: HashMap<(&[Segment], Option<&Glob>), &Ruling> = HashMap::new();
    let mut warnings = Vec::new();
    // Of equals those that deny win, then those that are written first.
    for rule in stated.deny.iter().chain(&stated.allow).flatten() {
        let winner = *first.entry((rule.pattern.segments(), rule.pattern.tag())).or_insert(rule);
        if winner.listed == rule.listed || !(asked(&rule.listed) || asked(&winner.listed)) {
            continue;
        }
        let why = if winner.verdict == rule.verdict { "comes first" } else { "denies the same, which wins" };
        warnings.push(format!("{} has no effect: {} {why}", named(&rule.listed), named(&winner.listed)));
    }
    warnings
}

/// Which of the earlier overrides match every namespace that these names do, the first that is enough.
fn covered(names: &[Glob], earlier: &[&[Glob]]) -> Option<usize> {
    let by = |name: &Glob| earlier.iter().position(|globs| globs.iter().any(|glob| glob.covers(name)));
    let all: Option<Vec<usize>> = names.iter().map(by).collect();
    // Without names there is none that is matched.
    all?.into_iter().max()
}

/// Why no image has this pattern, if none has.
fn never_matches(pattern: &ImagePattern) -> Option<String> {
    let literal = |glob: &Glob| (!glob.as_str().contains('*')).then(|| glob.as_str().to_owned());
    if let Some(tag) = pattern.tag().and_then(literal)
        && tag.parse::<Tag>().is_err()
    {
        return Some(format!("{tag} can be no tag"));
    }
    let [Segment::One(host), path @ ..] = pattern.segments() else { return None };
    if path.is_empty() {
        return Some(format!(
            "it names no repository: of docker.io it would be docker.io/library/{}",
            pattern.text()
        ));
    }
    for segment in path {
        let Segment::One(glob) = segment else { continue };
        let bad = glob.as_str().contains(':')
            || literal(glob).is_some_and(|text| text.parse::<RepoName>().is_err());
        if bad {
            return Some(format!("{} is no part of a repository's name", glob.as_str()));
        }
    }
    let host = literal(host)?;
    let Ok(known) = host.parse::<Host>() else { return Some(format!("{host} is no registry")) };
    if known.as_str() != host {
        return Some(format!("{host} is {known} here: write {known}"));
    }
    if !host.contains(['.', ':']) && host != "localhost" {
        return Some(format!("{host} is no registry: of docker.io it would be docker.io/{}", pattern.text()));
    }
    if let ([Segment::One(name)], true) = (path, known.is_docker()) {
        return Some(format!(
            "what docker.io has without an organisation is in docker.io/library/{}",
            name.as_str()
        ));
    }
    None
}

#[cfg(test)]
mod tests;
