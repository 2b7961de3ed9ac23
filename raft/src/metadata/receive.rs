//! Receiving a snapshot: its rows into a new state file, before consensus hears of it.
//!
//! openraft stops for good when an installation fails, so that everything a peer can get wrong
//! is found here: each row is looked at, they must add up to their state hash, and the state must
//! stand where the header says. Always holds: one is received at a time, and the newest takes the
//! place of the one before, so that a slow one does not keep out the leader; whoever is slow, or
//! sends more than it said or than there is room for, is refused. Memory does not grow with the
//! state. Limit: a member that begins transfers under later votes again and again interrupts the
//! leader's, as it can interrupt everything by standing for election.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::Snapshot;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc, watch};
use tonic::{Status, Streaming};

use super::Metadata;
use super::service::forged;
use crate::consensus::incoming;
use crate::consensus::meter::Way;
use crate::consensus::snapshot::SnapshotData;
use crate::consensus::too_old::too_old_for;
use crate::consensus::types::{SnapshotMeta, Vote};
use crate::consensus::wire;
use crate::id::NodeId;
use crate::proto::raft as pb;
use crate::proto::raft::snapshot_part::Part;
use crate::state::{FORMAT, Import, ImportError};

/// A transfer that brings fewer bytes in this time makes no progress, unless it ends.
const IDLE: Duration = Duration::from_secs(60);
const PROGRESS: usize = 1 << 20;
/// The room on the disk is looked at after so many bytes.
const LOOK: u64 = 8 << 20;

/// Which snapshot is being received.
pub(super) struct Receiving {
    /// Held by whoever receives one.
    turn: Mutex<()>,
    /// The number of the newest that was begun.
    newest: watch::Sender<u64>,
}

