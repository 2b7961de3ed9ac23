//! Where things lie in the data directory.
//!
//! The names under `blobs/` are part of the contract; everything else here is private. Only
//! digests, which are valid by construction, and our own counters become path components.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use trow_raft::{Algorithm, Digest};

/// The paths of one store.
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    /// The data directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.sled")
    }

    pub(super) fn generation(&self) -> PathBuf {
        self.root.join("store.gen")
    }

    /// `blobs/<algorithm>/<first two hex>`, of blobs whose digest begins with `bucket`.
    pub(super) fn blob_dir(&self, algorithm: Algorithm, bucket: u8) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str()).join(format!("{bucket:02x}"))
    }

    /// `blobs/<algorithm>/<first two hex>/<hex>`.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm(), bucket(digest)).join(digest.hex())
    }

    pub(super) fn sidecar_dir(&self, algorithm: Algorithm, bucket: u8) -> PathBuf {
        self.root.join("checksums").join(algorithm.as_str()).join(format!("{bucket:02x}"))
    }

    /// The directories that a store of any size uses, so that a push need not make them.
    pub(super) fn common_dirs(&self) -> impl Iterator<Item = PathBuf> {
        let algorithm = Algorithm::Sha256;
        (0..=u8::MAX)
            .flat_map(move |bucket| [self.blob_dir(algorithm, bucket), self.sidecar_dir(algorithm, bucket)])
    }

    pub(super) fn sidecar(&self, digest: &Digest) -> PathBuf {
        self.sidecar_dir(digest.algorithm(), bucket(digest)).join(format!("{}.crc", digest.hex()))
    }

    pub(super) fn quarantine_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("quarantine").join(algorithm.as_str())
    }

    /// Bytes of all files under `blobs/`.
    ///
    /// # Errors
    /// A directory is there but cannot be read.
    pub(super) fn usage(&self) -> io::Result<u64> {
        let mut total = 0;
        for bucket in 0..=u8::MAX {
            for digest in self.list(bucket)? {
                // One that went since the directory was read counts nothing.
                total += fs::metadata(self.blob(&digest)).map_or(0, |metadata| metadata.len());
            }
        }
        Ok(total)
    }

    /// The digests of the files under `blobs/` that begin with `bucket`.
    ///
    /// # Errors
    /// The directory is there but cannot be read.
    pub(super) fn list(&self, bucket: u8) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let entries = match fs::read_dir(self.blob_dir(algorithm, bucket)) {
                Ok(entries) => entries,
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(err),
            };
            for entry in entries {
                let name = entry?.file_name();
                let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
                // A file that is no blob of ours is left alone.
                found.extend(text.parse::<Digest>());
            }
        }
        Ok(found)
    }
}

/// The directory that a digest's files share: its first byte.
pub(super) fn bucket(digest: &Digest) -> u8 {
    digest.as_bytes()[0]
}
