//! Every metric that a node shows: name, kind, labels, and whether its value changes.
//!
//! Always holds: the list is complete; a test compares it with real pages in both directions, and
//! another one the dashboard, the alerts and their page with the list. No label has a value that
//! somebody outside can invent.

use std::collections::BTreeMap;

/// What values a label has.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A number, such as a status or a bucket's bound.
    Number,
    /// What the build says.
    Build,
    /// A registry: those that are configured, and a bounded number of others.
    Host,
    /// A rule of a policy: one of few kinds, or a place in one of its two lists up to a bound.
    Rule,
}

/// Whether a metric must be seen to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The scenario makes it change.
    Here,
    /// It says what this process is, and is constant by nature.
    Never,
    /// It changes only where a disk fills up, which the scenario does not wait for: a test beside what
    /// counts it sees it change.
    Elsewhere,
}

/// One family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The family's name: without `_total`, as the page describes it.
    pub name: &'static str,
    /// `counter`, `gauge`, `histogram`, `info`.
    pub kind: &'static str,
    /// Its labels, apart from a histogram's `le`.
    pub labels: &'static [(&'static str, Values)],
    /// Whether it must be seen to change.
    pub changes: Changes,
}

use Changes::{Elsewhere, Here, Never};
use Values::{Build, Host, Number, OneOf, Rule};

const fn metric(
    kind: &'static str,
    name: &'static str,
    labels: &'static [(&'static str, Values)],
    changes: Changes,
) -> Metric {
    Metric { name, kind, labels, changes }
}

