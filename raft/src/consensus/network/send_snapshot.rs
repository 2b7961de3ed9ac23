//! Sending a snapshot: exported to a file first, then streamed with its digest at the end.
//!
//! Always holds: rows are read in a time bounded by their size, since a reader that stays costs
//! the state file every page that changes meanwhile; the export leaves on the disk what the log
//! may need, and goes with the transfer. The limit on the transfer is on lack of progress, not on
//! the whole: a large state over a slow link arrives. Whoever refuses is not asked again at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, StreamingError, Unreachable};
use openraft::network::RPCTypes;
use openraft::raft::SnapshotResponse;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::{C, Peer, Snapshot, client, rpc_error};
use crate::consensus::incoming;
use crate::consensus::meter::Way;
use crate::consensus::snapshot::SnapshotData;
use crate::consensus::types::Vote;
use crate::consensus::wire;
use crate::proto::raft as pb;
use crate::proto::raft::raft_client::RaftClient;
use crate::proto::raft::snapshot_part::Part;
use crate::state::{Exported, FORMAT, State, View};

/// Bytes of one part.
const PART: usize = 256 << 10;
/// An export may take this long, and a second more for each so many bytes.
const EXPORT: Duration = Duration::from_secs(30);
const EXPORT_RATE: u64 = 4 << 20;
/// A member that says nothing for this long is not there.
const ANSWER: Duration = Duration::from_secs(2);
/// The next attempt waits this long when the connection broke.
const BROKEN: Duration = Duration::from_secs(1);
/// After a refusal the next attempt, which begins from zero, waits at least and at most this long.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What one transfer is of.
struct Transfer {
    vote: Vote,
    header: pb::SnapshotHeader,
    export: Export,
}

impl Peer {
    /// As `send_snapshot`; says only after a while that it failed.
    pub(super) async fn send_snapshot_and_rest(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        idle: Duration,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let sent = self.send_snapshot(vote, snapshot, idle).await;
        match &sent {
            Ok(_) => self.failed = 0,
            // Consensus waits by itself for one that cannot be reached.
            Err(StreamingError::Unreachable(_)) => {}
            Err(error) => {
                let rest = REST.0.saturating_mul(1 << self.failed.min(10)).min(REST.1);
                self.failed = self.failed.saturating_add(1);
                tracing::warn!(to = %self.target, cause = %error, seconds = rest.as_secs_f32(), "the state did not arrive; it is sent again after a while");
                tokio::time::sleep(rest).await;
            }
        }
        sent
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        idle: Duration,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let client = client(&self.connect, self.target).await.map_err(|status| rpc_error(&status))?;
        // The rows of one that is away would be exported for nothing, again and again.
        self.answers(client.clone()).await?;
        let SnapshotData::Rows(view) = snapshot.snapshot else {
            return Err(NetworkError::from_string("a received state is not sent on").into());
        };
        let began = Instant::now();
        let export = self.export(view).await?;
        let (bytes, last) = (export.rows.len, snapshot.meta.last_log_id);
        let header = pb::SnapshotHeader {
            vote: Some(wire::vote_to(&vote)),
            last_log_id: last.as_ref().map(wire::log_id_to),
            membership: Some(wire::stored_membership_to(&snapshot.meta.last_membership)),
            format: FORMAT,
            size: bytes,
        };
        let index = last.map_or(0, |id| id.index);
        tracing::info!(to = %self.target, index, bytes, exported_ms = began.elapsed().as_millis() as u64, "the log does not reach back to what this member has: sending it the state");
        let reply = self.stream(client, Transfer { vote, header, export }, idle).await;
        if let Err(StreamingError::Unreachable(_)) = &reply {
            tracing::info!(to = %self.target, index, "the connection broke while the state was sent");
            tokio::time::sleep(BROKEN).await;
        }
        let reply = reply?;
        let ms = began.elapsed().as_millis() as u64;
        match reply.vote > vote {
            false => tracing::info!(to = %self.target, index, bytes, ms, "the member has the state"),
            true => tracing::info!(to = %self.target, index, ms, "the member knows a later leader"),
        }
        Ok(reply)
    }

