//! Blobs: coming into being, going home, getting lost.

use super::evidence::holders;
use super::{Context, Effect, links};
use crate::command::Refusal;
use crate::digest::Digest;
use crate::member::Evidence;
use crate::name::RepoName;
use crate::planted::Variant;
use crate::state::row::BlobRow;
use crate::state::rows::Rows;
use crate::state::writer::Writer;

/// `CommitBlob`: W members hold it, so it exists and is linked in `repo`.
pub(super) fn commit(
    writer: &mut Writer<'_>,
    cx: &Context<'_>,
    repo: &RepoName,
    digest: &Digest,
    size: u64,
    evidence: &[Evidence],
) -> Effect {
    let holders = holders(writer, cx, digest, evidence)?;
    let enough = if cx.planted.is(Variant::C1ThinEvidence) { 1 } else { holders.needed };
    if holders.count() < enough {
        return Ok(Err(Refusal::StaleEvidence { needed: holders.needed as u32 }));
    }
    let mut row = match writer.blob(digest)? {
        Some(known) if known.size != size => return Ok(Err(Refusal::SizeDiffers { known: known.size })),
        Some(known) => known,
        None => BlobRow { size, away: Vec::new(), lost: false, unlinked_since: None, evidence_at: cx.index },
    };
    holders.note(cx, &mut row);
    writer.set_blob(digest, Some(&row))?;
    links::link(writer, cx, repo, digest)?;
    Ok(Ok(cx.index))
}

/// `SettleBlobs`: what is held by W owners needs no away holder. Evidence that is too thin for
/// that still counts for what it says. Refused when it brings nothing.
pub(super) fn settle(writer: &mut Writer<'_>, cx: &Context<'_>, blobs: &[(Digest, Vec<Evidence>)]) -> Effect {
    let mut needed = 0;
    let mut counted = blobs.is_empty();
    for (digest, evidence) in blobs {
        let Some(mut row) = writer.blob(digest)? else { continue };
        let holders = holders(writer, cx, digest, evidence)?;
        needed = holders.needed as u32;
        if holders.count() > 0 {
            holders.note(cx, &mut row);
            writer.set_blob(digest, Some(&row))?;
            counted = true;
        }
    }
    Ok(if counted { Ok(cx.index) } else { Err(Refusal::StaleEvidence { needed }) })
}

/// `SetLost`: nobody had them when asked, and nobody brought them since.
pub(super) fn set_lost(writer: &mut Writer<'_>, cx: &Context<'_>, digests: &[Digest], seen: u64) -> Effect {
    for digest in digests {
        let Some(mut row) = writer.blob(digest)? else { continue };
        if row.evidence_at <= seen && !row.lost {
            row.lost = true;
            writer.set_blob(digest, Some(&row))?;
        }
    }
    Ok(Ok(cx.index))
}
