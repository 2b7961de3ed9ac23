//! From the source into the staged file, to the end.
//!
//! Always holds: what came is in the file within [`FLUSH`] of a pause, so that readers have it while the source
//! waits; a body that breaks off is gone on with at the byte reached, a bounded number of times without progress;
//! the blob is kept only when all of its bytes have the digest. Never does: stop because nobody reads, unless the
//! source has stopped too or nothing can be kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use trow_api::blobs::ByteStream;
use trow_api::pull::PullError;
use trow_raft::{NodeId, RepoName};

use super::source::{Closed, Giver, Opened, Sources};
use super::{Fill, window::Window};
use crate::cache::homes::Homes;
use crate::cache::origins::Origins;
use crate::peer_blobs::PeerBlobs;
use crate::replicated::Running;
use crate::store::{HoldError, Staged, Store, StoreError};
use crate::upstream::Registries;

/// How long bytes that came may wait to be written.
const FLUSH: Duration = Duration::from_millis(20);
/// How long a source may give nothing before it is left.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// How often in a row the upstream is asked to go on without giving [`PROGRESS`] bytes.
const TRIES: u32 = 5;
const PROGRESS: u64 = 64 << 10;
/// What nobody reads comes at least this fast, [`PROGRESS`] in this time, or not at all: a place for fills is not
/// held by a trickle.
const TRICKLE: Duration = Duration::from_secs(60);
/// The wait before the first of these, doubled for each of the next.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest that an upstream's wish for a later try is heeded while somebody waits.
const RETRY: Duration = Duration::from_secs(5);
/// How long an upstream that said no length may take to say that it has no more.
const END: Duration = Duration::from_millis(200);

/// Reads without keeping at once, and copies for others.
const STRAIGHT: usize = 16;
const KEEPING: usize = 4;

/// What a fill works with.
pub(in crate::cache) struct Means {
    pub me: NodeId,
    pub store: Store,
    pub peers: PeerBlobs,
    pub homes: Homes,
    pub registries: Registries,
    /// By which names what is here came.
    pub origins: Origins,
    /// Reads that pass this node by without being kept.
    pub straight: Arc<Semaphore>,
    /// Copies that this node keeps for others.
    pub keeping: Semaphore,
}

impl Means {
    pub(in crate::cache) fn new(
        me: NodeId,
        store: Store,
        peers: PeerBlobs,
        homes: Homes,
        registries: Registries,
    ) -> Means {
        let (straight, keeping) = (Arc::new(Semaphore::new(STRAIGHT)), Semaphore::new(KEEPING));
        let origins = Origins::new(store.clone(), registries.clone());
        Means { me, store, peers, homes, registries, origins, straight, keeping }
    }
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Ended {
    /// The blob is kept here; from another node if so.
    Kept { from_peer: bool },
    /// All bytes passed, and none are kept.
    Passed,
    /// The readers were told why.
    Failed,
}

/// Where the bytes go.
enum Sink {
    File(Staged),
    Window(Arc<Window>, Running),
}

/// Fetches the blob for all readers, and keeps it.
pub(in crate::cache) async fn pour(fill: &Arc<Fill>, means: &Means) -> Ended {
    // Whatever happens, also when this is dropped, no reader waits for more than there will be.
    let _guard = Guard(fill);
    let mut sources = Sources::of(fill, means).await;
    let mut pour = Pour { fill, means, at: 0, sink: None, from: From::default() };
    match pour.all(&mut sources).await {
        Ok(()) => pour.finish().await,
        Err(error) => {
            fill.failed(error);
            Ended::Failed
        }
    }
}

struct Guard<'a>(&'a Fill);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.failed(PullError::Failed);
    }
}

struct Pour<'a> {
    fill: &'a Fill,
    means: &'a Means,
    /// Bytes taken so far.
    at: u64,
    sink: Option<Sink>,
    from: From,
}

/// Who gave the bytes.
#[derive(Default)]
struct From {
    a_peer: bool,
    /// The name by which it says that they came, of the first that says so.
    origin: Option<RepoName>,
}

/// Why a body is left.
enum Left {
    /// The source can go on where it is, or another one.
    Broke(String),
    /// There is no room for more in the file; it goes on in a window.
    Full,
    /// It makes no sense to go on.
    Failed(PullError),
}

