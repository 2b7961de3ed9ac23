//! What a node asks others about blobs of upstream registries: their bytes, whether they have them, to keep a
//! copy.

use std::ops::Range;
use std::time::Duration;

use axum::body::Body;
use http::{Request, header};
use trow_raft::{Digest, NodeId, RepoName};

use super::blobs::{json, number, posted};
use super::send::{LONG, garbled};
use super::wire::{self, Fault, KeepFrom};
use super::{Fetched, PeerBlobs, PeerError, range};

/// How long a look at another node may take, since somebody waits for the first byte meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// The bytes of a blob that are asked of another node.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The repository under which it was asked for: `f/<host>/<repository>`.
    pub repo: &'a RepoName,
    /// Which blob.
    pub digest: &'a Digest,
    /// How many bytes it must have.
    pub size: u64,
    /// Which of them.
    pub range: Range<u64>,
    /// The node gives what it has or gets just now, and asks nobody else.
    pub only_there: bool,
    /// This node holds the name for one that needs a user.
    pub for_user: bool,
}

/// What a node has of a blob of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct There {
    /// In bytes, of the whole.
    pub size: u64,
    /// It is on its way there from the upstream.
    pub is_arriving: bool,
}

impl PeerBlobs {
    /// The bytes from `node`, which gets them from the upstream if need be, as they arrive there. Waits as long
    /// as the node lives.
    ///
    /// # Errors
    /// [`Fault::Upstream`] when the upstream does not give them, [`Fault::Unknown`] when they are not there and
    /// nobody was to be asked.
    pub async fn cached(&self, node: NodeId, wanted: Wanted<'_>) -> Result<Fetched, PeerError> {
        let Wanted { repo, digest, size, range, only_there, for_user } = wanted;
        let mut request = Request::get(format!("/cache/blob/{digest}"))
            .header(wire::REPO, repo.as_str())
            .header(wire::SIZE, size);
        if only_there {
            request = request.header(wire::ONLY_THERE, "1");
        }
        if for_user {
            request = request.header(wire::FOR_USER, "1");
        }
        if !range.is_empty() && range != (0..size) {
            request = request.header(header::RANGE, range::format(&range));
        }
        let reply = self.send(node, LONG, request, Body::empty()).await?;
        let size = number(reply.headers(), wire::SIZE).ok_or_else(|| garbled(node, "no size"))?;
        let origin = reply.headers().get(wire::ORIGIN).and_then(|name| name.to_str().ok()?.parse().ok());
        Ok(Fetched { size, body: self.body(node, LONG, reply), origin })
    }

    /// What `node` has now of the blob that it may give under the name `repo`; `for_user` as [`Wanted`] has it.
    ///
    /// # Errors
    /// It did not answer soon.
    pub async fn look_cached(
        &self,
        node: NodeId,
        repo: &RepoName,
        digest: &Digest,
        for_user: bool,
    ) -> Result<Option<There>, PeerError> {
        let mut request = Request::head(format!("/cache/blob/{digest}")).header(wire::REPO, repo.as_str());
        if for_user {
            request = request.header(wire::FOR_USER, "1");
        }
        let asked = tokio::time::timeout(LOOK, self.send(node, LOOK, request, Body::empty())).await;
        let reply = match asked {
            Ok(Err(PeerError::Fault(Fault::Unknown))) => return Ok(None),
            Ok(answer) => answer?,
            Err(_) => return Err(PeerError::Unreachable { node, why: format!("no answer in {LOOK:?}") }),
        };
        let size = number(reply.headers(), wire::SIZE).ok_or_else(|| garbled(node, "no size"))?;
        let is_arriving = reply.headers().contains_key(wire::ARRIVING);
        Ok(Some(There { size, is_arriving }))
    }

    /// Has `node` fetch the blob from one of `sources` unless it has it, and keep it as cached, without a promise.
    /// `origin` is the name by which its upstream gave it, which needs a user as this node holds it if `for_user`.
    ///
    /// # Errors
    /// It cannot, or did not answer.
    pub async fn keep_cached(
        &self,
        node: NodeId,
        digest: &Digest,
        sources: &[NodeId],
        origin: Option<RepoName>,
        for_user: bool,
    ) -> Result<(), PeerError> {
        let body = json(&KeepFrom { sources: sources.to_vec(), origin, for_user });
        self.ask(node, LONG, posted(&format!("/cache/blob/{digest}/keep")), body).await
    }
}
