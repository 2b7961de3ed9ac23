//! Taking damaged blobs out of service.
//!
//! A quarantined file is kept for a person to look at, at most [`KEPT`] of them; the blob counts
//! as missing from that moment, and repair hears of it.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use trow_raft::Digest;

use super::Inner;
use super::error::StoreError;
use super::index::millis;

/// How many quarantined files are kept per algorithm; the oldest go first.
const KEPT: usize = 64;

impl Inner {
    /// Quarantines the blob if its file is still the one with `inode`, which was seen to be
    /// damaged: another reader may have been faster, and the file healed since. Blocks.
    pub(super) fn quarantine(&self, digest: &Digest, inode: u64, why: &str) -> Result<(), StoreError> {
        let _lock = self.locks.lock(digest);
        self.quarantine_locked(digest, inode, why)
    }

    /// As [`Inner::quarantine`]; the caller holds the digest's lock.
    pub(super) fn quarantine_locked(&self, digest: &Digest, inode: u64, why: &str) -> Result<(), StoreError> {
        let path = self.layout.blob(digest);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(StoreError::io("stat", &path, err)),
        };
        if metadata.ino() != inode {
            return Ok(());
        }
        let dir = self.layout.quarantine_dir(digest.algorithm());
        self.dirs.ensure(self.layout.root(), &dir)?;
        let kept = dir.join(format!("{}.{}", digest.hex(), millis(SystemTime::now())));
        tracing::error!(
            %digest,
            why,
            kept = %kept.display(),
            "a blob is damaged on disk; it was quarantined and is fetched again from a peer: if there are more, replace the disk"
        );
        fs::rename(&path, &kept).map_err(|err| StoreError::io("quarantine", &path, err))?;
        // It was counted with the length it had when it was held.
        let counted = self.read_sidecar(digest).map_or(metadata.len(), |sums| sums.length());
        self.uncount(counted);
        self.small.forget(digest);
        let _ = fs::remove_file(self.layout.sidecar(digest));
        self.index.forget(digest);
        self.uncache(digest);
        self.touched(digest);
        if let Err(err) = drop_oldest(fs::read_dir(&dir)) {
            tracing::debug!(path = %dir.display(), cause = %err, "old quarantined files stay");
        }
        // Nobody listening is fine: repair also looks at the files themselves.
        self.quarantined.fetch_add(1, Ordering::Relaxed);
        let _ = self.damaged.send(*digest);
        Ok(())
    }
}

fn drop_oldest(entries: io::Result<fs::ReadDir>) -> io::Result<()> {
    let mut files: Vec<(SystemTime, DirEntry)> = Vec::new();
    for entry in entries? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry));
    }
    let excess = files.len().saturating_sub(KEPT);
    files.sort_by_key(|(modified, _)| *modified);
    files.iter().take(excess).try_for_each(|(_, entry)| fs::remove_file(entry.path()))
}
