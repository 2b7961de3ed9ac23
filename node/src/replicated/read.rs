//! A blob's bytes from wherever they are, as one unbroken body.
//!
//! Always holds: bytes leave in order and none twice, whichever sources they come from; a source
//! that dies, stalls or finds its copy damaged is followed by the next at the byte reached; a
//! relayed whole blob is hashed on its way and its last piece withheld until the digest matches
//! (ranges rest on the chunk checksums of the node that serves them). What does not match ends in
//! an error, never cleanly. Small blobs are read whole, hashed, and kept in memory for the next
//! reader. Never does: keep a copy on disk.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use tracing::{Instrument as _, debug, warn};
use trow_api::blobs::{ByteStream, ReadBlobError};
use trow_api::request_id;
use trow_raft::{Digest, NodeId, StateError};

use super::agreement::Agreement;
use super::candidates;
use super::running::Running;
use crate::peer_blobs::PeerBlobs;
use crate::store::{ReadError, SMALL, Store};

/// Every node is asked this often before the bytes are given up: a copy may be on its way from
/// one that was asked too early to one that was asked too late.
const ROUNDS: u32 = 4;
/// The wait before each further round, times its number.
const PAUSE: Duration = Duration::from_millis(200);

/// Opens `range` of the blob of `size` bytes.
///
/// # Errors
/// [`ReadBlobError::NotHere`] when no node gives its first byte.
pub(super) async fn open(
    (me, store, agreed, peers): (NodeId, &Store, &Agreement, &PeerBlobs),
    digest: &Digest,
    size: u64,
    range: Range<u64>,
) -> Result<ByteStream, ReadBlobError> {
    if size <= SMALL
        && let Some(bytes) = store.kept(digest).filter(|bytes| bytes.len() as u64 == size)
    {
        let part = range.start.min(size) as usize..range.end.min(size) as usize;
        return Ok(once(bytes.slice(part)));
    }
    let mut reader = Reader {
        me,
        store: store.clone(),
        agreed: agreed.clone(),
        peers: peers.clone(),
        digest: *digest,
        size,
        at: range.start,
        end: range.end.min(size),
        source: None,
        queue: VecDeque::new(),
        round: 0,
        hash: (range.start == 0 && range.end >= size).then(|| Running::new(digest.algorithm())),
        whole: Vec::new(),
    };
    // The first byte is fetched before anything is promised: until then another node can be tried
    // by the client as well.
    let first = match reader.next().await {
        Ok(first) => first,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadBlobError::NotHere),
        Err(error) => return Err(ReadBlobError::Failed(error)),
    };
    // The rest is read outside of the request's handler, but still on its behalf.
    let (id, span) = (request_id::current(), tracing::Span::current());
    let rest = stream::try_unfold(reader, move |mut reader| {
        let next = async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) };
        match id.clone() {
            Some(id) => id.scope(next).instrument(span.clone()).boxed(),
            None => next.boxed(),
        }
    });
    Ok(Box::pin(stream::iter(first.map(Ok)).chain(rest)))
}

struct Reader {
    me: NodeId,
    store: Store,
    agreed: Agreement,
    peers: PeerBlobs,
    digest: Digest,
    size: u64,
    at: u64,
    end: u64,
    source: Option<(NodeId, ByteStream)>,
    queue: VecDeque<NodeId>,
    round: u32,
    /// Of all bytes so far, while all of them were relayed and the whole blob was asked for.
    hash: Option<Running>,
    /// The bytes that went into `hash`, of a small blob.
    whole: Vec<u8>,
}

