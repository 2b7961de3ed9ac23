//! The rules that hold in a namespace, in the order in which they win.
//!
//! Always holds: the order is that of specificity; of equally specific rules those that deny come first, then those
//! that are written first.

use std::collections::HashSet;
use std::sync::Arc;

use super::Mode;
use super::decision::{Listed, Rule, Verdict};
use super::index::Index;
use super::pattern::{Glob, ImagePattern, Segment, Weight};
use crate::pull::ImageName;

/// What a rule that allows requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Required {
    pub(super) digest: Option<bool>,
    pub(super) exists: bool,
    pub(super) replicated: bool,
    pub(super) resolves: bool,
    pub(super) signed_by: Vec<String>,
}

impl Required {
    pub(super) fn anything(&self) -> bool {
        let Required { digest, exists, replicated, resolves, signed_by } = self;
        *digest == Some(true) || *exists || *replicated || *resolves || !signed_by.is_empty()
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Ruling {
    pub(super) pattern: ImagePattern,
    pub(super) verdict: Verdict,
    pub(super) listed: Listed,
    pub(super) required: Required,
}

/// The rules of one list, and an index of them.
#[derive(Debug)]
pub(super) struct Rules {
    ranked: Vec<Ruling>,
    index: Index,
    /// What stands without a star after the hosts of patterns.
    roots: HashSet<Box<str>>,
}

impl Ruling {
    pub(super) fn rule(&self) -> Rule {
        match self.verdict {
            Verdict::Allow => Rule::Allow(self.listed.clone()),
            Verdict::Deny => Rule::Deny(self.listed.clone()),
        }
    }
}

impl Rules {
    pub(super) fn new(mut rules: Vec<Ruling>) -> Rules {
        // Sorting is stable, so that the first written stays the first of its like.
        rules.sort_by_cached_key(|rule| rule.pattern.rank());
        let index = Index::new(rules.iter().map(|rule| &rule.pattern));
        let roots = rules.iter().filter_map(|rule| match rule.pattern.segments().get(1) {
            Some(Segment::One(glob)) if glob.weight() == Weight::Literal => Some(glob.as_str().into()),
            _ => None,
        });
        Rules { roots: roots.collect(), index, ranked: rules }
    }

    /// The one that wins of those that match.
    fn of(&self, segments: &[&str], tag: Option<&str>) -> Option<&Ruling> {
        self.ranked.get(self.index.find(segments, tag)?)
    }

    /// The rules as they are listed, in the order in which they are written.
    pub(super) fn written(&self) -> impl Iterator<Item = &Listed> {
        let mut listed: Vec<&Listed> = self.ranked.iter().map(|rule| &rule.listed).collect();
        listed.sort_by_key(|listed| listed.index);
        listed.into_iter()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ranked.len()
    }
}

/// What is stated, and by which override; by none of them: for all namespaces.
#[derive(Clone, Debug)]
pub(super) struct Said<T> {
    pub(super) what: T,
    pub(super) by: Option<usize>,
}

/// What holds in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) mode: Mode,
    pub(super) default: Verdict,
    pub(super) forbid_tags: Said<Arc<[Glob]>>,
    pub(super) require_digest: Said<bool>,
    /// Each list is kept once, in however many namespaces it holds.
    pub(super) allow: Arc<Rules>,
    pub(super) deny: Arc<Rules>,
}

impl Scope {
    /// What holds where nothing is stated.
    pub(super) fn unstated() -> Scope {
        let none = || Arc::new(Rules::new(Vec::new()));
        Scope {
            mode: Mode::default(),
            default: Verdict::Deny,
            forbid_tags: Said { what: Arc::default(), by: None },
            require_digest: Said { what: false, by: None },
            allow: none(),
            deny: none(),
        }
    }

    /// Whether the rule that decides about the image denies it, if there is one that has the beginning of its path as it
    /// is. Few have, and an image is asked about by many names.
    pub(super) fn denies_below(&self, image: &ImageName) -> bool {
        let root = image.path.as_str().split('/').next().unwrap_or_default();
        self.deny.roots.contains(root)
            && self.ruling(image).is_some_and(|ruling| ruling.verdict == Verdict::Deny)
    }

    /// The rule that decides about the image.
    pub(super) fn ruling(&self, image: &ImageName) -> Option<&Ruling> {
        let segments: Vec<&str> =
            std::iter::once(image.host.as_str()).chain(image.path.as_str().split('/')).collect();
        let tag = image.tag.as_ref().map(|tag| tag.as_str());
        match (self.allow.of(&segments, tag), self.deny.of(&segments, tag)) {
            (Some(allow), Some(deny)) => {
                let allows = allow.pattern.specificity() > deny.pattern.specificity();
                Some(if allows { allow } else { deny })
            }
            (allow, deny) => deny.or(allow),
        }
    }
}
