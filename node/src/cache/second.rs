//! A second copy of what was fetched, so that the loss of one node does not lose the cache.
//!
//! After a fill the next node of the ring is asked to keep a copy too. Always holds: nobody waits for it, a few are
//! made at a time, and what there is no room for in the queue is left out. Never does: promise anything; what is
//! cached may be fetched again.

use tokio::sync::mpsc;
use trow_raft::{Digest, NodeId};

use super::homes::Homes;
use super::origins::Origins;
use crate::peer_blobs::PeerBlobs;

/// Blobs that wait for their second copy.
const QUEUE: usize = 4096;
/// Copies that are made at once.
const AT_ONCE: usize = 2;

/// The queue.
pub(super) struct Seconds(mpsc::Sender<Digest>);

impl Seconds {
    /// Starts making second copies of what is in the store of `me`. Needs a runtime.
    pub(super) fn start(me: NodeId, homes: Homes, peers: PeerBlobs, origins: Origins) -> Seconds {
        let (queue, wanted) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let wanted = tokio_stream::wrappers::ReceiverStream::new(wanted);
            futures::StreamExt::for_each_concurrent(wanted, AT_ONCE, |digest: Digest| {
                let (homes, peers, origins) = (&homes, &peers, &origins);
                async move {
                    let node = homes.of(&digest.to_string(), &[me]);
                    if node == me {
                        return;
                    }
                    let origin = origins.of(&digest);
                    let for_user = origins.needs_user(origin.as_ref());
                    match peers.keep_cached(node, &digest, &[me], origin, for_user).await {
                        Ok(()) => tracing::debug!(%node, %digest, "a second copy is kept"),
                        Err(error) => {
                            tracing::info!(%node, %digest, %error, "no second copy of a cached blob was made; the loss of this node would have it fetched again");
                        }
                    }
                }
            })
            .await;
        });
        Seconds(queue)
    }

    /// Has a second copy made soon.
    pub(super) fn want(&self, digest: Digest) {
        if self.0.try_send(digest).is_err() {
            tracing::debug!(%digest, "too many blobs wait for their second copy; this one is left out");
        }
    }
}
