//! Room on the disk, and the headroom that blobs leave to consensus.
//!
//! Blobs stop before the disk is full, so that the log can still be written when clients are
//! told 507; deleting and reading need no room.

use rustix::fs::statvfs;

use super::Inner;
use super::error::StoreError;

/// The share of the disk that blobs leave free, as a divisor.
const HEADROOM_SHARE: u64 = 20;
/// Bounds on what they leave free, in bytes.
const HEADROOM: std::ops::RangeInclusive<u64> = (8 << 20)..=(1 << 30);

impl Inner {
    /// Size of the file system and what is free, in bytes.
    pub(super) fn statvfs(&self) -> Result<(u64, u64), StoreError> {
        let root = self.layout.root();
        let stat = statvfs(root).map_err(|err| StoreError::io("stat file system of", root, err.into()))?;
        Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
    }

    /// Whether `bytes` more leave the headroom free.
    pub(super) fn room(&self, bytes: u64) -> Result<(), StoreError> {
        let (total, free) = self.statvfs()?;
        if free < bytes.saturating_add(headroom(total)) {
            return Err(StoreError::NoSpace);
        }
        Ok(())
    }
}

/// What a disk of `total` bytes keeps free: a twentieth within bounds, never above a quarter.
fn headroom(total: u64) -> u64 {
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
