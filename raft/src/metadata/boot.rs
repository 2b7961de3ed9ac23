//! The persisted start counter: the middle of (node, boot, seq).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

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
    let path = dir.join("boot");
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(io::Error::other)?.max(seen.unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            seen.map_or(0, |seen| seen.saturating_add(SKIP))
        }
        Err(error) => return Err(error),
    };
    let temporary = dir.join("boot.tmp");
    let mut file = File::create(&temporary)?;
    write!(file, "{}", last + 1)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(dir)?.sync_all()?;
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
        fs::remove_file(dir.path().join("boot")).unwrap();
        assert!(count(dir.path(), Some(10)).unwrap() > 10 + 1000);
        fs::write(dir.path().join("boot"), "x").unwrap();
        assert!(count(dir.path(), Some(10)).is_err());
    }
}