const ROUTES: Values = OneOf(&[
    "base",
    "catalog",
    "extensions",
    "blob",
    "uploads",
    "upload",
    "manifest",
    "tags",
    "referrers",
    "admin",
    "validate",
    "mutate",
    "other",
]);
const VERDICTS: Values = OneOf(&["allow", "deny", "warn", "audit"]);
const METHODS: Values = OneOf(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"]);
const WAYS: Values = OneOf(&["in", "out"]);
const OUTCOMES: Values = OneOf(&["done", "refused", "too_large", "busy", "no_leader", "unknown"]);

/// All of them, by what they are about.
pub const METRICS: &[Metric] = &[
    metric(
        "counter",
        "trow_http_requests",
        &[("route", ROUTES), ("method", METHODS), ("code", Number)],
        Here,
    ),
    metric("histogram", "trow_http_request_seconds", &[("route", ROUTES), ("method", METHODS)], Here),
    metric("counter", "trow_blob_bytes", &[("direction", WAYS)], Here),
    metric("gauge", "trow_raft_term", &[], Here),
    metric("gauge", "trow_raft_applied_index", &[], Here),
    metric("gauge", "trow_raft_commit_index", &[], Here),
    metric("counter", "trow_raft_applied_entries", &[], Here),
    metric("counter", "trow_raft_apply_seconds", &[], Here),
    metric("gauge", "trow_raft_is_leader", &[], Here),
    metric("gauge", "trow_raft_quorum", &[], Here),
    metric("counter", "trow_raft_elections", &[], Here),
    metric("counter", "trow_raft_proposals", &[("outcome", OUTCOMES)], Here),
    metric("histogram", "trow_raft_proposal_seconds", &[], Here),
    metric("counter", "trow_raft_reads", &[], Here),
    metric("counter", "trow_raft_read_rounds", &[("result", OneOf(&["confirmed", "failed"]))], Here),
    metric("gauge", "trow_raft_log_bytes", &[], Here),
    metric("gauge", "trow_raft_purged_index", &[], Here),
    metric("counter", "trow_raft_log_fsyncs", &[], Here),
    metric("histogram", "trow_raft_log_fsync_seconds", &[], Here),
    metric("histogram", "trow_raft_checkpoint_seconds", &[], Here),
    metric("counter", "trow_raft_snapshots", &[("direction", WAYS)], Here),
    metric("counter", "trow_raft_snapshot_bytes", &[("direction", WAYS)], Here),
    metric("counter", "trow_raft_installs", &[], Here),
    metric("gauge", "trow_members", &[("state", OneOf(&["up", "down", "joining", "draining"]))], Here),
    metric("gauge", "trow_partitions", &[("state", OneOf(&["ready", "moving"]))], Here),
    metric("gauge", "trow_durable_blobs", &[], Here),
    metric("gauge", "trow_durable_blob_bytes", &[], Here),
    metric("gauge", "trow_under_replicated_blobs", &[], Here),
    metric("gauge", "trow_away_blobs", &[], Here),
    metric("gauge", "trow_lost_blobs", &[], Here),
    metric("counter", "trow_damaged_blobs", &[], Here),
    metric("gauge", "trow_repair_queue_blobs", &[], Here),
    metric("counter", "trow_repair_fetches", &[("result", OneOf(&["done", "failed"]))], Here),
    metric("counter", "trow_repair_bytes", &[], Here),
    metric(
        "counter",
        "trow_hot_cache_reads",
        &[("cache", OneOf(&["manifest", "blob"])), ("result", OneOf(&["hit", "miss"]))],
        Here,
    ),
    metric("gauge", "trow_hot_cache_bytes", &[("cache", OneOf(&["manifest", "blob"]))], Here),
    metric("gauge", "trow_uploads", &[("role", OneOf(&["home", "mirror"]))], Here),
    metric("gauge", "trow_upload_bytes", &[], Here),
    metric("gauge", "trow_uploads_used_ratio", &[], Here),
    metric("gauge", "trow_cache_bytes", &[], Here),
    metric(
        "counter",
        "trow_cache_tag_checks",
        &[("result", OneOf(&["same", "moved", "gone", "failed"]))],
        Here,
    ),
    metric(
        "counter",
        "trow_cache_manifest_answers",
        &[("result", OneOf(&["given", "stale", "missing", "refused", "unavailable"]))],
        Here,
    ),
    metric("gauge", "trow_cache_fills_in_flight", &[], Here),
    metric("counter", "trow_cache_fills", &[("result", OneOf(&["kept", "passed", "failed"]))], Here),
    metric(
        "counter",
        "trow_cache_blob_reads",
        &[("source", OneOf(&["here", "shared", "fill", "straight", "durable", "peer"]))],
        Here,
    ),
    metric("counter", "trow_cache_records", &[("result", OneOf(&["recorded", "dropped", "failed"]))], Here),
    metric(
        "counter",
        "trow_upstream_requests",
        &[
            ("host", Host),
            ("method", OneOf(&["GET", "HEAD"])),
            ("kind", OneOf(&["manifest", "blob", "token", "tags", "referrers"])),
            ("code", Number),
        ],
        Here,
    ),
    metric("gauge", "trow_upstream_requests_in_flight", &[("host", Host)], Here),
    metric("gauge", "trow_upstream_ratelimit_limit", &[("host", Host)], Here),
    metric("gauge", "trow_upstream_ratelimit_remaining", &[("host", Host)], Here),
    metric("counter", "trow_cache_evicted_blobs", &[], Elsewhere),
    metric("counter", "trow_cache_evicted_bytes", &[], Elsewhere),
    metric("gauge", "trow_disk_bytes", &[("kind", OneOf(&["total", "free", "blobs"]))], Here),
    metric(
        "counter",
        "trow_peer_bytes",
        &[("kind", OneOf(&["raft", "control", "blob"])), ("direction", WAYS)],
        Here,
    ),
    metric("gauge", "trow_tls_certificate_expiry_timestamp_seconds", &[], Here),
    metric("counter", "trow_admission_decisions", &[("verdict", VERDICTS), ("rule", Rule)], Here),
    metric(
        "histogram",
        "trow_admission_review_seconds",
        &[("webhook", OneOf(&["validate", "mutate"]))],
        Here,
    ),
    metric("gauge", "trow_webhook_certificate_expiry_timestamp_seconds", &[], Here),
    metric("gauge", "trow_webhook_ca_expiry_timestamp_seconds", &[], Here),
    metric("gauge", "trow_peer_certificate_expiry_timestamp_seconds", &[], Here),
    metric("info", "trow_build", &[("version", Build), ("revision", Build)], Never),
    metric("counter", "process_cpu_seconds", &[], Here),
    metric("gauge", "process_resident_memory_bytes", &[], Here),
    metric("gauge", "process_virtual_memory_bytes", &[], Here),
    metric("gauge", "process_threads", &[], Here),
    metric("gauge", "process_open_fds", &[], Here),
    metric("gauge", "process_max_fds", &[], Never),
    metric("gauge", "process_start_time_seconds", &[], Here),
];

impl Metric {
    /// The names of its samples, as a query writes them.
    pub fn samples(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind {
            "counter" => &["_total"],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name)).collect()
    }

    /// What is wrong with the labels of one of its samples.
    pub fn judge(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let histogram = [("le", Number)];
        let more = if self.kind == "histogram" { &histogram[..] } else { &[] };
        let allowed: BTreeMap<&str, Values> = self.labels.iter().chain(more).copied().collect();
        let strange = labels.iter().find(|(key, value)| match allowed.get(key.as_str()) {
            Some(OneOf(values)) => !values.contains(&value.as_str()),
            Some(Number) => value.parse::<f64>().is_err(),
            Some(Build | Host) => value.is_empty(),
            Some(Rule) => !is_rule(value),
            None => true,
        });
        if let Some((key, value)) = strange {
            return Some(format!("{} has {key}={value:?}", self.name));
        }
        let missing = self.labels.iter().find(|(key, _)| !labels.contains_key(*key));
        missing.map(|(key, _)| format!("{} lacks the label {key}", self.name))
    }
}

/// `allow[0]`, or a kind of rule that no list has.
fn is_rule(value: &str) -> bool {
    let kinds = ["default", "forbidTags", "requireDigest", "notSet", "unreadable", "noQuorum"];
    let place = ["allow[", "deny["].iter().find_map(|list| value.strip_prefix(list)?.strip_suffix(']'));
    kinds.contains(&value) || place.is_some_and(|n| n.trim_end_matches('+').parse::<u32>().is_ok())
}
