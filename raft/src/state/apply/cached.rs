//! Manifests of upstream registries' repositories: recorded, asked for, and dropped again.
//!
//! Always holds: from the level that brought the cache on, a repository whose name says that it is
//! an upstream's has manifests, tags and their edges, and never a link, since what is cached of its
//! blobs is each node's own business. Each manifest that was recorded here says when somebody last
//! asked for it, and what all of them take together is counted and has a bound. Never does: ask whether the tag that a manifest came by is still that of the
//! upstream, which whoever proposes has done.

use super::{Context, Effect, manifests, pins, tags};
use crate::command::{NewManifest, Refusal};
use crate::digest::Digest;
use crate::limits::CACHED_MAX;
use crate::name::{RepoName, Tag};
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// The feature level that brought the cache.
const LEVEL: u64 = 2;

/// Whether the repository takes nothing that is pushed, since it is an upstream's. One that had such
/// a name before the level rose goes on being read.
pub(super) fn is_closed(writer: &Writer<'_>, repo: &RepoName) -> Result<bool, StateError> {
    Ok(repo.is_cached() && writer.number(Table::Meta, meta::LEVEL)? >= LEVEL)
}

/// `PutCached`: what is so already is reported with the index that made it so, whatever revision
/// of the tag was seen, since two nodes may have fetched the same.
pub(super) fn put(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    manifest: &NewManifest,
    tag: Option<&(Tag, u64)>,
) -> Effect {
    if !repo.is_cached() {
        return Ok(Err(Refusal::Invalid));
    }
    if let Some((tag, seen)) = tag {
        let now = writer.tag(repo, tag)?;
        let current = now.as_ref().map(|row| row.digest);
        if current != Some(manifest.digest) && now.map_or(0, |row| row.revision) != *seen {
            return Ok(Err(Refusal::ConditionFailed { current }));
        }
    }
    let at = key::repo_digest(repo, &manifest.digest);
    let weight = |writer: &Writer<'_>| -> Result<u64, StateError> {
        Ok(writer.manifest(repo, &manifest.digest)?.map_or(0, |row| row.weight()))
    };
    let is_known = writer.has(Table::Cached, &at)?;
    let before = if is_known { weight(writer)? } else { 0 };
    if !is_known && writer.number(Table::Meta, meta::CACHED_BYTES)? + manifest.weight() > CACHED_MAX {
        return Ok(Err(Refusal::TooMany { limit: CACHED_MAX }));
    }
    let stored = manifests::store(writer, cx, repo, manifest)?;
    asked_for(writer, cx, &at)?;
    let after = weight(writer)?;
    writer.count_cached(after, before)?;
    let moved = match tag {
        Some((tag, _)) => Some(tags::set(writer, cx, repo, tag, &manifest.digest)?),
        None => None,
    };
    Ok(Ok(moved.unwrap_or(stored)))
}

/// Notes that somebody asked for a manifest now.
fn asked_for(writer: &mut Writer<'_>, cx: &Context<'_>, at: &[u8]) -> Result<(), StateError> {
    writer.set_number(Table::Cached, at, cx.time)
}

/// `DropCached`: what is gone by now stays gone.
pub(super) fn drop_all(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digests: &[Digest],
) -> Effect {
    if !repo.is_cached() {
        return Ok(Err(Refusal::Invalid));
    }
    for digest in digests {
        manifests::remove(writer, cx, repo, digest)?;
    }
    Ok(Ok(cx.index))
}

/// `WantCached`: what is gone by now stays gone.
pub(super) fn want(writer: &mut Writer<'_>, cx: &Context<'_>, manifests: &[(RepoName, Digest)]) -> Effect {
    for (repo, digest) in manifests {
        let at = key::repo_digest(repo, digest);
        if writer.has(Table::Cached, &at)? {
            asked_for(writer, cx, &at)?;
        }
    }
    Ok(Ok(cx.index))
}

/// `ReclaimCached`: the leader listed them some time ago, and somebody may have asked since.
pub(super) fn reclaim(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    manifests: &[(RepoName, Digest)],
    before: u64,
) -> Effect {
    for (repo, digest) in manifests {
        let at = key::repo_digest(repo, digest);
        let is_old =
            writer.has(Table::Cached, &at)? && writer.number(Table::Cached, &at)? < before.min(cx.time);
        // A child goes once nothing names it, so that an index that is asked for keeps its images.
        if is_old && !writer.has_prefix(Table::Child, &at)? && !pins::keeps(writer, repo, digest)? {
            manifests::remove(writer, cx, repo, digest)?;
        }
    }
    Ok(Ok(cx.index))
}
