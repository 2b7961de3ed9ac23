//! Small blobs in memory.

use std::fs;

use bytes::Bytes;
use trow_raft::Digest;

use super::super::{CHUNK, ReadError, Store};
use super::{content, open, path, put, sidecar};

/// A small blob as a client's pull reads it: from memory, else from disk into memory.
async fn pull_small(store: &Store, bytes: &Bytes) -> Result<Bytes, ReadError> {
    let digest = Digest::sha256(bytes);
    match store.kept(&digest) {
        Some(kept) => Ok(kept),
        None => store.read_small(&digest, bytes.len() as u64).await,
    }
}

#[tokio::test]
async fn a_small_blob_is_read_from_disk_once_and_then_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for length in [1, 4096, CHUNK] {
        let bytes = content(length);
        put(&store, &bytes).await;
        assert_eq!(store.kept(&Digest::sha256(&bytes)), None);
        assert_eq!(pull_small(&store, &bytes).await.unwrap(), bytes);
        assert_eq!(store.kept(&Digest::sha256(&bytes)), Some(bytes));
    }
    let large = content(CHUNK + 1);
    put(&store, &large).await;
    assert!(matches!(pull_small(&store, &large).await, Err(ReadError::NotHere)));
    store.keep(&Digest::sha256(&large), large.clone());
    assert_eq!(store.kept(&Digest::sha256(&large)), None);
    assert!(store.small_stats().bytes < 2 * CHUNK as u64);
}

#[tokio::test]
async fn what_is_kept_in_memory_goes_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (bytes, other) = (content(5000), content(6000));
    let (digest, damaged) = (Digest::sha256(&bytes), Digest::sha256(&other));
    for bytes in [&bytes, &other] {
        put(&store, bytes).await;
        pull_small(&store, bytes).await.unwrap();
    }
    assert!(!store.unlink(&digest, |_| false).await.unwrap());
    assert!(store.kept(&digest).is_some());
    assert!(store.unlink(&digest, |_| true).await.unwrap());
    assert_eq!(store.kept(&digest), None);

    // Damage is hidden by memory until somebody looks at the file.
    let mut wrong = fs::read(path(dir.path(), &damaged)).unwrap();
    wrong[4000] ^= 1;
    fs::write(path(dir.path(), &damaged), wrong).unwrap();
    assert_eq!(pull_small(&store, &other).await.unwrap(), other);
    assert_eq!(store.verify(&damaged).await.unwrap(), Some(false));
    assert_eq!((store.kept(&damaged), store.has(&damaged)), (None, None));
}

#[tokio::test]
async fn a_small_blob_that_was_damaged_with_its_checksums_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (bytes, other) = (content(5000), content(5001).slice(1..));
    for bytes in [&bytes, &other] {
        put(&store, bytes).await;
    }
    let (digest, wrong) = (Digest::sha256(&bytes), Digest::sha256(&other));
    fs::copy(path(dir.path(), &wrong), path(dir.path(), &digest)).unwrap();
    fs::copy(sidecar(dir.path(), &wrong), sidecar(dir.path(), &digest)).unwrap();
    assert!(matches!(pull_small(&store, &bytes).await, Err(ReadError::Damaged { .. })));
    assert_eq!((store.kept(&digest), store.has(&digest)), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_kept_of_a_file_that_was_unlinked_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(3000);
    let digest = Digest::sha256(&bytes);
    for _ in 0..200 {
        put(&store, &bytes).await;
        let reads = (0..4).map(|_| {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move { pull_small(&store, &bytes).await })
        });
        let reads: Vec<_> = reads.collect();
        assert!(store.unlink(&digest, |_| true).await.unwrap());
        for read in reads {
            assert!(matches!(read.await.unwrap(), Ok(_) | Err(ReadError::NotHere)));
        }
        assert_eq!(store.kept(&digest), None, "kept after it was unlinked");
    }
}

#[tokio::test]
async fn what_another_node_gave_is_kept_if_it_has_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (bytes, digest) = (content(3000), Digest::sha256(&content(3000)));
    store.keep(&digest, content(2999));
    assert_eq!(store.kept(&digest), None);
    store.keep(&digest, bytes.clone());
    assert_eq!(store.kept(&digest), Some(bytes));
    assert_eq!((store.has(&digest), store.confirm(&digest).await.unwrap()), (None, None), "no evidence");
}
