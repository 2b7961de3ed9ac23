//! What the cache counts about manifests.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use trow_api::pull::{PullError, Pulled};

/// What came of asking an upstream where a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Where it was.
    Same,
    /// Elsewhere, or it is new here.
    Moved,
    /// Nowhere.
    Gone,
    /// Nothing.
    Failed,
}

/// What came of recording what was cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The state has it.
    Stored,
    /// Somebody else moved the tag meanwhile.
    Dropped,
    /// Nothing.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

const CHECKED: [&str; 4] = ["same", "moved", "gone", "failed"];
const ANSWERED: [&str; 5] = ["given", "stale", "missing", "refused", "unavailable"];
const RECORDED: [&str; 3] = ["recorded", "dropped", "failed"];

/// The counters. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Meter {
    checks: Family<Labels, Counter>,
    answers: Family<Labels, Counter>,
    records: Family<Labels, Counter>,
}

impl Default for Meter {
    fn default() -> Meter {
        let from_zero = |results: &[&'static str]| {
            let family = Family::<Labels, Counter>::default();
            for result in results {
                drop(family.get_or_create(&Labels { result }));
            }
            family
        };
        Meter { checks: from_zero(&CHECKED), answers: from_zero(&ANSWERED), records: from_zero(&RECORDED) }
    }
}

impl Meter {
    /// Shows them at each scrape.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Questions to upstream registries where a tag is, by what came of them";
        registry.register("trow_cache_tag_checks", help, self.checks.clone());
        let help = "Requests for manifests of upstream registries through this node, by what came of them";
        registry.register("trow_cache_manifest_answers", help, self.answers.clone());
        let help = "Manifests of upstream registries to be recorded in the state, by what came of it";
        registry.register("trow_cache_records", help, self.records.clone());
    }

    /// An upstream was asked where a tag is.
    pub fn checked(&self, what: Checked) {
        let result = match what {
            Checked::Same => "same",
            Checked::Moved => "moved",
            Checked::Gone => "gone",
            Checked::Failed => "failed",
        };
        self.checks.get_or_create(&Labels { result }).inc();
    }

    /// A client was answered.
    pub fn answered(&self, answer: &Result<Pulled, PullError>) {
        let result = match answer {
            Ok(pulled) if pulled.stale.is_some() => "stale",
            Ok(_) => "given",
            Err(PullError::NotFound | PullError::Offline) => "missing",
            Err(PullError::Denied(_) | PullError::LoginNeeded | PullError::Range { .. }) => "refused",
            Err(PullError::Unavailable { .. } | PullError::Bad(_) | PullError::Failed) => "unavailable",
        };
        self.answers.get_or_create(&Labels { result }).inc();
    }

    /// Something was to be recorded.
    pub fn recorded(&self, what: Recorded) {
        let result = match what {
            Recorded::Stored => "recorded",
            Recorded::Dropped => "dropped",
            Recorded::Failed => "failed",
        };
        self.records.get_or_create(&Labels { result }).inc();
    }
}
