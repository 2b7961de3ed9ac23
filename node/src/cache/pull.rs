//! A blob of an upstream as one unbroken body, from wherever in the cluster it is or arrives.
//!
//! The home of a blob reads its own store, or what is on its way there; any other node relays what the home gives.
//! Always holds: bytes leave in order and none twice; when the home dies the next one goes on at the byte reached;
//! a whole body that is relayed is hashed and its last piece withheld until the digest matches (a range rests on
//! the checks of who gives it); what does not match ends in an error. Never does: keep what is relayed on disk.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use trow_api::blobs::ByteStream;
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::{Digest, NodeId, RepoName};

use super::fault::pull_error;
use super::fill::{Lost, Means, Reader, straight};
use super::fills::{Fills, Joined};
use super::reads::{Kind, Reads};
use crate::peer_blobs::wire::Fault;
use crate::peer_blobs::{PeerError, Wanted};
use crate::replicated::Running;
use crate::store::{ReadError, SMALL};

/// The longest that a client waits for the first byte; the fill goes on meanwhile. Runtimes give up after 30 s.
const OPEN: Duration = Duration::from_secs(25);
/// When to come back after that.
const RETRY: Duration = Duration::from_secs(5);
/// How often a body is gone on with.
const RESUMES: u32 = 20;
/// How often a reader begins again under its own name, after sharing what another name's upstream failed to give.
const SHARED: u32 = 3;

/// What is read, under which name.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) name: UpstreamName,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) range: Range<u64>,
}

/// Bytes that begin where they were asked for.
pub(super) struct Source {
    body: ByteStream,
    /// Who gives them.
    node: NodeId,
    /// Whoever gives them withholds the last until all of them match, or they were checked before.
    is_verified: bool,
    /// After an error another source may go on: what came so far is right, or is hashed.
    may_follow: bool,
    /// The name by which what is in a store came, if that is known.
    origin: Option<RepoName>,
}

impl Source {
    /// The bytes, and the name by which they came if they were there already.
    pub(super) fn into_parts(self) -> (ByteStream, Option<RepoName>) {
        (self.body, self.origin)
    }

    /// What is in this node's store.
    fn here(fills: &Fills, digest: &Digest, body: ByteStream) -> Source {
        let Means { me, origins, .. } = fills.means();
        Source { body, node: *me, is_verified: true, may_follow: true, origin: origins.of(digest) }
    }
}

/// The bytes as this node gives them for all: from its store, on their way here, or fetched now.
pub(super) async fn at_home(fills: &Fills, reads: &Reads, asked: &Asked) -> Result<Source, PullError> {
    let Asked { name, digest, size, range } = asked;
    let me = fills.means().me;
    let mut joined = 0;
    loop {
        if let Some(body) = here(fills, asked).await? {
            reads.count(Kind::Here);
            return Ok(Source::here(fills, digest, body));
        }
        joined += 1;
        let Joined::Reader(mut reader) = fills.join(asked, reads) else {
            // It came in between; what is there and cannot be read is damaged, and gone the next time.
            if joined > SHARED {
                return Err(PullError::Failed);
            }
            continue;
        };
        match reader.opened().await {
            Ok(is_verified) => {
                let body = body_of(fills, reader, asked.clone());
                return Ok(Source { body, node: me, is_verified, may_follow: !is_verified, origin: None });
            }
            Err(Lost::Passed) => {
                let body = straight(fills.means(), name, digest, *size, range.clone()).await?;
                reads.count(Kind::Straight);
                return Ok(Source { body, node: me, is_verified: false, may_follow: true, origin: None });
            }
            // Another name's upstream failed, and not this one's.
            Err(Lost::Failed(_)) if reader.name() != name && joined < SHARED => {}
            Err(Lost::Failed(error)) => return Err(error),
        }
    }
}

/// The bytes that this node has or that arrive here; nobody is asked.
pub(super) async fn only_here(fills: &Fills, asked: &Asked) -> Result<Option<Source>, PullError> {
    if let Some(body) = here(fills, asked).await? {
        return Ok(Some(Source::here(fills, &asked.digest, body)));
    }
    let (me, reader) = (fills.means().me, fills.arriving(asked));
    Ok(reader.map(|reader| {
        // What arrives here from the upstream comes by this name, or one that is for the same readers.
        let origin = Some(reader.name().local().clone());
        let body = body_of(fills, reader, asked.clone());
        Source { body, node: me, is_verified: true, may_follow: true, origin }
    }))
}

