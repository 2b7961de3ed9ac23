//! The way of bytes to one mirror.
//!
//! Always holds: a few pieces are in flight, never more, so that a slow mirror slows the sender
//! down.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use trow_raft::{NodeId, RepoName};

use super::super::fault::peer_fault;
use super::super::task;
use crate::peer_blobs::wire::{Fault, Length, UploadQuery};
use crate::peer_blobs::{PeerBlobs, PeerError, Upload, body_of};

/// Bytes given on at once.
pub(super) const PIECE: usize = 64 << 10;
/// Pieces that may wait for one mirror: half a MiB at most.
const IN_FLIGHT: usize = 8;

/// The way to one mirror for the length of one body.
pub(super) struct Feed {
    pub(super) node: NodeId,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    reply: JoinHandle<Result<Length, PeerError>>,
}

impl Feed {
    /// Begins to send at byte `at`.
    pub(super) fn new(peers: &PeerBlobs, node: NodeId, repo: &RepoName, ticket: &str, at: u64) -> Feed {
        let (pieces, received) = mpsc::channel(IN_FLIGHT);
        let (peers, repo, ticket) = (peers.clone(), repo.clone(), ticket.to_owned());
        let reply = task::spawn(async move {
            let query = UploadQuery { at: Some(at), ..UploadQuery::default() };
            let upload = Upload { repo: &repo, ticket: &ticket };
            peers.mirror_append(node, upload, &query, body_of(ReceiverStream::new(received))).await
        });
        Feed { node, pieces, reply }
    }

    /// Sends one piece; `false` when the mirror takes no more.
    pub(super) async fn send(&self, peers: &PeerBlobs, piece: Bytes) -> bool {
        peers.pass(self.node, &self.pieces, Ok(piece)).await
    }

    /// Ends the body and hears how much the mirror has.
    pub(super) async fn finish(self) -> Result<u64, Fault> {
        drop(self.pieces);
        match self.reply.await {
            Ok(Ok(Length { length })) => Ok(length),
            Ok(Err(error)) => Err(peer_fault(error)),
            Err(stopped) => Err(Fault::unavailable(stopped)),
        }
    }

    /// Breaks the body off.
    pub(super) fn abort(self) {
        self.reply.abort();
    }
}
