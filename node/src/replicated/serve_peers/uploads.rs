//! A peer works on an upload whose home is here, or makes this node a mirror of its own.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use http::HeaderMap;
use trow_api::read_out;
use trow_raft::RepoName;

use super::super::Replicated;
use super::super::token::Ticket;
use crate::peer_blobs::answer::{JsonReply, repo_of};
use crate::peer_blobs::wire::{self, Claimed, Fault, Finished, Length, UploadQuery};

pub(super) async fn begin(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> JsonReply<Claimed> {
    let repo = repo_of(&headers)?;
    Ok(Json(node.uploads().begin(&repo, query.hint.map(Into::into)).await?))
}

pub(super) async fn claim(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> JsonReply<Claimed> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    Ok(Json(match query.takeover {
        true => node.uploads().take_over(&repo, &ticket, query.closing).await?,
        false => node.uploads().claim(&repo, &ticket, query.closing)?,
    }))
}

pub(super) async fn progress(State(node): State<Replicated>, headers: HeaderMap) -> JsonReply<Claimed> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    Ok(Json(node.uploads().progress(&repo, &ticket).await?))
}

pub(super) async fn append(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> JsonReply<Claimed> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    Ok(Json(node.uploads().append(&repo, &ticket, query.at, read_out(body)).await?))
}

pub(super) async fn finish(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> JsonReply<Finished> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    let digest = query.digest.ok_or(Fault::Unknown)?;
    Ok(Json(node.uploads().finish(&repo, &ticket, &digest, query.at, read_out(body)).await?))
}

pub(super) async fn cancel(State(node): State<Replicated>, headers: HeaderMap) -> JsonReply<()> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    Ok(Json(node.uploads().cancel(&repo, &ticket).await?))
}

pub(super) async fn mirror_open(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> JsonReply<Length> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    Ok(Json(node.uploads().mirror_open(&repo, &ticket, query.reset).await?))
}

pub(super) async fn mirror_append(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> JsonReply<Length> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    let at = query.at.ok_or(Fault::Unknown)?;
    Ok(Json(node.uploads().mirror_append(&repo, &ticket, at, read_out(body)).await?))
}

pub(super) async fn mirror_hold(
    State(node): State<Replicated>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
) -> JsonReply<Finished> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    let (digest, length) = query.digest.zip(query.length).ok_or(Fault::Unknown)?;
    Ok(Json(node.uploads().mirror_hold(&repo, &ticket, &digest, length).await?))
}

pub(super) async fn mirror_drop(State(node): State<Replicated>, headers: HeaderMap) -> JsonReply<()> {
    let (repo, ticket) = upload_of(&node, &headers)?;
    Ok(Json(node.uploads().mirror_drop(&repo, &ticket).await?))
}

/// The repository and ticket that an upload's request names.
fn upload_of(node: &Replicated, headers: &HeaderMap) -> Result<(RepoName, Ticket), Fault> {
    let repo = repo_of(headers)?;
    let text = headers.get(wire::TICKET).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let ticket = node.uploads().open(&repo, text)?;
    Ok((repo, ticket))
}
