//! What is measured at the moment somebody asks: consensus, placement, blobs and the disk.
//!
//! What is counted as it happens belongs to whoever does it (requests: the API; peer traffic: the
//! transport). Always holds: a scrape reads this node's own state and its file system, so its cost
//! does not depend on other nodes.

pub mod process;

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use trow_api::Replies;
use trow_raft::metadata::View;
use trow_raft::{MemberState, Metadata};

use crate::admin::audit;
use crate::copies::audit::Auditor;
use crate::peer::{Direction, Kind, Peers};
use crate::replicated::{Limits, Replicated, UploadStats};
use crate::store::Store;

/// A member that said nothing for this long counts as down.
const SILENT: Duration = Duration::from_secs(2);

/// Registers what is known of the process before it has opened anything.
pub fn register_process(registry: &mut Registry) {
    let revision = option_env!("TROW_REVISION").unwrap_or("unknown");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("revision", revision)]);
    registry.register("trow_build", "The program that runs", build);
    registry.register_collector(Box::new(process::ProcessMetrics::new()));
}

/// Reads the node's figures at each scrape.
pub struct NodeMetrics {
    /// What the cluster agreed on.
    pub metadata: Metadata,
    /// This node's blobs.
    pub store: Store,
    /// Compares them with what should be here.
    pub auditor: Auditor,
    /// The other members, and bytes to and from them.
    pub peers: Peers,
    /// The uploads that are open here.
    pub blobs: Replicated,
    /// What is kept in memory of manifests.
    pub replies: Replies,
    /// How many may be.
    pub limits: Limits,
}

impl fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeMetrics").finish_non_exhaustive()
    }
}

