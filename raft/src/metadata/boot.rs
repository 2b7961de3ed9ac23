//! The persisted start counter: the middle of (node, boot, seq).

use std::fs;
use std::io;
use std::path::Path;

use crate::durable;

const FILE: &str = "boot";
/// By how much a lost counter skips ahead of what the state has seen: the log may hold proposals
/// of starts that are not applied yet, and each start counts one.
const SKIP: u64 = 1 << 16;

/// Counts this start, durably, and returns its number: greater than that of every earlier
/// process on this directory, so that nothing those left in flight can pass for ours. `seen` is
/// the latest start whose proposals the state has seen; were the number lower, each of our
/// proposals would be refused.
///
/// # Errors
/// The file does not hold a number, or cannot be written.
pub(super) fn count(dir: &Path, seen: Option<u64>) -> io::Result<u64> {
    let last = match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => text.trim().parse::<u64>().map_err(io::Error::other)?.max(seen.unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            seen.map_or(0, |seen| seen.saturating_add(SKIP))
        }
        Err(error) => return Err(error),
    };
    durable::write(dir, FILE, (last + 1).to_string().as_bytes())?;
    Ok(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_old_counter_goes_on_beyond_what_the_state_has_seen() {
        let dir = tempfile::TempDir::new().unwrap();
        assert_eq!(count(dir.path(), None).unwrap(), 1);
        assert_eq!(count(dir.path(), Some(1)).unwrap(), 2);
        assert_eq!(count(dir.path(), Some(9)).unwrap(), 10);
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(count(dir.path(), Some(10)).unwrap() > 10 + 1000);
        fs::write(dir.path().join(FILE), "x").unwrap();
        assert!(count(dir.path(), Some(10)).is_err());
    }
}
