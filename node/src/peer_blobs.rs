//! Blob bytes between nodes: the client that asks peers, and the router that answers them.
//!
//! Owns the requests of [`wire`] in both directions. Always holds: a peer that does not answer is
//! given up in bounded time, sooner when the control connection has gone silent too; bodies
//! stream, whatever their size. Never does: choose whom to ask, or trust what arrives (the caller
//! verifies digests; a peer's listener has established who asks).

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod server;
mod uploads;
pub mod wire;

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use trow_api::blobs::ByteStream;
use trow_api::request_id;
use trow_raft::metadata::Silence;
use trow_raft::{Digest, Evidence, NodeId};

use crate::peer::Peers;
use crate::traces;
pub use server::router;
pub use uploads::Upload;
use wire::{Confirm, Confirmed, Fault, Finished, HoldFrom};

/// Sends a request to a peer over the pooled, mutually authenticated connections of the blob
/// transport. The URI has a path and a query only. An error means that no reply came.
pub type Call =
    Arc<dyn Fn(NodeId, Request<Body>) -> BoxFuture<'static, Result<Response<Body>, String>> + Send + Sync>;

/// A small question is answered within this time or not at all. A peer that has said nothing for
/// this long, on any connection, is not waited for either.
const QUICK: Duration = Duration::from_secs(2);
/// How often the silence of a peer is looked at that takes longer.
const LOOK: Duration = Duration::from_millis(100);
/// The longest that one request may take while its peer is alive: a big blob on a slow disk.
const LONG: Duration = Duration::from_secs(600);
/// The longest that a living peer may pause in the middle of a body, whichever way it goes.
const STALL: Duration = Duration::from_secs(15);
/// Largest small JSON reply, in bytes.
pub(crate) const JSON_MAX: usize = 1 << 20;

/// Why a peer did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Nobody knows whether it did.
    #[error("{node} did not answer: {why}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// For the log.
        why: String,
    },
    /// It said no, and why.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The peers, as those who hold blobs and uploads. Cheap to clone.
#[derive(Clone)]
pub struct PeerBlobs {
    call: Call,
    silence: Silence,
}

/// A blob's bytes on their way from a peer. The digest is the receiver's to verify.
pub struct Fetched {
    /// The size of the whole blob, whatever the range.
    pub size: u64,
    /// The bytes asked for; ends in an error when the peer dies or finds a chunk damaged.
    pub body: ByteStream,
}

/// What a peer says of a blob that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBy {
    /// Its size in bytes.
    pub size: u64,
    /// When its bytes were last all checked, in ms since 1970.
    pub verified_at: Option<u64>,
}

impl PeerBlobs {
    /// Over the blob connections of `peers`.
    pub fn over(peers: &Peers) -> PeerBlobs {
        let silence = peers.silence_fn();
        let peers = peers.clone();
        let call = move |node, request| {
            let http = peers.http(node);
            async move { http.call(request).await.map_err(|error| error.to_string()) }.boxed()
        };
        PeerBlobs::new(Arc::new(call), silence)
    }

    /// Over any transport.
    pub fn new(call: Call, silence: Silence) -> PeerBlobs {
        PeerBlobs { call, silence }
    }

    /// How long each peer has been silent.
    pub fn silence(&self, node: NodeId) -> Option<Duration> {
        (self.silence)(node)
    }

