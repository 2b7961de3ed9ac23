//! The parts of a snapshot that is being received, and how fast they must come.

use std::time::Duration;

use tonic::{Status, Streaming};

use crate::proto::raft as pb;
use crate::proto::raft::snapshot_part::Part;

/// A transfer that brings fewer bytes in this time makes no progress, unless it ends.
pub(super) const IDLE: Duration = Duration::from_secs(60);
const PROGRESS: usize = 1 << 20;

/// The parts, as long as they come fast enough.
pub(super) struct Parts {
    stream: Streaming<pb::SnapshotPart>,
    until: tokio::time::Instant,
    /// Bytes since the time was set.
    progress: usize,
}

impl Parts {
    pub(super) fn new(stream: Streaming<pb::SnapshotPart>) -> Parts {
        Parts { stream, until: tokio::time::Instant::now() + IDLE, progress: 0 }
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, Status> {
        let Ok(part) = tokio::time::timeout_at(self.until, self.stream.message()).await else {
            return Err(Status::deadline_exceeded("the snapshot makes no progress"));
        };
        let part = part?.and_then(|part| part.part);
        if let Some(Part::Data(data)) = &part {
            self.progress += data.len();
            if self.progress >= PROGRESS {
                self.progress = 0;
                self.until = tokio::time::Instant::now() + IDLE;
            }
        }
        Ok(part)
    }

    /// Time that this node took is not the sender's.
    pub(super) fn waited(&mut self, time: Duration) {
        self.until += time;
    }
}
