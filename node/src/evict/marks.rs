//! How full the disk may be before cached files go, and how far down they go.

use crate::store::headroom;

/// Shares of the file system in use, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Above this cached files go.
    pub high: u8,
    /// Down to this.
    pub low: u8,
}

impl Watermarks {
    /// Both in bytes, of a file system of `total` bytes.
    ///
    /// However high they are set, the cache stays clear of what blobs leave to consensus, by as much
    /// again: a push finds room when it comes, and evicting begins before it is refused.
    pub(super) fn bytes(self, total: u64) -> (u64, u64) {
        let share = |of: u64, percent: u8| (u128::from(of) * u128::from(percent) / 100) as u64;
        let clear = total.saturating_sub(2 * headroom(total));
        let (high, low) = (share(total, self.high), share(total, self.low));
        if high <= clear {
            return (high, low);
        }
        // As far below as the settings have it.
        let low = u128::from(clear) * u128::from(self.low) / u128::from(self.high.max(1));
        (clear, low as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_shares_of_the_disk_and_leave_room_for_pushes() {
        let gib = 1_u64 << 30;
        let of = |high, low, total| Watermarks { high, low }.bytes(total);
        assert_eq!(of(90, 80, 100 * gib), (90 * gib, 80 * gib));
        assert_eq!(of(50, 10, 1000), (500, 100));
        assert_eq!(of(1, 0, 100 * gib), (gib, 0));
        // A twentieth is left to consensus, 1 GiB of a large disk, and as much to pushes.
        assert_eq!(of(100, 50, 100 * gib), (98 * gib, 49 * gib));
        assert_eq!(of(99, 99, 10 * gib), (9 * gib, 9 * gib));
        assert_eq!(of(90, 80, 64 << 20), (48 << 20, (48 << 20) * 8 / 9));
        assert_eq!(of(90, 80, 0), (0, 0));
        for total in [1, 1000, 64 << 20, gib, 50 * gib, u64::MAX] {
            for high in 0..=100 {
                for low in [0, high / 2, high] {
                    let (high, low) = of(high, low, total);
                    assert!(low <= high && high <= total, "{high} {low} of {total}");
                }
            }
        }
    }
}
