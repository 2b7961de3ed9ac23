//! The rules that hold in a namespace, in the order in which they win.
//!
//! Always holds: the order is that of specificity; of equally specific rules those that deny come first, then those
//! that are written first.

use std::cmp::Reverse;

use super::decision::{Listed, Rule, Verdict};
use super::index::Index;
use super::pattern::{Glob, ImagePattern};
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

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Ruling {
    pub(super) pattern: ImagePattern,
    pub(super) verdict: Verdict,
    pub(super) listed: Listed,
    pub(super) required: Required,
}

/// Rules, and an index of them.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    ranked: Vec<Ruling>,
    index: Index,
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
        rules.sort_by_cached_key(|rule| (rule.pattern.rank(), Reverse(rule.verdict == Verdict::Deny)));
        let index = Index::new(rules.iter().map(|rule| &rule.pattern));
        Rules { ranked: rules, index }
    }

    /// The one that decides about the image.
    pub(super) fn of(&self, image: &ImageName) -> Option<&Ruling> {
        let segments: Vec<&str> =
            std::iter::once(image.host.as_str()).chain(image.path.as_str().split('/')).collect();
        let rank = self.index.find(&segments, image.tag.as_ref().map(|tag| tag.as_str()))?;
        self.ranked.get(rank)
    }
}

/// What holds in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) mode: super::Mode,
    pub(super) default: Verdict,
    pub(super) forbid_tags: Vec<Glob>,
    pub(super) require_digest: bool,
    pub(super) rules: std::sync::Arc<Rules>,
}
