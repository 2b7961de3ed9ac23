//! Which files are cached, made out again from files and state where the index may have forgotten
//! some; and those that became durable since.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::sleep;
use trow_raft::state::{StateError, View};
use trow_raft::{Digest, Touched};

use super::{EvictError, Evictor};
use crate::copies::Agreed;
use crate::store::{Store, blocking};

/// Manifests looked at in one view: one for all would keep old pages of the state from being used
/// again.
const PAGE: usize = 256;
/// How long the state is waited for at a time.
const LOOK: Duration = Duration::from_millis(500);

/// The first component of all repositories of upstreams.
const BELOW: &str = "f/";

impl Evictor {
    /// Waits until this node has the state of its cluster, then counts as cached what is, and no more.
    /// Until then the sweeper leaves alone what the state does not know.
    pub(super) async fn learn(&self) {
        let inner = &self.inner;
        loop {
            let member = (inner.agreed.view)().and_then(|view| view.member(inner.agreed.me));
            if member.is_ok_and(|member| member.is_some()) {
                let (store, agreed) = (inner.store.clone(), inner.agreed.clone());
                match blocking(move || learned(&store, &agreed)).await {
                    Ok(0) => return,
                    Ok(found) => {
                        tracing::info!(found, "cached files that the index had forgotten are known again");
                        return;
                    }
                    Err(err) => tracing::debug!(cause = %err, "which files are cached is looked for again"),
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Takes note of cached blobs that became durable since `position` in the changes of the state;
    /// the position to go on from.
    pub(super) async fn forget_durable(&self, position: u64) -> u64 {
        let (touched, seen) = self.inner.agreed.changes.since(position);
        if touched.is_empty() || self.inner.store.cached().blobs == 0 {
            return seen;
        }
        let (store, agreed) = (self.inner.store.clone(), self.inner.agreed.clone());
        let forgotten = blocking(move || {
            let all = if touched.iter().any(|touched| matches!(touched, Touched::Partition(_))) {
                store.all_cached()
            } else {
                let blob = |touched: &Touched| match touched {
                    Touched::Blob(digest) => Some(*digest),
                    Touched::Partition(_) => None,
                };
                touched.iter().filter_map(blob).filter(|digest| store.is_cached(digest)).collect()
            };
            forget(&store, &agreed, &all)
        });
        match forgotten.await {
            Ok(()) => seen,
            Err(err) => {
                tracing::debug!(cause = %err, "which cached blobs are durable is looked for again");
                position
            }
        }
    }
}

/// Counts as cached what is here and listed by a cached manifest while the state does not know it, if
/// the index may have forgotten some; how many it had. Blocks.
fn learned(store: &Store, agreed: &Agreed) -> Result<u64, EvictError> {
    let mut found = 0;
    if !store.knows_cached() {
        let mut failed = None;
        each_listed(agreed, |view, digest| {
            if store.has(digest).is_none() || view.blob(digest)?.is_some() {
                return Ok(ControlFlow::Continue(()));
            }
            match store.count_as_cached(digest) {
                Ok(counted) => found += u64::from(counted),
                Err(err) => {
                    failed = Some(err);
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(err) = failed {
            return Err(err.into());
        }
        store.all_cached_known();
    }
    forget(store, agreed, &store.all_cached())?;
    Ok(found)
}

fn forget(store: &Store, agreed: &Agreed, digests: &[Digest]) -> Result<(), EvictError> {
    for digests in digests.chunks(PAGE) {
        let view = (agreed.view)()?;
        for digest in digests {
            if view.blob(digest)?.is_some() {
                store.is_durable_now(digest);
            }
        }
    }
    Ok(())
}

/// Calls `each` for every blob that a cached manifest lists, more than once where several do. Blocks.
pub(super) fn each_listed(
    agreed: &Agreed,
    mut each: impl FnMut(&View, &Digest) -> Result<ControlFlow<()>, StateError>,
) -> Result<(), StateError> {
    let mut after = None;
    loop {
        let view = (agreed.view)()?;
        let start = after.as_ref().map(|(repo, digest)| (repo, digest));
        let page = view.cached(BELOW, start, PAGE)?;
        for cached in &page {
            let row = view.manifest(&cached.repo, &cached.digest)?;
            for digest in row.iter().flat_map(|row| &row.blobs) {
                if each(&view, digest)?.is_break() {
                    return Ok(());
                }
            }
        }
        match page.into_iter().nth(PAGE - 1) {
            Some(last) => after = Some((last.repo, last.digest)),
            None => return Ok(()),
        }
    }
}

/// Those of `digests` that no cached manifest lists. Blocks.
pub(super) fn unlisted(agreed: &Agreed, mut digests: HashSet<Digest>) -> Result<HashSet<Digest>, StateError> {
    each_listed(agreed, |_, digest| {
        digests.remove(digest);
        Ok(if digests.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(digests)
}
