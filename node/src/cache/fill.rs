//! One blob on its way here: how far it came, and reading what came.
//!
//! A task of its own ([`pour`]) takes the bytes from their source into a staged file; any number of readers
//! follow in that file, so that none of them holds it or another one up. Always holds: what is read is what came,
//! in order; the last [`LAST`] bytes are read only once all bytes have the digest; after wrong bytes every reader
//! ends in an error. Without room for the file the bytes pass through a [`window`] instead. Never does: ask who
//! may read.

mod pour;
mod source;
mod window;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::Digest;

use crate::store::StagedReader;
pub(super) use pour::{Ended, Means, pour};
pub(super) use source::{pull_error, straight};
use window::Window;

/// Withheld until the digest is known to match. With what is on its way to the file, far below 1 MiB.
const LAST: u64 = 64 << 10;
/// The most that a reader takes at once.
const READ: u64 = 256 << 10;

/// A blob that is being fetched, or was a moment ago.
pub(super) struct Fill {
    /// Under which name it is asked for.
    pub(super) name: UpstreamName,
    /// What its bytes must have.
    pub(super) digest: Digest,
    /// How many there must be.
    pub(super) size: u64,
    progress: watch::Sender<Progress>,
    places: Mutex<BTreeMap<u64, u64>>,
    next_place: AtomicU64,
    /// A reader went on, or left.
    moved: Notify,
}

/// How far it is. Bytes below `in_file` are in the file, those from there on in the window.
#[derive(Clone, Default)]
struct Progress {
    readable: u64,
    file: Option<StagedReader>,
    in_file: u64,
    window: Option<Arc<Window>>,
    /// The upstream itself gives the bytes.
    from_upstream: bool,
    end: Option<Result<(), PullError>>,
}

/// Why a reader does not go on.
#[derive(Debug)]
pub(super) enum Lost {
    /// The fill failed.
    Failed(PullError),
    /// Nothing is kept, and what this reader wants is not among the bytes that pass now.
    Passed,
}

impl Fill {
    pub(super) fn new(name: UpstreamName, digest: Digest, size: u64) -> Arc<Fill> {
        Arc::new(Fill {
            name,
            digest,
            size,
            progress: watch::Sender::default(),
            places: Mutex::default(),
            next_place: AtomicU64::new(0),
            moved: Notify::new(),
        })
    }

    /// A reader of `range`.
    pub(super) fn reader(self: &Arc<Fill>, range: Range<u64>) -> Reader {
        let place = self.next_place.fetch_add(1, Ordering::Relaxed);
        self.places().insert(place, range.start);
        let end = range.end.min(self.size);
        Reader { progress: self.progress.subscribe(), fill: Arc::clone(self), place, at: range.start, end }
    }

    /// Whether it ended without the blob.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.progress.borrow().end, Some(Err(_)))
    }

    /// Whether nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().end.is_some()
    }

    /// Whether its bytes come from the upstream now, so that another node may read them here.
    pub(super) fn is_source(&self) -> bool {
        let progress = self.progress.borrow();
        progress.from_upstream && progress.readable > 0 && !matches!(progress.end, Some(Err(_)))
    }

    /// Whether anybody reads.
    pub(super) fn is_wanted(&self) -> bool {
        self.progress.receiver_count() > 0
    }

    /// They are in this file.
    pub(super) fn show_file(&self, file: StagedReader) {
        self.progress.send_modify(|progress| progress.file = Some(file));
    }

    /// Bytes below `written` are in the file.
    pub(super) fn show_written(&self, written: u64) {
        self.progress.send_if_modified(|progress| {
            progress.in_file = written;
            false
        });
        self.advance(written);
    }

    /// Bytes below `len` are there, of which the last are withheld.
    fn advance(&self, len: u64) {
        let open = len.min(self.size.saturating_sub(LAST));
        self.progress.send_if_modified(|progress| {
            let further = open > progress.readable;
            progress.readable = progress.readable.max(open);
            further
        });
    }

    /// All bytes are there and are what they should be.
    pub(super) fn verified(&self) {
        self.progress.send_modify(|progress| {
            progress.readable = self.size;
            progress.end = Some(Ok(()));
        });
    }

    /// It failed, unless it ended before.
    pub(super) fn failed(&self, error: PullError) {
        self.progress.send_if_modified(|progress| {
            let first = progress.end.is_none();
            if first {
                progress.end = Some(Err(error));
            }
            first
        });
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows a fill through a range of it.
pub(super) struct Reader {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
    place: u64,
    at: u64,
    end: u64,
}

impl Reader {
    /// Under which name the bytes are fetched.
    pub(super) fn name(&self) -> &UpstreamName {
        &self.fill.name
    }

    /// The next byte that is read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Waits until the first bytes of the blob came, wherever this reader's range lies; `true` when they are
    /// kept. A small blob is waited for as a whole.
    pub(super) async fn opened(&mut self) -> Result<bool, Lost> {
        let come = |progress: &Progress| progress.end.is_some() || progress.readable > 0;
        let progress = self.progress.wait_for(come).await.map(|progress| progress.clone());
        match progress {
            Ok(Progress { end: Some(Err(error)), .. }) => Err(Lost::Failed(error)),
            Ok(progress) => match &progress.window {
                Some(window) if self.at >= progress.in_file && !window.passes(self.at) => Err(Lost::Passed),
                window => Ok(window.is_none()),
            },
            Err(_) => Err(Lost::Failed(PullError::Failed)),
        }
    }

    /// The next bytes, `None` after the last of the range.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        let come = |progress: &Progress| progress.end.is_some() || progress.readable > at;
        let progress = match self.progress.wait_for(come).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(Lost::Failed(PullError::Failed)),
        };
        if let Some(Err(error)) = progress.end {
            return Err(Lost::Failed(error));
        }
        let until = progress.readable.min(self.end);
        let bytes = match (&progress.file, &progress.window) {
            (Some(file), _) if at < progress.in_file => {
                let len = READ.min(until.min(progress.in_file) - at);
                file.read(at, len as usize).await.map_err(|error| {
                    tracing::error!(digest = %self.fill.digest, cause = %error, "what was just fetched cannot be read back, and the pull is broken off; check the disk");
                    Lost::Failed(PullError::Failed)
                })?
            }
            (_, Some(window)) => window.read(at, (until - at).min(READ)).ok_or(Lost::Passed)?,
            _ => return Err(Lost::Failed(PullError::Failed)),
        };
        self.at += bytes.len() as u64;
        self.fill.places().insert(self.place, self.at);
        self.fill.moved.notify_one();
        Ok(Some(bytes))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fill.places().remove(&self.place);
        self.fill.moved.notify_one();
    }
}
