//! Getting one missing blob from whoever has it.

use futures::StreamExt;
use trow_raft::state::{StateError, View};
use trow_raft::{Digest, NodeId};

use super::limit::Limit;
use crate::copies::{Agreed, Others};
use crate::store::{HoldError, Store};

/// What became of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// It is held now, or need not be any more.
    Done,
    /// Nobody gave it this time.
    Failed,
    /// Every other member said that it does not hold it; asked after this index was applied.
    Denied {
        /// The index.
        seen: u64,
    },
    /// There is no room for it.
    NoSpace,
}

/// Fetches, verifies and holds a blob.
pub(super) async fn fetch(
    store: &Store,
    agreed: &Agreed,
    others: &Others,
    limit: &Limit,
    digest: Digest,
) -> Fetched {
    let (order, seen) = match (agreed.view)().and_then(|view| sources(&view, agreed.me, &digest)) {
        Ok(Some(found)) => found,
        Ok(None) => return Fetched::Done,
        Err(err) => {
            tracing::error!(%digest, cause = %err, "repair cannot read the state and tries again; if it repeats, check the disk and start the node again");
            return Fetched::Failed;
        }
    };
    for node in &order {
        match from(store, agreed, others, limit, *node, digest).await {
            Ok(()) => {
                tracing::debug!(%digest, source = %node, "fetched a missing blob");
                return Fetched::Done;
            }
            Err(Failure::NoSpace) => return Fetched::NoSpace,
            Err(Failure::Source(why)) => {
                tracing::debug!(%digest, source = %node, why, "a source did not give a blob");
            }
        }
    }
    let said = others.confirm_all(order.iter().map(|node| (*node, vec![digest]))).await;
    let denied = |said: &Vec<(Digest, _)>| matches!(said.as_slice(), [(_, None)]);
    if said.iter().all(|(_, said)| denied(said)) { Fetched::Denied { seen } } else { Fetched::Failed }
}

enum Failure {
    NoSpace,
    Source(String),
}

async fn from(
    store: &Store,
    agreed: &Agreed,
    others: &Others,
    limit: &Limit,
    node: NodeId,
    digest: Digest,
) -> Result<(), Failure> {
    let store_failed = |err: HoldError| match err {
        HoldError::Store(crate::store::StoreError::NoSpace) => Failure::NoSpace,
        err => Failure::Source(err.to_string()),
    };
    let mut body = (others.fetch)(node, digest).await.map_err(Failure::Source)?;
    let mut staged = store.stage(Some(digest.algorithm())).await.map_err(|err| store_failed(err.into()))?;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|err| Failure::Source(err.to_string()))?;
        limit.take(bytes.len()).await;
        staged.write(bytes).await.map_err(|err| store_failed(err.into()))?;
    }
    // Its partition may have moved on meanwhile, and the sweeper been there.
    if is_needed(agreed, &digest)? {
        staged.hold(&digest).await.map_err(store_failed)?;
        if !is_needed(agreed, &digest)? {
            agreed.changes.note_blob(&digest);
        }
    }
    Ok(())
}

fn is_needed(agreed: &Agreed, digest: &Digest) -> Result<bool, Failure> {
    let found = (agreed.view)().and_then(|view| sources(&view, agreed.me, digest));
    Ok(found.map_err(|err| Failure::Source(err.to_string()))?.is_some())
}

/// Every other member, the likely holders first: owners, sources, away holders, the rest; and
/// the applied index. `None` when this node need not have the blob.
fn sources(view: &View, me: NodeId, digest: &Digest) -> Result<Option<(Vec<NodeId>, u64)>, StateError> {
    let partition = view.partition(digest.partition())?;
    let Some(row) = view.blob(digest)? else { return Ok(None) };
    if row.lost || !partition.owned_by(me) {
        return Ok(None);
    }
    let mut order: Vec<NodeId> = Vec::new();
    let owners = partition.owners.iter().map(|owner| owner.node);
    let members = view.members()?.into_iter().map(|member| member.id);
    for node in owners.chain(partition.sources).chain(row.away).chain(members) {
        if node != me && !order.contains(&node) {
            order.push(node);
        }
    }
    Ok(Some((order, view.applied()?)))
}
