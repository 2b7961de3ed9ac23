//! Where an image and its signatures are: a repository of our own, or one of an upstream registry.
//!
//! Always holds: no more is read than the caller takes; a blob is read under the repository's name only if that
//! lists it. Never does: say that something is not there when it could not be found out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use trow_raft::{Digest, Metadata, RepoName, StateError, Tag};

use super::bundle::{BUNDLE, may_sign};
use super::{Named, SIGNATURES_MAX};
use crate::blobs::{Blobs, ByteStream};
use crate::page::Page;
use crate::pull::{PullError, UpstreamName, Upstreams};
use crate::referrers;
use crate::route::Reference;

/// Longest manifest that is read, in bytes.
const MANIFEST_MAX: u64 = 1 << 20;
/// Referrers in a list that are looked at for such as may be signatures.
const LISTED_MAX: usize = 1000;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Repository {
    /// In a repository of our own.
    Own(RepoName),
    /// In one of another registry.
    Upstream(UpstreamName),
}

/// A repository to read signatures from.
pub(super) enum Place {
    /// Of our own.
    Own { metadata: Metadata, blobs: Arc<dyn Blobs>, repo: RepoName },
    /// Read through the cache.
    Upstream { upstreams: Arc<dyn Upstreams>, name: UpstreamName },
}

/// Why something could not be read, in words for a user.
pub(super) type Unread = String;

/// Referrers that may be signatures.
#[derive(Default)]
pub(super) struct Referrers {
    pub(super) digests: Vec<Digest>,
    /// Why others may be missing.
    pub(super) incomplete: Option<Unread>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Place {
    /// The manifest under a tag; none if there is no such tag.
    pub(super) async fn tagged(&self, tag: &Tag) -> Result<Option<Bytes>, Unread> {
        match self {
            Place::Own { metadata, repo, .. } => {
                let row = metadata.local().tag(repo, tag).map_err(failed)?;
                row.map_or(Ok(None), |row| own_manifest(metadata, repo, &row.digest))
            }
            Place::Upstream { upstreams, name } => {
                upstream_manifest(upstreams.as_ref(), name, Reference::Tag(tag.clone())).await
            }
        }
    }

    /// The manifest of this digest; none if it is not there.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Option<Bytes>, Unread> {
        match self {
            Place::Own { metadata, repo, .. } => own_manifest(metadata, repo, digest),
            Place::Upstream { upstreams, name } => {
                upstream_manifest(upstreams.as_ref(), name, Reference::Digest(*digest)).await
            }
        }
    }

    /// The referrers of the image that may be signatures of it.
    pub(super) async fn referrers(&self, image: &Digest) -> Result<Referrers, Unread> {
        match self {
            Place::Own { metadata, repo, .. } => {
                let page = Page { limit: LISTED_MAX, after: None };
                let (shown, more) =
                    referrers::first(&metadata.local(), repo, image, BUNDLE, &page).map_err(failed)?;
                let read = shown.iter().filter_map(|one| serde_json::from_slice(one).ok()).collect();
                Ok(Referrers { digests: may_be_signatures(read), incomplete: more.then(too_many) })
            }
            Place::Upstream { upstreams, name } => {
                let relayed = match upstreams.referrers(name, image, Some(BUNDLE)).await {
                    Ok(relayed) => relayed,
                    Err(PullError::NotFound) => return Ok(Referrers::default()),
                    Err(error) => return Err(unread(name, &error)),
                };
                let index: Index = serde_json::from_slice(&relayed.json)
                    .map_err(|_| format!("{name} lists its signatures in a form that cannot be read"))?;
                let mut listed = index.manifests;
                let more = relayed.next.is_some() || listed.len() > LISTED_MAX;
                listed.truncate(LISTED_MAX);
                let incomplete = relayed.stale.or_else(|| more.then(too_many));
                Ok(Referrers { digests: may_be_signatures(listed), incomplete })
            }
        }
    }

    /// A blob that a manifest here names; none if it is not here, or is not as long as it should be.
    pub(super) async fn blob(&self, named: &Named) -> Result<Option<Bytes>, Unread> {
        let size = named.size;
        let body = match self {
            Place::Own { metadata, blobs, repo } => {
                let here = {
                    let view = metadata.local();
                    let linked = view.link(repo, &named.digest).map_err(failed)?.is_some();
                    let row = view.blob(&named.digest).map_err(failed)?;
                    linked && row.is_some_and(|row| row.size == size)
                };
                if !here {
                    return Ok(None);
                }
                blobs.open(&named.digest, size, 0..size).await.map_err(|error| error.to_string())?
            }
            Place::Upstream { upstreams, name } => {
                // Another size than the manifest says is answered as a range outside the blob.
                let all = |is: u64| (is == size).then_some(0..size);
                match upstreams.blob(name, &named.digest, &all).await {
                    Ok(content) => content.body,
                    Err(PullError::NotFound | PullError::Range { .. }) => return Ok(None),
                    Err(error) => return Err(unread(name, &error)),
                }
            }
        };
        whole(body, size).await
    }
}

fn own_manifest(metadata: &Metadata, repo: &RepoName, digest: &Digest) -> Result<Option<Bytes>, Unread> {
    let view = metadata.local();
    match view.manifest(repo, digest).map_err(failed)? {
        Some(row) if row.size <= MANIFEST_MAX => view.body(digest).map_err(failed),
        Some(_) => Err(too_long()),
        None => Ok(None),
    }
}

async fn upstream_manifest(
    upstreams: &dyn Upstreams,
    name: &UpstreamName,
    reference: Reference,
) -> Result<Option<Bytes>, Unread> {
    match upstreams.manifest(name, &reference, false).await {
        Ok(pulled) if pulled.size > MANIFEST_MAX => Err(too_long()),
        Ok(pulled) => Ok(pulled.bytes),
        Err(PullError::NotFound) => Ok(None),
        Err(error) => Err(unread(name, &error)),
    }
}

/// The digests of those that are bundles and do not say that they are attestations.
fn may_be_signatures(listed: Vec<Descriptor>) -> Vec<Digest> {
    let may = |one: &Descriptor| {
        one.artifact_type.as_deref().is_none_or(|is| is == BUNDLE)
            && one.annotations.as_ref().is_none_or(may_sign)
    };
    listed.iter().filter(|one| may(one)).filter_map(|one| one.digest.parse().ok()).collect()
}

/// All of a body that has `size` bytes; none if it has more or fewer.
async fn whole(mut body: ByteStream, size: u64) -> Result<Option<Bytes>, Unread> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| "a signature of it broke off while it was read".to_owned())?;
        if (whole.len() + chunk.len()) as u64 > size {
            return Ok(None);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok((whole.len() as u64 == size).then(|| whole.into()))
}

pub(super) fn too_many() -> Unread {
    format!("it has more signatures than the {SIGNATURES_MAX} that are looked at")
}

fn too_long() -> Unread {
    "what lists its signatures is too long to be read".to_owned()
}

fn unread(name: &UpstreamName, error: &PullError) -> Unread {
    match error {
        PullError::Unavailable { why, .. } => why.clone(),
        error => format!("{name}: {error}"),
    }
}

fn failed(error: StateError) -> Unread {
    tracing::error!(cause = %error, "signatures of an image cannot be looked up");
    "this node failed, and its log says how".to_owned()
}
