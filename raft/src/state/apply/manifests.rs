//! Manifests and the edges from them.
//!
//! Edges are stored, never counted: manifest → blob per repository, and manifest → child. A
//! manifest in the state has all its blobs linked and all its children there, unless it was put
//! as sparse, is of an upstream registry's repository, or a child was deleted by name afterwards.

use super::tags::{meets, set};
use super::{Context, Effect, links};
use crate::command::{NewManifest, Refusal, TagCondition};
use crate::digest::Digest;
use crate::name::{RepoName, Tag};
use crate::state::StateError;
use crate::state::key::{self, Table};
use crate::state::row::{self, ManifestRow, Row as _};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// Digests that one refusal names at most: outcomes are remembered, so they must be small.
const NAMED: usize = 100;

/// A `PutManifest`.
pub(super) struct Put<'c> {
    pub(super) repo: &'c RepoName,
    pub(super) manifest: &'c NewManifest,
    pub(super) tags: &'c [Tag],
    pub(super) condition: Option<TagCondition>,
    pub(super) sparse: bool,
}

/// Stores the manifest and points the tags to it. What is so already is not touched, and is
/// reported with the index that made it so.
pub(super) fn put(writer: &mut Writer<'_>, cx: &Context<'_>, put: &Put<'_>) -> Effect {
    if let Some(refusal) = refuse(writer, put)? {
        return Ok(Err(refusal));
    }
    let stored = store(writer, cx, put.repo, put.manifest)?;
    let mut moved = None;
    for tag in put.tags {
        moved = moved.max(Some(set(writer, cx, put.repo, tag, &put.manifest.digest)?));
    }
    Ok(Ok(moved.unwrap_or(stored)))
}

fn refuse(writer: &Writer<'_>, put: &Put<'_>) -> Result<Option<Refusal>, StateError> {
    if let Some(condition) = put.condition {
        if put.tags.is_empty() {
            return Ok(Some(Refusal::Invalid));
        }
        for tag in put.tags {
            if let Err(refusal) = meets(writer, put.repo, tag, condition)? {
                return Ok(Some(refusal));
            }
        }
    }
    if put.sparse {
        return Ok(None);
    }
    let mut digests = Vec::new();
    for blob in &put.manifest.blobs {
        if digests.len() < NAMED && !links::is_usable(writer, put.repo, blob)? {
            digests.push(*blob);
        }
    }
    if !digests.is_empty() {
        return Ok(Some(Refusal::BlobsUnknown { digests }));
    }
    for child in &put.manifest.children {
        let there = writer.has(Table::Manifest, &key::repo_digest(put.repo, child))?;
        if digests.len() < NAMED && !there {
            digests.push(*child);
        }
    }
    Ok((!digests.is_empty()).then_some(Refusal::ManifestsUnknown { digests }))
}

/// Writes the manifest with its edges; the index of the entry that made it as it is.
pub(super) fn store(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    new: &NewManifest,
) -> Result<u64, StateError> {
    let (at, body) = (key::repo_digest(repo, &new.digest), key::digest(&new.digest));
    // Where no repository has the bytes none has the manifest: for what is new, one look is enough.
    let is_known = writer.has_prefix(Table::BodyIn, &body)?;
    let old = if is_known { writer.manifest(repo, &new.digest)? } else { None };
    let mut row = ManifestRow {
        media_type: new.media_type.clone(),
        artifact_type: new.artifact_type.clone(),
        subject: new.subject,
        pushed_at: cx.now,
        by: cx.actor.to_owned(),
        size: new.bytes.len() as u64,
        index: cx.index,
        blobs: new.blobs.clone(),
        children: new.children.clone(),
    };
    if let Some(old) = &old {
        (row.pushed_at, row.by, row.index) = (old.pushed_at, old.by.clone(), old.index);
        if row == *old {
            return Ok(old.index);
        }
        // The bytes are the same, so this is another media type or another reader of the bytes.
        row.index = cx.index;
        remove_edges(writer, cx, repo, &new.digest, old)?;
        writer.put_row(Table::Manifest, &at, &row)?;
    } else {
        writer.put_new(Table::Manifest, &at, &row.encode())?;
        if !is_known {
            writer.put_new(Table::Body, &body, &new.bytes)?;
        }
        writer.mark_new(Table::BodyIn, &key::digest_repo(&new.digest, repo))?;
    }
    // No edge begins at a manifest that is not there, or whose edges were removed.
    for blob in &row.blobs {
        writer.mark_new(Table::Use, &key::edge(repo, blob, &new.digest))?;
    }
    for child in &row.children {
        writer.mark_new(Table::Child, &key::edge(repo, child, &new.digest))?;
    }
    if let (Some(subject), Some(descriptor)) = (&row.subject, &new.descriptor) {
        writer.put_new(Table::Referrer, &key::edge(repo, subject, &new.digest), descriptor)?;
    }
    Ok(row.index)
}

/// Removes the edges of a manifest; links that lose their last use get their grace.
fn remove_edges(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
    row: &ManifestRow,
) -> Result<(), StateError> {
    for blob in &row.blobs {
        writer.remove(Table::Use, &key::edge(repo, blob, digest))?;
        if !writer.has_prefix(Table::Use, &key::repo_digest(repo, blob))? {
            links::want_one(writer, cx, repo, blob)?;
        }
    }
    for child in &row.children {
        writer.remove(Table::Child, &key::edge(repo, child, digest))?;
    }
    if let Some(subject) = &row.subject {
        writer.remove(Table::Referrer, &key::edge(repo, subject, digest))?;
    }
    Ok(())
}

/// `DeleteManifest`: with it go the tags that point to it, and its bytes with the last repository.
pub(super) fn delete(writer: &mut Writer<'_>, cx: &Context<'_>, repo: &RepoName, digest: &Digest) -> Effect {
    Ok(if remove(writer, cx, repo, digest)? { Ok(cx.index) } else { Err(Refusal::NotFound) })
}

/// Removes the manifest with everything that is there because of it; whether it was there.
pub(super) fn remove(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<bool, StateError> {
    let Some(row) = writer.manifest(repo, digest)? else {
        return Ok(false);
    };
    let prefix = key::repo_digest(repo, digest);
    let tags = writer.suffixes(Table::TagOf, &prefix)?;
    for name in &tags {
        writer.remove(Table::Tag, &[&key::repo(repo), &name[..]].concat())?;
        writer.remove(Table::TagOf, &[&prefix, &name[..]].concat())?;
    }
    remove_edges(writer, cx, repo, digest, &row)?;
    writer.remove(Table::Manifest, &prefix)?;
    writer.remove(Table::BodyIn, &key::digest_repo(digest, repo))?;
    let body = key::digest(digest);
    if !writer.has_prefix(Table::BodyIn, &body)? {
        writer.remove(Table::Body, &body)?;
    }
    if repo.is_cached() && writer.remove(Table::Cached, &prefix)? {
        writer.count_cached(0, row.weight() + row::TAG * tags.len() as u64)?;
    }
    Ok(true)
}
