//! Which images run: the policy's language, and the decision about an image.
//!
//! Owns the one document that says it, how it is read (`read`, over `tree`; an old one is turned into it by `convert`),
//! what is odd about it (`warn`), its published schema (`schema`), which rule wins (`pattern`, `rules`, found by
//! `index`) and what is decided (`decide`, told as `decision`). Always holds: a decision depends on the
//! policy, the image's name, the namespace and the facts alone; what is needed and not known denies. Never does:
//! look anything up, or wait.

pub mod decision;
pub mod facts;

mod convert;
mod decide;
mod index;
mod pattern;
mod read;
mod rules;
mod schema;
mod tree;
mod warn;

use std::collections::HashSet;
use std::sync::Arc;

pub use decision::{Decision, Listed, Mode, Rule, Verdict};
pub use facts::{Copies, Fact, Facts, Needs};
pub use schema::schema;

use crate::pull::{Host, ImageName, InvalidImage};
use crate::signature::PublicKey;
use index::Globs;
use read::{Document, Stated};
use rules::{Rules, Ruling, Said, Scope};

/// The longest document that is read, in bytes.
pub const LENGTH_MAX: usize = 1024 * 1024;

/// A policy, ready to decide.
#[derive(Clone, Debug)]
pub struct Policy {
    /// False before the first one is set.
    set: bool,
    top: Scope,
    overrides: Vec<Scope>,
    /// Which of the overrides a namespace may have.
    namespaces: Globs<Vec<usize>>,
    keys: Vec<(String, PublicKey)>,
    mutate: Mutate,
    warnings: Vec<String>,
}

/// What is changed about an image before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutate {
    /// A tag is given the digest that it stands for.
    pub tag_to_digest: bool,
    /// Images of other registries are named as this one has them.
    pub mirror: Option<Host>,
}

/// A wrong place of a document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("line {line}, column {column}: {}{why}", prefix(.field))]
pub struct Invalid {
    /// The names on the way to it: `allow[2].image`; empty for the document.
    pub field: String,
    /// Where it is written, from 1.
    pub line: u64,
    /// Where in the line, from 1.
    pub column: u64,
    /// What is wrong, and what would be right.
    pub why: String,
}

fn prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// The text of a policy that says what an `image_validation` block of Trow before version 1 said; none when the text
/// is no such block.
///
/// # Errors
/// It is one, and these places of it are wrong; or it is no document at all.
pub fn convert(text: &str) -> Result<Option<String>, Vec<Invalid>> {
    convert::converted(&root(text)?).transpose()
}

fn root(text: &str) -> Result<tree::Node, Vec<Invalid>> {
    let document = |why: String, line, column| vec![Invalid { field: String::new(), line, column, why }];
    if text.len() > LENGTH_MAX {
        return Err(document(format!("a policy has at most {LENGTH_MAX} bytes"), 1, 1));
    }
    tree::read(text).map_err(|(at, why)| document(why, at.line, at.column))
}

impl Policy {
    /// Reads a policy in YAML, or JSON; an `image_validation` block as what it is converted to.
    ///
    /// # Errors
    /// Every place of it that is wrong.
    pub fn parse(text: &str) -> Result<Policy, Vec<Invalid>> {
        let written = root(text)?;
        match convert::converted(&written) {
            Some(converted) => Ok(Policy::of(read::document(&root(&converted?)?)?)),
            None => Ok(Policy::of(read::document(&written)?)),
        }
    }

    /// What holds before a policy is set: everything is allowed.
    pub fn allow_all() -> Policy {
        let stated = Stated { default: Some(Verdict::Allow), ..Stated::default() };
        Policy { set: false, ..Policy::of(Document { top: stated, ..Document::default() }) }
    }

    fn of(document: Document) -> Policy {
        let top = document.top.over(&Scope::unstated(), None);
        let mut namespaces: Globs<Vec<usize>> = Globs::default();
        for (at, over) in document.overrides.iter().enumerate() {
            over.names.iter().for_each(|name| namespaces.entry(name, Vec::new).push(at));
        }
        let overrides = document.overrides.iter().enumerate();
        let overrides = overrides.map(|(at, over)| over.stated.over(&top, Some(at))).collect();
        let warnings = warn::about(&document);
        Policy {
            set: true,
            top,
            overrides,
            namespaces,
            keys: document.keys,
            mutate: document.mutate,
            warnings,
        }
    }

