//! Sending a request to a peer, and waiting for it no longer than it is worth.
//!
//! Always holds: no wait outlasts its limit, nor the peer's silence on its control connection.

use std::pin::pin;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use trow_api::request_id;
use trow_raft::NodeId;

use super::wire::{Fault, REPLY_MAX};
use super::{PeerBlobs, PeerError};
use crate::traces;

/// A small question is answered within this time or not at all. A peer that has said nothing for
/// this long, on any connection, is not waited for either.
pub(super) const QUICK: Duration = Duration::from_secs(2);
/// How often the silence of a peer is looked at that takes longer.
const LOOK: Duration = Duration::from_millis(100);
/// The longest that one request may take while its peer is alive: a big blob on a slow disk.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// The longest that a living peer may pause in the middle of a body, whichever way it goes.
pub(super) const STALL: Duration = Duration::from_secs(15);

impl PeerBlobs {
    /// Sends and reads a JSON reply.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        node: NodeId,
        limit: Duration,
        request: http::request::Builder,
        body: Body,
    ) -> Result<T, PeerError> {
        let reply = self.send(node, limit, request, body).await?;
        let read = axum::body::to_bytes(reply.into_body(), REPLY_MAX);
        let bytes = self.watched(node, QUICK, read).await?.map_err(|error| garbled(node, error))?;
        serde_json::from_slice(&bytes).map_err(|error| garbled(node, error))
    }

    /// Sends; gives replies of success, and the fault in any other.
    pub(super) async fn send(
        &self,
        node: NodeId,
        limit: Duration,
        request: http::request::Builder,
        body: Body,
    ) -> Result<Response<Body>, PeerError> {
        let mut request = request.body(body).map_err(|error| garbled(node, error))?;
        if let Some(id) = request_id::current() {
            request.headers_mut().insert(request_id::HEADER, id.to_header());
            traces::name_in(request.headers_mut());
        }
        let unreachable = |why| PeerError::Unreachable { node, why };
        let reply = self.watched(node, limit, (self.call)(node, request)).await?.map_err(unreachable)?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        let status = reply.status();
        if status == StatusCode::NOT_FOUND {
            return Err(Fault::Unknown.into());
        }
        let read = axum::body::to_bytes(reply.into_body(), REPLY_MAX);
        let bytes = self.watched(node, QUICK, read).await?.unwrap_or_default();
        let fault = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Fault::unavailable(format_args!("{node} answered {status}")));
        Err(PeerError::Fault(fault))
    }

    /// Waits for `work`, at most `limit`, and not longer than [`QUICK`] for a peer that is silent
    /// on its control connection as well.
    pub(super) async fn watched<T>(
        &self,
        node: NodeId,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, PeerError> {
        let begun = Instant::now();
        let mut work = pin!(work);
        let mut step = QUICK;
        loop {
            if let Ok(done) = tokio::time::timeout(step, &mut work).await {
                return Ok(done);
            }
            if self.is_silent(node) || begun.elapsed() >= limit {
                let why = format!("no progress for {:?}", begun.elapsed());
                return Err(PeerError::Unreachable { node, why });
            }
            step = LOOK;
        }
    }

    /// Whether the peer has been silent for so long that nobody should wait for it.
    fn is_silent(&self, node: NodeId) -> bool {
        self.silence(node).is_none_or(|quiet| quiet >= QUICK)
    }

    /// Waits until `pieces` takes one more, as long as `node` lives and at most [`STALL`]; `false`
    /// when it takes no more.
    pub(crate) async fn pass<T>(&self, node: NodeId, pieces: &mpsc::Sender<T>, piece: T) -> bool {
        let room = self.watched(node, STALL, pieces.reserve()).await;
        let Ok(Ok(room)) = room else { return false };
        room.send(piece);
        true
    }
}

/// That the answer of `node` makes no sense.
pub(super) fn garbled(node: NodeId, why: impl std::fmt::Display) -> PeerError {
    PeerError::Unreachable { node, why: format!("its answer is not understood: {why}") }
}
