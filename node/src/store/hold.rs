//! How a file becomes a held blob, and how one that is here is vouched for again.
//!
//! The order of a hold is the durability promise: the blob's bytes are fsynced, its sidecar is
//! complete and fsynced, then the rename, then the fsync of the directory; only then is it
//! acknowledged. A crash between any two steps leaves either no blob or a whole one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use trow_raft::{Digest, RepoName, Variant};

use super::checksum::Checksums;
use super::error::StoreError;
use super::hash::rehash;
use super::index::millis;
use super::layout::bucket;
use super::{Held, Inner, sync};

impl Inner {
    /// Promotes a staged file whose bytes were verified to have `digest`, and acknowledges it.
    /// Blocks.
    pub(super) fn promote(
        &self,
        staged: &Path,
        file: &File,
        digest: &Digest,
        sums: &Checksums,
    ) -> Result<Held, StoreError> {
        let _lock = self.settle(staged, file, digest, sums)?;
        Ok(Held { size: sums.length(), generation: self.ledger().acknowledge(digest) })
    }

    /// As [`Inner::promote`] for a blob that is only cached: nobody is promised anything.
    ///
    /// It is as durable as a held one all the same. Whoever confirms it later gives evidence of a
    /// file that is here, and must not have to ask how it came here; nobody waits for the fsyncs,
    /// since readers have their last byte when the digest was found to be right.
    pub(super) fn promote_cached(
        &self,
        staged: &Path,
        file: &File,
        digest: &Digest,
        sums: &Checksums,
        origin: Option<RepoName>,
    ) -> Result<u64, StoreError> {
        let _lock = self.settle(staged, file, digest, sums)?;
        self.cache(digest, sums.length(), millis(SystemTime::now()), origin);
        Ok(sums.length())
    }

