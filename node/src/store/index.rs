//! When each blob was last verified: a cache in sled that can always be rebuilt.
//!
//! sled loses acknowledged writes at a power cut, so nothing here is needed for anything but
//! convenience: a digest that is not in it counts as verified when its file was written. If the
//! index does not open it is deleted; if an earlier process died while opening it, too.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use trow_raft::Digest;

pub(super) struct Index {
    verified: Option<(sled::Db, sled::Tree)>,
}

impl Index {
    /// Opens the index, deleting a broken one. Never fails: without an index nothing is noted.
    pub(super) fn open(path: &Path) -> Index {
        let opening = path.with_extension("opening");
        if opening.exists() {
            discard(path, "an earlier process ended while it opened it");
        }
        if let Err(err) = fs::write(&opening, b"") {
            tracing::warn!(path = %opening.display(), cause = %err, "the index of blobs stays closed: when blobs were last verified is not known, nothing else is; check the disk");
            return Index { verified: None };
        }
        let verified = open(path).or_else(|err| {
            discard(path, &err.to_string());
            open(path)
        });
        let _ = fs::remove_file(&opening);
        match verified {
            Ok(verified) => Index { verified: Some(verified) },
            Err(err) => {
                tracing::warn!(path = %path.display(), cause = %err, "the index of blobs stays closed: when blobs were last verified is not known, nothing else is; check the disk");
                Index { verified: None }
            }
        }
    }

    /// Notes that a blob's bytes were all checked now. Keep away from it when the disk is full.
    pub(super) fn verified(&self, digest: &Digest) {
        let Some((_, tree)) = &self.verified else { return };
        let now = millis(SystemTime::now());
        if let Err(err) = tree.insert(digest.to_string(), &now.to_be_bytes()) {
            tracing::debug!(%digest, cause = %err, "not noted as verified");
        }
    }

    /// When a blob was last verified, in milliseconds since 1970, if that is known.
    pub(super) fn verified_at(&self, digest: &Digest) -> Option<u64> {
        let (_, tree) = self.verified.as_ref()?;
        let value = tree.get(digest.to_string()).ok()??;
        Some(u64::from_be_bytes(value.as_ref().try_into().ok()?))
    }

    /// Forgets a blob that is gone.
    pub(super) fn forget(&self, digest: &Digest) {
        if let Some((_, tree)) = &self.verified {
            let _ = tree.remove(digest.to_string());
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn open(path: &Path) -> sled::Result<(sled::Db, sled::Tree)> {
    let db = sled::Config::new().path(path).cache_capacity(4 << 20).flush_every_ms(Some(2000)).open()?;
    let tree = db.open_tree("verified")?;
    Ok((db, tree))
}

fn discard(path: &Path, why: &str) {
    tracing::warn!(path = %path.display(), why, "the index of blobs is deleted and made anew; nothing to do, it only says when blobs were last verified");
    if let Err(err) = fs::remove_dir_all(path)
        && err.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), cause = %err, "the index of blobs cannot be deleted; stop the node and delete it by hand");
    }
}
