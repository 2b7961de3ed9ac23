//! Links: which repositories a blob may be pulled from.
//!
//! A link that no manifest of its repository uses lives for a grace period of state time, counted
//! from when it was made, asked for, or lost its last use.

use super::{Context, Effect};
use crate::command::Refusal;
use crate::digest::Digest;
use crate::name::RepoName;
use crate::state::StateError;
use crate::state::key::{self, Table};
use crate::state::row::{LinkRow, Row as _};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// Links the blob, which must have a row, or starts the grace of its link anew.
pub(super) fn link(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<(), StateError> {
    if want_one(writer, cx, repo, digest)? {
        return Ok(());
    }
    let row = LinkRow { linked_at: cx.time, wanted_at: cx.time };
    // Without a link there is no entry in the other direction either.
    writer.put_new(Table::Link, &key::repo_digest(repo, digest), &row.encode())?;
    writer.mark_new(Table::LinkedIn, &key::digest_repo(digest, repo))?;
    if let Some(mut blob) = writer.blob(digest)?
        && blob.unlinked_since.take().is_some()
    {
        writer.set_blob(digest, Some(&blob))?;
    }
    Ok(())
}

/// Removes the link; with the blob's last one its own grace begins.
pub(super) fn unlink(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<(), StateError> {
    writer.remove(Table::Link, &key::repo_digest(repo, digest))?;
    writer.remove(Table::LinkedIn, &key::digest_repo(digest, repo))?;
    if !writer.has_prefix(Table::LinkedIn, &key::digest(digest))?
        && let Some(mut blob) = writer.blob(digest)?
    {
        blob.unlinked_since = Some(cx.time);
        writer.set_blob(digest, Some(&blob))?;
    }
    Ok(())
}

/// Starts the grace of a link anew; whether there is one.
pub(super) fn want_one(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<bool, StateError> {
    let Some(mut row) = writer.link(repo, digest)? else {
        return Ok(false);
    };
    if row.wanted_at != cx.time {
        row.wanted_at = cx.time;
        writer.put_row(Table::Link, &key::repo_digest(repo, digest), &row)?;
    }
    Ok(true)
}

/// Whether the blob may be pulled, mounted and named by manifests from `repo`.
pub(super) fn is_usable(writer: &Writer<'_>, repo: &RepoName, digest: &Digest) -> Result<bool, StateError> {
    let linked = writer.has(Table::Link, &key::repo_digest(repo, digest))?;
    Ok(linked && writer.blob(digest)?.is_some_and(|blob| !blob.lost))
}

/// `MountBlob`.
pub(super) fn mount(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    from: &RepoName,
    to: &RepoName,
    digest: &Digest,
) -> Effect {
    if !is_usable(writer, from, digest)? {
        return Ok(Err(Refusal::NotFound));
    }
    link(writer, cx, to, digest)?;
    Ok(Ok(cx.index))
}

/// `WantLinks`: what is gone by now stays gone.
pub(super) fn want(writer: &mut Writer<'_>, cx: &Context<'_>, links: &[(RepoName, Digest)]) -> Effect {
    let mut found = links.is_empty();
    for (repo, digest) in links {
        if is_usable(writer, repo, digest)? {
            found |= want_one(writer, cx, repo, digest)?;
        }
    }
    Ok(if found { Ok(cx.index) } else { Err(Refusal::NotFound) })
}

/// `DeleteLink`.
pub(super) fn delete(writer: &mut Writer<'_>, cx: &Context<'_>, repo: &RepoName, digest: &Digest) -> Effect {
    let at = key::repo_digest(repo, digest);
    if !writer.has(Table::Link, &at)? {
        return Ok(Err(Refusal::NotFound));
    }
    if writer.has_prefix(Table::Use, &at)? {
        return Ok(Err(Refusal::InUse));
    }
    unlink(writer, cx, repo, digest)?;
    Ok(Ok(cx.index))
}