    /// The bytes `range` of a blob (all when `None`) from `node`.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it does not hold it.
    pub async fn fetch(
        &self,
        node: NodeId,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Fetched, PeerError> {
        let mut request = Request::get(format!("/blob/{digest}"));
        if let Some(range) = range.filter(|range| !range.is_empty()) {
            request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let reply = self.send(node, QUICK, request, Body::empty()).await?;
        let size = number(reply.headers(), wire::SIZE).ok_or_else(|| garbled(node, "no size"))?;
        let silence = self.clone();
        let body = reply.into_body().into_data_stream();
        let body = stream::try_unfold(body, move |mut body| {
            let silence = silence.clone();
            async move {
                let next = silence.watched(node, STALL, body.next()).await.map_err(std::io::Error::other)?;
                Ok(next.transpose().map_err(std::io::Error::other)?.map(|bytes| (bytes, body)))
            }
        });
        Ok(Fetched { size, body: Box::pin(body) })
    }

    /// What `node` says of the blob, without a promise that it stays.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn look(&self, node: NodeId, digest: &Digest) -> Result<Option<HeldBy>, PeerError> {
        let request = Request::head(format!("/blob/{digest}"));
        let reply = match self.send(node, QUICK, request, Body::empty()).await {
            Err(PeerError::Fault(Fault::Unknown)) => return Ok(None),
            other => other?,
        };
        let size = number(reply.headers(), wire::SIZE).ok_or_else(|| garbled(node, "no size"))?;
        Ok(Some(HeldBy { size, verified_at: number(reply.headers(), wire::VERIFIED_AT) }))
    }

    /// Fresh evidence of `node` for each of the digests, in order; `None` where it does not hold
    /// the blob. What it vouches for it keeps, in that generation.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn confirm(
        &self,
        node: NodeId,
        digests: &[Digest],
    ) -> Result<Vec<Option<Evidence>>, PeerError> {
        let mut all = Vec::with_capacity(digests.len());
        for part in digests.chunks(wire::CONFIRM_MAX) {
            let question = Confirm { digests: part.to_vec() };
            let answer: Confirmed = self.ask(node, LONG, posted("/confirm"), json(&question)).await?;
            if answer.held.len() != part.len() {
                return Err(garbled(node, "another number of answers than questions"));
            }
            let evidence = |generation| Evidence { node, generation };
            all.extend(answer.held.into_iter().map(|held| held.map(evidence)));
        }
        Ok(all)
    }

    /// Has `node` fetch the blob from one of `sources` unless it holds it already, and vouch for it.
    ///
    /// # Errors
    /// It cannot, or did not answer.
    pub async fn hold(
        &self,
        node: NodeId,
        digest: &Digest,
        sources: &[NodeId],
    ) -> Result<Finished, PeerError> {
        let body = json(&HoldFrom { sources: sources.to_vec() });
        self.ask(node, LONG, posted(&format!("/blob/{digest}/hold")), body).await
    }

    /// Sends and reads a JSON reply.
    async fn ask<T: DeserializeOwned>(
        &self,
        node: NodeId,
        limit: Duration,
        request: http::request::Builder,
        body: Body,
    ) -> Result<T, PeerError> {
        let reply = self.send(node, limit, request, body).await?;
        let read = axum::body::to_bytes(reply.into_body(), JSON_MAX);
        let bytes = self.watched(node, QUICK, read).await?.map_err(|error| garbled(node, error))?;
        serde_json::from_slice(&bytes).map_err(|error| garbled(node, error))
    }

    /// Sends; gives replies of success, and the fault in any other.
    async fn send(
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
        let read = axum::body::to_bytes(reply.into_body(), JSON_MAX);
        let bytes = self.watched(node, QUICK, read).await?.unwrap_or_default();
        let fault = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Fault::unavailable(format_args!("{node} answered {status}")));
        Err(PeerError::Fault(fault))
    }

    /// Waits for `work`, at most `limit`, and not longer than [`QUICK`] for a peer that is silent
    /// on its control connection as well.
    async fn watched<T>(
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

fn posted(path: &str) -> http::request::Builder {
    Request::post(path).header(header::CONTENT_TYPE, "application/json")
}

fn json(value: &impl Serialize) -> Body {
    // Our own types of strings and numbers always serialise.
    Body::from(serde_json::to_vec(value).unwrap_or_default())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn garbled(node: NodeId, why: impl std::fmt::Display) -> PeerError {
    PeerError::Unreachable { node, why: format!("its answer is not understood: {why}") }
}

/// A body of what `stream` yields; an error breaks the connection off, so that nobody takes the
/// part for the whole.
pub(crate) fn body_of(stream: impl Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static) -> Body {
    Body::from_stream(stream)
}
