//! What is counted about requests: by endpoint, method and status, never by name or digest.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The counters of one node. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    bytes_in: Counter,
    bytes_out: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

/// What the main endpoints count from the start, so that a rate is seen from the first request.
const FROM_ZERO: [(&str, &str, u16); 9] = [
    ("base", "GET", 200),
    ("blob", "GET", 200),
    ("blob", "HEAD", 200),
    ("manifest", "GET", 200),
    ("manifest", "HEAD", 200),
    ("manifest", "PUT", 201),
    ("tags", "GET", 200),
    ("uploads", "POST", 202),
    ("upload", "PUT", 201),
];

impl HttpMetrics {
    /// Fresh counters, registered as `trow_http_requests_total`, `trow_http_request_seconds` and
    /// `trow_blob_bytes_total`. `registry` has no prefix of its own.
    pub fn register(registry: &mut Registry) -> Self {
        let bytes = Family::<DirectionLabels, Counter<u64, AtomicU64>>::default();
        let direction = |direction| bytes.get_or_create_owned(&DirectionLabels { direction });
        let metrics = HttpMetrics {
            requests: Family::default(),
            // 1 ms to about 33 s, doubling.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            bytes_in: direction("in"),
            bytes_out: direction("out"),
        };
        for (route, method, code) in FROM_ZERO {
            drop(metrics.requests.get_or_create(&RequestLabels { route, method, code }));
            drop(metrics.seconds.get_or_create(&RouteLabels { route, method }));
        }
        registry.register(
            "trow_http_requests",
            "Requests answered, by endpoint, method and status",
            metrics.requests.clone(),
        );
        registry.register(
            "trow_http_request_seconds",
            "Time from a request's head to its reply's head",
            metrics.seconds.clone(),
        );
        registry.register("trow_blob_bytes", "Blob bytes from and to clients", bytes);
        metrics
    }

    pub(crate) fn observe(&self, route: &'static str, method: &http::Method, code: u16, took: Duration) {
        let method = method_label(method);
        self.requests.get_or_create(&RequestLabels { route, method, code }).inc();
        self.seconds.get_or_create(&RouteLabels { route, method }).observe(took.as_secs_f64());
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.inc_by(bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.inc_by(bytes as u64);
    }
}

/// A method a client invented must not become a label.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
