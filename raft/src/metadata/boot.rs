//! The persisted start counter: the middle of (node, boot, seq).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Counts this start, durably, and returns its number: greater than that of every earlier
/// process on this directory, so that nothing those left in flight can pass for ours.
///
/// # Errors
/// The file does not hold a number, or cannot be written.
pub(super) fn count(dir: &Path) -> io::Result<u64> {
    let path = dir.join("boot");
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
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
