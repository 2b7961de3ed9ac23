//! What this node answers its peers about manifests and lists of upstream registries.
//!
//! Always holds: what a peer asks is done by this node itself and passed on to no other.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::manifests::Manifests;
use crate::peer_blobs::answer::{JsonReply, Refused};
use crate::peer_blobs::wire::{AskHas, AskList, AskLists, AskManifest, CONFIRM_MAX, Fault, Has, Lists};
use crate::upstream::Places;

/// The routes, without what all of the peer listener's have in common.
pub(super) fn routes(manifests: Manifests) -> Router {
    Router::new()
        .route("/cache/manifest", post(manifest))
        .route("/cache/list", post(list))
        .route("/cache/lists", post(lists))
        .route("/cache/has", post(has))
        .route("/cache/logins", get(logins))
        .with_state(manifests)
}

async fn manifest(
    State(manifests): State<Manifests>,
    Json(question): Json<AskManifest>,
) -> Result<Response, Refused> {
    let told = manifests.for_peer(question).await?;
    Ok(Response::new(Body::from(told)))
}

async fn list(
    State(manifests): State<Manifests>,
    Json(question): Json<AskList>,
) -> Result<Response, Refused> {
    let told = manifests.list_for_peer(question).await?;
    Ok(Response::new(Body::from(told)))
}

async fn lists(State(manifests): State<Manifests>, Json(question): Json<AskLists>) -> Json<Lists> {
    let AskLists { repo, blob, for_user } = question;
    let may_know = for_user || !manifests.for_user(&repo);
    Json(Lists { size: may_know.then(|| manifests.listed_lately(&repo, &blob)).flatten() })
}

async fn logins(State(manifests): State<Manifests>) -> Json<Places> {
    Json(manifests.upstream().places())
}

async fn has(State(manifests): State<Manifests>, Json(question): Json<AskHas>) -> JsonReply<Has> {
    if question.digests.len() > CONFIRM_MAX {
        return Err(Fault::TooMany.into());
    }
    let has = |digest| match &question.repo {
        Some(repo) => (question.for_user || !manifests.for_user(repo)) && manifests.has_for(repo, digest),
        None => manifests.store().has(digest).is_some(),
    };
    Ok(Json(Has { has: question.digests.iter().map(has).collect() }))
}
