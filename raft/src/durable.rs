//! Small files that are there as a whole or not at all.
//!
//! Always holds: when a call returned, what it did survives a power cut; whenever the process is
//! killed or the power fails before that, the file is as it was before or as it is to be. An error
//! leaves open which of the two. Never does: lock. A name has one writer at a time, and a call that
//! was cut short leaves `<name>.tmp`, which the next one removes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes `bytes` the content of the file `name` in `dir`, whether there is one or not. Blocks.
///
/// # Errors
/// It may or may not be written: nothing must rely on either.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_as(dir, name, bytes, 0o666)
}

/// As [`write()`], for what only the owner may read.
///
/// # Errors
/// As [`write()`].
pub fn write_secret(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_as(dir, name, bytes, 0o600)
}

/// Removes the file `name` from `dir`, if there is one. Blocks.
///
/// # Errors
/// It may still be there.
pub fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_names(dir)),
    }
}

fn write_as(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    // What a call that was cut short left there would keep its mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    // Before the rename, or the name could survive a power cut that the bytes do not.
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_names(dir)
}

fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_reader_sees_each_content_whole_and_never_none() {
        let dir = tempfile::tempdir().unwrap();
        let contents = [vec![b'a'; 300_000], vec![b'b'; 5]];
        write(dir.path(), "f", &contents[0]).unwrap();
        let (done, mut reads) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..100 {
                    write(dir.path(), "f", &contents[round % 2]).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let read = fs::read(dir.path().join("f")).unwrap();
                assert!(contents.contains(&read), "{} bytes, neither of the two contents", read.len());
                reads += 1;
            }
        });
        assert!(reads > 0);
    }

    #[test]
    fn an_attempt_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "f", b"old").unwrap();
        fs::create_dir(dir.path().join("f.tmp")).unwrap();
        write(dir.path(), "f", b"new").unwrap_err();
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"old");
    }

    #[test]
    fn what_a_killed_attempt_left_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f.tmp"), b"longer than what comes").unwrap();
        write(dir.path(), "f", b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        write_secret(dir.path(), "key", b"secret").unwrap();
        let found = fs::metadata(dir.path().join("key")).unwrap().permissions().mode();
        assert_eq!(found & 0o777, 0o600);
    }

    #[test]
    fn what_is_removed_or_never_was_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        remove(dir.path(), "f").unwrap();
        write(dir.path(), "f", b"x").unwrap();
        remove(dir.path(), "f").unwrap();
        assert!(!dir.path().join("f").exists());
        write(dir.path(), "d/f", b"x").unwrap_err();
        fs::create_dir(dir.path().join("d")).unwrap();
        remove(dir.path(), "d").unwrap_err();
    }
}
