//! The data directory as a whole: one process at a time, of one cluster, readable by this version.
//!
//! Owns `LOCK`, `VERSION` and `CLUSTER`. Always holds: while a [`DataDir`] lives no other process
//! has one for the same directory; nothing else below it is touched before the three are found
//! right. Never does: what the parts keep below it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use trow_raft::durable;

/// The layout of the directory that this version writes.
const VERSION: u32 = 1;

/// The lock on a data directory; held as long as it lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "the data directory {} is in use by another process{}: stop that one, or give this one \
         a directory of its own with --data-dir", path.display(), pid(*holder)
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it, if it said so.
        holder: Option<u32>,
    },
    /// A newer version wrote it.
    #[error(
        "the data directory {} was written by a newer version of Trow (layout {found}, this one knows \
         {VERSION}): run that version or a later one", path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "the data directory {} belongs to another cluster: its cluster directory had another CA than {}. \
         Give the right one with --cluster-dir, or this node another directory with --data-dir",
        path.display(), cluster_dir.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster directory that was given.
        cluster_dir: PathBuf,
    },
    /// It holds something else.
    #[error("{}: {why}", path.display())]
    Strange {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file of it holds no text.
    #[error(
        "{} is damaged (it is not text); restore it, or empty the data directory so that this node joins \
         as a new one", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn pid(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl DataDir {
    /// Takes the directory `path`, making it when it is not there.
    ///
    /// # Errors
    /// It is in use, of a newer version, or not usable.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        fs::create_dir_all(path).map_err(io_error("create directory", path))?;
        let path = path.canonicalize().map_err(io_error("find", path))?;
        let lock = lock(&path)?;
        version(&path)?;
        Ok(DataDir { path, _lock: lock })
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ties the directory to the cluster whose CA certificate (DER or PEM, the same each time) is
    /// `ca`, at `cluster_dir`; from the first time on no other is accepted.
    ///
    /// # Errors
    /// It is tied to another.
    pub fn tie(&self, ca: &[u8], cluster_dir: &Path) -> Result<(), DataDirError> {
        let file = self.path.join("CLUSTER");
        let mine = format!("{}\n", hex::encode(sha2::Sha256::digest(ca)));
        match fs::read_to_string(&file) {
            Ok(found) if found == mine => Ok(()),
            Ok(_) => Err(DataDirError::OtherCluster {
                path: self.path.clone(),
                cluster_dir: cluster_dir.to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => write(&self.path, "CLUSTER", &mine),
            Err(error) => Err(unreadable(&file, error)),
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> DataDirError {
    match error.kind() {
        io::ErrorKind::InvalidData => DataDirError::Damaged { path: path.to_owned() },
        _ => io_error("read", path)(error),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { action, path, source }
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("LOCK");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DataDirError::InUse { path: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
    }
    // Whose it is, for the message above. That it cannot be written (a full disk) matters to nobody.
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::debug!(cause = %error, "the lock file does not name this process");
    }
    Ok(file)
}

fn version(dir: &Path) -> Result<(), DataDirError> {
    let path = dir.join("VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(VERSION) => Ok(()),
            Ok(found) if found > VERSION => Err(DataDirError::Newer { path: dir.to_owned(), found }),
            _ => Err(DataDirError::Strange {
                path,
                why: "is no version number: this is no data directory of Trow",
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(dir, "VERSION", &format!("{VERSION}\n"))
        }
        Err(error) => Err(unreadable(&path, error)),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), DataDirError> {
    durable::write(dir, name, text.as_bytes()).map_err(io_error("write", &dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_process_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("in use") && refused.contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn directory_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Newer { found: 2, .. })));
        fs::write(dir.path().join("VERSION"), "postgres").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Strange { .. })));
    }

    #[test]
    fn directory_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.tie(b"ca", Path::new("/c")).unwrap();
        data.tie(b"ca", Path::new("/c")).unwrap();
        let refused = data.tie(b"other", Path::new("/c")).unwrap_err();
        assert!(matches!(refused, DataDirError::OtherCluster { .. }), "{refused}");
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let damage = |name: &str| fs::write(dir.path().join(name), b"\xff\xfe").unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        damage("CLUSTER");
        let refused = data.tie(b"ca", Path::new("/c")).unwrap_err().to_string();
        assert!(refused.contains("CLUSTER is damaged") && refused.contains("restore it"), "{refused}");
        drop(data);
        damage("VERSION");
        let refused = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("VERSION is damaged") && refused.contains("restore it"), "{refused}");
    }
}
