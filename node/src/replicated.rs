//! Blobs as the cluster has them: read from wherever they are, uploaded to where they last.
//!
//! Owns the choice of nodes: which peer to read from, which node an upload's request belongs to,
//! who else must vouch for a blob before it is committed. Always holds: bytes that are relayed
//! are checked, and an acknowledged upload is durable on a write quorum that the state knows.
//! Never does: leave a copy of what was read on a node that should not have it, or buffer a blob.

mod agreement;
mod candidates;
mod commit;
mod evidence;
mod fault;
mod find;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod passed;
mod read;
mod running;
mod serve_peers;
mod sessions;
pub(crate) mod task;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod uploads;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use futures::future::join_all;
use trow_api::blobs::{Blobs, ByteStream, Held, ReadBlobError, UploadError, UploadToken};
use trow_raft::{Algorithm, Applied, Digest, NodeId, Planted, RepoName};

use crate::peer_blobs::wire::Claimed;
use crate::peer_blobs::{HeldBy, PeerBlobs};
use crate::store::Store;
pub use agreement::Agreement;
use fault::upload_error;
pub use running::Running;
pub use sessions::{Limits, UploadStats};
use token::{Seal, Ticket, now};
use uploads::Uploads;

/// How often expired sessions are looked for; more often when they expire sooner.
const EXPIRE_EVERY: Duration = Duration::from_secs(15);

/// The cluster's blobs, through this node. Cheap to clone.
#[derive(Clone)]
pub struct Replicated {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    store: Store,
    agreed: Agreement,
    peers: PeerBlobs,
    uploads: Uploads,
}

/// A node that holds a blob, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which node.
    pub node: NodeId,
    /// When it last checked all bytes against the digest, in ms since 1970.
    pub verified_at: Option<u64>,
}

impl Replicated {
    /// Of the node `me`, over its store, the agreed metadata and the peers. `secret` is what all
    /// nodes of the cluster derived for uploads, and seals their tickets. Needs a Tokio runtime.
    pub fn new(
        me: NodeId,
        store: Store,
        agreed: Agreement,
        peers: PeerBlobs,
        secret: &[u8],
        limits: Limits,
        planted: Planted,
    ) -> Replicated {
        let seal = Seal::new(secret);
        let rules = (limits, planted);
        let uploads = Uploads::new(me, store.clone(), agreed.clone(), peers.clone(), seal, rules);
        let inner = Arc::new(Inner { me, store, agreed, peers, uploads });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let every = limits.expiry.clamp(Duration::from_secs(1), EXPIRE_EVERY);
            loop {
                tokio::time::sleep(every).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.uploads.expire();
            }
        });
        Replicated { inner }
    }

    /// What peers ask of this node, for the peer listener's HTTP/1.1 side.
    pub fn peer_router(&self) -> Router {
        serve_peers::router(self.clone())
    }

    /// The uploads that are open and the bytes that are staged on this node.
    pub fn stats(&self) -> UploadStats {
        self.inner.uploads.stats()
    }

    /// This node is about to end: hands its open uploads on, in at most `limit`, and has new ones
    /// begin elsewhere from now on.
    pub async fn leave(&self, limit: Duration) {
        self.inner.uploads.leave(limit).await;
    }

    /// The uploads that this node is home or mirror of.
    fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// This node's files.
    fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Asks every member whether it holds the blob; those that do, and who did not answer.
    pub async fn locate(&self, digest: &Digest) -> Result<(Vec<Holder>, Vec<NodeId>), trow_raft::StateError> {
        let members = (self.inner.agreed.view)()?.members()?;
        let (me, store, peers) = (self.inner.me, &self.inner.store, &self.inner.peers);
        let answers = members.iter().map(|member| async move {
            if member.id == me {
                let held =
                    store.has(digest).map(|_| Holder { node: me, verified_at: store.verified_at(digest) });
                return (me, Ok(held));
            }
            let answer = peers.look(member.id, digest).await;
            let holder = |by: HeldBy| Holder { node: member.id, verified_at: by.verified_at };
            (member.id, answer.map(|held| held.map(holder)))
        });
        let (mut holders, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in join_all(answers).await {
            match answer {
                Ok(held) => holders.extend(held),
                Err(_) => silent.push(node),
            }
        }
        Ok((holders, silent))
    }

    /// The ticket in the client's token.
    fn ticket(&self, repo: &RepoName, token: &UploadToken) -> Result<Ticket, UploadError> {
        let seal = self.inner.uploads.seal();
        let ticket = seal.open(repo, token.state(), now()).map_err(|_| UploadError::Unknown)?;
        if ticket.id.to_string() == token.id() { Ok(ticket) } else { Err(UploadError::Unknown) }
    }

    /// The token and length that a client is told of a session as it is now.
    fn token(&self, repo: &RepoName, claimed: &Claimed) -> Result<(UploadToken, u64), UploadError> {
        let seal = self.inner.uploads.seal();
        let garbled = || UploadError::Unavailable("a peer gave out a ticket that is not valid here".into());
        let ticket = seal.open(repo, &claimed.ticket, now()).map_err(|_| garbled())?;
        let token = UploadToken::new(ticket.id.to_string(), claimed.ticket.clone()).ok_or_else(garbled)?;
        Ok((token, claimed.length))
    }
}

#[async_trait]
impl Blobs for Replicated {
    async fn open(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<ByteStream, ReadBlobError> {
        let Inner { me, store, agreed, peers, .. } = &*self.inner;
        read::open((*me, store, agreed, peers), digest, size, range).await
    }

    async fn holders(&self, digest: &Digest) -> Result<Held, trow_raft::StateError> {
        let (holders, silent) = self.locate(digest).await?;
        Ok(Held { by: holders.into_iter().map(|holder| holder.node).collect(), silent })
    }

    async fn start(&self, repo: &RepoName, hint: Option<Algorithm>) -> Result<UploadToken, UploadError> {
        let claimed = self.forward_begin(repo, hint).await.map_err(upload_error)?;
        Ok(self.token(repo, &claimed)?.0)
    }

    async fn append(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<(UploadToken, u64), UploadError> {
        let ticket = self.ticket(repo, token)?;
        let claimed = self.forward_append(repo, &ticket, at, body).await?;
        self.token(repo, &claimed)
    }

    async fn progress(
        &self,
        repo: &RepoName,
        token: &UploadToken,
    ) -> Result<(UploadToken, u64), UploadError> {
        let ticket = self.ticket(repo, token)?;
        let claimed = self.forward_progress(repo, &ticket).await.map_err(upload_error)?;
        self.token(repo, &claimed)
    }

    async fn finish(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        digest: &Digest,
        at: Option<u64>,
        body: ByteStream,
        actor: &str,
    ) -> Result<Applied, UploadError> {
        let ticket = self.ticket(repo, token)?;
        match self.forward_finish(repo, &ticket, digest, at, body).await {
            Ok(finished) => self.commit(repo, digest, finished, actor).await,
            // The session may be gone, with those that remember it, though this very request
            // succeeded before.
            Err(UploadError::Unknown) => self.linked(repo, digest).await?.ok_or(UploadError::Unknown),
            Err(error @ UploadError::Unavailable(_)) => {
                self.linked(repo, digest).await.ok().flatten().ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn cancel(&self, repo: &RepoName, token: &UploadToken) -> Result<(), UploadError> {
        let ticket = self.ticket(repo, token)?;
        self.forward_cancel(repo, &ticket).await.map_err(upload_error)
    }
}
