//! Receiving a snapshot: into a new file, its digest checked before consensus hears of it.
//!
//! openraft stops for good when an installation fails, so that everything a peer can get wrong
//! is found here: the digest is the sender's own, so the file is opened and looked at as well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openraft::storage::Snapshot;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tonic::{Status, Streaming};

use super::Metadata;
use super::service::forged;
use crate::consensus::disk::fatal;
use crate::consensus::incoming;
use crate::consensus::snapshot::SnapshotData;
use crate::consensus::types::{SnapshotMeta, Vote};
use crate::consensus::wire;
use crate::id::NodeId;
use crate::proto::raft as pb;
use crate::proto::raft::snapshot_part::Part;

/// Without a part for this long, the transfer has failed.
const IDLE: Duration = Duration::from_secs(60);

/// A file under construction; deleted unless it was taken.
struct Incoming {
    path: PathBuf,
    taken: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.taken {
            // What is left over is deleted at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Metadata {
    pub(super) async fn receive_snapshot(
        &self,
        peer: NodeId,
        mut parts: Streaming<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotReply, Status> {
        // One at a time: two would only fill the disk twice.
        let _turn = self.0.receiving.lock().await;
        let Some(Part::Header(header)) = next(&mut parts).await? else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        let (vote, meta) = incoming::snapshot(header).map_err(|error| forged(peer, &error))?;
        self.own_vote(peer, &vote)?;
        let mut incoming = Incoming { path: self.0.machine.scratch("incoming"), taken: false };
        self.receive_file(&incoming.path, &vote, &mut parts).await?;
        if self.would_follow(&vote) {
            self.vet_snapshot(peer, &incoming.path, &meta).await?;
        }
        // From here the file is consensus', even if the sender does not wait for the answer.
        incoming.taken = true;
        let reply = self.install(vote, meta, incoming.path.clone()).await;
        // It answers once the file is in its place, or when it turned it down: an old leader's,
        // or one behind what is committed here. Then the file is still where it was.
        incoming.taken = reply.is_err();
        reply
    }

    /// Consensus would install it, and end when that fails.
    async fn vet_snapshot(&self, peer: NodeId, path: &Path, meta: &SnapshotMeta) -> Result<(), Status> {
        let beyond = incoming::snapshot_beyond(self.known_committed(), meta.last_log_id);
        beyond.map_err(|error| forged(peer, &error))?;
        let (machine, path, claimed) = (self.0.machine.clone(), path.to_owned(), meta.clone());
        let vetted = tokio::task::spawn_blocking(move || machine.vet(&path, &claimed)).await;
        let vetted = vetted.map_err(|error| Status::internal(error.to_string()))?;
        vetted.map_err(|why| {
            tracing::error!(%peer, why, "refused a snapshot that no healthy member sends");
            Status::invalid_argument(why)
        })
    }

    async fn receive_file(
        &self,
        path: &PathBuf,
        vote: &Vote,
        parts: &mut Streaming<pb::SnapshotPart>,
    ) -> Result<(), Status> {
        let disk = |error: std::io::Error| Status::resource_exhausted(error.to_string());
        let mut file = tokio::fs::File::create_new(path).await.map_err(disk)?;
        let mut hash = Sha256::new();
        loop {
            match next(parts).await? {
                Some(Part::Data(data)) => {
                    // A leader of the past is not the one in office.
                    if self.would_follow(vote) {
                        self.0.leadership.hear();
                    }
                    hash.update(&data);
                    file.write_all(&data).await.map_err(disk)?;
                }
                Some(Part::Digest(digest)) if digest[..] == hash.clone().finalize()[..] => break,
                Some(Part::Digest(_)) => {
                    return Err(Status::data_loss("the snapshot was damaged on its way"));
                }
                Some(Part::Header(_)) => return Err(Status::invalid_argument("a second header")),
                None => return Err(Status::data_loss("the snapshot ends before its digest")),
            }
        }
        file.flush().await.map_err(disk)?;
        if let Err(error) = file.sync_all().await {
            fatal("fsync of a received snapshot", &error);
        }
        Ok(())
    }

    async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        path: PathBuf,
    ) -> Result<pb::SnapshotReply, Status> {
        tracing::info!(snapshot = %meta, "installing the state that the leader sent");
        let snapshot = Snapshot { meta, snapshot: SnapshotData::File(path) };
        let reply = self.0.raft.install_full_snapshot(vote, snapshot).await;
        let reply = reply.map_err(|error| Status::internal(error.to_string()))?;
        Ok(pb::SnapshotReply { vote: Some(wire::vote_to(&reply.vote)) })
    }
}

async fn next(parts: &mut Streaming<pb::SnapshotPart>) -> Result<Option<Part>, Status> {
    match tokio::time::timeout(IDLE, parts.message()).await {
        Ok(part) => Ok(part?.and_then(|part| part.part)),
        Err(_) => Err(Status::deadline_exceeded("the snapshot makes no progress")),
    }
}
