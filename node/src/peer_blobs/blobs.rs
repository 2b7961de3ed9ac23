//! What a node asks others about blobs: their bytes, whether they hold them, to hold them.

use std::ops::Range;
use std::time::Duration;

use axum::body::Body;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response, header};
use serde::Serialize;
use trow_api::blobs::ByteStream;
use trow_raft::{Digest, Evidence, NodeId, RepoName};

use super::send::{LONG, QUICK, STALL, garbled};
use super::wire::{self, Confirm, Confirmed, Fault, Finished, HoldFrom};
use super::{PeerBlobs, PeerError, range};

/// A blob's bytes on their way from a peer. The digest is the receiver's to verify.
pub struct Fetched {
    /// The size of the whole blob, whatever the range.
    pub size: u64,
    /// The bytes asked for; ends in an error when the peer dies or finds a chunk damaged.
    pub body: ByteStream,
    /// Of an upstream's blob: the name by which the upstream gave it, if the peer knows.
    pub origin: Option<RepoName>,
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
    /// The bytes `wanted` of a blob (all when `None`) from `node`.
    ///
    /// # Errors
    /// [`Fault::Unknown`] when it does not hold it.
    pub async fn fetch(
        &self,
        node: NodeId,
        digest: &Digest,
        wanted: Option<Range<u64>>,
    ) -> Result<Fetched, PeerError> {
        let mut request = Request::get(format!("/blob/{digest}"));
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
            request = request.header(header::RANGE, range::format(&wanted));
        }
        let reply = self.send(node, QUICK, request, Body::empty()).await?;
        let size = number(reply.headers(), wire::SIZE).ok_or_else(|| garbled(node, "no size"))?;
        Ok(Fetched { size, body: self.body(node, STALL, reply), origin: None })
    }

    /// The body of a reply, which ends in an error when `node` falls silent, or pauses for longer than `pause`.
    pub(super) fn body(&self, node: NodeId, pause: Duration, reply: Response<Body>) -> ByteStream {
        let silence = self.clone();
        let body = reply.into_body().into_data_stream();
        Box::pin(stream::try_unfold(body, move |mut body| {
            let silence = silence.clone();
            async move {
                let next = silence.watched(node, pause, body.next()).await.map_err(std::io::Error::other)?;
                Ok(next.transpose().map_err(std::io::Error::other)?.map(|bytes| (bytes, body)))
            }
        }))
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
}

pub(super) fn posted(path: &str) -> http::request::Builder {
    Request::post(path).header(header::CONTENT_TYPE, "application/json")
}

pub(super) fn json(value: &impl Serialize) -> Body {
    // Our own types of strings and numbers always serialise.
    Body::from(serde_json::to_vec(value).unwrap_or_default())
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
