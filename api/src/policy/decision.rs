//! What was decided about an image, and how people are told.
//!
//! Always holds: a decision names the image as it is understood, the rule that decided by its place and text, and
//! what to do about it. Never does: decide.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

/// Whether the image may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What comes of a denial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The image does not run.
    #[default]
    Enforce,
    /// It runs, and whoever starts it is warned.
    Warn,
    /// It runs, and the denial is recorded.
    Audit,
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        }
    }
}

impl Mode {
    /// As in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Warn => "warn",
            Mode::Audit => "audit",
        }
    }
}

/// A rule of a list: where it is, and its pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// `allow`, `deny`, or one of these within an override: `namespaces[0].allow`.
    pub list: Arc<str>,
    /// Which of the list, from 0.
    pub index: usize,
    /// The pattern as it is written.
    pub pattern: Arc<str>,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A rule of an `allow` list: it allowed the image, or what it requires is not so.
    Allow(Listed),
    /// A rule of a `deny` list.
    Deny(Listed),
    /// `default`, since no rule matches.
    Default,
    /// `forbidTags`, by this entry.
    ForbidTags(Arc<str>),
    /// `requireDigest`: of this rule of an `allow` list, or of the policy.
    RequireDigest(Option<Listed>),
    /// There is no policy yet.
    NotSet,
    /// The image is not named so that anybody could say what it is.
    Unreadable,
}

impl Rule {
    /// Which kind of rule it is, one word of a few: for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Rule::Allow(_) => "allow",
            Rule::Deny(_) => "deny",
            Rule::Default => "default",
            Rule::ForbidTags(_) => "forbidTags",
            Rule::RequireDigest(_) => "requireDigest",
            Rule::NotSet => "notSet",
            Rule::Unreadable => "unreadable",
        }
    }

    /// The rule of a list that decided, if one did.
    pub fn listed(&self) -> Option<&Listed> {
        match self {
            Rule::Allow(listed) | Rule::Deny(listed) | Rule::RequireDigest(Some(listed)) => Some(listed),
            _ => None,
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listed { list, index, pattern } = self;
        write!(f, "{list}[{index}] {pattern:?}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Allow(listed) | Rule::Deny(listed) => listed.fmt(f),
            Rule::ForbidTags(tag) => write!(f, "forbidTags {tag:?}"),
            Rule::NotSet => f.write_str("no policy"),
            Rule::Unreadable => f.write_str("unreadable name"),
            Rule::Default | Rule::RequireDigest(_) => f.write_str(self.kind()),
        }
    }
}

/// What was decided about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The image as it is understood; as it was written, shortened, where it is not.
    pub image: String,
    /// Whether it may run.
    pub verdict: Verdict,
    /// What comes of a denial in this namespace.
    pub mode: Mode,
    /// What decided.
    pub rule: Rule,
    /// Of a denial what to do about it; of an allowed image why it is.
    pub why: String,
}

impl Decision {
    /// Whether the image runs: it is allowed, or the mode lets it run all the same.
    pub fn runs(&self) -> bool {
        self.verdict == Verdict::Allow || self.mode != Mode::Enforce
    }

    /// One sentence for people: `image "…" (container "…") denied by deny[0] "…": what to do`.
    pub fn sentence(&self, container: Option<&str>) -> String {
        let container = container.map(|name| format!(" (container {name:?})")).unwrap_or_default();
        let verb = match (self.verdict, self.mode) {
            (Verdict::Allow, _) => "allowed",
            (Verdict::Deny, Mode::Enforce) => "denied",
            (Verdict::Deny, Mode::Warn | Mode::Audit) => "would be denied",
        };
        format!("image {:?}{container} {verb} by {}: {}", self.image, self.rule, self.why)
    }
}