impl Default for Receiving {
    fn default() -> Self {
        Receiving { turn: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

/// One transfer.
struct Transfer {
    peer: NodeId,
    vote: Vote,
    size: u64,
    parts: Parts,
    number: u64,
    newest: watch::Receiver<u64>,
}

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
        parts: Streaming<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotReply, Status> {
        let mut parts = Parts { stream: parts, until: tokio::time::Instant::now() + IDLE, progress: 0 };
        let Some(Part::Header(header)) = parts.next().await? else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        let (format, size) = (header.format, header.size);
        let (vote, meta) = incoming::snapshot(header).map_err(|error| forged(peer, &error))?;
        self.own_vote(peer, &vote)?;
        if !self.would_follow(&vote) {
            return Ok(self.later_vote());
        }
        let beyond = incoming::snapshot_beyond(self.known_committed(), meta.last_log_id);
        beyond.map_err(|error| forged(peer, &error))?;
        if format != FORMAT {
            tracing::error!(%peer, format, "refused a snapshot in a form that this build does not read: run the version of the leader here");
            return Err(Status::failed_precondition(format!("this build reads snapshots of form {FORMAT}")));
        }
        let receiving = &self.0.receiving;
        let mut number = 0;
        receiving.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let newest = receiving.newest.subscribe();
        // The one before hears of it now, and is only waited for when it is being installed.
        let since = Instant::now();
        let turn = tokio::time::timeout(IDLE, receiving.turn.lock()).await;
        let _turn = turn.map_err(|_| Status::unavailable("another snapshot is being installed"))?;
        parts.waited(since.elapsed());
        let file = self.receive_file(Transfer { peer, vote, size, parts, number, newest }).await?;
        self.take_over(peer, vote, meta, file).await
    }

    /// The rows in a state file of their own, durable.
    async fn receive_file(&self, mut transfer: Transfer) -> Result<Incoming, Status> {
        let began = Instant::now();
        let (rows, given) = mpsc::channel(4);
        let file = Incoming { path: self.0.machine.scratch("incoming"), taken: false };
        let building = tokio::task::spawn_blocking(move || build(file, given));
        let sent = self.hand_on(&mut transfer, rows).await;
        // Whatever came of the transfer, what became of the rows says more.
        let built = building.await.map_err(|error| failed(transfer.peer, &error))?;
        let (import, file) = built.map_err(|error| refused(transfer.peer, error))?;
        sent?;
        let finished = tokio::task::spawn_blocking(move || import.finish().map(|()| file)).await;
        let file = finished.map_err(|error| failed(transfer.peer, &error))?;
        let file = file.map_err(|error| refused(transfer.peer, error))?;
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(from = %transfer.peer, bytes = transfer.size, ms, "received the state that the leader sent");
        Ok(file)
    }

    /// Hands the data to whoever builds the file, until the digest says that it was all.
    async fn hand_on(&self, transfer: &mut Transfer, rows: mpsc::Sender<Bytes>) -> Result<(), Status> {
        let (mut hash, mut received, mut looked) = (Sha256::new(), 0, None);
        loop {
            if looked.is_none_or(|at| received - at >= LOOK) {
                looked = Some(received);
                self.room_for(transfer.peer, transfer.size - received)?;
            }
            match transfer.next().await? {
                Some(Part::Data(data)) => {
                    // A leader of the past is not the one in office.
                    if !self.would_follow(&transfer.vote) {
                        return Err(Status::aborted("another leader is in office"));
                    }
                    self.0.leadership.hear();
                    received += data.len() as u64;
                    if received > transfer.size {
                        return Err(Status::invalid_argument("it is longer than its header says"));
                    }
                    hash.update(&data);
                    self.0.machine.meter().snapshot_bytes(Way::In, data.len());
                    let since = Instant::now();
                    if rows.send(data).await.is_err() {
                        return Ok(());
                    }
                    transfer.parts.waited(since.elapsed());
                }
                Some(Part::Digest(digest)) if digest[..] == hash.clone().finalize()[..] => return Ok(()),
                Some(Part::Digest(_)) => {
                    return Err(Status::data_loss("the snapshot was damaged on its way"));
                }
                Some(Part::Header(_)) => return Err(Status::invalid_argument("a second header")),
                None => return Err(Status::data_loss("the snapshot ends before its digest")),
            }
        }
    }

    fn room_for(&self, peer: NodeId, bytes: u64) -> Result<(), Status> {
        if self.0.machine.has_room(bytes) {
            return Ok(());
        }
        tracing::error!(%peer, bytes, "no room for the state that the leader sends: free some on the disk of the data directory, and this node catches up");
        Err(Status::resource_exhausted("no room for the snapshot"))
    }

    /// Gives the file to consensus.
    async fn take_over(
        &self,
        peer: NodeId,
        vote: Vote,
        meta: SnapshotMeta,
        mut file: Incoming,
    ) -> Result<pb::SnapshotReply, Status> {
        if self.would_follow(&vote) {
            self.vet_snapshot(peer, &file.path, &meta).await?;
        }
        // From here the file is consensus', even if the sender does not wait for the answer.
        file.taken = true;
        tracing::info!(snapshot = %meta, "installing the state that the leader sent");
        let snapshot = Snapshot { meta, snapshot: SnapshotData::File(file.path.clone()) };
        let reply = self.0.raft.install_full_snapshot(vote, snapshot).await;
        // It answers once the file is in its place, or when it turned it down: an old leader's,
        // or one behind what is committed here. Then the file is still where it was.
        file.taken = reply.is_err();
        let reply = reply.map_err(|error| Status::internal(error.to_string()))?;
        self.0.machine.meter().snapshot(Way::In);
        Ok(pb::SnapshotReply { vote: Some(wire::vote_to(&reply.vote)) })
    }

    /// Consensus would install it, and end when that fails.
    async fn vet_snapshot(&self, peer: NodeId, path: &Path, meta: &SnapshotMeta) -> Result<(), Status> {
        let beyond = incoming::snapshot_beyond(self.known_committed(), meta.last_log_id);
        beyond.map_err(|error| forged(peer, &error))?;
        let (machine, path, claimed) = (self.0.machine.clone(), path.to_owned(), meta.clone());
        let vetted = tokio::task::spawn_blocking(move || machine.vet(&path, &claimed)).await;
        match vetted.map_err(|error| failed(peer, &error))? {
            Err(ImportError::State(error)) if error.is_too_old() => {
                let (leader, at) = (self.raft_leader(), meta.last_log_id.map_or(0, |id| id.index));
                if leader == Some(peer) {
                    too_old_for(peer, at, &error);
                }
                Err(Status::failed_precondition(error.to_string()))
            }
            vetted => vetted.map_err(|error| refused(peer, error)),
        }
    }

    /// What consensus answers a leader of the past.
    fn later_vote(&self) -> pb::SnapshotReply {
        pb::SnapshotReply { vote: Some(wire::vote_to(&self.0.raft.metrics().borrow_watched().vote)) }
    }
}

/// Makes a state file of the rows. It is deleted after its last write, however this ends.
fn build(file: Incoming, mut rows: mpsc::Receiver<Bytes>) -> Result<(Import, Incoming), ImportError> {
    let mut import = Import::create(&file.path)?;
    while let Some(bytes) = rows.blocking_recv() {
        import.push(&bytes)?;
    }
    Ok((import, file))
}

fn refused(peer: NodeId, error: ImportError) -> Status {
    match error {
        ImportError::Forged(why) => {
            tracing::error!(%peer, why, "refused a snapshot that no healthy member sends; look at that node: its version, its disk, and whether somebody else has its key");
            Status::invalid_argument(why)
        }
        ImportError::State(error) => {
            tracing::error!(cause = %error, "the state that the leader sends cannot be written; check the disk of the data directory, it is sent again");
            Status::resource_exhausted(error.to_string())
        }
    }
}

/// Something panicked over what the peer sent; the node goes on without it.
fn failed(peer: NodeId, error: &tokio::task::JoinError) -> Status {
    tracing::error!(%peer, cause = %error, "a snapshot could not be looked at; it is sent again, report this line if it repeats");
    Status::internal(error.to_string())
}

impl Transfer {
    /// The next part, unless a newer transfer takes the place of this one.
    async fn next(&mut self) -> Result<Option<Part>, Status> {
        tokio::select! {
            biased;
            _ = self.newest.wait_for(|newest| *newest > self.number) => {
                tracing::info!(peer = %self.peer, "another snapshot takes the place of the one that was being received");
                Err(Status::aborted("another snapshot took its place"))
            }
            part = self.parts.next() => part,
        }
    }
}

/// The parts, as long as they come fast enough.
struct Parts {
    stream: Streaming<pb::SnapshotPart>,
    until: tokio::time::Instant,
    /// Bytes since the time was set.
    progress: usize,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Part>, Status> {
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
    fn waited(&mut self, time: Duration) {
        self.until += time;
    }
}
