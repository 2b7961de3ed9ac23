//! `policy`: which images run, as the cluster agrees, and what it decides about an image.
//!
//! Always holds: what is set was read before, so that every node can; a change that names a revision replaces that
//! one; what no quorum confirmed is marked. Never does: judge what is reviewed; the webhooks do.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::Uri;
use serde::Deserialize;
use trow_api::policy::{self, Invalid, LENGTH_MAX, Policy};
use trow_raft::metadata::View;
use trow_raft::{Command, Outcome, ProposeError, Refusal};

use super::cache::query;
use super::document::policy::{
    DecisionDocument, ExplainDocument, ExplainRequest, PolicyDocument, PolicySetDocument,
};
use super::{ACTOR, Admin, AdminError, CONFIRM, NO_QUORUM, SPREAD, accepted, logged};

/// The most that is read of a question.
const REQUEST: usize = 1 << 20;
/// The most images of one.
const IMAGES: usize = 1000;
/// How long is looked for what rules require of images.
const FACTS: Duration = Duration::from_secs(10);

/// What must be replaced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    revision: Option<u64>,
}

impl Admin {
    /// What is agreed, and whether no quorum confirmed that it still is.
    async fn known(&self) -> (View, bool) {
        match self.metadata.read(CONFIRM).await {
            Ok(view) => (view, false),
            Err(_) => (self.metadata.local(), true),
        }
    }

    /// The policy.
    pub(super) async fn policy(&self) -> Result<PolicyDocument, AdminError> {
        let (view, stale) = self.known().await;
        let Some(row) = view.policy()? else {
            return Ok(PolicyDocument { stale, ..PolicyDocument::default() });
        };
        let text = String::from_utf8_lossy(&row.document).into_owned();
        let warnings = match Policy::parse(&text) {
            Ok(policy) => self.explainer.warnings(&policy)?,
            Err(invalid) => unreadable(invalid),
        };
        Ok(PolicyDocument { revision: Some(row.revision), document: Some(text), warnings, stale })
    }

    /// Replaces the policy; that of the revision which the query names, if it names one.
    pub(super) async fn set_policy(&self, uri: &Uri, body: Body) -> Result<Response, AdminError> {
        let base = query::<Base>(uri)?.revision;
        let text = read(body, "a policy", LENGTH_MAX).await?;
        let converted = policy::convert(&text).map_err(AdminError::Policy)?;
        let (document, converted) = match converted {
            Some(document) => (document, true),
            None => (text, false),
        };
        let policy = Policy::parse(&document).map_err(AdminError::Policy)?;
        // Before it is set: whoever is told of an error is to take it for not set.
        let warnings = self.explainer.warnings(&policy)?;
        let command = Command::SetPolicy { base, document: document.into() };
        let applied = self.metadata.propose(ACTOR, command).await.map_err(not_set)?;
        if let (Some(base), Outcome::Refused(Refusal::RevisionDiffers { current })) = (base, &applied.outcome)
        {
            return Err(AdminError::Conflict(differs(base, *current)));
        }
        let applied = accepted(applied)?;
        self.metadata.wait_applied_everywhere(applied.index, SPREAD).await;
        tracing::info!(revision = applied.index, warnings = warnings.len(), "the policy was set");
        let log_id = applied.index;
        Ok(logged(PolicySetDocument { revision: log_id, converted, warnings, log_id }, &applied))
    }

    /// What the policy decides about images.
    pub(super) async fn explain(&self, body: Body) -> Result<ExplainDocument, AdminError> {
        let text = read(body, "a question", REQUEST).await?;
        let asked: ExplainRequest =
            serde_json::from_str(&text).map_err(|error| AdminError::BadRequest(error.to_string()))?;
        if asked.images.is_empty() || asked.images.len() > IMAGES {
            let why = format!("between 1 and {IMAGES} images can be asked about at once");
            return Err(AdminError::BadRequest(why));
        }
        let (view, stale) = self.known().await;
        let row = view.policy()?;
        let policy = match &row {
            Some(row) => {
                Policy::parse(&String::from_utf8_lossy(&row.document)).map_err(AdminError::Policy)?
            }
            None => Policy::allow_all(),
        };
        let namespace = asked.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let revision = row.map(|row| row.revision);
        let decided = self.explainer.decide(policy, revision, &namespace, &asked.images, FACTS).await?;
        let decisions = asked.images.iter().zip(&decided);
        let decisions = decisions.map(|(image, decision)| DecisionDocument::new(image, decision, Vec::new()));
        Ok(ExplainDocument { revision, namespace, decisions: decisions.collect(), stale })
    }
}

/// Where images run of which nobody says where.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Why a policy was not set, or is not known to be.
fn not_set(error: ProposeError) -> AdminError {
    let unavailable = |why: String| AdminError::Unavailable(why);
    match error {
        ProposeError::NoLeader => {
            unavailable(format!("the policy was not set: {NO_QUORUM}, then set it again"))
        }
        ProposeError::Busy => unavailable(format!("the policy was not set: {error}; try again")),
        ProposeError::Unknown(why) => unavailable(format!(
            "nobody knows whether the policy was set: {why}. `trow policy get` says it once there is a quorum again; \
             to set the same policy once more does no harm, and with the revision that it replaces it is refused if \
             the first attempt took effect"
        )),
        other => other.into(),
    }
}

fn unreadable(invalid: Vec<Invalid>) -> Vec<String> {
    invalid.iter().map(|invalid| format!("this version cannot read it: {invalid}")).collect()
}

fn differs(base: u64, current: u64) -> String {
    match (base, current) {
        (_, 0) => format!("there is no policy yet, and revision {base} was to be replaced: name revision 0"),
        (0, _) => format!("there is a policy, of revision {current}: look at it, and name that revision"),
        _ => format!(
            "the policy has revision {current} now, not {base}: look at what changed, and name that revision"
        ),
    }
}

/// A body of text, within bounds.
async fn read(body: Body, what: &str, limit: usize) -> Result<String, AdminError> {
    let bad = |why: String| AdminError::BadRequest(format!("the request cannot be read: {why}"));
    let (mut pieces, mut bytes) = (body.into_data_stream(), Vec::new());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| bad(error.to_string()))?;
        if bytes.len() + piece.len() > limit {
            return Err(AdminError::TooLarge(format!("{what} has at most {limit} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8".to_owned()))
}
