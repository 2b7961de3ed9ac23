//! What is counted about consensus as it happens, for the metrics endpoint.
//!
//! Always holds: labels come from fixed sets, so the number of series does not grow with what is
//! stored; counting never waits. Never does: what can be read when somebody asks (see
//! [`Metrics`](crate::Metrics)).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::command::{Applied, Outcome};
use crate::metadata::ProposeError;

/// The counters of one node. Cheap to clone; clones count together.
#[derive(Clone)]
pub(crate) struct Meter {
    elections: Counter,
    proposals: Family<OutcomeLabel, Counter>,
    proposal_seconds: Histogram,
    reads: Counter,
    rounds: Family<ResultLabel, Counter>,
    snapshots: Family<DirectionLabel, Counter>,
    snapshot_bytes: Family<DirectionLabel, Counter>,
    checkpoint_seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// Which way a snapshot went, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Way {
    fn label(self) -> DirectionLabel {
        DirectionLabel { direction: if self == Way::In { "in" } else { "out" } }
    }
}

const OUTCOMES: [&str; 6] = ["done", "refused", "too_large", "busy", "no_leader", "unknown"];

/// 1 ms to about 33 s, doubling.
fn calls() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// 100 µs to about 3 s, doubling.
pub(crate) fn syncs() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

impl Default for Meter {
    fn default() -> Self {
        let meter = Meter {
            elections: Counter::default(),
            proposals: Family::default(),
            proposal_seconds: calls(),
            reads: Counter::default(),
            rounds: Family::default(),
            snapshots: Family::default(),
            snapshot_bytes: Family::default(),
            checkpoint_seconds: calls(),
        };
        // From 0 at the start, so that a rate is seen from the first one.
        for outcome in OUTCOMES {
            drop(meter.proposals.get_or_create(&OutcomeLabel { outcome }));
        }
        for result in ["confirmed", "failed"] {
            drop(meter.rounds.get_or_create(&ResultLabel { result }));
        }
        for way in [Way::In, Way::Out] {
            drop(meter.snapshots.get_or_create(&way.label()));
            drop(meter.snapshot_bytes.get_or_create(&way.label()));
        }
        meter
    }
}

impl Meter {
    /// A leader took office.
    pub(crate) fn elected(&self) {
        self.elections.inc();
    }

    /// A command of this node came to its end.
    pub(crate) fn proposed(&self, result: &Result<Applied, ProposeError>, took: Duration) {
        let outcome = match result {
            Ok(Applied { outcome: Outcome::Done, .. }) => "done",
            Ok(Applied { outcome: Outcome::Refused(_), .. })
            | Err(ProposeError::Level { .. } | ProposeError::Refused(_)) => "refused",
            Err(ProposeError::TooLarge(_)) => "too_large",
            Err(ProposeError::Busy) => "busy",
            Err(ProposeError::NoLeader) => "no_leader",
            Err(ProposeError::Unknown(_)) => "unknown",
        };
        self.proposals.get_or_create(&OutcomeLabel { outcome }).inc();
        self.proposal_seconds.observe(took.as_secs_f64());
    }

    /// A round for `reads` reads was confirmed by a quorum, or not.
    pub(crate) fn round(&self, confirmed: bool, reads: usize) {
        let result = if confirmed { "confirmed" } else { "failed" };
        self.rounds.get_or_create(&ResultLabel { result }).inc();
        self.reads.inc_by(reads as u64);
    }

    /// Bytes of a snapshot went over the network.
    pub(crate) fn snapshot_bytes(&self, way: Way, bytes: usize) {
        self.snapshot_bytes.get_or_create(&way.label()).inc_by(bytes as u64);
    }

    /// A snapshot was transferred and became the state of its receiver.
    pub(crate) fn snapshot(&self, way: Way) {
        self.snapshots.get_or_create(&way.label()).inc();
    }

    /// The state was made durable.
    pub(crate) fn checkpoint(&self, took: Duration) {
        self.checkpoint_seconds.observe(took.as_secs_f64());
    }

    /// Shows all of it. `registry` has no prefix of its own.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let this = self.clone();
        registry.register("trow_raft_elections", "Leaders that this node saw take office", this.elections);
        let help = "Commands that this node proposed, by what came of them";
        registry.register("trow_raft_proposals", help, this.proposals);
        let help = "Time from a proposal to its outcome, waiting for a leader included";
        registry.register("trow_raft_proposal_seconds", help, this.proposal_seconds);
        let help = "Reads that a quorum was asked to confirm; many share a round";
        registry.register("trow_raft_reads", help, this.reads);
        let help = "Rounds of ReadIndex that this node began";
        registry.register("trow_raft_read_rounds", help, this.rounds);
        let help = "Snapshots of the state that became that of a member, or this node's";
        registry.register("trow_raft_snapshots", help, this.snapshots);
        let help = "Bytes of snapshots sent and received";
        registry.register("trow_raft_snapshot_bytes", help, this.snapshot_bytes);
        let help = "Time that it took to make the state durable";
        registry.register("trow_raft_checkpoint_seconds", help, this.checkpoint_seconds);
    }
}
