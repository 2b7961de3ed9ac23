//! The decisions of a review, for whoever asks about images: over HTTP, or of a file and a name alone.
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
use super::judge::{Case, Judge, by_names};
use super::names::Names;
use crate::blobs::Blobs;
use crate::policy::{Decision, Needs, Policy};
use crate::pull::{ImageName, InvalidImage, Prefixes, Upstreams};
use crate::signature::{Purpose, Verifier};

/// What the name of an image decides where nothing can be looked up and this registry has no names, and what must be
/// so besides.
pub fn by_name(policy: &Policy, text: &str, namespace: &str) -> (Decision, Needs) {
    let meant = text.parse::<ImageName>().and_then(|name| {
        let meant = Names::new(&[], &Prefixes::default()).meant(&name, &[]);
        meant.map_err(|why| InvalidImage::new(text, why))
    });
    match meant {
        // Without names of ours nothing is required but by the name that is judged.
        Ok(meant) => {
            let (decision, required) = by_names(policy, namespace, &meant);
            (decision, required.into_iter().next().map(|(_, needs)| needs).unwrap_or_default())
        }
        Err(why) => (policy.decide_unreadable(&why, namespace), Needs::default()),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Verdict;

    #[test]
    fn a_name_alone_is_judged_as_a_review_judges_it() {
        let policy = Policy::parse(
            "version: 1\nallow: [{image: quay.io/**}, {image: ghcr.io/**, require: [exists]}]\ndeny: [{image: \"quay.io:443/bad\"}]",
        );
        let policy = policy.unwrap();
        for (image, verdict, needs) in [
            ("quay.io/a", Verdict::Allow, &[][..]),
            ("quay.io:443/a", Verdict::Allow, &[]),
            ("quay.io:443/bad", Verdict::Deny, &[]),
            ("quay.io:444/a", Verdict::Deny, &[]),
            ("ghcr.io/a", Verdict::Allow, &["exists"]),
            ("quay.io/A", Verdict::Deny, &[]),
        ] {
            let (decision, unchecked) = by_name(&policy, image, "default");
            assert_eq!(
                (decision.verdict, unchecked.words().as_slice()),
                (verdict, &needs.iter().map(|need| (*need).to_owned()).collect::<Vec<_>>()[..]),
                "{image}"
            );
        }
    }
}