    /// Rules that never match, rules that others make useless, and keys that nobody uses.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The rules of all lists that allow, each once.
    pub(crate) fn allowing(&self) -> impl Iterator<Item = &Listed> {
        let mut seen = HashSet::new();
        let scopes = std::iter::once(&self.top).chain(&self.overrides);
        // A list that an override does not state is the one for all namespaces.
        let lists = scopes.map(|scope| &scope.allow).filter(move |list| seen.insert(Arc::as_ptr(list)));
        lists.flat_map(|list| list.written())
    }

    /// What images are changed to before they run.
    pub fn mutate(&self) -> &Mutate {
        &self.mutate
    }

    /// The public keys by name.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &PublicKey)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// What comes of a denial in a namespace.
    pub fn mode(&self, namespace: &str) -> Mode {
        self.scope(namespace).mode
    }

    /// What must be found out before a decision about the image.
    pub fn needs(&self, image: &ImageName, namespace: &str) -> Needs {
        decide::granted(self.scope(namespace), image).1
    }

    /// Whether the image may run in the namespace.
    pub fn decide(&self, image: &ImageName, namespace: &str, facts: &Facts) -> Decision {
        self.told(decide::decide(self.scope(namespace), image, facts))
    }

    /// What the name alone decides, and what must hold besides for the image to be allowed.
    pub fn decide_by_name(&self, image: &ImageName, namespace: &str) -> (Decision, Needs) {
        let (decision, needs) = decide::granted(self.scope(namespace), image);
        (self.told(decision), needs)
    }

    /// The decision about an image by a name that nobody wrote, if it is a denial, and a rule of `deny` has the beginning
    /// of its path without a star.
    pub(crate) fn denied_below(&self, image: &ImageName, namespace: &str) -> Option<Decision> {
        let scope = self.scope(namespace);
        scope.denies_below(image).then(|| self.told(decide::granted(scope, image).0))
    }

    /// Whether the rule that decides about the image requires something by itself, and not since all images need a
    /// digest.
    pub(crate) fn rule_requires(&self, image: &ImageName, namespace: &str) -> bool {
        let ruling = self.scope(namespace).ruling(image);
        ruling.is_some_and(|ruling| ruling.required.anything())
    }

    /// About a text that names no image: nobody can say what it would be, so it is denied.
    pub fn decide_unreadable(&self, invalid: &InvalidImage, namespace: &str) -> Decision {
        self.told(Decision {
            image: invalid.text().to_owned(),
            verdict: if self.set { Verdict::Deny } else { Verdict::Allow },
            mode: self.mode(namespace),
            rule: Rule::Unreadable,
            why: match invalid.text() {
                "" => "the container names no image".to_owned(),
                _ => format!("correct the name: {}", invalid.why()),
            },
        })
    }

    fn told(&self, decision: Decision) -> Decision {
        if self.set {
            return decision;
        }
        let why = "everything is allowed until a policy is set: `trow policy set FILE`".to_owned();
        Decision { rule: Rule::NotSet, why, ..decision }
    }

    fn scope(&self, namespace: &str) -> &Scope {
        let found = self.namespaces.of(namespace, &mut 0);
        let first = found.into_iter().flatten().min();
        first.and_then(|at| self.overrides.get(*at)).unwrap_or(&self.top)
    }
}

impl Stated {
    /// What holds where this is stated, by the override if it is one, over what holds elsewhere.
    fn over(&self, below: &Scope, by: Option<usize>) -> Scope {
        let rules = |stated: &Option<Vec<Ruling>>, below: &Arc<Rules>| match stated {
            Some(rules) => Arc::new(Rules::new(rules.clone())),
            None => below.clone(),
        };
        let forbid_tags = self.forbid_tags.as_ref().map(|tags| Said { what: tags.as_slice().into(), by });
        let require_digest = self.require_digest.map(|what| Said { what, by });
        Scope {
            mode: self.mode.unwrap_or(below.mode),
            default: self.default.unwrap_or(below.default),
            forbid_tags: forbid_tags.unwrap_or_else(|| below.forbid_tags.clone()),
            require_digest: require_digest.unwrap_or_else(|| below.require_digest.clone()),
            allow: rules(&self.allow, &below.allow),
            deny: rules(&self.deny, &below.deny),
        }
    }
}

#[cfg(test)]
mod tests;
