//! The bytes that pass when there is no room to keep them.
//!
//! Always holds: at most [`ROOM`] bytes (and one piece) are in memory, in one unbroken stretch; the slowest reader
//! among them holds the others back for at most [`PATIENCE`] in all, and is then behind: it gets no more.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout};

use super::Fill;

/// The most that is kept.
const ROOM: usize = 4 << 20;
/// How long the bytes wait for a reader that takes none.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stretch of the blob.
#[derive(Default)]
pub(super) struct Window(Mutex<Stretch>);

#[derive(Default)]
struct Stretch {
    start: u64,
    len: usize,
    pieces: VecDeque<Bytes>,
    /// How long others waited for those who hold them back now.
    waited: Duration,
}

impl Window {
    /// One that is empty at `at`.
    pub(super) fn at(at: u64) -> Window {
        Window(Mutex::new(Stretch { start: at, ..Stretch::default() }))
    }

    /// Whether a reader at byte `at` finds it here, or soon.
    pub(super) fn passes(&self, at: u64) -> bool {
        let stretch = self.lock();
        (stretch.start..=stretch.start + (stretch.len + ROOM) as u64).contains(&at)
    }

    /// At most `most` bytes from `at` on; `None` when they have passed.
    pub(super) fn read(&self, at: u64, most: u64) -> Option<Bytes> {
        let stretch = self.lock();
        let mut skip = usize::try_from(at.checked_sub(stretch.start)?).ok()?;
        let mut found = BytesMut::new();
        for piece in &stretch.pieces {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let take = (piece.len() - skip).min(most as usize - found.len());
            found.extend_from_slice(&piece[skip..skip + take]);
            skip = 0;
            if found.len() as u64 == most {
                break;
            }
        }
        (!found.is_empty()).then(|| found.freeze())
    }

    /// Takes a piece in once there is room for it. Room comes when all readers are past the oldest piece, or were
    /// waited for long enough.
    pub(super) async fn push(&self, fill: &Fill, piece: Bytes) {
        while let Some((oldest, end)) = self.in_the_way(piece.len()) {
            let (slow, others) = {
                let places = fill.places();
                // Who is behind already, or wants what is yet to come, is not waited for.
                (places.values().any(|at| oldest.contains(at)), places.values().any(|at| *at >= end))
            };
            if slow && self.wait(fill, others).await {
                continue;
            }
            self.drop_oldest();
        }
        let mut stretch = self.lock();
        stretch.len += piece.len();
        stretch.pieces.push_back(piece);
    }

    /// The bytes of the oldest piece and the end of all, if there is no room for `len` more.
    fn in_the_way(&self, len: usize) -> Option<(Range<u64>, u64)> {
        let stretch = self.lock();
        let oldest = stretch.pieces.front().filter(|_| stretch.len + len > ROOM)?;
        Some((stretch.start..stretch.start + oldest.len() as u64, stretch.start + stretch.len as u64))
    }

    /// Waits until a reader went on; `false` when the time for that is up. While others wait for what comes next,
    /// the slow ones share one budget of time; a reader that is alone only needs to take something now and then.
    async fn wait(&self, fill: &Fill, others: bool) -> bool {
        let begun = Instant::now();
        let budget = PATIENCE.saturating_sub(if others { self.lock().waited } else { Duration::ZERO });
        let moved = timeout(budget, fill.moved.notified()).await.is_ok();
        let mut stretch = self.lock();
        stretch.waited = match (moved, others) {
            (false, _) => Duration::ZERO,
            (true, true) => stretch.waited + begun.elapsed(),
            (true, false) => stretch.waited,
        };
        moved
    }

    fn drop_oldest(&self) {
        let mut stretch = self.lock();
        if let Some(gone) = stretch.pieces.pop_front() {
            stretch.start += gone.len() as u64;
            stretch.len -= gone.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stretch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
