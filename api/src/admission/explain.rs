//! The decisions of a review, for whoever asks about images over HTTP.
//!
//! Always holds: they are made as for a review that is a dry run, facts included, by the policy that is given. Never
//! does: count them, or leave an event of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trow_raft::{Metadata, StateError};

use super::facts::Sources;
use super::gate::Standing;
use super::images::{Bearer, Named};
use super::judge::{Case, Judge};
use super::names::Names;
use super::through;
use crate::blobs::Blobs;
use crate::policy::{Decision, Policy};
use crate::pull::{Prefixes, Upstreams};
use crate::signature::{Purpose, Verifier};

/// Decides about images that nobody runs yet. Cheap to clone.
#[derive(Clone)]
pub struct Explainer(Arc<Judge>);

impl Explainer {
    /// Over the same sources as the webhooks, and the same names of ours.
    pub fn new(
        metadata: Metadata,
        blobs: Arc<dyn Blobs>,
        upstreams: Arc<dyn Upstreams>,
        hostnames: &[String],
        prefixes: &Prefixes,
    ) -> Explainer {
        let signatures = Verifier::new(metadata.clone(), blobs.clone(), upstreams.clone());
        let sources = Sources { metadata, blobs, upstreams, signatures };
        Explainer(Arc::new(Judge { names: Names::new(hostnames, prefixes), sources }))
    }

    /// What is odd about `policy`, and what is where this registry has the names that it has.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn warnings(&self, policy: &Policy) -> Result<Vec<String>, StateError> {
        let through = through::warnings(&self.0.names, policy, &self.0.others(policy)?);
        Ok(policy.warnings().iter().cloned().chain(through).collect())
    }

    /// What `policy`, of this revision, decides about each of these images in a namespace; what is not found out
    /// within `limit` is unknown.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn decide(
        &self,
        policy: Policy,
        revision: Option<u64>,
        namespace: &str,
        images: &[String],
        limit: Duration,
    ) -> Result<Vec<Decision>, StateError> {
        let standing = Standing { policy: Arc::new(policy), revision, stale: None };
        let named = |image: &String| Named {
            bearer: Bearer::Container,
            name: String::new(),
            image: image.clone(),
            pointer: String::new(),
        };
        let images: Vec<Named> = images.iter().map(named).collect();
        let others = self.0.others(&standing.policy)?;
        let deadline = Instant::now() + limit;
        let purpose = Purpose::Try;
        let case = Case { standing: &standing, namespace, others: &others, purpose, deadline };
        Ok(self.0.decide(case, &images).await)
    }
}
