//! Files that are read again when they change: the certificate's, and that of the users.
//!
//! Compared by what is in them, so that an edit in place, a rename over them and a replaced
//! symbolic link (as Kubernetes does it with a mounted Secret) are all the same. Always holds:
//! what is handed on was found twice in a row, so a file that is being written is not taken for a
//! whole one. Never does: judge what is in a file.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the files are looked at: a change counts after two looks.
const LOOK: Duration = Duration::from_millis(500);
/// More than any such file has.
const BYTES_MAX: u64 = 16 << 20;

/// What was found in a file, or why it could not be read.
pub type Content = Result<Vec<u8>, String>;

/// Reads a file.
pub fn read(path: &Path) -> Content {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    match file {
        Ok(_) if bytes.len() as u64 > BYTES_MAX => Err("it is larger than 16 MiB".to_owned()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Calls `changed` whenever the files hold something else than before, which is `held` at first,
/// until `closing`.
pub async fn follow<const N: usize>(
    files: [PathBuf; N],
    mut held: [Content; N],
    closing: CancellationToken,
    mut changed: impl FnMut(&[Content; N]),
) {
    let mut last = held.clone();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let paths = files.clone();
        // A file system that hangs must not hold up what else this thread serves.
        let Ok(found) = tokio::task::spawn_blocking(move || paths.map(|path| read(&path))).await else {
            return;
        };
        if found == last && found != held {
            held = found.clone();
            changed(&held);
        }
        last = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tokio::sync::mpsc;

    const BOUND: Duration = Duration::from_secs(20);

    /// Follows `path` and tells each content.
    fn following(path: &Path) -> mpsc::UnboundedReceiver<Content> {
        let (send, told) = mpsc::unbounded_channel();
        let (path, held) = (path.to_owned(), read(path));
        tokio::spawn(follow([path], [held], CancellationToken::new(), move |[content]| {
            let _ = send.send(content.clone());
        }));
        told
    }

    async fn next(told: &mut mpsc::UnboundedReceiver<Content>) -> String {
        let content = tokio::time::timeout(BOUND, told.recv()).await.expect("the change is noticed").unwrap();
        content.map_or_else(|why| why, |bytes| String::from_utf8(bytes).unwrap())
    }

    #[tokio::test]
    async fn changes_are_noticed_however_they_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "one").unwrap();
        let mut told = following(&path);
        // In place, with the old length.
        std::fs::write(&path, "two").unwrap();
        assert_eq!(next(&mut told).await, "two");
        // By a rename over it, with the old time.
        let (fresh, old) = (dir.path().join("fresh"), path.metadata().unwrap().modified().unwrap());
        std::fs::write(&fresh, "six").unwrap();
        std::fs::File::options().write(true).open(&fresh).unwrap().set_modified(old).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        assert_eq!(next(&mut told).await, "six");
        // Gone, and back.
        std::fs::remove_file(&path).unwrap();
        assert!(next(&mut told).await.contains("cannot be read"));
        std::fs::write(&path, "six").unwrap();
        assert_eq!(next(&mut told).await, "six");
    }

    #[tokio::test]
    async fn a_mounted_secret_is_followed_through_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("users"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/users", at("users")).unwrap();
        let mut told = following(&at("users"));
        symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(next(&mut told).await, "two");
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "old").unwrap();
        let mut told = following(&path);
        // Longer than two looks take, and never twice the same.
        for length in 1..=30 {
            std::fs::write(&path, "x".repeat(length)).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(next(&mut told).await, "x".repeat(30));
    }
}
