//! Pins: references whose images stay cached.
//!
//! Always holds: there are at most [`PINS_MAX`], and as many as are counted. A pin may lead to
//! nothing yet.

use std::collections::BTreeSet;

use super::{Context, Effect};
use crate::command::Refusal;
use crate::digest::Digest;
use crate::limits::PINS_MAX;
use crate::name::{Reference, RepoName};
use crate::state::StateError;
use crate::state::key::{self, Table, meta};
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// `SetPins`: what is in both lists is there afterwards.
pub(super) fn set(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    add: &[(RepoName, Reference)],
    remove: &[(RepoName, Reference)],
) -> Effect {
    if add.iter().any(|(repo, _)| !repo.is_cached()) {
        return Ok(Err(Refusal::Invalid));
    }
    let keys = |pins: &[(RepoName, Reference)]| {
        pins.iter().map(|(repo, of)| key::pin(repo, of)).collect::<BTreeSet<_>>()
    };
    let (add, remove) = (keys(add), keys(remove));
    let (mut new, mut gone) = (Vec::new(), Vec::new());
    for key in &add {
        if !writer.has(Table::Pin, key)? {
            new.push(key);
        }
    }
    for key in remove.difference(&add) {
        if writer.has(Table::Pin, key)? {
            gone.push(key);
        }
    }
    let count = writer.number(Table::Meta, meta::PINS)?;
    let after = count.saturating_sub(gone.len() as u64) + new.len() as u64;
    if after > PINS_MAX && !new.is_empty() {
        return Ok(Err(Refusal::TooMany { limit: PINS_MAX }));
    }
    for key in &new {
        writer.mark_new(Table::Pin, key)?;
    }
    for key in &gone {
        writer.remove(Table::Pin, key)?;
    }
    if !(new.is_empty() && gone.is_empty()) {
        writer.set_number(Table::Meta, meta::PINS, after)?;
    }
    Ok(Ok(cx.index))
}

/// Whether the manifest is pinned, by its digest or by a tag that points to it.
pub(super) fn keeps(writer: &Writer<'_>, repo: &RepoName, digest: &Digest) -> Result<bool, StateError> {
    if writer.has(Table::Pin, &key::pin(repo, &Reference::Digest(*digest)))? {
        return Ok(true);
    }
    for name in writer.suffixes(Table::TagOf, &key::repo_digest(repo, digest))? {
        if writer.has(Table::Pin, &[&key::repo(repo), &name[..]].concat())? {
            return Ok(true);
        }
    }
    Ok(false)
}
