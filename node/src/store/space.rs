//! Room on the disk, and the headroom that blobs leave to consensus.
//!
//! Blobs stop before the disk is full, so that the log can still be written when clients are
//! told 507; deleting and reading need no room. Cached files stop earlier, where whoever evicts
//! them says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use rustix::fs::statvfs;
use trow_raft::Algorithm;

use super::error::StoreError;
use super::{Inner, Staged, Store};

/// The share of the disk that blobs leave free, as a divisor.
const HEADROOM_SHARE: u64 = 20;
/// The most that is reserved of a file's size before it comes, in bytes: what an upstream says is no reason to let
/// everything else go. For what comes after it room is made as the disk fills.
const RESERVED: u64 = 64 << 20;
/// Bounds on what they leave free, in bytes.
const HEADROOM: std::ops::RangeInclusive<u64> = (8 << 20)..=(1 << 30);

impl Inner {
    /// Size of the file system and what is free, in bytes.
    pub(super) fn statvfs(&self) -> Result<(u64, u64), StoreError> {
        let root = self.layout.root();
        let stat = statvfs(root).map_err(|err| StoreError::io("stat file system of", root, err.into()))?;
        // As df counts: what the file system withholds from us is neither free nor in use.
        let blocks = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_add(stat.f_bavail);
        Ok((blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
    }

    /// Whether `bytes` more leave the headroom free.
    pub(super) fn room(&self, bytes: u64) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(StoreError::NoSpace);
        }
        let (total, free) = self.statvfs()?;
        if free < bytes.saturating_add(headroom(total)) {
            self.short.notify_one();
            return Err(StoreError::NoSpace);
        }
        Ok(())
    }
}

impl Store {
    /// Has whoever evicts cached files asked for room before one is begun. It must not keep this
    /// store alive. The first one stays.
    pub fn make_room_with(&self, make: MakeRoom) {
        let _ = self.inner.make_room.set(make);
    }

    /// Waits until somebody found the disk full up to the headroom.
    pub async fn is_short(&self) {
        self.inner.short.notified().await;
    }

    /// As [`Store::stage`], for a file of `size` bytes, if that is known, that will only be cached:
    /// it is not begun where it would take the room that pushes need, though all were evicted that
    /// may be.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], also where a push would find space.
    pub async fn stage_cached(
        &self,
        hint: Option<Algorithm>,
        size: Option<u64>,
    ) -> Result<Staged, StoreError> {
        let reserved = match self.inner.make_room.get() {
            Some(make) => Some(make(size.unwrap_or(0).min(RESERVED)).await.ok_or(StoreError::NoSpace)?),
            None => None,
        };
        let mut staged = self.stage(hint).await?;
        staged.reserve(reserved);
        Ok(staged)
    }
}

/// Gives room for so many bytes of a cached file, or says that there is none.
pub type MakeRoom = Arc<dyn Fn(u64) -> BoxFuture<'static, Option<Reserved>> + Send + Sync>;

/// Bytes that a cached file on its way will take. Given back as they are written, which the disk
/// then shows, or when it is dropped.
#[derive(Debug)]
pub struct Reserved {
    all: Arc<AtomicU64>,
    left: u64,
}

impl Reserved {
    /// Of `bytes`, which were added to `all` already.
    pub fn of(all: &Arc<AtomicU64>, bytes: u64) -> Reserved {
        Reserved { all: Arc::clone(all), left: bytes }
    }

    pub(super) fn wrote(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.wrote(self.left);
    }
}

/// What a disk of `total` bytes keeps free: a twentieth within bounds, never above a quarter.
pub(crate) fn headroom(total: u64) -> u64 {
    (total / HEADROOM_SHARE).clamp(*HEADROOM.start(), *HEADROOM.end()).min(total / 4)
}

#[cfg(test)]
mod tests {
    use super::headroom;

    #[test]
    fn the_headroom_suits_small_and_large_disks() {
        assert_eq!(headroom(16 << 20), 4 << 20);
        assert_eq!(headroom(64 << 20), 8 << 20);
        assert_eq!(headroom(10 << 30), 512 << 20);
        assert_eq!(headroom(10 << 40), 1 << 30);
    }
}
