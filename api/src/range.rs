//! `Range` of a blob GET (RFC 9110 section 14) and `Content-Range` of an upload chunk (the
//! distribution-spec's "Pushing a blob in chunks").
//!
//! Both are read here and nowhere else; what comes out lies inside the blob.

use std::ops::Range;

use crate::error::{Error, Problem};

/// What a client asked of a blob's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no range, several of them, or not in bytes (RFC 9110 allows to ignore those).
    All,
    /// One range, cut short at the blob's end; never empty.
    Part(Range<u64>),
    /// A range that holds no byte of the blob, or is backwards: 416.
    Nothing,
}

/// Reads a `Range` header for a blob of `size` bytes.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((unit, ranges)) = header.and_then(|text| text.split_once('=')) else {
        return Wanted::All;
    };
    let ranges = ranges.trim();
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return Wanted::All;
    }
    let Some((first, last)) = ranges.split_once('-') else {
        return Wanted::All;
    };
    let part = match (first, last) {
        ("", suffix) => number(suffix).map(|n| size.saturating_sub(n)..size),
        (first, "") => number(first).map(|first| first..size),
        (first, last) => {
            number(first).zip(number(last)).map(|(first, last)| first..last.saturating_add(1).min(size))
        }
    };
    match part {
        None => Wanted::All,
        Some(part) if part.start >= part.end => Wanted::Nothing,
        Some(part) => Wanted::Part(part),
    }
}

/// Digits only; more than a u64 holds is as good as infinite.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads the `Content-Range: <first>-<last>` of a chunk: where it begins and how long it is.
///
/// # Errors
/// `UploadInvalid` when it is not of that form, or is backwards, or does not fit `length`, the
/// `Content-Length`.
pub fn chunk(header: &str, length: Option<u64>) -> Result<(u64, u64), Error> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    // A total after a slash is RFC 9110's form; it says nothing about this chunk.
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let bounds = text.split_once('-').and_then(|(first, last)| number(first).zip(number(last)));
    let invalid = |why| Error::new(Problem::UploadInvalid, why);
    let (first, last) =
        bounds.ok_or_else(|| invalid("Content-Range of a chunk is written <first byte>-<last byte>"))?;
    if first > last || last == u64::MAX {
        return Err(invalid("Content-Range ends before it begins"));
    }
    let len = last - first + 1;
    if length.is_some_and(|length| length != len) {
        return Err(invalid("Content-Range and Content-Length differ in length"));
    }
    Ok((first, len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_clamped_to_the_blob() {
        let check = |header, expected| assert_eq!(wanted(Some(header), 10), expected, "{header}");
        check("bytes=2-4", Wanted::Part(2..5));
        check("Bytes = 2-4", Wanted::Part(2..5));
        check("bytes=2-", Wanted::Part(2..10));
        check("bytes=-3", Wanted::Part(7..10));
        check("bytes=-30", Wanted::Part(0..10));
        check("bytes=8-100", Wanted::Part(8..10));
        check("bytes=0-99999999999999999999999", Wanted::Part(0..10));
        for nothing in ["bytes=10-", "bytes=10-20", "bytes=5-0", "bytes=-0", "bytes=99999999999999999999-"] {
            check(nothing, Wanted::Nothing);
        }
        for ignored in
            ["bytes=0-1,3-4", "items=0-1", "bytes", "bytes=x-1", "bytes=-", "bytes=+1-2", "bytes=1--2"]
        {
            check(ignored, Wanted::All);
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    #[test]
    fn chunks_say_where_they_begin() {
        let check = |header, length, expected: Option<(u64, u64)>| {
            assert_eq!(chunk(header, length).ok(), expected, "{header}");
        };
        check("0-9", Some(10), Some((0, 10)));
        check("5-5", None, Some((5, 1)));
        check("bytes 5-9/*", Some(5), Some((5, 5)));
        check("bytes=5-9", Some(5), Some((5, 5)));
        for bad in ["", "5", "9-5", "-5", "5-", "a-b", "0-18446744073709551615"] {
            check(bad, None, None);
        }
        check("0-9", Some(9), None);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_nor_outside(header in "[bytes=0-9, -]{0,24}", size in 0u64..20) {
            if let Wanted::Part(part) = wanted(Some(&header), size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
            let _ = chunk(&header, Some(size));
        }
    }
}
