//! `bytes=a-b`: the one form of a range that a peer sends.

use std::ops::Range;

/// The header's value for `range`, which is not empty.
pub fn format(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// The range in a header's value, if it lies within `size`.
pub fn parse(text: &str, size: u64) -> Option<Range<u64>> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    (start <= last && last < size).then(|| start..last + 1)
}
