//! Files that are only cached: whole like held ones, promised to nobody, and known as cached.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use trow_raft::{Digest, RepoName};

use super::{content, open, path, put, read, sidecar};
use crate::store::{Acknowledged, CHUNK, CachedTotals, HoldError, Store};

async fn keep(store: &Store, bytes: &Bytes) -> Digest {
    let mut staged = store.stage(None).await.unwrap();
    staged.write(bytes.clone()).await.unwrap();
    let digest = Digest::sha256(bytes);
    assert_eq!(staged.keep(&digest).await.unwrap(), bytes.len() as u64);
    digest
}

fn running(dir: &Path) -> std::path::PathBuf {
    dir.join("index.running")
}

#[tokio::test]
async fn a_kept_file_is_whole_and_promised_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(2 * CHUNK + 7);
    let digest = keep(&store, &bytes).await;
    assert_eq!(fs::read(path(dir.path(), &digest)).unwrap(), bytes);
    assert!(sidecar(dir.path(), &digest).exists());
    assert_eq!(read(&store, &digest, None).await.0, bytes);
    assert!(store.is_cached(&digest));
    assert_eq!(store.look(&digest), Acknowledged::default());
    assert_eq!(store.cached(), CachedTotals { blobs: 1, bytes: bytes.len() as u64 });
    assert_eq!(store.disk().blobs, bytes.len() as u64);
    // Kept again it is one file still, and confirming it is a promise like any other.
    keep(&store, &bytes).await;
    assert_eq!(store.cached().blobs, 1);
    assert!(store.confirm(&digest).await.unwrap().is_some());
    assert!(store.look(&digest).now);
    // What is held is not cached.
    let held = content(10);
    put(&store, &held).await;
    assert!(!store.is_cached(&Digest::sha256(&held)));
}

#[tokio::test]
async fn bytes_with_another_digest_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut staged = store.stage(None).await.unwrap();
    staged.write(Bytes::from_static(b"what came")).await.unwrap();
    let claimed = Digest::sha256(b"what was promised");
    assert!(matches!(staged.keep(&claimed).await, Err(HoldError::DigestMismatch { .. })));
    assert_eq!((store.has(&claimed), store.cached()), (None, CachedTotals::default()));
    assert!(!store.is_cached(&claimed));
}

#[tokio::test]
async fn what_goes_is_cached_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (gone, damaged) = (keep(&store, &content(100)).await, keep(&store, &content(CHUNK + 9)).await);
    let (durable, stays) = (keep(&store, &content(300)).await, keep(&store, &content(400)).await);
    assert!(store.unlink(&gone, |_| true).await.unwrap());
    fs::write(path(dir.path(), &damaged), content(CHUNK)).unwrap();
    assert!(read(&store, &damaged, None).await.1.is_some());
    store.is_durable_now(&durable);
    for digest in [&gone, &damaged, &durable] {
        assert!(!store.is_cached(digest));
    }
    assert_eq!(store.has(&durable), Some(300));
    assert_eq!(store.cached(), CachedTotals { blobs: 1, bytes: 400 });
    drop(store);
    let store = open(dir.path());
    assert!(store.is_cached(&stays) && !store.is_cached(&durable) && !store.is_cached(&gone));
    assert_eq!(store.cached(), CachedTotals { blobs: 1, bytes: 400 });
}

#[tokio::test]
async fn the_least_recently_used_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut digests = Vec::new();
    for length in 1..=5 {
        digests.push(keep(&store, &content(length)).await);
        later().await;
    }
    read(&store, &digests[0], None).await;
    later().await;
    store.touch(&digests[2]);
    let order = |count, pass: fn(&crate::store::CachedFile) -> bool| -> Vec<u64> {
        store.oldest_cached(count, pass).into_iter().map(|file| file.size).collect()
    };
    assert_eq!(order(9, |_| true), [2, 4, 5, 1, 3]);
    assert_eq!(order(2, |_| true), [2, 4]);
    assert_eq!(order(2, |file| file.size != 4), [2, 5]);
    assert!(order(0, |_| true).is_empty());
}

/// Until the clock, which counts accesses in milliseconds, says something else.
async fn later() {
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
}

#[tokio::test]
async fn an_index_that_was_not_closed_or_is_lost_says_that_it_may_have_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.knows_cached(), "there is nothing to know of an empty store");
    let digest = keep(&store, &content(100)).await;
    let held = content(10);
    put(&store, &held).await;
    assert!(running(dir.path()).exists());
    drop(store);
    assert!(!running(dir.path()).exists());
    let store = open(dir.path());
    assert!(store.knows_cached() && store.is_cached(&digest));
    drop(store);

    fs::write(running(dir.path()), b"").unwrap();
    let store = open(dir.path());
    assert!(!store.knows_cached(), "the process before did not close it");
    drop(store);

    fs::remove_dir_all(dir.path().join("index.sled")).unwrap();
    let store = open(dir.path());
    assert!(!store.knows_cached() && !store.is_cached(&digest));
    assert!(store.count_as_cached(&digest).unwrap());
    assert!(!store.count_as_cached(&digest).unwrap(), "counted already");
    assert!(!store.count_as_cached(&Digest::sha256(b"not here")).unwrap());
    store.all_cached_known();
    assert!(store.knows_cached() && store.is_cached(&digest));
    assert!(!store.is_cached(&Digest::sha256(&held)));
    let written = store.oldest_cached(1, |_| true)[0].accessed;
    assert!(written > 0, "as old as its file, not older than everything");
}

#[tokio::test]
async fn by_which_name_it_came_is_known_until_the_file_goes_or_the_index_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (name, other): (RepoName, RepoName) =
        ("f/a.example/x".parse().unwrap(), "f/b.example/y".parse().unwrap());
    let mut digests = Vec::new();
    for length in 1..=4 {
        let bytes = content(length);
        let mut staged = store.stage(None).await.unwrap();
        staged.write(bytes.clone()).await.unwrap();
        staged.came_by((length > 1).then(|| name.clone()));
        let digest = Digest::sha256(&bytes);
        staged.keep(&digest).await.unwrap();
        digests.push(digest);
    }
    store.set_origin(&digests[2], other.clone());
    let held = content(10);
    put(&store, &held).await;
    let held = Digest::sha256(&held);
    store.set_origin(&held, name.clone());
    let expect = [None, Some(&name), Some(&other), Some(&name)];
    let origins = |store: &Store| digests.iter().map(|digest| store.origin(digest)).collect::<Vec<_>>();
    let check = |store: &Store| {
        assert_eq!(origins(store).iter().map(Option::as_ref).collect::<Vec<_>>(), expect);
        assert_eq!(store.origin(&held), Some(name.clone()), "a durable one came by it as well");
    };
    check(&store);
    // Whatever of it is asked for later leaves that as it is.
    digests.iter().for_each(|digest| store.touch(digest));
    drop(store);
    let store = open(dir.path());
    check(&store);
    assert!(store.unlink(&digests[1], |_| true).await.unwrap());
    store.is_durable_now(&digests[3]);
    assert_eq!(keep(&store, &content(2)).await, digests[1]);
    let expect = [None, None, Some(other), Some(name.clone())];
    assert_eq!(origins(&store), expect, "another file of the digest, and one that is durable now");
    drop(store);
    let store = open(dir.path());
    assert_eq!(origins(&store), expect);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index.sled")).unwrap();
    let store = open(dir.path());
    assert!(store.count_as_cached(&digests[2]).unwrap());
    assert_eq!(store.origin(&digests[2]), None);
}
