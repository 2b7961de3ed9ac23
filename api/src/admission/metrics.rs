//! What is counted about admission: decisions by verdict and rule, and how long reviews take.
//!
//! Always holds: no label has a value that a review brings; rules are told apart by where they stand in the
//! policy, up to a bound. Never does: count by image, namespace or user.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::policy::Rule;

/// The counters of one node. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct AdmissionMetrics {
    decisions: Family<DecisionLabels, Counter>,
    seconds: Family<ReviewLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    verdict: &'static str,
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    webhook: &'static str,
}

/// What an image got.
pub(super) const VERDICTS: [&str; 4] = ["allow", "deny", "warn", "audit"];
/// The webhooks.
pub(super) const WEBHOOKS: [&str; 2] = ["validate", "mutate"];

impl AdmissionMetrics {
    /// Fresh counters, registered as `trow_admission_decisions_total` and `trow_admission_review_seconds`.
    /// `registry` has no prefix of its own.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = AdmissionMetrics {
            decisions: Family::default(),
            // 250 µs to about 8 s, doubling: API servers wait 10 s.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.00025, 2.0, 16))),
        };
        // What may be counted before there is a rule is there from 0.
        let early =
            VERDICTS.map(|verdict| (verdict, Rule::Default)).into_iter().chain([("allow", Rule::NotSet)]);
        for (verdict, rule) in early {
            drop(metrics.decisions.get_or_create(&DecisionLabels { verdict, rule: label(&rule) }));
        }
        for webhook in WEBHOOKS {
            drop(metrics.seconds.get_or_create(&ReviewLabels { webhook }));
        }
        let help = "Decisions on images, by what the image got and the rule of the policy that says so";
        registry.register("trow_admission_decisions", help, metrics.decisions.clone());
        let help = "Time from a review's head to its answer";
        registry.register("trow_admission_review_seconds", help, metrics.seconds.clone());
        metrics
    }

    pub(super) fn decided(&self, verdict: &'static str, rule: String) {
        self.decisions.get_or_create(&DecisionLabels { verdict, rule }).inc();
    }

    pub(super) fn reviewed(&self, webhook: &'static str, took: Duration) {
        self.seconds.get_or_create(&ReviewLabels { webhook }).observe(took.as_secs_f64());
    }
}

/// Rules of a list from this place on are counted together, so that a large policy makes no more series.
const PLACES: usize = 1000;

/// A rule as a label: `allow[3]`, `default`, `forbidTags`.
pub(super) fn label(rule: &Rule) -> String {
    match rule {
        Rule::Allow(listed) | Rule::Deny(listed) if listed.index < PLACES => {
            format!("{}[{}]", listed.list, listed.index)
        }
        Rule::Allow(listed) | Rule::Deny(listed) => format!("{}[{PLACES}+]", listed.list),
        other => other.kind().to_owned(),
    }
}
