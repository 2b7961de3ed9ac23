//! When each blob was last verified, which are cached, since when and by which name: in sled, and can be rebuilt.
//!
//! sled loses acknowledged writes at a power cut, so nothing here is needed for anything but
//! convenience: a digest that is not in it counts as verified when its file was written, and which
//! files are cached is made out again from the state ([`Index::is_whole`]); by which name a cached file
//! came is unknown then, which whoever asks must take for the worst. If the index does not
//! open it is deleted; if an earlier process died while opening it, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use trow_raft::{Digest, RepoName};

pub(super) struct Index {
    trees: Option<Trees>,
    /// There while a process has the index open: one that finds it took over from a process that
    /// did not close it, whose last notes may be lost.
    running: PathBuf,
    whole: bool,
}

struct Trees {
    db: sled::Db,
    verified: sled::Tree,
    /// Of cached files, by digest: when each was last asked for.
    cached: sled::Tree,
    /// Of cached files, by digest: the name by which an upstream gave the bytes.
    origins: sled::Tree,
}

impl Index {
    /// Opens the index, deleting a broken one. Never fails: without an index nothing is noted.
    pub(super) fn open(path: &Path) -> Index {
        let (opening, running) = (path.with_extension("opening"), path.with_extension("running"));
        let mut whole = path.exists() && !running.exists();
        if opening.exists() {
            discard(path, "an earlier process ended while it opened it");
            whole = false;
        }
        if let Err(err) = fs::write(&opening, b"").and_then(|()| fs::write(&running, b"")) {
            tracing::warn!(path = %opening.display(), cause = %err, "the index of blobs stays closed: when blobs were last verified or asked for is not known, nothing else is; check the disk");
            return Index { trees: None, running, whole: false };
        }
        let trees = open(path).or_else(|err| {
            discard(path, &err.to_string());
            whole = false;
            open(path)
        });
        let _ = fs::remove_file(&opening);
        let trees = trees.inspect_err(|err| {
            tracing::warn!(path = %path.display(), cause = %err, "the index of blobs stays closed: when blobs were last verified or asked for is not known, nothing else is; check the disk");
        });
        Index { whole: whole && trees.is_ok(), trees: trees.ok(), running }
    }

    /// Whether it has every note that was ever made: it was there, and closed by whoever had it.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The cached files that it knows, with the time of their last access.
    pub(super) fn cached(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let rows = self.trees.iter().flat_map(|trees| trees.cached.iter());
        rows.filter_map(|row| {
            let (digest, accessed) = row.ok()?;
            let digest = std::str::from_utf8(&digest).ok()?.parse().ok()?;
            Some((digest, u64::from_be_bytes(accessed.as_ref().try_into().ok()?)))
        })
    }

    /// Notes a cached file and its last access. Keep away from it when the disk is full.
    pub(super) fn note_cached(&self, digest: &Digest, accessed: u64) {
        let Some(trees) = &self.trees else { return };
        if let Err(err) = trees.cached.insert(digest.to_string(), &accessed.to_be_bytes()) {
            tracing::debug!(%digest, cause = %err, "not noted as cached");
        }
    }

    /// Forgets that a file is cached, but not by which name it came: it may be a durable blob's by now.
    pub(super) fn forget_cached(&self, digest: &Digest) {
        if let Some(trees) = &self.trees {
            let _ = trees.cached.remove(digest.to_string());
        }
    }

    /// The name by which the bytes of a file came, if that is known.
    pub(super) fn origin(&self, digest: &Digest) -> Option<RepoName> {
        let name = self.trees.as_ref()?.origins.get(digest.to_string()).ok()??;
        std::str::from_utf8(&name).ok()?.parse().ok()
    }

    /// Notes by which name the bytes of a file came. What is left of a file that was cached before is no
    /// lie: that registry gave these bytes. Keep away from it when the disk is full.
    pub(super) fn note_origin(&self, digest: &Digest, origin: &RepoName) {
        let Some(trees) = &self.trees else { return };
        if let Err(err) = trees.origins.insert(digest.to_string(), origin.as_str()) {
            tracing::debug!(%digest, cause = %err, "the origin of a cached blob is not noted");
        }
    }

    /// Notes that a blob's bytes were all checked now. Keep away from it when the disk is full.
    pub(super) fn verified(&self, digest: &Digest) {
        let Some(trees) = &self.trees else { return };
        let now = millis(SystemTime::now());
        if let Err(err) = trees.verified.insert(digest.to_string(), &now.to_be_bytes()) {
            tracing::debug!(%digest, cause = %err, "not noted as verified");
        }
    }

    /// When a blob was last verified, in milliseconds since 1970, if that is known.
    pub(super) fn verified_at(&self, digest: &Digest) -> Option<u64> {
        let value = self.trees.as_ref()?.verified.get(digest.to_string()).ok()??;
        Some(u64::from_be_bytes(value.as_ref().try_into().ok()?))
    }

    /// Forgets a blob that is gone.
    pub(super) fn forget(&self, digest: &Digest) {
        if let Some(trees) = &self.trees {
            let _ = trees.verified.remove(digest.to_string());
            let _ = trees.origins.remove(digest.to_string());
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let flushed = self.trees.as_ref().is_none_or(|trees| trees.db.flush().is_ok());
        if flushed {
            let _ = fs::remove_file(&self.running);
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn open(path: &Path) -> sled::Result<Trees> {
    let db = sled::Config::new().path(path).cache_capacity(4 << 20).flush_every_ms(Some(2000)).open()?;
    let [verified, cached, origins] = ["verified", "cached", "origins"].map(|name| db.open_tree(name));
    Ok(Trees { verified: verified?, cached: cached?, origins: origins?, db })
}

fn discard(path: &Path, why: &str) {
    tracing::warn!(path = %path.display(), why, "the index of blobs is deleted and made anew; nothing to do, it only says when blobs were last verified or asked for");
    if let Err(err) = fs::remove_dir_all(path)
        && err.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), cause = %err, "the index of blobs cannot be deleted; stop the node and delete it by hand");
    }
}