impl Reader {
    /// The next bytes, `None` after the last.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        // An empty blob is known by its digest alone, and no source is asked for nothing.
        while self.at < self.end {
            let (node, mut body) = match self.source.take() {
                Some(source) => source,
                None => self.connect().await?,
            };
            match body.next().await {
                Some(Ok(bytes)) if bytes.len() as u64 <= self.end - self.at => {
                    if bytes.is_empty() {
                        self.source = Some((node, body));
                        continue;
                    }
                    self.at += bytes.len() as u64;
                    self.check(node, &bytes)?;
                    self.source = Some((node, body));
                    // A source that gave bytes earns the others another round.
                    self.round = 0;
                    return Ok(Some(bytes));
                }
                Some(Ok(_)) => {
                    warn!(%node, digest = %self.digest, "a peer sent more of a blob than was asked for; the next one is asked, update that node if it repeats")
                }
                Some(Err(error)) => {
                    warn!(%node, digest = %self.digest, at = self.at, %error, "a peer failed in the middle of a blob; the next one goes on from there");
                }
                None => {
                    warn!(%node, digest = %self.digest, at = self.at, "a peer ended too early in a blob; the next one goes on from there")
                }
            }
        }
        Ok(None)
    }

    /// Hashes relayed bytes; refuses the last of them when the whole is not what it should be.
    fn check(&mut self, node: NodeId, bytes: &Bytes) -> io::Result<()> {
        if node == self.me {
            // Its chunks were checked as they were read. What may follow from a peer rests on the
            // peer's checks likewise: hashing every local read for that case costs too much.
            self.hash = None;
        }
        let Some(hash) = &mut self.hash else { return Ok(()) };
        hash.update(bytes);
        if self.size <= SMALL {
            self.whole.extend_from_slice(bytes);
        }
        if self.at < self.end {
            return Ok(());
        }
        let computed = self.hash.take().map(Running::finish);
        if computed.is_some_and(|computed| computed == self.digest.as_bytes()) {
            if self.size <= SMALL {
                self.store.keep(&self.digest, std::mem::take(&mut self.whole).into());
            }
            return Ok(());
        }
        tracing::error!(digest = %self.digest, last_source = %node, "peers sent bytes that do not have the digest, and the body was broken off; look at the disk of that node");
        Err(io::Error::new(io::ErrorKind::InvalidData, "relayed bytes do not have the digest"))
    }

    /// The next source that begins to answer at the byte reached.
    async fn connect(&mut self) -> io::Result<(NodeId, ByteStream)> {
        loop {
            while let Some(node) = self.queue.pop_front() {
                let wanted = self.at..self.end;
                if node == self.me {
                    match here(&self.store, &self.digest, self.size, wanted).await {
                        Ok(body) => return Ok((node, body)),
                        Err(ReadError::NotHere) => {}
                        Err(error) => {
                            warn!(digest = %self.digest, %error, "the copy on this disk cannot be read and a peer is asked; check the disk")
                        }
                    }
                    continue;
                }
                match self.peers.fetch(node, &self.digest, Some(wanted)).await {
                    Ok(fetched) if fetched.size == self.size => return Ok((node, fetched.body)),
                    Ok(fetched) => {
                        warn!(%node, digest = %self.digest, size = fetched.size, "a peer has the blob with another size and the next one is asked; look at the disk of that node");
                    }
                    Err(error) => debug!(%node, digest = %self.digest, %error, "not a source"),
                }
            }
            if self.round == ROUNDS {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no node gives the blob's bytes"));
            }
            tokio::time::sleep(PAUSE * self.round).await;
            self.round += 1;
            self.queue = self.sources().map_err(io::Error::other)?.into();
        }
    }

    /// This node, then its peers in the order to ask them.
    fn sources(&self) -> Result<Vec<NodeId>, StateError> {
        let view = (self.agreed.view)()?;
        let me = self.me;
        let away = view.blob(&self.digest)?.map(|blob| blob.away).unwrap_or_default();
        let partition = view.partition(self.digest.partition())?;
        let silence = |node| self.peers.silence(node);
        let peers = candidates::to_read(me, &partition, &away, &view.members()?, &silence);
        Ok(std::iter::once(me).chain(peers).collect())
    }
}

/// The bytes `wanted` of the copy on this node.
async fn here(
    store: &Store,
    digest: &Digest,
    size: u64,
    wanted: Range<u64>,
) -> Result<ByteStream, ReadError> {
    if size <= SMALL {
        let bytes = store.read_small(digest, size).await?;
        return Ok(once(bytes.slice(wanted.start as usize..wanted.end as usize)));
    }
    let body = store.open_blob(digest, Some(wanted)).await?;
    Ok(Box::pin(body.map(|item| item.map_err(io::Error::other))))
}

fn once(bytes: Bytes) -> ByteStream {
    Box::pin(stream::iter([Ok(bytes)]))
}