impl Pour<'_> {
    /// Takes all bytes, from as many bodies as it needs.
    async fn all(&mut self, sources: &mut Sources) -> Result<(), PullError> {
        let (mut tries, mut progress) = (0, 0);
        loop {
            let opened = sources.open(self.fill, self.means, self.at).await;
            let broke = match opened {
                Ok(opened) => {
                    let is_peer = opened.peer.is_some();
                    match self.body(opened).await {
                        Ok(()) => return Ok(()),
                        Err(Left::Failed(error)) => return Err(error),
                        // A node that failed is not asked again, so that this ends.
                        Err(Left::Broke(why)) if is_peer => {
                            tracing::debug!(digest = %self.fill.digest, at = self.at, why, "a node failed in the middle of a blob");
                            continue;
                        }
                        Err(Left::Full) => {
                            self.pass_on().await?;
                            continue;
                        }
                        Err(Left::Broke(why)) => PullError::Unavailable { why, retry: RETRY },
                    }
                }
                Err(Closed::Never(error)) => return Err(error),
                Err(Closed::NotNow(error)) if self.at == 0 => return Err(error),
                Err(Closed::NotNow(error)) => error,
            };
            if self.at >= progress + PROGRESS {
                (tries, progress) = (0, self.at);
            }
            tries += 1;
            tracing::debug!(digest = %self.fill.digest, name = %self.fill.name, at = self.at, tries, why = %broke, "an upstream broke off in a blob");
            if tries > TRIES || !self.fill.is_wanted() && tries > 1 {
                return Err(broke);
            }
            let pause = match &broke {
                PullError::Unavailable { retry, .. } if *retry < RETRY => *retry,
                _ => Duration::ZERO,
            };
            sleep(pause.max(PAUSE * (1 << (tries - 1)))).await;
        }
    }

    /// Takes what one body gives.
    async fn body(&mut self, opened: Opened) -> Result<(), Left> {
        let Opened { mut body, peer, has_length } = opened;
        self.begin(peer.as_ref()).await?;
        let mut unwritten = None;
        let (mut since, mut from) = (Instant::now(), self.at);
        while self.at < self.fill.size {
            if since.elapsed() >= TRICKLE {
                if self.at - from < PROGRESS && !self.fill.is_wanted() {
                    return Err(Left::Failed(PullError::Unavailable {
                        why: format!("upstream {}: the blob hardly moves", self.fill.name.host()),
                        retry: RETRY,
                    }));
                }
                (since, from) = (Instant::now(), self.at);
            }
            let piece = match self.piece(&mut body, &mut unwritten).await? {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(self.broke(error)),
                None => return Err(self.broke("it ended too early")),
            };
            self.take(piece).await?;
            unwritten.get_or_insert_with(|| Instant::now() + FLUSH);
        }
        if let Some(Sink::File(staged)) = &mut self.sink {
            let flushed = staged.flush().await;
            self.show(flushed)?;
        }
        if !has_length && matches!(timeout(END, more(&mut body)).await, Ok(true)) {
            return Err(Left::Failed(self.bad("gives more than the blob has")));
        }
        Ok(())
    }

    /// The next bytes. While there are none, those that came are written, and readers have them.
    async fn piece(
        &mut self,
        body: &mut ByteStream,
        unwritten: &mut Option<Instant>,
    ) -> Result<Option<io::Result<Bytes>>, Left> {
        if let Some(by) = *unwritten {
            if let Ok(next) = timeout_at(by, body.next()).await {
                return Ok(next);
            }
            *unwritten = None;
            if let Some(Sink::File(staged)) = &mut self.sink {
                let flushed = staged.flush().await;
                self.show(flushed)?;
            }
        }
        timeout(STALL, body.next()).await.map_err(|_| self.broke("it gave nothing for a minute"))
    }

    async fn take(&mut self, piece: Bytes) -> Result<(), Left> {
        if piece.len() as u64 > self.fill.size - self.at {
            return Err(Left::Failed(self.bad("gives more than the blob has")));
        }
        let len = piece.len() as u64;
        match &mut self.sink {
            Some(Sink::File(staged)) => {
                let written = staged.write(piece).await;
                self.at += len;
                self.show(written)?;
            }
            Some(Sink::Window(window, hash)) => {
                if !self.fill.is_wanted() {
                    return Err(Left::Failed(PullError::Failed));
                }
                hash.update(&piece);
                window.push(self.fill, piece).await;
                self.at += len;
                self.fill.advance(self.at);
            }
            None => return Err(Left::Failed(PullError::Failed)),
        }
        Ok(())
    }

    /// Opens the file, or the window if there is no room for one, before the first byte.
    async fn begin(&mut self, peer: Option<&Giver>) -> Result<(), Left> {
        if let Some(peer) = peer {
            self.from.a_peer = true;
            self.from.origin = self.from.origin.take().or_else(|| peer.origin.clone());
        }
        self.fill.progress.send_modify(|progress| progress.from_upstream = peer.is_none());
        if self.sink.is_some() {
            return Ok(());
        }
        match self.means.store.stage_cached(Some(self.fill.digest.algorithm()), Some(self.fill.size)).await {
            Ok(staged) => {
                self.fill.show_file(staged.reader());
                self.sink = Some(Sink::File(staged));
            }
            Err(StoreError::NoSpace) => self.open_window(Running::new(self.fill.digest.algorithm())),
            Err(error) => return Err(Left::Failed(self.store_failed(&error))),
        }
        Ok(())
    }

    /// Says how much of the file may be read.
    fn show(&mut self, result: Result<(), StoreError>) -> Result<(), Left> {
        let Some(Sink::File(staged)) = &self.sink else { return Ok(()) };
        match result {
            Ok(()) => {
                self.fill.show_written(staged.written());
                Ok(())
            }
            Err(StoreError::NoSpace) => Err(Left::Full),
            Err(error) => Err(Left::Failed(self.store_failed(&error))),
        }
    }

    /// Goes on without a file: what is in it stays for its readers, and the rest passes.
    async fn pass_on(&mut self) -> Result<(), PullError> {
        let Some(Sink::File(staged)) = self.sink.take() else { return Err(PullError::Failed) };
        let (file, written) = (staged.reader(), staged.written());
        drop(staged);
        let mut hash = Running::new(self.fill.digest.algorithm());
        let mut at = 0;
        while at < written {
            let len = super::READ.min(written - at) as usize;
            let bytes = file.read(at, len).await.map_err(|error| self.store_failed(&error))?;
            at += bytes.len() as u64;
            hash.update(&bytes);
        }
        self.at = written;
        self.open_window(hash);
        Ok(())
    }

    fn open_window(&mut self, hash: Running) {
        tracing::warn!(digest = %self.fill.digest, name = %self.fill.name, "no room to keep a blob of an upstream, and it passes unkept; free some room or add disk");
        let window = Arc::new(Window::at(self.at));
        self.fill.progress.send_modify(|progress| {
            progress.in_file = self.at;
            progress.window = Some(Arc::clone(&window));
        });
        self.sink = Some(Sink::Window(window, hash));
    }

    /// Compares the digest, lets the readers have the rest, and keeps the blob.
    async fn finish(mut self) -> Ended {
        let fill = self.fill;
        let mut staged = match self.sink.take() {
            Some(Sink::File(mut staged)) => match staged.has_digest(&fill.digest).await {
                Ok(true) => staged,
                Ok(false) => return self.wrong(),
                Err(error) => {
                    fill.failed(self.store_failed(&error));
                    return Ended::Failed;
                }
            },
            Some(Sink::Window(_, hash)) if hash.clone().finish() == fill.digest.as_bytes() => {
                fill.verified();
                return Ended::Passed;
            }
            _ => return self.wrong(),
        };
        fill.show_written(staged.written());
        fill.verified();
        // A part that a peer gave came by the name that it says; all of it from the upstream is the proof.
        let origin = match self.from.a_peer {
            true => self.from.origin.take(),
            false => Some(fill.name.local().clone()),
        };
        staged.came_by(self.means.origins.better(&fill.digest, origin));
        match staged.keep(&fill.digest).await {
            Ok(_) => Ended::Kept { from_peer: self.from.a_peer },
            Err(HoldError::DigestMismatch { .. }) => self.wrong(),
            Err(HoldError::Store(error)) => {
                self.store_failed(&error);
                Ended::Passed
            }
        }
    }

    fn wrong(&self) -> Ended {
        tracing::warn!(digest = %self.fill.digest, name = %self.fill.name, "an upstream gave bytes that do not have the digest; pulls of them were broken off and nothing is kept");
        self.fill.failed(self.bad("gives bytes that do not have the digest"));
        Ended::Failed
    }

    fn broke(&self, why: impl std::fmt::Display) -> Left {
        Left::Broke(format!(
            "upstream {}: broke off in the blob {}: {why}",
            self.fill.name.host(),
            self.fill.digest
        ))
    }

    fn bad(&self, why: &str) -> PullError {
        PullError::Bad(format!("upstream {}: {why} {}", self.fill.name.host(), self.fill.digest))
    }

    fn store_failed(&self, error: &StoreError) -> PullError {
        match error {
            StoreError::NoSpace => {
                tracing::warn!(digest = %self.fill.digest, "no room to keep a blob of an upstream; free some room or add disk");
            }
            error => {
                tracing::error!(digest = %self.fill.digest, cause = error as &dyn std::error::Error, "the store fails a blob of an upstream; check the disk");
            }
        }
        PullError::Failed
    }
}

/// Whether any byte is left.
async fn more(body: &mut ByteStream) -> bool {
    while let Some(Ok(piece)) = body.next().await {
        if !piece.is_empty() {
            return true;
        }
    }
    false
}
