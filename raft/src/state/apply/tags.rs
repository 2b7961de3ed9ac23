//! Tags: where they point, where they pointed, and compare-and-set.

use super::{Context, Effect};
use crate::command::{Refusal, TagCondition};
use crate::digest::Digest;
use crate::limits::TAG_HISTORY;
use crate::name::{RepoName, Tag};
use crate::state::StateError;
use crate::state::key::{self, Table};
use crate::state::row::{self, Row as _, TagMove, TagRow};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// Whether the tag is as the condition says.
pub(super) fn meets(
    writer: &Writer<'_>,
    repo: &RepoName,
    tag: &Tag,
    condition: TagCondition,
) -> Result<Result<(), Refusal>, StateError> {
    let current = writer.tag(repo, tag)?.map(|row| row.digest);
    let met = match condition {
        TagCondition::Absent => current.is_none(),
        TagCondition::Is(digest) => current == Some(digest),
    };
    Ok(if met { Ok(()) } else { Err(Refusal::ConditionFailed { current }) })
}

/// Points the tag to `digest`; the index of the entry that moved it there, which is an earlier
/// one when it points there already.
pub(super) fn set(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    tag: &Tag,
    digest: &Digest,
) -> Result<u64, StateError> {
    let mut history = Vec::new();
    let old = writer.tag(repo, tag)?;
    let is_new = old.is_none();
    if let Some(old) = old {
        if old.digest == *digest {
            return Ok(old.revision);
        }
        writer.remove(Table::TagOf, &key::tag_of(repo, &old.digest, tag))?;
        history = old.history;
        history.insert(0, TagMove { digest: old.digest, revision: old.revision, at: old.at, by: old.by });
        history.truncate(TAG_HISTORY);
    }
    let row = TagRow { digest: *digest, revision: cx.index, at: cx.now, by: cx.actor.to_owned(), history };
    if is_new {
        writer.put_new(Table::Tag, &key::tag(repo, tag), &row.encode())?;
    } else {
        writer.put_row(Table::Tag, &key::tag(repo, tag), &row)?;
    }
    // The tag did not point there.
    writer.mark_new(Table::TagOf, &key::tag_of(repo, digest, tag))?;
    Ok(cx.index)
}

/// `DeleteTag`.
pub(super) fn delete(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    tag: &Tag,
    condition: Option<TagCondition>,
) -> Effect {
    if let Some(condition) = condition
        && let Err(refusal) = meets(writer, repo, tag, condition)?
    {
        return Ok(Err(refusal));
    }
    let Some(row) = writer.tag(repo, tag)? else {
        return Ok(Err(Refusal::NotFound));
    };
    writer.remove(Table::Tag, &key::tag(repo, tag))?;
    writer.remove(Table::TagOf, &key::tag_of(repo, &row.digest, tag))?;
    if writer.is_cached(repo, &row.digest)? {
        writer.count_cached(0, row::TAG)?;
    }
    Ok(Ok(cx.index))
}
