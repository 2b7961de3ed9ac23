//! A blob that is still arriving.
//!
//! Bytes are gathered into batches of [`BATCH`]; while one batch is hashed and written on two
//! blocking threads the next is gathered, so that an upload costs two batches of memory and its
//! speed is that of the slowest stage. Staged files do not outlive the process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use trow_raft::{Algorithm, Digest, RepoName};

use super::checksum::{Builder, Checksums};
use super::error::{HoldError, StoreError};
use super::hash::{Hasher, hash};
use super::space::Reserved;
use super::{Held, Inner, blocking, joined};

/// Bytes hashed and written at once.
const BATCH: usize = 256 << 10;

/// A file in `staging/` with the running hash of its bytes. Dropping it removes the file.
///
/// After an error it is of no further use.
pub struct Staged {
    file: StagedFile,
    len: u64,
    /// Bytes that are in the file, and those that the batch under way adds.
    written: u64,
    writing: u64,
    gathered: Vec<Bytes>,
    gathered_len: usize,
    state: State,
    reserved: Option<Reserved>,
    origin: Option<RepoName>,
}

/// Reads what is in a staged file, while more comes and after it was held or dropped.
#[derive(Clone)]
pub struct StagedReader {
    file: Arc<File>,
    path: PathBuf,
}

impl StagedReader {
    /// The `len` bytes at `offset`, which must be below what [`Staged::written`] said.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking(move || {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, offset).map_err(|err| StoreError::io("read", &path, err))?;
            Ok(Bytes::from(bytes))
        })
        .await
    }
}

/// The running hashes, here or with the batch that is under way.
enum State {
    Idle(Box<Digester>),
    Busy(JoinHandle<Box<Digester>>, JoinHandle<io::Result<()>>),
    Hashing(JoinHandle<Box<Digester>>),
    Broken,
}

/// What is computed over the bytes as they pass.
struct Digester {
    sha256: Hasher,
    sha512: Option<Hasher>,
    sums: Builder,
}

impl Digester {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        self.sums.update(bytes);
    }
}

/// Removes the file when dropped, unless it was renamed away.
struct StagedFile {
    inner: Arc<Inner>,
    path: PathBuf,
    /// Kept open from the first byte to the last fsync: an error of the kernel's own writing in
    /// between is reported only to who had the file open.
    file: Arc<File>,
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        // Freeing the blocks of a big file takes a while.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || fs::remove_file(path))),
            Err(_) => drop(fs::remove_file(path)),
        }
    }
}

impl Staged {
    /// Blocks.
    pub(super) fn create(inner: Arc<Inner>, hint: Option<Algorithm>) -> Result<Staged, StoreError> {
        inner.room(BATCH as u64)?;
        let path = inner.staging_path();
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = Arc::new(file.map_err(|err| StoreError::io("create", &path, err))?);
        let digester = Digester {
            sha256: Hasher::new(Algorithm::Sha256),
            sha512: (hint == Some(Algorithm::Sha512)).then(|| Hasher::new(Algorithm::Sha512)),
            sums: Builder::default(),
        };
        Ok(Staged {
            file: StagedFile { inner, path, file },
            len: 0,
            written: 0,
            writing: 0,
            gathered: Vec::new(),
            gathered_len: 0,
            state: State::Idle(Box::new(digester)),
            reserved: None,
            origin: None,
        })
    }

    /// Room that was made for it, to be given back as it is written.
    pub(super) fn reserve(&mut self, reserved: Option<Reserved>) {
        self.reserved = reserved;
    }

    /// The name by which an upstream gave all of the bytes, for a file that will be cached.
    pub fn came_by(&mut self, origin: Option<RepoName>) {
        self.origin = origin;
    }