/// The bytes in this node's store, if it has the blob and it may be given under that name.
async fn here(fills: &Fills, asked: &Asked) -> Result<Option<ByteStream>, PullError> {
    let Asked { name, digest, size, range } = asked;
    let (size, range) = (*size, range.clone());
    let Means { store, origins, .. } = fills.means();
    // An empty blob is known by its digest alone.
    if size == 0 && Digest::of(digest.algorithm(), b"") == *digest {
        return Ok(Some(once(Bytes::new())));
    }
    if !origins.may_give(name, digest) {
        return Ok(None);
    }
    let read = if size <= SMALL {
        let bytes = match store.kept(digest).filter(|bytes| bytes.len() as u64 == size) {
            Some(bytes) => Ok(bytes),
            None => store.read_small(digest, size).await,
        };
        bytes.map(|bytes| once(bytes.slice(range.start as usize..range.end as usize)))
    } else if store.has(digest) == Some(size) {
        let body = store.open_blob(digest, Some(range)).await;
        body.map(|body| Box::pin(body.map(|item| item.map_err(io::Error::other))) as ByteStream)
    } else {
        return Ok(None);
    };
    match read {
        Ok(body) => Ok(Some(body)),
        Err(ReadError::NotHere | ReadError::Damaged { .. }) => Ok(None),
        Err(ReadError::Store(error)) => {
            tracing::error!(%digest, cause = &error as &dyn std::error::Error, "a cached blob cannot be read; check the disk");
            Err(PullError::Failed)
        }
    }
}

fn once(bytes: Bytes) -> ByteStream {
    Box::pin(stream::iter((!bytes.is_empty()).then_some(Ok(bytes))))
}

/// What a reader reads. One whose bytes have passed goes on with a request of its own.
fn body_of(fills: &Fills, reader: Reader, asked: Asked) -> ByteStream {
    enum From {
        Fill(Reader, Fills, Asked),
        Straight(ByteStream),
    }
    let from = From::Fill(reader, fills.clone(), asked);
    Box::pin(stream::try_unfold(from, |from| async move {
        let mut body = match from {
            From::Straight(body) => body,
            From::Fill(mut reader, fills, asked) => match reader.next().await {
                Ok(next) => return Ok(next.map(|bytes| (bytes, From::Fill(reader, fills, asked)))),
                Err(Lost::Failed(error)) => return Err(io::Error::other(error)),
                Err(Lost::Passed) => {
                    let rest = reader.at()..asked.range.end;
                    drop(reader);
                    let body = straight(fills.means(), &asked.name, &asked.digest, asked.size, rest).await;
                    body.map_err(io::Error::other)?
                }
            },
        };
        Ok(body.next().await.transpose()?.map(|bytes| (bytes, From::Straight(body))))
    }))
}

/// Opens the bytes through this node, whichever is the home.
///
/// # Errors
/// As the upstream, or whoever asks it, says before the first byte.
pub(super) async fn open(fills: &Fills, reads: &Reads, asked: Asked) -> Result<ByteStream, PullError> {
    let Means { store, origins, .. } = fills.means();
    let kept = store.kept(&asked.digest).filter(|bytes| bytes.len() as u64 == asked.size);
    if let Some(bytes) = kept.filter(|_| origins.may_give(&asked.name, &asked.digest)) {
        reads.count(Kind::Here);
        return Ok(once(bytes.slice(asked.range.start as usize..asked.range.end as usize)));
    }
    let is_whole = asked.range == (0..asked.size);
    let Range { start: at, end } = asked.range;
    let (fills, reads) = (fills.clone(), reads.clone());
    let mut pull = Pull {
        fills,
        reads,
        asked,
        at,
        end,
        hash: None,
        whole: Vec::new(),
        without: Vec::new(),
        resumes: 0,
        origin: None,
        source: None,
    };
    let first = match tokio::time::timeout(OPEN, pull.connect()).await {
        Ok(first) => first?,
        Err(_) => {
            let why = format!("upstream {}: the blob does not begin to arrive", pull.asked.name.host());
            return Err(PullError::Unavailable { why, retry: RETRY });
        }
    };
    if is_whole && !first.is_verified {
        pull.hash = Some(Running::new(pull.asked.digest.algorithm()));
    }
    pull.origin = first.origin.clone();
    pull.source = Some((first, at));
    Ok(Box::pin(stream::try_unfold(pull, |mut pull| async move {
        Ok(pull.next().await?.map(|bytes| (bytes, pull)))
    })))
}

struct Pull {
    fills: Fills,
    reads: Reads,
    asked: Asked,
    at: u64,
    end: u64,
    /// Of all bytes so far, of a whole body that others gave.
    hash: Option<Running>,
    /// The bytes that went into `hash`, of a small blob.
    whole: Vec<u8>,
    /// Nodes that are asked no more.
    without: Vec<NodeId>,
    resumes: u32,
    /// The name by which a node says that the bytes came which it gives whole.
    origin: Option<RepoName>,
    /// And the byte at which it began.
    source: Option<(Source, u64)>,
}

