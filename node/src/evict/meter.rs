//! What was evicted, counted.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counts evicted files. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    blobs: Counter,
    bytes: Counter,
}

impl Meter {
    /// Shows the counters among the node's metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help =
            "Cached blobs that were taken from this node's disk to make room, or since nothing lists them";
        registry.register("trow_cache_evicted_blobs", help, self.blobs.clone());
        registry.register("trow_cache_evicted_bytes", "Their bytes", self.bytes.clone());
    }

    pub(super) fn evicted(&self, bytes: u64) {
        self.blobs.inc();
        self.bytes.inc_by(bytes);
    }
}
