//! One decision for each image of a review.
//!
//! Always holds: an image is judged by what it stands for, and a name that escapes a rule only by its spelling is
//! denied by that rule; what a rule requires is found out for all images at once, within one deadline. Never does:
//! answer a review.

use futures::{StreamExt, stream};
use tokio::time::Instant;
use trow_raft::StateError;

use super::facts::{Of, Sources};
use super::gate::Standing;
use super::images::Named;
use super::names::{Meant, Names};
use crate::policy::{Decision, Facts, Policy, Rule, Verdict};
use crate::pull::{ImageName, InvalidImage};

/// Images of a review whose facts are found out at the same time.
pub(super) const AT_ONCE: usize = 8;

/// What decisions are made from.
pub(super) struct Judge {
    pub(super) names: Names,
    pub(super) sources: Sources,
}

/// Where a decision is made.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) standing: &'a Standing,
    pub(super) namespace: &'a str,
    /// Names of this registry that the settings do not have.
    pub(super) others: &'a [String],
    pub(super) deadline: Instant,
}

impl Judge {
    /// Decides about every image, in the order given.
    pub(super) async fn decide(&self, case: Case<'_>, images: &[Named]) -> Vec<Decision> {
        let decisions: Vec<_> = images.iter().map(|named| self.one(case, &named.image)).collect();
        stream::iter(decisions).buffered(AT_ONCE).collect().await
    }

    async fn one(&self, case: Case<'_>, text: &str) -> Decision {
        let Case { standing, namespace, others, deadline } = case;
        let policy = &*standing.policy;
        let meant = match self.meant(text, others) {
            Ok((_, meant)) => meant,
            Err(invalid) => return policy.decide_unreadable(&invalid, namespace),
        };
        if let Some(denial) = denied_as_spelled(policy, namespace, &meant) {
            return denial;
        }
        let (decision, needs) = policy.decide_by_name(&meant.judged, namespace);
        if needs.is_empty() {
            return decision;
        }
        let facts = self
            .sources
            .find(Of { image: &meant.judged, whose: &meant.whose }, standing, &needs, deadline)
            .await;
        policy.decide(&meant.judged, namespace, &facts)
    }

    /// Whether the name alone lets the image run, so that it is worth being looked up.
    pub(super) fn may_run(&self, case: Case<'_>, meant: &Meant) -> bool {
        let policy = &*case.standing.policy;
        let (decision, _) = policy.decide_by_name(&meant.judged, case.namespace);
        // A digest is what a mutation brings.
        let by_name = decision.verdict == Verdict::Allow || matches!(decision.rule, Rule::RequireDigest(_));
        by_name && denied_as_spelled(policy, case.namespace, meant).is_none()
    }

    /// An image as it is written, and what it stands for.
    pub(super) fn meant(&self, text: &str, others: &[String]) -> Result<(ImageName, Meant), InvalidImage> {
        let name: ImageName = text.parse()?;
        let meant = self.names.meant(&name, others).map_err(|why| InvalidImage::new(text, why))?;
        Ok((name, meant))
    }

    /// Under which names, besides those of the settings, this registry may be called in one of these images: where
    /// its members say that clients find them, and the mirror of the policy.
    pub(super) fn others(&self, policy: &Policy, images: &[Named]) -> Result<Vec<String>, StateError> {
        let mut others: Vec<String> = policy.mutate().mirror.iter().map(ToString::to_string).collect();
        // An address without a port is no listener of ours.
        if images.iter().any(|named| named.image.contains(':')) {
            let members = self.sources.metadata.local().members()?;
            others.extend(members.into_iter().map(|member| member.client).filter(|at| !at.is_empty()));
        }
        Ok(others)
    }
}

/// What denies one of the image's other names.
pub(super) fn denied_as_spelled(policy: &Policy, namespace: &str, meant: &Meant) -> Option<Decision> {
    meant.spellings.iter().find_map(|name| {
        let decision = policy.decide(name, namespace, &Facts::default());
        matches!(decision.rule, Rule::Deny(_)).then_some(decision)
    })
}
