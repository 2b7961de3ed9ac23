//! Points at which the planted program stands still, so that a fault meets it exactly there.
//!
//! The program's side is `node/src/standstill.rs`. Always holds: what is held is let go when the value is
//! dropped.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::{Cluster, Plan};

/// The points of one cluster, armed one at a time.
#[derive(Debug)]
pub struct Standstill {
    dir: tempfile::TempDir,
}

/// An armed point.
#[derive(Debug)]
pub struct Armed<'a> {
    stand: &'a Standstill,
    point: &'static str,
}

impl Standstill {
    /// None armed.
    pub fn new() -> Result<Self> {
        Ok(Standstill { dir: tempfile::tempdir()? })
    }

    /// `plan` with nodes that can be held here.
    pub fn plan(&self, plan: Plan) -> Plan {
        plan.env("TROW_STANDSTILL", &self.dir.path().display().to_string())
    }

    /// From now on whoever comes to `point` stands still.
    pub fn arm(&self, point: &'static str) -> Result<Armed<'_>> {
        self.clear();
        std::fs::write(self.dir.path().join(point), "")?;
        Ok(Armed { stand: self, point })
    }
}

impl Armed<'_> {
    /// Waits until `count` requests stand still; the process of each.
    ///
    /// # Errors
    /// It takes longer than `limit`: the point was not hit.
    pub async fn reached(&self, count: usize, limit: Duration) -> Result<Vec<u32>> {
        let until = Instant::now() + limit;
        loop {
            let here = self.here()?;
            if here.len() >= count {
                return Ok(here);
            }
            let point = self.point;
            ensure!(Instant::now() < until, "{} of {count} came to {point} within {limit:?}", here.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The processes that came here.
    fn here(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.stand.dir.path())? {
            let name = entry?.file_name();
            let mut parts = name.to_str().unwrap_or_default().split('.');
            if let (Some(point), Some(Ok(pid))) = (parts.next(), parts.next().map(str::parse::<u32>)) {
                found.extend((point == self.point).then_some(pid));
            }
        }
        Ok(found)
    }
}

impl Standstill {
    fn clear(&self) {
        for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.stand.clear();
    }
}

/// The index of the node that runs as `pid`.
pub fn node_of(cluster: &Cluster, pid: u32) -> Option<usize> {
    let is_it = |found: rustix::process::Pid| found.as_raw_nonzero().get() as u32 == pid;
    cluster.nodes.iter().position(|node| node.pid().is_some_and(is_it))
}
