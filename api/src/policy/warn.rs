//! What is odd about a policy that can be read: rules that never match, or that others make useless.
//!
//! Always holds: what is said here is so for every image; a policy with warnings is in force all the same. Never
//! does: find everything that is odd, such as a rule that several others make useless together, or take longer for a
//! document that is made to take long.

use std::collections::{HashMap, HashSet};

use trow_raft::{RepoName, Tag};

use super::decision::{Listed, Verdict};
use super::pattern::{Glob, ImagePattern, Segment};
use super::read::{Document, Override, Stated};
use super::rules::Ruling;
use crate::pull::Host;

/// How many rules, tags and names are looked at, counted again for each namespace for which they are, and how much is
/// said: what a document costs is bounded by this, however it is made up.
const STEPS_MAX: usize = 500_000;
const WARNINGS_MAX: usize = 1_000;

/// The warnings about a document, in the order of its parts.
pub(super) fn about(document: &Document) -> Vec<String> {
    let mut search = Search::default();
    search.document(document);
    if search.cut {
        search.warnings.truncate(WARNINGS_MAX);
        search
            .warnings
            .push("there may be more that is odd: the policy is too large to look at all".to_owned());
    }
    search.warnings
}

#[derive(Default)]
struct Search {
    warnings: Vec<String>,
    steps: usize,
    /// Whether something was not looked at, or not said.
    cut: bool,
}

impl Search {
    /// Whether this many steps are left; then they are taken.
    fn may(&mut self, steps: usize) -> bool {
        let may = self.steps.saturating_add(steps) <= STEPS_MAX && self.warnings.len() < WARNINGS_MAX;
        if may {
            self.steps += steps;
        }
        self.cut |= !may;
        may
    }

    fn document(&mut self, document: &Document) {
        let top = &document.top;
        self.unmatched(top);
        self.forbidden(slice(&top.allow), slice(&top.forbid_tags));
        self.alike(slice(&top.allow), slice(&top.deny), |_| true);
        if rules(top).next().is_none()
            && top.default.unwrap_or(Verdict::Deny) == Verdict::Deny
            && document.overrides.is_empty()
        {
            self.warnings.push(
                "no image is allowed: default is deny, and there is no rule that allows any".to_owned(),
            );
        }
        let mut names = 0;
        for (at, over) in document.overrides.iter().enumerate() {
            self.over(top, at, over, &document.overrides[..at], names);
            names += over.names.len();
        }
        let stated = std::iter::once(top).chain(document.overrides.iter().map(|over| &over.stated));
        let used: HashSet<&String> =
            stated.flat_map(rules).flat_map(|rule| &rule.required.signed_by).collect();
        let unused = document.keys.iter().filter(|(name, _)| !used.contains(name));
        self.warnings
            .extend(unused.map(|(name, _)| format!("keys.{name} is not used: no rule names it in signedBy")));
    }

    /// About an override after these, which have as many names.
    fn over(&mut self, top: &Stated, at: usize, over: &Override, earlier: &[Override], names: usize) {
        let Override { names: own, stated } = over;
        let place = format!("namespaces[{at}]");
        if self.may(1 + own.len() * names)
            && let Some(earlier) = covered(own, earlier)
        {
            let why = format!(
                "{place} is never used: namespaces[{earlier}] comes first and matches all that it does"
            );
            self.warnings.push(why);
        }
        if own.is_empty() {
            self.warnings.push(format!("{place} is never used: it matches no namespace"));
        }
        if stated.is_empty() {
            self.warnings.push(format!("{place} states nothing: what holds elsewhere holds there, too"));
        }
        self.unmatched(stated);
        // What is stated here is judged beside what holds here of all namespaces.
        let allow = slice(stated.allow.as_ref().map_or(&top.allow, |_| &stated.allow));
        let deny = slice(stated.deny.as_ref().map_or(&top.deny, |_| &stated.deny));
        let forbidden = slice(stated.forbid_tags.as_ref().map_or(&top.forbid_tags, |_| &stated.forbid_tags));
        if stated.allow.is_some() || stated.forbid_tags.is_some() {
            self.forbidden(allow, forbidden);
        }
        if stated.allow.is_some() || stated.deny.is_some() {
            self.alike(allow, deny, |listed| listed.list.starts_with("namespaces"));
        }
    }

    fn unmatched(&mut self, stated: &Stated) {
        for rule in rules(stated) {
            if !self.may(1) {
                return;
            }
            self.warnings.extend(unmatched(rule));
        }
    }

    /// Rules that allow what `forbidTags` forbids whatever else is so.
    fn forbidden(&mut self, allow: &[Ruling], forbidden: &[Glob]) {
        for rule in allow {
            if !self.may(1) {
                return;
            }
            let Some(tag) = rule.pattern.tag() else { continue };
            if !self.may(forbidden.len()) {
                return;
            }
            let glob = forbidden.iter().find(|glob| glob.covers(tag));
            self.warnings.extend(glob.map(|glob| {
                let (rule, glob) = (&rule.listed, glob.as_str());
                format!("{rule} allows nothing: forbidTags {glob:?} forbids its tag")
            }));
        }
    }

    /// Rules with the pattern of one that wins over them; one of each two is of those asked for.
    fn alike(&mut self, allow: &[Ruling], deny: &[Ruling], asked: impl Fn(&Listed) -> bool) {
        if !self.may(allow.len() + deny.len()) {
            return;
        }
        let mut first: HashMap<(&[Segment], Option<&Glob>), &Ruling> = HashMap::new();
        // Of equals those that deny win, then those that are written first.
        for rule in deny.iter().chain(allow) {
            let winner = *first.entry((rule.pattern.segments(), rule.pattern.tag())).or_insert(rule);
            if winner.listed == rule.listed || !(asked(&rule.listed) || asked(&winner.listed)) {
                continue;
            }
            if !self.may(0) {
                return;
            }
            let why =
                if winner.verdict == rule.verdict { "comes first" } else { "denies the same, which wins" };
            self.warnings.push(format!("{} has no effect: {} {why}", rule.listed, winner.listed));
        }
    }
}

fn slice<T>(stated: &Option<Vec<T>>) -> &[T] {
    stated.as_deref().unwrap_or_default()
}

fn rules(stated: &Stated) -> impl Iterator<Item = &Ruling> {
    stated.allow.iter().chain(&stated.deny).flatten()
}

fn unmatched(rule: &Ruling) -> Option<String> {
    let Ruling { pattern, listed, verdict, .. } = rule;
    if let Some(why) = never_matches(pattern) {
        return Some(format!("{listed} never matches: {why}"));
    }
    let [Segment::One(host), ..] = pattern.segments() else { return None };
    let bare = host.as_str().strip_suffix(":443")?;
    let without = pattern.text().replacen(host.as_str(), bare, 1);
    Some(match verdict {
        Verdict::Allow => {
            format!("{listed} allows nothing: images are judged without the port 443, write {without}")
        }
        // A rule that denies is compared with names as they are written, too.
        Verdict::Deny => format!(
            "{listed} denies nothing that is named without the port 443: write {without}, which denies both"
        ),
    })
}

/// Which of the earlier overrides match every namespace that these names do, the first that is enough.
fn covered(names: &[Glob], earlier: &[Override]) -> Option<usize> {
    let by = |name: &Glob| earlier.iter().position(|over| over.names.iter().any(|glob| glob.covers(name)));
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
