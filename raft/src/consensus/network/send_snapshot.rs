//! Sending a snapshot: exported to a file first, then streamed with its digest at the end.
//!
//! The limit is on lack of progress, not on the whole: a large state over a slow link arrives.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, StreamingError};
use openraft::network::RPCTypes;
use openraft::raft::SnapshotResponse;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::{C, Peer, Snapshot, client, rpc_error};
use crate::consensus::incoming;
use crate::consensus::snapshot::SnapshotData;
use crate::consensus::types::Vote;
use crate::consensus::wire;
use crate::proto::raft as pb;
use crate::proto::raft::snapshot_part::Part;
use crate::state::State;

/// Bytes of one part.
const PART: usize = 256 << 10;

impl Peer {
    pub(super) async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        idle: Duration,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let header = pb::SnapshotHeader {
            vote: Some(wire::vote_to(&vote)),
            last_log_id: snapshot.meta.last_log_id.as_ref().map(wire::log_id_to),
            membership: Some(wire::stored_membership_to(&snapshot.meta.last_membership)),
        };
        let (path, temporary) = match snapshot.snapshot {
            SnapshotData::File(path) => (path, None),
            SnapshotData::Rows(view) => {
                let path = self.machine.scratch("export");
                let guard = Temporary(path.clone());
                let to = path.clone();
                let exported = tokio::task::spawn_blocking(move || State::export(&view, &to));
                exported
                    .await
                    .map_err(|error| NetworkError::new(&error))?
                    .map_err(|error| NetworkError::new(&error))?;
                (path, Some(guard))
            }
        };
        let reply = self.stream((header, vote), &path, idle).await;
        drop(temporary);
        reply
    }

    async fn stream(
        &self,
        (header, vote): (pb::SnapshotHeader, Vote),
        path: &Path,
        idle: Duration,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let broken = |error: std::io::Error| StreamingError::from(NetworkError::new(&error));
        let timed_out = || StreamingError::from(self.timed_out(RPCTypes::InstallSnapshot, idle));
        let mut file = tokio::fs::File::open(path).await.map_err(broken)?;
        let mut client = client(&self.connect, self.target).await.map_err(|status| rpc_error(&status))?;
        let (parts, stream) = mpsc::channel(4);
        // Aborted when dropped: whoever gives up must not leave a transfer behind.
        let mut call = JoinSet::new();
        call.spawn(async move { client.snapshot(ReceiverStream::new(stream)).await });

        let mut hash = Sha256::new();
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
                hash.update(&buffer);
                next = Some(match read {
                    0 => Part::Digest(Bytes::copy_from_slice(&hash.clone().finalize())),
                    _ => Part::Data(buffer.into()),
                });
            }
        }
        drop(parts);
        let reply = match tokio::time::timeout(idle, call.join_next()).await {
            Ok(Some(Ok(Ok(reply)))) => reply.into_inner(),
            Ok(Some(Ok(Err(status)))) => return Err(rpc_error(&status).into()),
            Ok(Some(Err(error))) => return Err(NetworkError::new(&error).into()),
            Ok(None) | Err(_) => return Err(timed_out()),
        };
        let vote = incoming::seen_vote(reply.vote, &vote).map_err(|error| NetworkError::new(&error))?;
        Ok(SnapshotResponse::new(vote))
    }
}

/// Deletes a file when dropped.
struct Temporary(std::path::PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left over is deleted at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}
