//! The counters of a node's ops listener, before and after.

use http::{Method, StatusCode};
use serde::Serialize;

use super::BenchError;
use super::connection::Ask;
use super::target::Address;

/// What a node had counted at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    /// fsyncs of the log.
    pub(super) fsyncs: f64,
    /// Seconds spent applying entries.
    pub(super) apply_seconds: f64,
    /// Entries that were applied.
    pub(super) applied: f64,
}

/// What a node spent on the work of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Spent {
    /// Its ops listener.
    pub ops: String,
    /// fsyncs of its log, by operation.
    pub fsyncs_per_operation: f64,
    /// Microseconds for applying one entry; null when none was applied.
    pub apply_us_per_entry: Option<f64>,
}

impl Counters {
    /// What the nodes behind these ops listeners have counted.
    pub(super) async fn read(ops: &[Address]) -> Result<Vec<Counters>, BenchError> {
        let mut all = Vec::with_capacity(ops.len());
        for address in ops {
            all.push(read(address).await?);
        }
        Ok(all)
    }

    pub(super) fn add(&mut self, before: &Counters, after: &Counters) {
        self.fsyncs += after.fsyncs - before.fsyncs;
        self.apply_seconds += after.apply_seconds - before.apply_seconds;
        self.applied += after.applied - before.applied;
    }

    /// What was spent on each of `operations`.
    pub(super) fn spent(&self, ops: &Address, operations: u64) -> Spent {
        Spent {
            ops: ops.url(),
            fsyncs_per_operation: self.fsyncs / (operations.max(1) as f64),
            apply_us_per_entry: (self.applied > 0.0).then(|| self.apply_seconds * 1e6 / self.applied),
        }
    }
}

async fn read(address: &Address) -> Result<Counters, BenchError> {
    let wrong = |why: String| BenchError::Prepare { url: address.url(), what: "read its metrics", why };
    let mut connection = address.connect().await?;
    let reply = connection.fetch(Ask::new(Method::GET, "/metrics")).await;
    let reply = reply.map_err(|error| wrong(error.to_string()))?;
    if reply.status != StatusCode::OK {
        return Err(wrong(reply.status.to_string()));
    }
    parse(&String::from_utf8_lossy(&reply.body))
        .ok_or_else(|| wrong("they are not those of a node of Trow".to_owned()))
}

fn parse(text: &str) -> Option<Counters> {
    let number = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse::<f64>().ok()
    };
    Some(Counters {
        fsyncs: number("trow_raft_log_fsyncs_total")?,
        apply_seconds: number("trow_raft_apply_seconds_total")?,
        applied: number("trow_raft_applied_entries_total")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_among_others() {
        let text = "# TYPE trow_raft_log_fsyncs counter\ntrow_raft_log_fsyncs_total 12\n\
                    trow_raft_apply_seconds_total 0.5\ntrow_raft_applied_entries_total 1000\nother 1\n";
        let found = parse(text).unwrap();
        assert_eq!(found, Counters { fsyncs: 12.0, apply_seconds: 0.5, applied: 1000.0 });
        assert_eq!(parse("go_goroutines 8\n"), None);
    }
}