impl Pull {
    /// The home that gives the bytes from the one reached.
    async fn connect(&mut self) -> Result<Source, PullError> {
        let asked = Asked { range: self.at..self.end, ..self.asked.clone() };
        let Asked { name, digest, size, range } = &asked;
        let means = self.fills.means();
        if let Some(body) = here(&self.fills, &asked).await? {
            self.reads.count(Kind::Here);
            return Ok(Source::here(&self.fills, digest, body));
        }
        loop {
            let home = means.homes.of(&digest.to_string(), &self.without);
            if home == means.me {
                return at_home(&self.fills, &self.reads, &asked).await;
            }
            let (repo, size, range) = (name.local(), *size, range.clone());
            let for_user = means.registries.needs_user(name);
            let wanted = Wanted { repo, digest, size, range, only_there: false, for_user };
            match means.peers.cached(home, wanted).await {
                Ok(fetched) if fetched.size == size => {
                    self.reads.count(Kind::Peer);
                    return Ok(Source {
                        body: fetched.body,
                        node: home,
                        is_verified: false,
                        may_follow: true,
                        origin: fetched.origin,
                    });
                }
                Ok(fetched) => {
                    let why = format!(
                        "{name} lists the blob {digest} with {size} bytes, and it has {}",
                        fetched.size
                    );
                    return Err(PullError::Bad(why));
                }
                Err(error @ PeerError::Fault(Fault::Upstream { .. })) => return Err(pull_error(error)),
                Err(error) => {
                    tracing::debug!(%home, %digest, %error, "the home of a blob does not give it, and the next one is asked");
                    self.without.push(home);
                }
            }
        }
    }

    /// The next bytes, `None` after the last.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.at < self.end {
            let (mut source, begun) = match self.source.take() {
                Some(source) => source,
                None => {
                    let source = self.connect().await.map_err(io::Error::other)?;
                    // Bytes of two sources have the origin of both or none.
                    self.origin = self.origin.take().filter(|origin| Some(origin) == source.origin.as_ref());
                    (source, self.at)
                }
            };
            let why = match source.body.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => {
                    self.source = Some((source, begun));
                    continue;
                }
                Some(Ok(bytes)) if bytes.len() as u64 <= self.end - self.at => {
                    self.at += bytes.len() as u64;
                    self.check(source.node, &bytes)?;
                    self.source = Some((source, begun));
                    return Ok(Some(bytes));
                }
                Some(Ok(_)) => "it gives more than was asked for".to_owned(),
                Some(Err(error)) if !source.may_follow => return Err(error),
                Some(Err(error)) => error.to_string(),
                None => "it ended too early".to_owned(),
            };
            tracing::debug!(node = %source.node, digest = %self.asked.digest, at = self.at, why, "a pull goes on elsewhere");
            // One that got somewhere is asked again first: if it lives it knows why the body broke off.
            if self.at == begun && source.node != self.fills.means().me {
                self.without.push(source.node);
            }
            self.resumes += 1;
            if self.resumes > RESUMES {
                return Err(io::Error::other("the body broke off again and again"));
            }
        }
        Ok(None)
    }

    /// Hashes relayed bytes; refuses the last of them when the whole is not what it should be.
    fn check(&mut self, node: NodeId, bytes: &Bytes) -> io::Result<()> {
        let Some(hash) = &mut self.hash else { return Ok(()) };
        hash.update(bytes);
        if self.asked.size <= SMALL {
            self.whole.extend_from_slice(bytes);
        }
        if self.at < self.end {
            return Ok(());
        }
        let computed = self.hash.take().map(Running::finish);
        if computed.is_some_and(|computed| computed == self.asked.digest.as_bytes()) {
            if self.asked.size <= SMALL {
                let Means { store, origins, .. } = self.fills.means();
                // Whoever gave them under this name was let to.
                let origin = self.origin.take().unwrap_or_else(|| self.asked.name.local().clone());
                if let Some(origin) = origins.better(&self.asked.digest, Some(origin)) {
                    origins.heard_of(&self.asked.digest, origin);
                }
                store.keep(&self.asked.digest, std::mem::take(&mut self.whole).into());
            }
            return Ok(());
        }
        tracing::error!(digest = %self.asked.digest, last_source = %node, "a node gave bytes of an upstream's blob that do not have the digest, and the body was broken off; look at the disk of that node");
        Err(io::Error::new(io::ErrorKind::InvalidData, "relayed bytes do not have the digest"))
    }
}