    /// Appends bytes. A dropped (cancelled) call appended all of `bytes` or nothing.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the disk is full up to the headroom.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.gathered_len >= BATCH {
            self.dispatch().await?;
        }
        self.len += bytes.len() as u64;
        self.gathered_len += bytes.len();
        self.gathered.push(bytes);
        Ok(())
    }

    /// Waits until all that was appended is in the file (not fsynced): before telling a client
    /// how much there is.
    ///
    /// # Errors
    /// As [`Staged::write`].
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if !self.gathered.is_empty() {
            self.dispatch().await?;
        }
        self.settle().await
    }

    /// Bytes appended so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads back at most `max` bytes from `offset`, for copying them to another mirror; empty at
    /// the end.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Staged::write`].
    pub async fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        self.flush().await?;
        let want = self.len.saturating_sub(offset).min(max as u64) as usize;
        self.reader().read(offset, want).await
    }

    /// Who reads what is in the file while more comes.
    pub fn reader(&self) -> StagedReader {
        StagedReader { file: Arc::clone(&self.file.file), path: self.file.path.clone() }
    }

    /// Bytes that are in the file, and readable there.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether all that was appended has the digest: what [`Staged::hold`] asks first, before anything is fsynced.
    ///
    /// # Errors
    /// As [`Staged::write`].
    pub async fn has_digest(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        self.flush().await?;
        let State::Idle(digester) = &self.state else { return Err(self.broken()) };
        let computed = match digest.algorithm() {
            Algorithm::Sha256 => digester.sha256.clone().finish(),
            Algorithm::Sha512 => match &digester.sha512 {
                Some(sha512) => sha512.clone().finish(),
                None => {
                    let path = self.file.path.clone();
                    blocking(move || hash_file(&path, Algorithm::Sha512)).await?
                }
            },
        };
        Ok(computed == *digest)
    }

    /// Verifies the digest and makes the bytes a held blob, durable when this returns.
    ///
    /// # Errors
    /// [`HoldError::DigestMismatch`]; the staged bytes are gone then.
    pub async fn hold(self, digest: &Digest) -> Result<Held, HoldError> {
        let digest = *digest;
        let promote = move |staged: &StagedFile, sums: &Checksums| {
            staged.inner.promote(&staged.path, &staged.file, &digest, sums)
        };
        self.verified(digest, promote).await
    }

    /// Verifies the digest and makes the bytes a cached file, durable when this returns; its size.
    /// Nothing is acknowledged: it may be evicted from the moment that it is here.
    ///
    /// # Errors
    /// As [`Staged::hold`].
    pub async fn keep(mut self, digest: &Digest) -> Result<u64, HoldError> {
        let (digest, origin) = (*digest, self.origin.take());
        let promote = move |staged: &StagedFile, sums: &Checksums| {
            staged.inner.promote_cached(&staged.path, &staged.file, &digest, sums, origin)
        };
        self.verified(digest, promote).await
    }

    /// What `promote` gives of the staged file and its checksums, once its bytes have the digest.
    async fn verified<T: Send + 'static>(
        mut self,
        digest: Digest,
        promote: impl FnOnce(&StagedFile, &Checksums) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, HoldError> {
        self.flush().await?;
        let State::Idle(digester) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.broken().into());
        };
        let staged = self.file;
        #[allow(clippy::result_large_err, reason = "two digests, once per blob")]
        let hold = move || {
            let Digester { sha256, sha512, sums } = *digester;
            let computed = match digest.algorithm() {
                Algorithm::Sha256 => sha256.finish(),
                Algorithm::Sha512 => match sha512 {
                    Some(sha512) => sha512.finish(),
                    None => hash_file(&staged.path, Algorithm::Sha512)?,
                },
            };
            match computed {
                computed if computed == digest => {}
                computed => return Err(HoldError::DigestMismatch { claimed: digest, computed }),
            }
            let sums = sums.finish();
            staged.inner.room(sums.encode().len() as u64)?;
            Ok(promote(&staged, &sums)?)
        };
        blocking(hold).await
    }

    /// Starts hashing and writing what was gathered, after what is under way.
    async fn dispatch(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        let State::Idle(mut digester) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(self.broken());
        };
        self.file.inner.room(self.gathered_len as u64)?;
        if let Some(reserved) = &mut self.reserved {
            reserved.wrote(self.gathered_len as u64);
        }
        let batch = Arc::new(std::mem::take(&mut self.gathered));
        self.writing = std::mem::take(&mut self.gathered_len) as u64;
        let hashed = Arc::clone(&batch);
        let hashing = tokio::task::spawn_blocking(move || {
            hashed.iter().for_each(|bytes| digester.update(bytes));
            digester
        });
        let file = Arc::clone(&self.file.file);
        let writing =
            tokio::task::spawn_blocking(move || batch.iter().try_for_each(|bytes| (&*file).write_all(bytes)));
        self.state = State::Busy(hashing, writing);
        Ok(())
    }

    /// Waits for the batch under way. May be dropped and called again: a handle is only let go of
    /// once what it gave is in the state.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if let State::Busy(_, writing) = &mut self.state {
            let written = joined(writing).await;
            let busy = std::mem::replace(&mut self.state, State::Broken);
            written.map_err(|err| StoreError::io("write", &self.file.path, err))?;
            self.written += std::mem::take(&mut self.writing);
            if let State::Busy(hashing, _) = busy {
                self.state = State::Hashing(hashing);
            }
        }
        if let State::Hashing(hashing) = &mut self.state {
            self.state = State::Idle(joined(hashing).await);
        }
        match self.state {
            State::Idle(_) => Ok(()),
            _ => Err(self.broken()),
        }
    }

    fn broken(&self) -> StoreError {
        let why = io::Error::other("an earlier write of it failed");
        StoreError::io("go on with", &self.file.path, why)
    }
}

/// The digest of a staged file under an algorithm that nobody hinted at.
fn hash_file(path: &Path, algorithm: Algorithm) -> Result<Digest, StoreError> {
    let file = File::open(path).map_err(|err| StoreError::io("open", path, err))?;
    let (digest, _) = hash(&file, algorithm).map_err(|err| StoreError::io("read", path, err))?;
    Ok(digest)
}
