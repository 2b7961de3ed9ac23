//! `cache` and `cache/pins`: what is cached of upstream registries, which of it stays, and what goes.
//!
//! Always holds: each reply is bounded, and says where the next request goes on; what is said about files was
//! asked of the nodes at that moment. Never does: unlink files, which each node does by itself once no manifest
//! lists them.

mod list;
mod purge;

use axum::extract::Query;
use axum::response::Response;
use http::Uri;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use trow_api::pull::{Host, Image, UpstreamName};
use trow_api::route::Reference;
use trow_raft::name::CACHED;
use trow_raft::{Command, Digest, RepoName};

use super::document::cache::PinDocument;
use super::{ACTOR, Admin, AdminError, QUORUM, SPREAD, accepted, logged};

/// Which image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    image: String,
}

impl Admin {
    /// Pins an image, whether it is cached by now or not.
    pub(super) async fn pin(&self, uri: &Uri) -> Result<Response, AdminError> {
        let image = image(&query::<Which>(uri)?.image)?;
        self.set_pins(&image, true).await
    }

    /// Takes a pin away.
    pub(super) async fn unpin(&self, uri: &Uri) -> Result<Response, AdminError> {
        let image = image(&query::<Which>(uri)?.image)?;
        let view = self.metadata.read(QUORUM).await?;
        if !view.is_pinned(image.name.local(), &image.reference)? {
            return Err(AdminError::NotFound(format!(
                "{image} is not pinned: `trow cache list` names the pins"
            )));
        }
        drop(view);
        self.set_pins(&image, false).await
    }

    async fn set_pins(&self, image: &Image, pinned: bool) -> Result<Response, AdminError> {
        let pin = vec![(image.name.local().clone(), image.reference.clone())];
        let (add, remove) = if pinned { (pin, Vec::new()) } else { (Vec::new(), pin) };
        let applied = accepted(self.metadata.propose(ACTOR, Command::SetPins { add, remove }).await?)?;
        self.metadata.wait_applied_everywhere(applied.index, SPREAD).await;
        tracing::info!(%image, pinned, index = applied.index, "pins were changed");
        let document = PinDocument { image: image.to_string(), pinned, log_id: applied.index };
        Ok(logged(document, &applied))
    }
}

/// The query, all of it.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, AdminError> {
    let read = Query::<T>::try_from_uri(uri);
    read.map(|Query(query)| query).map_err(|error| AdminError::BadRequest(error.body_text()))
}

fn image(text: &str) -> Result<Image, AdminError> {
    text.parse().map_err(|error: trow_api::pull::InvalidImage| AdminError::BadRequest(error.to_string()))
}

/// What the names begin with of all that is cached, of one registry or of every one.
fn prefix(host: Option<&str>) -> Result<String, AdminError> {
    let Some(host) = host else { return Ok(CACHED.to_owned()) };
    let host: Host = host.parse().map_err(|error| AdminError::BadRequest(format!("host={host}: {error}")))?;
    Ok(host.local_prefix())
}

/// A repository as people name it.
fn named(repo: &RepoName) -> String {
    UpstreamName::of_local(repo).map_or_else(|| repo.to_string(), |name| name.to_string())
}

/// An image as people name it.
fn named_image(repo: &RepoName, reference: &Reference) -> String {
    let mark = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    format!("{}{mark}{reference}", named(repo))
}

/// A place in a list of cached manifests, as a word that comes back.
fn place(repo: &RepoName, digest: &Digest) -> String {
    format!("{repo}@{digest}")
}

/// The place that `word` is, where there is one.
fn place_of(word: Option<&str>) -> Result<Option<(RepoName, Digest)>, AdminError> {
    let Some(word) = word else { return Ok(None) };
    let read =
        word.rsplit_once('@').and_then(|(repo, digest)| Some((repo.parse().ok()?, digest.parse().ok()?)));
    read.map(Some).ok_or_else(|| AdminError::BadRequest(format!("after={word}: no reply ever said so")))
}
