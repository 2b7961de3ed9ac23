//! Manifests of upstream registries' repositories: recorded, asked for, and dropped again.
//!
//! Always holds: from the level that brought the cache on, a repository whose name says that it is
//! an upstream's has manifests, tags and their edges, and never a link, since what is cached of its
//! blobs is each node's own business. Each manifest that was recorded here says when somebody last
//! asked for it, and what all of them and their tags take together is counted and has a bound. Never does: ask whether the tag that a manifest came by is still that of the
//! upstream, which whoever proposes has done.

use super::{Context, Effect, manifests, pins, tags};
use crate::command::{NewManifest, Refusal};
use crate::digest::Digest;
use crate::limits::{CACHED_MAX, CACHED_TAGS_MAX, RECLAIMED_TAGS};
use crate::name::{RepoName, Tag};
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::row;
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
    let digest = &manifest.digest;
    if let Some((tag, seen)) = tag
        && let Err(refusal) = is_as_seen(writer, repo, digest, (tag, *seen))?
    {
        return Ok(Err(refusal));
    }
    let at = key::repo_digest(repo, digest);
    let weight = |writer: &Writer<'_>| -> Result<u64, StateError> {
        Ok(writer.manifest(repo, digest)?.map_or(0, |row| row.weight()))
    };
    // One that was pushed here before the level rose brings its tags.
    let tags = tags_of(writer, repo, digest)?;
    let is_known = writer.has(Table::Cached, &at)?;
    let before = if is_known { weight(writer)? } else { 0 };
    let new = if is_known { 0 } else { manifest.weight() + row::TAG * tags };
    if let Err(refusal) = has_room(writer, repo, digest, tag.map(|(tag, _)| tag), new)? {
        return Ok(Err(refusal));
    }
    let stored = manifests::store(writer, cx, repo, manifest)?;
    asked_for(writer, cx, &at)?;
    let after = weight(writer)? + if is_known { 0 } else { row::TAG * tags };
    writer.count_cached(after, before)?;
    let moved = match tag {
        Some((tag, _)) => Some(point(writer, cx, repo, tag, digest)?),
        None => None,
    };
    Ok(Ok(moved.unwrap_or(stored)))
}

/// `TagCached`: as `put` of what is there.
pub(super) fn put_tag(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
    (tag, seen): (&Tag, u64),
) -> Effect {
    if !repo.is_cached() {
        return Ok(Err(Refusal::Invalid));
    }
    if !writer.is_cached(repo, digest)? {
        return Ok(Err(Refusal::NotFound));
    }
    if let Err(refusal) = is_as_seen(writer, repo, digest, (tag, seen))? {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = has_room(writer, repo, digest, Some(tag), 0)? {
        return Ok(Err(refusal));
    }
    asked_for(writer, cx, &key::repo_digest(repo, digest))?;
    Ok(Ok(point(writer, cx, repo, tag, digest)?))
}

/// Whether the tag was not moved since it was seen, unless to where it is to point.
fn is_as_seen(
    writer: &Writer<'_>,
    repo: &RepoName,
    digest: &Digest,
    (tag, seen): (&Tag, u64),
) -> Result<Result<(), Refusal>, StateError> {
    let now = writer.tag(repo, tag)?;
    let current = now.as_ref().map(|row| row.digest);
    let is_so = current == Some(*digest) || now.map_or(0, |row| row.revision) == seen;
    Ok(if is_so { Ok(()) } else { Err(Refusal::ConditionFailed { current }) })
}

/// Whether there is room for a manifest of weight `new` (0: it is counted already) and for the tag that is to
/// point to it.
fn has_room(
    writer: &Writer<'_>,
    repo: &RepoName,
    digest: &Digest,
    tag: Option<&Tag>,
    new: u64,
) -> Result<Result<(), Refusal>, StateError> {
    let mut more = new;
    if let Some(tag) = tag {
        let now = writer.tag(repo, tag)?.map(|row| row.digest);
        if now != Some(*digest) && tags_of(writer, repo, digest)? >= CACHED_TAGS_MAX {
            return Ok(Err(Refusal::TooMany { limit: CACHED_TAGS_MAX }));
        }
        let is_counted = match now {
            // It is among those that `new` has, or was counted before.
            Some(now) => now == *digest || writer.is_cached(repo, &now)?,
            None => false,
        };
        more += if is_counted { 0 } else { row::TAG };
    }
    let is_over = more > 0 && writer.number(Table::Meta, meta::CACHED_BYTES)? + more > CACHED_MAX;
    Ok(if is_over { Err(Refusal::TooMany { limit: CACHED_MAX }) } else { Ok(()) })
}

/// Points the tag to a cached manifest, and counts it.
fn point(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    tag: &Tag,
    digest: &Digest,
) -> Result<u64, StateError> {
    let is_counted = match writer.tag(repo, tag)? {
        Some(now) => writer.is_cached(repo, &now.digest)?,
        None => false,
    };
    let index = tags::set(writer, cx, repo, tag, digest)?;
    if !is_counted {
        writer.count_cached(row::TAG, 0)?;
    }
    Ok(index)
}

/// How many tags point to the manifest.
fn tags_of(writer: &Writer<'_>, repo: &RepoName, digest: &Digest) -> Result<u64, StateError> {
    writer.count_prefix(Table::TagOf, &key::repo_digest(repo, digest))
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

/// `ReclaimCached`: the leader listed them some time ago, and somebody may have asked since. It ends early
/// rather than take very many tags away at once; the leader comes back for the rest.
pub(super) fn reclaim(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    manifests: &[(RepoName, Digest)],
    before: u64,
) -> Effect {
    let mut tags = 0;
    for (repo, digest) in manifests {
        if tags >= RECLAIMED_TAGS {
            break;
        }
        let at = key::repo_digest(repo, digest);
        let is_old =
            writer.has(Table::Cached, &at)? && writer.number(Table::Cached, &at)? < before.min(cx.time);
        // A child goes once nothing names it, so that an index that is asked for keeps its images.
        if is_old && !writer.has_prefix(Table::Child, &at)? && !pins::keeps(writer, repo, digest)? {
            tags += tags_of(writer, repo, digest)?;
            manifests::remove(writer, cx, repo, digest)?;
        }
    }
    Ok(Ok(cx.index))
}
