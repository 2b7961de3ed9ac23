//! `Reclaim`: rows go that nobody used for a grace period.

use super::{Context, Effect, links};
use crate::digest::Digest;
use crate::name::RepoName;
use crate::state::key::{self, Table};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// Removes what is still unused and was last wanted before state time `before`; the leader listed
/// it some time ago, and a push may have come in between.
///
/// Files are not touched: the sweeper finds later that the state does not know them.
pub(super) fn reclaim(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    links: &[(RepoName, Digest)],
    blobs: &[Digest],
    before: u64,
) -> Effect {
    // What this very command unlinks is never old enough for it.
    let before = before.min(cx.time);
    for (repo, digest) in links {
        let Some(row) = writer.link(repo, digest)? else { continue };
        let used = writer.has_prefix(Table::Use, &key::repo_digest(repo, digest))?;
        if !used && row.linked_at.max(row.wanted_at) < before {
            links::unlink(writer, cx, repo, digest)?;
        }
    }
    for digest in blobs {
        let Some(row) = writer.blob(digest)? else { continue };
        if row.unlinked_since.is_some_and(|since| since < before) {
            writer.set_blob(digest, None)?;
        }
    }
    Ok(Ok(cx.index))
}
