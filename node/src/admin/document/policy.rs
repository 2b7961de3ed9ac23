//! What administration says of the policy, in JSON.

use serde::{Deserialize, Serialize};
use trow_api::policy::Decision;

/// `GET policy`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PolicyDocument {
    /// Null before the first one is set.
    pub revision: Option<u64>,
    /// The policy as it was set.
    pub document: Option<String>,
    /// What is odd about it.
    pub warnings: Vec<String>,
    /// Whether it is what this node remembers, since no quorum confirmed it.
    #[serde(default)]
    pub stale: bool,
}

/// The answer to `PUT policy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicySetDocument {
    /// The new one.
    pub revision: u64,
    /// Whether it was the `image_validation` block of an earlier Trow.
    pub converted: bool,
    /// What is odd about it.
    pub warnings: Vec<String>,
    /// The entry of the log: the revision, as other changes say it.
    pub log_id: u64,
}

/// What `POST policy/explain` asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// As a Pod names them.
    pub images: Vec<String>,
    /// `default` when nothing is said.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainDocument {
    /// Of the policy that decides; null when none is set, or it is a file.
    pub revision: Option<u64>,
    /// Where the images would run.
    pub namespace: String,
    /// In the order in which the images were named.
    pub decisions: Vec<DecisionDocument>,
    /// Whether the policy is the one that this node remembers, since no quorum confirmed it.
    #[serde(default)]
    pub stale: bool,
}

/// What is decided about an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionDocument {
    /// As it was named.
    pub image: String,
    /// As it is understood.
    pub name: String,
    /// `allow` or `deny`.
    pub verdict: String,
    /// `enforce`, `warn` or `audit`.
    pub mode: String,
    /// What decided, with its place and text.
    pub rule: String,
    /// The list that the rule is in, which one of it, and its pattern; null for rules that are in none.
    pub list: Option<String>,
    /// From 0.
    pub index: Option<usize>,
    /// As it is written.
    pub pattern: Option<String>,
    /// What to do, or why it is allowed.
    pub why: String,
    /// All of it in one sentence.
    pub message: String,
    /// What the rule requires beside the name and was not looked up: the image is allowed if all of it is so.
    pub unchecked: Vec<String>,
}

impl DecisionDocument {
    /// About what was named as `image`.
    pub fn new(image: &str, decision: &Decision, unchecked: Vec<String>) -> Self {
        let listed = decision.rule.listed();
        // What was not looked up is not said to be so.
        let why = match unchecked.as_slice() {
            [] => decision.why.clone(),
            needed => format!("if {}: this needs the registry", needed.join(", ")),
        };
        let decision = &Decision { why, ..decision.clone() };
        DecisionDocument {
            image: image.to_owned(),
            name: decision.image.clone(),
            verdict: decision.verdict.as_str().to_owned(),
            mode: decision.mode.as_str().to_owned(),
            rule: decision.rule.to_string(),
            list: listed.map(|listed| listed.list.to_string()),
            index: listed.map(|listed| listed.index),
            pattern: listed.map(|listed| listed.pattern.to_string()),
            why: decision.why.clone(),
            message: decision.sentence(None),
            unchecked,
        }
    }
}
