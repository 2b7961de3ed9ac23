//! What is counted of upstreams.
//!
//! Always holds: hosts that clients invent do not become labels without end. Never does: name repositories.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use trow_api::pull::Host;

use super::budget;

/// Hosts without settings of their own that are told apart.
const HOSTS_MAX: usize = 32;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// A token.
    Token,
    /// A list of tags.
    Tags,
    /// A list of referrers.
    Referrers,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Manifest => "manifest",
            Kind::Blob => "blob",
            Kind::Token => "token",
            Kind::Tags => "tags",
            Kind::Referrers => "referrers",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    host: String,
    method: &'static str,
    kind: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHost {
    host: String,
}

/// The counters.
#[derive(Default)]
pub(super) struct Meter {
    requests: Family<Labels, Counter>,
    flying: Family<OfHost, Gauge>,
    limit: Family<OfHost, Gauge>,
    remaining: Family<OfHost, Gauge>,
    named: Mutex<Named>,
}

#[derive(Default)]
struct Named {
    configured: BTreeSet<Host>,
    met: BTreeSet<Host>,
}

impl Meter {
    /// `trow_upstream_…`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests to upstream registries, redirects followed; code 0: no answer";
        registry.register("trow_upstream_requests", help, self.requests.clone());
        let help = "Requests to upstream registries that are on their way, bodies included";
        registry.register("trow_upstream_requests_in_flight", help, self.flying.clone());
        let help = "Requests that an upstream registry allows in its window, as it last said";
        registry.register("trow_upstream_ratelimit_limit", help, self.limit.clone());
        let help = "Those of them that are left, as it last said";
        registry.register("trow_upstream_ratelimit_remaining", help, self.remaining.clone());
    }

    /// Hosts with settings have a name here, and their main counts begin at 0.
    pub(super) fn configured(&self, hosts: impl Iterator<Item = Host>) {
        let configured: BTreeSet<Host> = hosts.collect();
        for host in &configured {
            for (method, kind) in [("HEAD", "manifest"), ("GET", "manifest"), ("GET", "blob")] {
                let labels = Labels { host: host.to_string(), method, kind, code: 200 };
                drop(self.requests.get_or_create(&labels));
            }
            drop(self.flying.get_or_create(&OfHost { host: host.to_string() }));
        }
        self.named.lock().unwrap_or_else(PoisonError::into_inner).configured = configured;
    }

    /// Counts a request that was answered, or not.
    pub(super) fn count(&self, host: &Host, kind: Kind, method: &Method, status: Option<StatusCode>) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            _ => "POST",
        };
        let code = status.map_or(0, |status| status.as_u16());
        self.requests
            .get_or_create(&Labels { host: self.label(host), method, kind: kind.as_str(), code })
            .inc();
    }

    /// Shows what an upstream says of its limits.
    pub(super) fn limits(&self, host: &Host, headers: &HeaderMap) {
        let gauges = [(&self.limit, budget::limit(headers)), (&self.remaining, budget::remaining(headers))];
        for (gauge, window) in gauges {
            if let Some(window) = window {
                let count = i64::try_from(window.count).unwrap_or(i64::MAX);
                gauge.get_or_create(&OfHost { host: self.label(host) }).set(count);
            }
        }
    }

    /// A request that is on its way until this is dropped.
    pub(super) fn flying(&self, host: &Host) -> Flying {
        let gauge = self.flying.get_or_create(&OfHost { host: self.label(host) }).clone();
        gauge.inc();
        Flying(gauge)
    }

    fn label(&self, host: &Host) -> String {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.configured.contains(host) || named.met.contains(host) {
            return host.to_string();
        }
        if named.met.len() >= HOSTS_MAX {
            return "other".to_owned();
        }
        named.met.insert(host.clone());
        host.to_string()
    }
}

/// A request on its way.
pub(super) struct Flying(Gauge);

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_clients_invent_are_not_told_apart_without_end() {
        let meter = Meter::default();
        meter.configured(["quay.io".parse().unwrap()].into_iter());
        let labels: BTreeSet<String> =
            (0..1000).map(|n| meter.label(&format!("h{n}.example").parse().unwrap())).collect();
        assert_eq!(labels.len(), HOSTS_MAX + 1);
        assert_eq!(meter.label(&"quay.io".parse().unwrap()), "quay.io");
        assert_eq!(meter.label(&"h0.example".parse().unwrap()), "h0.example");
    }
}
