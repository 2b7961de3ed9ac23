//! Where a fill's bytes come from: nodes that have them, else the upstream.
//!
//! Always holds: what is opened goes on at the byte reached, also where the other side begins anew; every node is
//! asked once whether it has the blob for this name, all at the same time, before an upstream is asked; a node that failed is
//! not asked again. Never does: verify.

use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use trow_api::blobs::ByteStream;
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::{Digest, NodeId, RepoName};

use super::pour::STALL;
use super::{Fill, Means};
use crate::peer_blobs::{There, Wanted};
use crate::upstream::UpstreamError;

/// When to come back when too many read without anything being kept.
const RETRY: Duration = Duration::from_secs(2);

/// What is left to ask.
pub(super) struct Sources {
    peers: VecDeque<(NodeId, There)>,
}

/// Bytes on their way, from the byte that was asked for.
pub(super) struct Opened {
    pub(super) body: ByteStream,
    /// They come from a node, and not from the upstream itself.
    pub(super) peer: Option<Giver>,
    /// The end of the body is the end of the blob, as its length said before.
    pub(super) has_length: bool,
}

/// A node that gives what it has.
pub(super) struct Giver {
    /// The name by which it says that the bytes came.
    pub(super) origin: Option<RepoName>,
}

/// Why nothing was opened.
#[derive(Debug)]
pub(super) enum Closed {
    /// Asking again makes no sense.
    Never(PullError),
    /// Perhaps soon.
    NotNow(PullError),
}

impl Sources {
    /// Asks the other nodes whether they have the blob; those that hold it come before one where it arrives.
    pub(super) async fn of(fill: &Fill, means: &Means) -> Sources {
        let others = means.homes.healthy().into_iter().filter(|node| *node != means.me);
        let for_user = means.registries.needs_user(&fill.name);
        let asked = others.map(|node| async move {
            let there = means.peers.look_cached(node, fill.name.local(), &fill.digest, for_user);
            let there = there.await.ok().flatten();
            there.filter(|there| there.size == fill.size).map(|there| (node, there))
        });
        let mut peers: Vec<(NodeId, There)> = join_all(asked).await.into_iter().flatten().collect();
        peers.sort_by_key(|(_, there)| there.is_arriving);
        Sources { peers: peers.into() }
    }

    /// The next source, at byte `at`.
    pub(super) async fn open(&mut self, fill: &Fill, means: &Means, at: u64) -> Result<Opened, Closed> {
        while let Some((node, _)) = self.peers.pop_front() {
            let (repo, digest, size) = (fill.name.local(), &fill.digest, fill.size);
            let for_user = means.registries.needs_user(&fill.name);
            let wanted = Wanted { repo, digest, size, range: at..size, only_there: true, for_user };
            match means.peers.cached(node, wanted).await {
                Ok(fetched) if fetched.size == size => {
                    let peer = Some(Giver { origin: fetched.origin });
                    return Ok(Opened { body: fetched.body, peer, has_length: true });
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%node, %digest, %error, "a node does not give a blob that it had")
                }
            }
        }
        upstream(means, &fill.name, &fill.digest, fill.size, at).await
    }
}

/// The upstream at byte `at` of a blob of `size` bytes, if it may be asked.
async fn upstream(
    means: &Means,
    name: &UpstreamName,
    digest: &Digest,
    size: u64,
    at: u64,
) -> Result<Opened, Closed> {
    let rules = means.registries.rules(name);
    rules.allowed.map_err(|why| Closed::Never(PullError::Denied(why)))?;
    if rules.offline {
        return Err(Closed::Never(PullError::Offline));
    }
    let bad = |why: String| Closed::Never(PullError::Bad(format!("upstream {}: {why}", name.host())));
    let arriving = means.registries.blob(name, digest, at).await.map_err(|error| match error {
        error @ UpstreamError::Unavailable { .. } => Closed::NotNow(pull_error(error)),
        error => Closed::Never(pull_error(error)),
    })?;
    if let Some(other) = arriving.size.filter(|other| *other != size) {
        return Err(bad(format!("gives {other} bytes for the blob {digest}, which has {size}")));
    }
    let Some(skip) = at.checked_sub(arriving.from) else {
        return Err(bad(format!("goes on at byte {} of a blob and not at {at}", arriving.from)));
    };
    let has_length = arriving.size.is_some();
    Ok(Opened { body: without(arriving.body, skip), peer: None, has_length })
}

/// Bytes straight from the upstream for one reader: without room to keep them, they have passed already. They are
/// not verified.
///
/// # Errors
/// As the upstream says, or that too many are read so at once.
pub(in crate::cache) async fn straight(
    means: &Means,
    name: &UpstreamName,
    digest: &Digest,
    size: u64,
    range: Range<u64>,
) -> Result<ByteStream, PullError> {
    let busy = || PullError::Unavailable {
        why: format!(
            "upstream {}: there is no room to keep blobs, and too many are read without",
            name.host()
        ),
        retry: RETRY,
    };
    let permit = Arc::clone(&means.straight).try_acquire_owned().map_err(|_| busy())?;
    let opened = match upstream(means, name, digest, size, range.start).await {
        Ok(opened) => opened,
        Err(Closed::Never(error) | Closed::NotNow(error)) => return Err(error),
    };
    let state = (opened.body, range.end - range.start, permit);
    Ok(Box::pin(stream::try_unfold(state, |(mut body, left, permit)| async move {
        if left == 0 {
            return Ok(None);
        }
        let next = tokio::time::timeout(STALL, body.next()).await.ok().flatten().transpose()?;
        let Some(mut bytes) = next else { return Err(io::Error::other("the upstream broke off")) };
        // The upstream was asked for all that follows.
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - bytes.len() as u64;
        Ok(Some((bytes, (body, left, permit))))
    })))
}

/// What an upstream's answer means.
pub(in crate::cache) fn pull_error(error: UpstreamError) -> PullError {
    match error {
        UpstreamError::NotFound => PullError::NotFound,
        UpstreamError::Denied(why) => PullError::Denied(why),
        UpstreamError::Unavailable { why, retry } => PullError::Unavailable { why, retry },
        UpstreamError::Bad(why) => PullError::Bad(why),
    }
}

/// `body` without its first `skip` bytes, for an upstream that knows no ranges. Bytes that are skipped come through
/// as pieces of nothing, so that who waits sees them come.
fn without(body: ByteStream, skip: u64) -> ByteStream {
    if skip == 0 {
        return body;
    }
    Box::pin(body.scan(skip, |skip, item| {
        ready(Some(item.map(|mut bytes| {
            let gone = bytes.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
            *skip -= gone as u64;
            bytes.split_off(gone)
        })))
    }))
}
