//! What is measured at the moment somebody asks: consensus, placement, blobs and the disk.
//!
//! What is counted as it happens belongs to whoever does it (requests: the API; peer traffic: the
//! transport). Always holds: a scrape reads this node's own state and its file system, so its cost
//! does not depend on other nodes.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use trow_api::Replies;
use trow_raft::Metadata;

use crate::admin::audit;
use crate::copies::audit::Auditor;
use crate::peer::{Direction, Kind, Traffic};
use crate::replicated::Replicated;
use crate::store::Store;

/// Reads the node's figures at each scrape.
pub struct NodeMetrics {
    /// What the cluster agreed on.
    pub metadata: Metadata,
    /// This node's blobs.
    pub store: Store,
    /// Compares them with what should be here.
    pub auditor: Auditor,
    /// Bytes to and from peers.
    pub traffic: Traffic,
    /// The uploads that are open here.
    pub blobs: Replicated,
    /// What is kept in memory of manifests.
    pub replies: Replies,
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
        let fsyncs = ConstCounter::new(raft.log_fsyncs);
        let descriptor =
            out.encode_descriptor("trow_raft_log_fsyncs", "fsyncs of the log", None, MetricType::Counter)?;
        fsyncs.encode(descriptor)?;
        let entries = ConstCounter::new(raft.applied_entries);
        let help = "Log entries applied to the state";
        entries.encode(out.encode_descriptor(
            "trow_raft_applied_entries",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let seconds = ConstCounter::new(raft.apply_time.as_secs_f64());
        let help = "Time spent applying log entries";
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
        gauge(&mut out, "trow_cache_bytes", "Bytes of blobs that are only cached", 0)?;
        let disk = self.store.disk();
        let kinds = [("total", disk.total), ("free", disk.free), ("blobs", disk.blobs)];
        labelled(&mut out, "trow_disk_bytes", "The file system of the data directory", "kind", &kinds)?;
        let uploads = self.blobs.figures();
        let roles = [("home", uploads.home), ("mirror", uploads.mirror)];
        labelled(&mut out, "trow_uploads", "Open uploads by what this node is to them", "role", &roles)?;
        gauge(&mut out, "trow_upload_bytes", "Bytes staged for open uploads", uploads.bytes)?;

        let hot = [("manifest", self.replies.figures()), ("blob", self.store.small_figures())];
        let help = "Reads that memory answered (hit) or did not (miss)";
        let mut encoder = out.encode_descriptor("trow_hot_cache_reads", help, None, MetricType::Counter)?;
        for (cache, figures) in hot {
            for (result, reads) in [("hit", figures.hits), ("miss", figures.misses)] {
                let labels = [("cache", cache), ("result", result)];
                ConstCounter::new(reads).encode(encoder.encode_family(&labels)?)?;
            }
        }
        let bytes = hot.map(|(cache, figures)| (cache, figures.bytes));
        labelled(&mut out, "trow_hot_cache_bytes", "Bytes kept in memory for reads", "cache", &bytes)?;

        let help = "Bytes to and from other nodes, inside TLS";
        let mut encoder = out.encode_descriptor("trow_peer_bytes", help, None, MetricType::Counter)?;
        for kind in Kind::ALL {
            for (name, direction) in [("in", Direction::In), ("out", Direction::Out)] {
                let labels = [("kind", kind.as_str()), ("direction", name)];
                let bytes = ConstCounter::new(self.traffic.bytes(kind, direction));
                bytes.encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
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
