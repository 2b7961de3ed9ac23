//! Receiving a snapshot: its rows into a new state file, before consensus hears of it.
//!
//! openraft stops for good when an installation fails, so that everything a peer can get wrong
//! is found here: each row is looked at, they must add up to their state hash, and the state must
//! stand where the header says. Always holds: one is received at a time (see [`mod@turn`]), and a
//! slow one does not keep out the leader's; whoever is slow, or sends more than it said or than
//! there is room for, is refused. Memory does not grow with the state, and what was received in
//! vain is deleted at once. Limit: a member whose vote consensus accepts is the leader that is
//! followed, here as everywhere.

mod parts;
mod refused;
mod turn;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::Metadata;
use super::complaints::About;
use crate::consensus::incoming;
use crate::consensus::meter::Way;
use crate::consensus::types::Vote;
use crate::id::NodeId;
use crate::proto::raft as pb;
use crate::proto::raft::snapshot_part::Part;
use crate::state::{FORMAT, Import, ImportError};
use parts::{IDLE, Parts};
pub(super) use refused::failed;
pub(super) use turn::Receiving;

/// The room on the disk is looked at after so many bytes.
const LOOK: u64 = 8 << 20;

/// One transfer.
struct Transfer {
    peer: NodeId,
    vote: Vote,
    size: u64,
    /// The index of the last entry in it.
    last: u64,
    parts: Parts,
    /// Ends when another takes its place.
    replaced: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A file under construction; deleted unless it was taken.
pub(super) struct ReceivedFile {
    pub(super) path: PathBuf,
    pub(super) taken: bool,
}

impl Drop for ReceivedFile {
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
        let mut parts = Parts::new(parts);
        let Some(Part::Header(header)) = parts.next().await? else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        let (format, size) = (header.format, header.size);
        let (vote, meta) = incoming::snapshot(header).map_err(|error| self.forged(peer, &error))?;
        self.own_vote(peer, &vote)?;
        if !self.would_follow(&vote) {
            return Ok(self.later_vote());
        }
        let beyond = incoming::snapshot_beyond(self.known_committed(), meta.last_log_id);
        beyond.map_err(|error| self.forged(peer, &error))?;
        let last = meta.last_log_id.map_or(0, |id| id.index);
        if format != FORMAT {
            return Err(self.other_form(peer, vote, last, format));
        }
        // Whoever leads by now is heard by the next time.
        let begun =
            self.0.receiving.begin((peer, vote), self.followed()).ok_or_else(|| {
                Status::aborted("the state is being received from the leader that is followed")
            })?;
        if let Some(before) = begun.instead_of
            && let Some(left_out) = self.0.complaints.due(peer, About::Turn)
        {
            tracing::info!(%peer, %before, left_out, "another snapshot takes the place of the one that was being received");
        }
        let replaced = Box::pin(begun.replaced());
        // The one before hears of it now, and is only waited for when it is being installed.
        let since = Instant::now();
        let turn = tokio::time::timeout(IDLE, self.0.receiving.turn()).await;
        let turn = turn.map_err(|_| Status::unavailable("another snapshot is being installed"))?;
        parts.waited(since.elapsed());
        let file = self.receive_file(Transfer { peer, vote, size, last, parts, replaced }).await?;
        // The sender may go away while consensus has the file.
        let this = self.clone();
        let taking = tokio::spawn(async move {
            let reply = this.take_over(peer, vote, meta, file).await;
            drop((begun, turn));
            reply
        });
        taking.await.map_err(|error| failed(peer, &error))?
    }

    /// The rows in a state file of their own, durable.
    async fn receive_file(&self, mut transfer: Transfer) -> Result<ReceivedFile, Status> {
        let (peer, vote, last) = (transfer.peer, transfer.vote, transfer.last);
        let began = Instant::now();
        let (rows, given) = mpsc::channel(4);
        let file = ReceivedFile { path: self.0.machine.scratch("incoming"), taken: false };
        let building = tokio::task::spawn_blocking(move || build(file, given));
        let sent = self.hand_on(&mut transfer, rows).await;
        // Whatever came of the transfer, what became of the rows says more.
        let built = building.await.map_err(|error| failed(peer, &error))?;
        let (import, file) = built.map_err(|error| self.refused(peer, vote, last, error))?;
        sent?;
        let finished = tokio::task::spawn_blocking(move || import.finish().map(|()| file)).await;
        let file = finished.map_err(|error| failed(peer, &error))?;
        let file = file.map_err(|error| self.refused(peer, vote, last, error))?;
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(from = %peer, bytes = transfer.size, ms, "received the state that the leader sent");
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
                    if self.followed() == Some((transfer.peer, transfer.vote)) {
                        self.0.leadership.hear();
                    }
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
        if let Some(left_out) = self.0.complaints.due(peer, About::Snapshot) {
            tracing::error!(%peer, left_out, bytes, "no room for the state that the leader sends: free some on the disk of the data directory, and this node catches up");
        }
        Err(Status::resource_exhausted("no room for the snapshot"))
    }
}

/// Makes a state file of the rows. It is deleted after its last write, however this ends.
fn build(file: ReceivedFile, mut rows: mpsc::Receiver<Bytes>) -> Result<(Import, ReceivedFile), ImportError> {
    let mut import = Import::create(&file.path)?;
    while let Some(bytes) = rows.blocking_recv() {
        import.push(&bytes)?;
    }
    Ok((import, file))
}

impl Transfer {
    /// The next part, unless a newer transfer takes the place of this one.
    async fn next(&mut self) -> Result<Option<Part>, Status> {
        tokio::select! {
            biased;
            () = &mut self.replaced => {
                Err(Status::aborted("another snapshot took its place"))
            }
            part = self.parts.next() => part,
        }
    }
}