    /// Makes a verified staged file the blob's, durably; gives the digest's lock.
    fn settle(
        &self,
        staged: &Path,
        file: &File,
        digest: &Digest,
        sums: &Checksums,
    ) -> Result<MutexGuard<'_, ()>, StoreError> {
        if !self.planted.is(Variant::SkipFsyncBlobFile) {
            sync::file(file, staged);
        }
        let lock = self.locks.lock(digest);
        self.write_sidecar(digest, sums)?;
        let path = self.layout.blob(digest);
        let dir = self.layout.blob_dir(digest.algorithm(), bucket(digest));
        self.dirs.ensure(self.layout.root(), &dir)?;
        // An older file is replaced even if it looks sound: these bytes were just verified.
        let before = fs::metadata(&path).ok().map(|metadata| metadata.len());
        fs::rename(staged, &path).map_err(|err| StoreError::io("rename", staged, err))?;
        if !self.planted.is(Variant::SkipFsyncBlobDirectory) {
            sync::directory(&dir)?;
        }
        self.uncount(before.unwrap_or(0));
        self.usage.fetch_add(sums.length(), Ordering::Relaxed);
        self.touched(digest);
        self.note_verified(digest);
        Ok(lock)
    }

    /// Acknowledges a blob that an earlier hold left here, if it is sound as far as one can tell
    /// without reading it. Blocks.
    pub(super) fn confirm(&self, digest: &Digest) -> Result<Option<Held>, StoreError> {
        let _lock = self.locks.lock(digest);
        let Some((_, sums)) = self.open_locked(digest)? else { return Ok(None) };
        Ok(Some(Held { size: sums.length(), generation: self.ledger().acknowledge(digest) }))
    }

    /// Opens a blob and its checksums. A missing or invalid sidecar is made again from the bytes;
    /// a blob that does not have its digest or its length is quarantined, and `None`. Blocks; the
    /// caller holds the digest's lock.
    pub(super) fn open_locked(&self, digest: &Digest) -> Result<Option<(File, Checksums)>, StoreError> {
        let path = self.layout.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(StoreError::io("open", &path, err)),
        };
        let metadata = file.metadata().map_err(|err| StoreError::io("stat", &path, err))?;
        if let Some(sums) = self.read_sidecar(digest) {
            if sums.length() == metadata.len() {
                return Ok(Some((file, sums)));
            }
            self.quarantine_locked(digest, metadata.ino(), "its length is wrong")?;
            return Ok(None);
        }
        tracing::info!(%digest, "hashing a blob again: its checksums are missing or invalid");
        match rehash(&file, digest) {
            Ok(Some(sums)) => {
                self.write_sidecar(digest, &sums)?;
                self.note_verified(digest);
                Ok(Some((file, sums)))
            }
            Ok(None) => {
                self.quarantine_locked(digest, metadata.ino(), "its bytes do not have its digest")?;
                Ok(None)
            }
            Err(err) if is_bad_disk(&err) => {
                self.quarantine_locked(digest, metadata.ino(), "the disk cannot read it")?;
                Ok(None)
            }
            Err(err) => Err(StoreError::io("read", &path, err)),
        }
    }

    /// Whether all of a blob's bytes have its digest; quarantines it if not. `None`: not here.
    /// Blocks.
    pub(super) fn verify(&self, digest: &Digest) -> Result<Option<bool>, StoreError> {
        let path = self.layout.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(StoreError::io("open", &path, err)),
        };
        let inode = file.metadata().map_err(|err| StoreError::io("stat", &path, err))?.ino();
        match rehash(&file, digest) {
            Ok(Some(sums)) => {
                let _lock = self.locks.lock(digest);
                if self.read_sidecar(digest).as_ref() != Some(&sums) {
                    self.write_sidecar(digest, &sums)?;
                }
                self.note_verified(digest);
                Ok(Some(true))
            }
            Ok(None) => {
                self.quarantine(digest, inode, "its bytes do not have its digest")?;
                Ok(Some(false))
            }
            Err(err) if is_bad_disk(&err) => {
                self.quarantine(digest, inode, "the disk cannot read it")?;
                Ok(Some(false))
            }
            Err(err) => Err(StoreError::io("read", &path, err)),
        }
    }

    /// Unlinks a blob if `decide` says so under its lock, where it cannot be acknowledged
    /// meanwhile. Returns whether it is gone. Blocks.
    pub(super) fn unlink(
        &self,
        digest: &Digest,
        decide: impl FnOnce(super::Acknowledged) -> bool,
    ) -> Result<bool, StoreError> {
        let _lock = self.locks.lock(digest);
        let acknowledged = self.ledger().look(digest);
        if !decide(acknowledged) {
            return Ok(false);
        }
        let path = self.layout.blob(digest);
        let Ok(metadata) = fs::metadata(&path) else { return Ok(false) };
        fs::remove_file(&path).map_err(|err| StoreError::io("unlink", &path, err))?;
        // Without its blob a sidecar says nothing; after a crash here it is overwritten by the
        // next hold, or stays as a few harmless bytes.
        let _ = fs::remove_file(self.layout.sidecar(digest));
        self.uncount(metadata.len());
        self.small.forget(digest);
        self.index.forget(digest);
        self.uncache(digest);
        self.touched(digest);
        Ok(true)
    }

    pub(super) fn read_sidecar(&self, digest: &Digest) -> Option<Checksums> {
        Checksums::decode(&fs::read(self.layout.sidecar(digest)).ok()?)
    }

    /// Whole or not at all, and not by `trow_raft::durable`: it is staged where the start cleans up, a
    /// failed fsync ends the process, and the planted build leaves the fsyncs out.
    fn write_sidecar(&self, digest: &Digest, sums: &Checksums) -> Result<(), StoreError> {
        let fsync = !self.planted.is(Variant::SkipFsyncSidecar);
        let path = self.layout.sidecar(digest);
        let dir = self.layout.sidecar_dir(digest.algorithm(), bucket(digest));
        self.dirs.ensure(self.layout.root(), &dir)?;
        let new = self.staging_path();
        let mut out = File::create_new(&new).map_err(|err| StoreError::io("create", &new, err))?;
        let written = out.write_all(&sums.encode());
        if fsync && written.is_ok() {
            sync::file(&out, &new);
        }
        if let Err(err) = written.and_then(|()| fs::rename(&new, &path)) {
            let _ = fs::remove_file(&new);
            return Err(StoreError::io("write", &new, err));
        }
        if fsync {
            sync::directory(&dir)?;
        }
        Ok(())
    }

    fn note_verified(&self, digest: &Digest) {
        // sled does not take a full disk well.
        if self.room(0).is_ok() {
            self.index.verified(digest);
        }
    }
}

/// The disk failed to give bytes back, as opposed to an error that passes.
pub(super) fn is_bad_disk(err: &io::Error) -> bool {
    err.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        || err.kind() == io::ErrorKind::UnexpectedEof
}
