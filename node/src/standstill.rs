//! Points at which a node stands still until a test lets it go on, so that a fault meets it there.
//!
//! Only in a build with the feature `planted`; in every other one nothing happens at a point. When
//! `TROW_STANDSTILL` names a directory that has a file named like the point, a node that comes
//! there writes `<point>.<process id>.<turn>` beside it and waits until the point's file is gone.
//! Never does: wait longer than a minute, or change what happens afterwards.

#[cfg(feature = "planted")]
use std::path::PathBuf;
#[cfg(feature = "planted")]
use std::sync::OnceLock;
#[cfg(feature = "planted")]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "planted")]
use std::time::{Duration, Instant};

/// The longest that a node stands still: the test that made it do so is gone.
#[cfg(feature = "planted")]
const MOST: Duration = Duration::from_secs(60);

/// Where a node can be made to stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The home of an upload and its mirrors have written a chunk; nobody was told yet.
    ChunkWritten,
    /// They have all bytes of an upload; nobody holds it yet.
    WholeWritten,
    /// Enough nodes hold a blob; it is not committed yet.
    BeforeCommit,
    /// A blob is committed; nobody was told yet.
    AfterCommit,
}

impl Point {
    /// The name of its file.
    #[cfg(feature = "planted")]
    fn as_str(self) -> &'static str {
        match self {
            Point::ChunkWritten => "chunk-written",
            Point::WholeWritten => "whole-written",
            Point::BeforeCommit => "before-commit",
            Point::AfterCommit => "after-commit",
        }
    }
}

/// A node has come to `point`.
#[cfg(not(feature = "planted"))]
#[inline]
pub async fn reached(_point: Point) {}

/// A node has come to `point`.
#[cfg(feature = "planted")]
pub async fn reached(point: Point) {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    static TURN: AtomicU64 = AtomicU64::new(0);
    let dir = DIR.get_or_init(|| std::env::var_os("TROW_STANDSTILL").map(PathBuf::from));
    let Some(dir) = dir.as_ref().filter(|dir| dir.join(point.as_str()).exists()) else { return };
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let said = dir.join(format!("{}.{}.{turn}", point.as_str(), std::process::id()));
    if let Err(error) = std::fs::write(&said, "") {
        tracing::error!(cause = %error, file = %said.display(), "cannot say that a point is reached");
    }
    let until = Instant::now() + MOST;
    while dir.join(point.as_str()).exists() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