impl Collector for NodeMetrics {
    fn encode(&self, mut out: DescriptorEncoder) -> Result<(), fmt::Error> {
        let raft = self.metadata.metrics();
        gauge(&mut out, "trow_raft_term", "The current term", raft.term)?;
        gauge(&mut out, "trow_raft_applied_index", "Log index applied here", raft.applied)?;
        gauge(&mut out, "trow_raft_commit_index", "Log index known to be committed", raft.committed)?;
        gauge(&mut out, "trow_raft_purged_index", "Log index up to which the log was cut", raft.purged)?;
        gauge(&mut out, "trow_raft_log_bytes", "Bytes of the log", raft.log_bytes)?;
        let installed = ConstCounter::new(raft.installed);
        let help = "Times the whole state was received and installed";
        installed.encode(out.encode_descriptor("trow_raft_installs", help, None, MetricType::Counter)?)?;
        let leadership = self.metadata.leadership();
        let leads = leadership.leader == Some(self.metadata.id());
        gauge(&mut out, "trow_raft_is_leader", "1 while this node leads", leads.into())?;
        let help = "1 while this node knows of a leader that a quorum follows";
        gauge(&mut out, "trow_raft_quorum", help, leadership.quorum.into())?;
        let fsyncs = ConstCounter::new(raft.log_fsyncs);
        let descriptor =
            out.encode_descriptor("trow_raft_log_fsyncs", "fsyncs of the log", None, MetricType::Counter)?;
        fsyncs.encode(descriptor)?;
        let entries = ConstCounter::new(raft.applied_entries);
        let help = "Log entries applied, in memory";
        entries.encode(out.encode_descriptor(
            "trow_raft_applied_entries",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let seconds = ConstCounter::new(raft.apply_time.as_secs_f64());
        let help = "Time spent applying log entries, in memory";
        seconds.encode(out.encode_descriptor(
            "trow_raft_apply_seconds",
            help,
            None,
            MetricType::Counter,
        )?)?;

        let view = self.metadata.local();
        // A state that cannot be read has ended the process elsewhere; a scrape then shows zeros.
        let partitions = view.partitions().unwrap_or_default();
        let ready = partitions.iter().filter(|partition| audit::is_settled(partition)).count();
        let states = [("ready", ready as u64), ("moving", (partitions.len() - ready) as u64)];
        labelled(
            &mut out,
            "trow_partitions",
            "Partitions by whether all owners are complete",
            "state",
            &states,
        )?;
        let missing = self.auditor.audit().map_or(0, |audit| audit.missing);
        gauge(
            &mut out,
            "trow_under_replicated_blobs",
            "Durable blobs that this node should have and lacks",
            missing,
        )?;
        let away = view.away_count().unwrap_or_default();
        gauge(&mut out, "trow_away_blobs", "Durable blobs that their owners do not have yet", away)?;
        let lost = view.lost_count().unwrap_or_default();
        gauge(&mut out, "trow_lost_blobs", "Blobs in use that no member holds", lost)?;
        let (durable, bytes) = view.blob_totals().unwrap_or_default();
        gauge(&mut out, "trow_durable_blobs", "Blobs that the cluster keeps, by digest", durable)?;
        gauge(&mut out, "trow_durable_blob_bytes", "Their bytes, each counted once", bytes)?;
        let damaged = ConstCounter::new(self.store.quarantined());
        let help = "Blobs that were found damaged on this node's disk";
        damaged.encode(out.encode_descriptor("trow_damaged_blobs", help, None, MetricType::Counter)?)?;
        labelled(&mut out, "trow_members", "Members as this node sees them", "state", &self.members(&view))?;
        let disk = self.store.disk();
        let kinds = [("total", disk.total), ("free", disk.free), ("blobs", disk.blobs)];
        labelled(&mut out, "trow_disk_bytes", "The file system of the data directory", "kind", &kinds)?;
        let cached = self.store.cached().bytes;
        gauge(&mut out, "trow_cache_bytes", "Bytes of cached blobs on this node's disk", cached)?;
        let uploads = self.blobs.stats();
        let roles = [("home", uploads.home), ("mirror", uploads.mirror)];
        labelled(&mut out, "trow_uploads", "Open uploads by what this node is to them", "role", &roles)?;
        gauge(&mut out, "trow_upload_bytes", "Bytes staged for open uploads", uploads.bytes)?;
        let help = "Share of what uploads.max_sessions and uploads.max_bytes allow, the larger of both";
        let descriptor = out.encode_descriptor("trow_uploads_used_ratio", help, None, MetricType::Gauge)?;
        ConstGauge::new(used(uploads, self.limits)).encode(descriptor)?;
        if let Some(expires) = self.peers.certificate_expires() {
            let name = "trow_peer_certificate_expiry_timestamp_seconds";
            let help =
                "When the certificate that this node shows to others expires, since 1970; renewed by itself";
            ConstGauge::new(expires).encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }

        let hot = [("manifest", self.replies.stats()), ("blob", self.store.small_stats())];
        let help = "Reads that memory answered (hit) or did not (miss)";
        let mut encoder = out.encode_descriptor("trow_hot_cache_reads", help, None, MetricType::Counter)?;
        for (cache, stats) in hot {
            for (result, reads) in [("hit", stats.hits), ("miss", stats.misses)] {
                let labels = [("cache", cache), ("result", result)];
                ConstCounter::new(reads).encode(encoder.encode_family(&labels)?)?;
            }
        }
        let bytes = hot.map(|(cache, stats)| (cache, stats.bytes));
        labelled(&mut out, "trow_hot_cache_bytes", "Bytes kept in memory for reads", "cache", &bytes)?;

        let help = "Bytes to and from other nodes, inside TLS";
        let mut encoder = out.encode_descriptor("trow_peer_bytes", help, None, MetricType::Counter)?;
        for kind in Kind::ALL {
            for (name, direction) in [("in", Direction::In), ("out", Direction::Out)] {
                let labels = [("kind", kind.as_str()), ("direction", name)];
                let bytes = ConstCounter::new(self.peers.traffic().bytes(kind, direction));
                bytes.encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl NodeMetrics {
    /// How many members there are, by what each is.
    fn members(&self, view: &View) -> [(&'static str, u64); 4] {
        let me = self.metadata.id();
        let heard = |node| node == me || self.peers.silence(node).is_some_and(|silence| silence < SILENT);
        let mut states = [("up", 0), ("down", 0), ("joining", 0), ("draining", 0)];
        for member in view.members().unwrap_or_default() {
            let state = match member.state {
                _ if !heard(member.id) => 1,
                MemberState::Active | MemberState::Retired => 0,
                MemberState::Joining => 2,
                MemberState::Draining => 3,
            };
            states[state].1 += 1;
        }
        states
    }
}

/// How much of what may be open and staged is.
fn used(uploads: UploadStats, limits: Limits) -> f64 {
    let share = |used: u64, most: u64| used as f64 / most.max(1) as f64;
    let sessions = share(uploads.home + uploads.mirror, limits.max_sessions as u64);
    sessions.max(share(uploads.bytes, limits.max_bytes))
}

fn gauge(out: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn labelled(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[(&'static str, u64)],
) -> fmt::Result {
    let mut encoder = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (value, number) in values {
        let labels = [(label, *value)];
        ConstGauge::new(*number).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}
