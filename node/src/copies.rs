//! What keeping copies needs of the cluster: what is agreed, and what other nodes hold.
//!
//! Repair, sweep and audit know the cluster through these two handles only, so that their
//! schedules can be produced in one process without a network.

pub mod audit;
#[cfg(test)]
pub mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;
use trow_api::blobs::ByteStream;
use trow_raft::metadata::ProposeError;
use trow_raft::state::{StateError, View};
use trow_raft::{Applied, Changes, Command, Digest, Evidence, NodeId};

/// What the cluster agreed on, as far as this node applied it.
#[derive(Clone)]
pub struct Agreed {
    /// This node.
    pub me: NodeId,
    /// The applied state now.
    pub view: Arc<dyn Fn() -> Result<View, StateError> + Send + Sync>,
    /// Proposes on behalf of `system`.
    pub propose: Arc<dyn Fn(Command) -> BoxFuture<'static, Result<Applied, ProposeError>> + Send + Sync>,
    /// Changes with each batch applied.
    pub applied: watch::Receiver<u64>,
    /// What the batches touched.
    pub changes: Arc<Changes>,
}

/// All bytes of a blob from a node; whether they have the digest is the caller's to verify.
pub type Fetch = Arc<dyn Fn(NodeId, Digest) -> BoxFuture<'static, Result<ByteStream, String>> + Send + Sync>;

/// Fresh evidence of a node for each digest, in order; `None` where it does not hold it. An error
/// means that it is not known what the node holds.
pub type Confirm = Arc<dyn Fn(NodeId, Vec<Digest>) -> BoxFuture<'static, Result<Said, String>> + Send + Sync>;

/// What a node said of the digests that it was asked about.
pub type Said = Vec<Option<Evidence>>;

/// What other nodes hold. Each call is bounded in time by whoever made the handle.
#[derive(Clone)]
pub struct Others {
    /// Gets a blob.
    pub fetch: Fetch,
    /// Asks for evidence.
    pub confirm: Confirm,
}

impl Others {
    /// Asks all of `nodes` at once about `digests`, and gives what each said.
    pub async fn confirm_all(
        &self,
        nodes: impl IntoIterator<Item = (NodeId, Vec<Digest>)>,
    ) -> Vec<(NodeId, Vec<(Digest, Option<Evidence>)>)> {
        let asked = nodes.into_iter().map(|(node, digests)| async move {
            match (self.confirm)(node, digests.clone()).await {
                Ok(said) if said.len() == digests.len() => (node, digests.into_iter().zip(said).collect()),
                Ok(_) => (node, Vec::new()),
                Err(why) => {
                    tracing::debug!(%node, why, "a peer did not say what it holds");
                    (node, Vec::new())
                }
            }
        });
        futures::future::join_all(asked).await
    }
}

/// The partitions whose blobs share a directory of the store, which is the first byte of theirs.
pub fn partitions_of(bucket: u8) -> impl Iterator<Item = trow_raft::PartitionId> {
    (0..4).filter_map(move |low| trow_raft::PartitionId::new(u16::from(bucket) << 2 | low))
}
