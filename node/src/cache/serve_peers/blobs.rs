//! A peer reads a blob of an upstream here under a name, looks whether it is here, or has this node keep a copy.

use std::error::Error;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use futures::TryStreamExt as _;
use http::{HeaderMap, StatusCode, header};
use trow_api::pull::UpstreamName;
use trow_raft::{Digest, NodeId, RepoName};

use super::super::Cache;
use super::super::fault::fault;
use super::super::fill::Means;
use super::super::pull::{self, Asked};
use super::may_tell;
use crate::peer_blobs::answer::{JsonReply, Refused, repo_of};
use crate::peer_blobs::wire::{self, Fault, KeepFrom};
use crate::peer_blobs::{body_of, range};
use crate::store::{HoldError, StoreError};

const OCTETS: &str = "application/octet-stream";

/// `GET`: the bytes, as they are here, arrive here, or are fetched now. `HEAD`: what is here.
pub(super) async fn blob(
    State(cache): State<Cache>,
    Path(digest): Path<Digest>,
    method: http::Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let mut reply = Response::builder().header(header::CONTENT_TYPE, OCTETS);
    let failed = |error: http::Error| Refused(Fault::unavailable(error));
    let name = UpstreamName::of_local(&repo_of(&headers)?).ok_or(Fault::Unknown)?;
    let Means { store, origins, registries, .. } = cache.inner.fills.means();
    may_tell(registries, &name, headers.contains_key(wire::FOR_USER))?;
    if method == http::Method::HEAD {
        let size = match store.has(&digest).filter(|_| origins.may_give(&name, &digest)) {
            Some(size) => size,
            None => {
                reply = reply.header(wire::ARRIVING, "1");
                cache.inner.fills.is_arriving(&name, &digest).ok_or(Fault::Unknown)?
            }
        };
        return reply.header(wire::SIZE, size).body(Body::empty()).map_err(failed);
    }
    let size = headers.get(wire::SIZE).and_then(|size| size.to_str().ok()?.parse().ok());
    let size: u64 = size.ok_or(Fault::Unknown)?;
    let range = match headers.get(header::RANGE) {
        None => 0..size,
        Some(range) => {
            let range = range.to_str().ok().and_then(|text| range::parse(text, size));
            reply = reply.status(StatusCode::PARTIAL_CONTENT);
            range.ok_or(Fault::OutOfOrder { have: size })?
        }
    };
    let length = range.end - range.start;
    let asked = Asked { name, digest, size, range };
    let (fills, reads) = (&cache.inner.fills, &cache.inner.reads);
    let source = match headers.contains_key(wire::ONLY_THERE) {
        true => pull::only_here(fills, &asked).await.map_err(fault)?.ok_or(Fault::Unknown)?,
        false => pull::at_home(fills, reads, &asked).await.map_err(fault)?,
    };
    let (body, origin) = source.into_parts();
    if let Some(origin) = origin {
        reply = reply.header(wire::ORIGIN, origin.as_str());
    }
    let reply = reply.header(wire::SIZE, size).header(header::CONTENT_LENGTH, length);
    reply.body(body_of(body)).map_err(failed)
}

/// Fetches the blob from another node and keeps it as cached, if it is not here.
pub(super) async fn keep(
    State(cache): State<Cache>,
    Path(digest): Path<Digest>,
    Json(from): Json<KeepFrom>,
) -> JsonReply<()> {
    let means = cache.inner.fills.means();
    let name = from.origin.as_ref().and_then(UpstreamName::of_local);
    if from.for_user && !name.is_some_and(|name| means.registries.needs_user(&name)) {
        // It would be given to everybody from here.
        return Err(Fault::unavailable("the node does not know yet that it is for users alone").into());
    }
    let _permit = means.keeping.acquire().await.map_err(Fault::unavailable)?;
    let origin = means.origins.better(&digest, from.origin);
    if means.store.has(&digest).is_some() {
        let known = means.origins.of(&digest);
        if let Some(origin) = origin.filter(|origin| known.as_ref() != Some(origin)) {
            let store = means.store.clone();
            let noted = tokio::task::spawn_blocking(move || store.set_origin(&digest, origin));
            noted.await.map_err(Fault::unavailable)?;
        }
        return Ok(Json(()));
    }
    let mut last = Fault::Unknown;
    for source in from.sources.into_iter().filter(|source| *source != means.me) {
        match copy(&cache, source, &digest, origin.clone()).await {
            Ok(()) => return Ok(Json(())),
            Err(fault) => last = fault,
        }
    }
    Err(last.into())
}

async fn copy(cache: &Cache, source: NodeId, digest: &Digest, origin: Option<RepoName>) -> Result<(), Fault> {
    let means = cache.inner.fills.means();
    let fetched = means.peers.fetch(source, digest, None).await.map_err(Fault::unavailable)?;
    let (size, mut body) = (Some(fetched.size), fetched.body);
    let staged = means.store.stage_cached(Some(digest.algorithm()), size).await;
    let mut staged = staged.map_err(store_fault)?;
    staged.came_by(origin);
    while let Some(bytes) = body.try_next().await.map_err(Fault::unavailable)? {
        staged.write(bytes).await.map_err(store_fault)?;
    }
    match staged.keep(digest).await {
        Ok(_) => Ok(()),
        Err(HoldError::DigestMismatch { .. }) => Err(Fault::DigestMismatch),
        Err(HoldError::Store(error)) => Err(store_fault(error)),
    }
}

fn store_fault(error: StoreError) -> Fault {
    if matches!(error, StoreError::NoSpace) {
        return Fault::NoSpace;
    }
    tracing::error!(cause = &error as &dyn Error, "the store fails a copy of a cached blob; check the disk");
    Fault::unavailable("the store of the node failed; its log says how")
}