    /// Whether the member is there, which a channel alone does not tell.
    async fn answers(&self, mut client: RaftClient<Channel>) -> Result<(), Unreachable<C>> {
        let nothing = pb::WaitAppliedRequest { index: 0, timeout_ms: 0 };
        match tokio::time::timeout(ANSWER, client.wait_applied(nothing)).await {
            Ok(Ok(_)) => Ok(()),
            // One that was away long may not know this node; it is there.
            Ok(Err(status)) if status.code() == Code::PermissionDenied => Ok(()),
            Ok(Err(status)) => Err(Unreachable::from_string(status.message())),
            Err(_) => Err(Unreachable::from_string("it does not answer")),
        }
    }

    /// Writes the rows of `view`, and lets go of it.
    async fn export(&self, view: View) -> Result<Export, RPCError<C>> {
        let path = self.machine.scratch("export");
        let given_up = Arc::new(AtomicBool::new(false));
        let guard = Guard { path: path.clone(), given_up: given_up.clone() };
        let (machine, began) = (self.machine.clone(), Instant::now());
        let exported = tokio::task::spawn_blocking(move || {
            let exported = State::export(&view, &path, &mut |written| {
                if given_up.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                if began.elapsed() > EXPORT + Duration::from_secs(written / EXPORT_RATE) {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the disk is too slow to export the state",
                    ));
                }
                match machine.has_room(PART as u64) {
                    true => Ok(()),
                    false => Err(io::Error::new(
                        io::ErrorKind::StorageFull,
                        "there is no room to export the state: free some on the disk of the data directory",
                    )),
                }
            });
            if exported.is_err() || given_up.load(Ordering::Relaxed) {
                // Nobody else does when it was given up before the file was made.
                let _ = std::fs::remove_file(&path);
            }
            exported
        });
        let rows = exported.await.map_err(|error| NetworkError::new(&error))?;
        Ok(Export { rows: rows.map_err(|error| NetworkError::new(&error))?, guard })
    }

    async fn stream(
        &self,
        mut client: RaftClient<Channel>,
        Transfer { vote, header, export }: Transfer,
        idle: Duration,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let broken = |error: io::Error| StreamingError::from(NetworkError::new(&error));
        let timed_out = || StreamingError::from(self.timed_out(RPCTypes::InstallSnapshot, idle));
        let mut file = tokio::fs::File::open(export.path()).await.map_err(broken)?;
        let (parts, stream) = mpsc::channel(4);
        // Aborted when dropped: whoever gives up must not leave a transfer behind.
        let mut call = JoinSet::new();
        call.spawn(async move { client.snapshot(ReceiverStream::new(stream)).await });

        let meter = self.machine.meter();
        let mut next = Some(Part::Header(header));
        while let Some(part) = next.take() {
            let last = matches!(part, Part::Digest(_));
            match tokio::time::timeout(idle, parts.send(pb::SnapshotPart { part: Some(part) })).await {
                Ok(Ok(())) => {}
                // The receiver answered early; its reply says why.
                Ok(Err(_)) => break,
                Err(_) => return Err(timed_out()),
            }
            if !last {
                let mut buffer = vec![0; PART];
                let read = file.read(&mut buffer).await.map_err(broken)?;
                buffer.truncate(read);
                meter.snapshot_bytes(Way::Out, read);
                next = Some(match read {
                    0 => Part::Digest(Bytes::copy_from_slice(export.rows.digest.as_bytes())),
                    _ => Part::Data(buffer.into()),
                });
            }
        }
        drop(parts);
        let reply = match tokio::time::timeout(idle, call.join_next()).await {
            Ok(Some(Ok(Ok(reply)))) => reply.into_inner(),
            // It says nothing itself: it may have been killed, and be back soon.
            Ok(Some(Ok(Err(status)))) if matches!(status.code(), Code::Unknown | Code::Cancelled) => {
                return Err(Unreachable::from_string(status.message()).into());
            }
            Ok(Some(Ok(Err(status)))) => return Err(rpc_error(&status).into()),
            Ok(Some(Err(error))) => return Err(NetworkError::new(&error).into()),
            Ok(None) | Err(_) => return Err(timed_out()),
        };
        let seen = incoming::seen_vote(reply.vote, &vote).map_err(|error| NetworkError::new(&error))?;
        if reply.installed {
            meter.snapshot(Way::Out);
        }
        Ok(SnapshotResponse::new(seen))
    }
}

/// Exported rows in a file of their own.
struct Export {
    rows: Exported,
    guard: Guard,
}

impl Export {
    fn path(&self) -> &Path {
        &self.guard.path
    }
}

/// Deletes the file when dropped, and ends whoever still writes it.
struct Guard {
    path: PathBuf,
    given_up: Arc<AtomicBool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        // What is left over is deleted at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}
