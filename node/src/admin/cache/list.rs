//! `GET cache`: what is cached, where it is, and what keeps it.

use std::collections::{BTreeMap, BTreeSet};

use http::Uri;
use serde::Deserialize;
use trow_api::manifest::parse::parse;
use trow_api::route::Reference;
use trow_raft::{Cached, Digest, ManifestRow, Member, NodeId, RepoName, StateError, Tag, View};

use super::super::blob::rfc3339;
use super::super::document::cache::{CacheDocument, CachedDocument, HeldDocument};
use super::super::{Admin, AdminError, CONFIRM};
use super::{named, named_image, place, place_of, prefix, query};

/// Manifests on a page, unless the request says otherwise.
const PAGE: usize = 100;
/// The most that there are on a page.
const PAGE_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    host: Option<String>,
    n: Option<usize>,
    after: Option<String>,
}

/// A cached manifest as the state has it.
struct Found {
    cached: Cached,
    row: ManifestRow,
    tags: Vec<Tag>,
    blobs: BTreeMap<Digest, u64>,
    pinned: bool,
}

/// What the state says of one page.
struct Listed {
    found: Vec<Found>,
    pins: Vec<(RepoName, Reference)>,
    members: Vec<Member>,
    time: u64,
    next: Option<String>,
}

impl Admin {
    pub(in crate::admin) async fn cached(&self, uri: &Uri) -> Result<CacheDocument, AdminError> {
        let page: Page = query(uri)?;
        let (prefix, after) = (prefix(page.host.as_deref())?, place_of(page.after.as_deref())?);
        let n = page.n.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let view = self.metadata.read(CONFIRM).await?;
        // It parses manifests.
        let listed = tokio::task::spawn_blocking(move || listed(&view, &prefix, after, n)).await;
        let listed = listed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let blobs: BTreeSet<Digest> = listed.found.iter().flat_map(|one| one.blobs.keys()).copied().collect();
        let blobs: Vec<Digest> = blobs.into_iter().collect();
        let held = match blobs.is_empty() {
            true => Vec::new(),
            false => (self.holds)(blobs.clone()).await,
        };
        let held: Vec<(NodeId, BTreeSet<Digest>)> = held
            .into_iter()
            .map(|(node, has)| {
                (node, blobs.iter().zip(has).filter(|(_, has)| *has).map(|(blob, _)| *blob).collect())
            })
            .collect();
        Ok(CacheDocument {
            images: listed.found.iter().map(|one| shown(one, &held, &listed)).collect(),
            pins: listed.pins.iter().map(|(repo, reference)| named_image(repo, reference)).collect(),
            next: listed.next,
        })
    }
}

fn listed(
    view: &View,
    prefix: &str,
    after: Option<(RepoName, Digest)>,
    n: usize,
) -> Result<Listed, StateError> {
    let pinned = view.pinned()?;
    let place_before = after.as_ref().map(|(repo, digest)| (repo, digest));
    let all = view.cached(prefix, place_before, n)?;
    let next = (all.len() == n).then(|| all.last().map(|last| place(&last.repo, &last.digest))).flatten();
    let mut found = Vec::with_capacity(all.len());
    for cached in all {
        let Some(row) = view.manifest(&cached.repo, &cached.digest)? else { continue };
        let mut blobs: BTreeMap<Digest, u64> = row.blobs.iter().map(|blob| (*blob, 0)).collect();
        let body = view.body(&cached.digest)?;
        // It was read when it was recorded, and says its sizes again.
        if let Some(read) = body.and_then(|body| parse(cached.digest, Some(&row.media_type), body).ok()) {
            for (blob, size) in &mut blobs {
                *size = read.sizes.get(blob).copied().unwrap_or(0);
            }
        }
        let pinned = pinned.contains(&(cached.repo.clone(), cached.digest));
        let tags = view.tags_of(&cached.repo, &cached.digest)?;
        found.push(Found { cached, row, tags, blobs, pinned });
    }
    let mut pins = if after.is_none() { view.pins()? } else { Vec::new() };
    pins.retain(|(repo, _)| repo.as_str().starts_with(prefix));
    Ok(Listed { found, pins, members: view.members()?, time: view.time()?, next })
}

fn shown(one: &Found, held: &[(NodeId, BTreeSet<Digest>)], listed: &Listed) -> CachedDocument {
    let bytes = |has: &dyn Fn(&Digest) -> bool| -> u64 {
        one.blobs.iter().filter(|(blob, _)| has(blob)).map(|(_, size)| size).sum()
    };
    let name = |node: NodeId| {
        listed.members.iter().find(|member| member.id == node).map(|member| member.name.clone())
    };
    let on = |(node, has): &(NodeId, BTreeSet<Digest>)| HeldDocument {
        node: name(*node),
        bytes: bytes(&|blob| has.contains(blob)),
    };
    let mut nodes: Vec<HeldDocument> = held.iter().map(on).filter(|node| node.bytes > 0).collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    CachedDocument {
        repository: named(&one.cached.repo),
        tags: one.tags.iter().map(Tag::to_string).collect(),
        digest: one.cached.digest.to_string(),
        media_type: one.row.media_type.clone(),
        blobs: one.blobs.len() as u64,
        size: bytes(&|_| true),
        cached_bytes: bytes(&|blob| held.iter().any(|(_, has)| has.contains(blob))),
        nodes,
        pinned: one.pinned,
        pushed_at: rfc3339(one.row.pushed_at),
        unused_ms: listed.time.saturating_sub(one.cached.asked_for),
    }
}
