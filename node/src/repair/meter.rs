//! What is counted about repair.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::fetch::Fetched;
use super::limit::Limit;

/// The counters of one node's repair. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Meter {
    limit: Arc<Limit>,
    pub(super) queue: Gauge,
    fetches: Family<ResultLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl Meter {
    pub(super) fn new(limit: Arc<Limit>) -> Meter {
        let meter = Meter { limit, queue: Gauge::default(), fetches: Family::default() };
        for result in ["done", "failed"] {
            drop(meter.fetches.get_or_create(&ResultLabel { result }));
        }
        meter
    }

    pub(super) fn fetched(&self, fetched: Fetched) {
        let result = if fetched == Fetched::Done { "done" } else { "failed" };
        self.fetches.get_or_create(&ResultLabel { result }).inc();
    }

    /// Shows all of it. `registry` has no prefix of its own.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Blobs that this node knows it lacks and fetches from others";
        registry.register("trow_repair_queue_blobs", help, self.queue.clone());
        let help = "Blobs that repair tried to fetch, by what came of it";
        registry.register("trow_repair_fetches", help, self.fetches.clone());
        registry.register("trow_repair_bytes", "Bytes that repair fetched from others", self.limit.taken());
    }
}
