//! The store on real files.

mod cached;
mod crash;
mod small;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use futures::StreamExt;
use trow_raft::{Algorithm, Digest, Planted};

use super::{Acknowledged, CHUNK, Held, HoldError, ReadError, Store, StoreError};

fn open(dir: &Path) -> Store {
    Store::open(dir, Planted::NONE).unwrap()
}

/// Bytes that no two chunks of are equal.
fn content(length: usize) -> Bytes {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn put(store: &Store, bytes: &Bytes) -> Held {
    let mut staged = store.stage(None).await.unwrap();
    for piece in bytes.chunks(10_000) {
        staged.write(bytes.slice_ref(piece)).await.unwrap();
    }
    staged.hold(&Digest::sha256(bytes)).await.unwrap()
}

/// What the body yields before it ends or fails.
async fn read(
    store: &Store,
    digest: &Digest,
    range: Option<std::ops::Range<u64>>,
) -> (Vec<u8>, Option<ReadError>) {
    let mut body = match store.open_blob(digest, range).await {
        Ok(body) => body,
        Err(err) => return (Vec::new(), Some(err)),
    };
    let mut bytes = Vec::new();
    while let Some(item) = body.next().await {
        match item {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(err) => {
                assert!(body.next().await.is_none(), "an error is the last item");
                return (bytes, Some(err));
            }
        }
    }
    (bytes, None)
}

fn path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs").join(digest.algorithm().as_str()).join(&digest.hex()[..2]).join(digest.hex())
}

fn sidecar(dir: &Path, digest: &Digest) -> PathBuf {
    let name = format!("{}.crc", digest.hex());
    dir.join("checksums").join(digest.algorithm().as_str()).join(&digest.hex()[..2]).join(name)
}

#[tokio::test]
async fn a_held_blob_is_the_exact_file_and_is_read_back_in_any_range() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
        let bytes = content(length);
        let digest = Digest::sha256(&bytes);
        let held = put(&store, &bytes).await;
        assert_eq!((held.size, held.generation), (length as u64, store.generation()));
        assert_eq!(fs::read(path(dir.path(), &digest)).unwrap(), bytes);
        assert_eq!(store.has(&digest), Some(length as u64));
        assert!(store.verified_at(&digest).is_some());
        let end = length as u64;
        for range in [0..end, 0..1, 1..end, end / 2..end, end..end, end - end.min(3)..end, 7..u64::MAX] {
            let (got, err) = read(&store, &digest, Some(range.clone())).await;
            assert!(err.is_none());
            let (from, to) = (range.start.min(end) as usize, range.end.min(end) as usize);
            assert_eq!(got, bytes.slice(from..to.max(from)), "{range:?} of {length}");
        }
    }
    let all = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77].iter().sum::<usize>() as u64;
    assert_eq!(store.disk().blobs, all);
    assert_eq!(open(dir.path()).disk().blobs, all);
}

#[tokio::test]
async fn content_with_another_digest_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let claimed = Digest::sha256(b"what was promised");
    let mut staged = store.stage(None).await.unwrap();
    staged.write(Bytes::from_static(b"what came")).await.unwrap();
    match staged.hold(&claimed).await {
        Err(HoldError::DigestMismatch { claimed: said, computed }) => {
            assert_eq!((said, computed), (claimed, Digest::sha256(b"what came")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.has(&claimed), None);
    assert!(matches!(read(&store, &claimed, None).await.1, Some(ReadError::NotHere)));
    drop(store);
    open(dir.path());
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn sha512_is_verified_with_and_without_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (hint, text) in [(None, "one"), (Some(Algorithm::Sha512), "two")] {
        let digest = Digest::of(Algorithm::Sha512, text.as_bytes());
        let mut staged = store.stage(hint).await.unwrap();
        staged.write(Bytes::from(text)).await.unwrap();
        staged.hold(&digest).await.unwrap();
        assert_eq!(read(&store, &digest, None).await.0, text.as_bytes());
        let mut staged = store.stage(hint).await.unwrap();
        staged.write(Bytes::from_static(b"other")).await.unwrap();
        assert!(matches!(staged.hold(&digest).await, Err(HoldError::DigestMismatch { .. })));
    }
}

#[tokio::test]
async fn a_cancelled_write_appended_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut staged = store.stage(None).await.unwrap();
    let bytes = content(40 * CHUNK);
    let mut expected = Vec::new();
    for piece in bytes.chunks(100_001) {
        let before = staged.len();
        // Polled once and dropped wherever it waits.
        let done = {
            let write = staged.write(bytes.slice_ref(piece));
            tokio::pin!(write);
            futures::poll!(write).is_ready()
        };
        if done {
            expected.extend_from_slice(piece);
        } else {
            assert_eq!(staged.len(), before);
        }
    }
    staged.flush().await.unwrap();
    assert_eq!(staged.len(), expected.len() as u64);
    let part = staged.read(100_000, 200_000).await.unwrap();
    assert_eq!(part, expected[100_000..300_000]);
    staged.hold(&Digest::sha256(&expected)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_chunk_is_never_yielded_and_the_file_is_quarantined() {
    let bytes = content(4 * CHUNK + 10);
    let digest = Digest::sha256(&bytes);
    let bad = 2 * CHUNK as u64 + 5;
    let flip = |file: &Path| {
        let mut damaged = fs::read(file).unwrap();
        damaged[bad as usize] ^= 0x10;
        fs::write(file, damaged).unwrap();
    };
    let zero = |file: &Path| {
        let mut damaged = fs::read(file).unwrap();
        damaged[2 * CHUNK..3 * CHUNK].fill(0);
        fs::write(file, damaged).unwrap();
    };
    let truncate = |file: &Path| fs::File::options().write(true).open(file).unwrap().set_len(bad).unwrap();
    let grow = |file: &Path| {
        fs::File::options().write(true).open(file).unwrap().set_len(bytes.len() as u64 + 1).unwrap();
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Damage<'_>); 4] =
        [("flipped", &flip), ("zeroed", &zero), ("truncated", &truncate), ("grown", &grow)];
    for (name, damage) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut damaged = store.damaged();
        put(&store, &bytes).await;
        damage(&path(dir.path(), &digest));
        // The range that avoids the bad chunk is served as long as the length is right.
        if matches!(name, "flipped" | "zeroed") {
            let (got, err) = read(&store, &digest, Some(0..CHUNK as u64)).await;
            assert!(err.is_none() && got == bytes[..CHUNK]);
        }
        let (got, err) = read(&store, &digest, None).await;
        assert!(got.len() <= 2 * CHUNK && got == bytes[..got.len()], "{name}: wrong bytes yielded");
        assert!(matches!(err, Some(ReadError::Damaged { .. } | ReadError::NotHere)), "{name}: {err:?}");
        assert_eq!(store.has(&digest), None, "{name}: still there");
        assert_eq!(damaged.try_recv().unwrap(), digest);
        assert_eq!(store.disk().blobs, 0);
        assert!(store.confirm(&digest).await.unwrap().is_none());
        let kept = fs::read_dir(dir.path().join("quarantine/sha256")).unwrap().count();
        assert_eq!(kept, 1, "{name}: not kept");
        put(&store, &bytes).await;
        assert_eq!(read(&store, &digest, None).await.0, bytes, "{name}: not healed");
    }
}

#[tokio::test]
async fn a_missing_or_broken_sidecar_means_hashing_again_not_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(3 * CHUNK);
    let digest = Digest::sha256(&bytes);
    put(&store, &bytes).await;
    let file = sidecar(dir.path(), &digest);
    let good = fs::read(&file).unwrap();
    for broken in [None, Some(Vec::new()), Some(vec![0; good.len()]), Some(good[..good.len() - 1].to_vec())] {
        match broken {
            None => fs::remove_file(&file).unwrap(),
            Some(broken) => fs::write(&file, broken).unwrap(),
        }
        assert_eq!(read(&store, &digest, None).await.0, bytes);
        assert_eq!(fs::read(&file).unwrap(), good);
    }
    // Without a sidecar, a file that lies about its digest is found out before a byte is served.
    fs::remove_file(&file).unwrap();
    fs::write(path(dir.path(), &digest), b"something else").unwrap();
    assert!(matches!(read(&store, &digest, None).await.1, Some(ReadError::NotHere)));
    assert_eq!(store.has(&digest), None);
}

#[tokio::test]
async fn verify_finds_damage_that_no_reader_met() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(CHUNK + 1);
    let digest = Digest::sha256(&bytes);
    put(&store, &bytes).await;
    assert_eq!(store.verify(&digest).await.unwrap(), Some(true));
    fs::write(path(dir.path(), &digest), content(CHUNK)).unwrap();
    assert_eq!(store.verify(&digest).await.unwrap(), Some(false));
    assert_eq!(store.verify(&digest).await.unwrap(), None);
}

#[tokio::test]
async fn a_starting_process_drops_what_earlier_ones_staged_and_keeps_what_they_held() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(1000);
    let digest = Digest::sha256(&bytes);
    put(&store, &bytes).await;
    fs::write(dir.path().join("staging/left-over"), b"half").unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    assert_eq!(store.confirm(&digest).await.unwrap().unwrap().size, 1000);
}

#[tokio::test]
async fn whoever_decides_to_unlink_sees_every_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(1000);
    let digest = Digest::sha256(&bytes);
    put(&store, &bytes).await;
    let seen = |expected: Acknowledged, gone: bool| {
        let store = store.clone();
        async move {
            let unlink = store.unlink(&digest, move |acknowledged| {
                assert_eq!(acknowledged, expected);
                gone
            });
            assert_eq!(unlink.await.unwrap(), gone);
        }
    };
    seen(Acknowledged { now: true, before: false }, false).await;
    let next = store.reserve_generation(store.generation()).await.unwrap();
    store.adopt_generation(next);
    seen(Acknowledged { now: false, before: true }, false).await;
    assert_eq!(store.confirm(&digest).await.unwrap().unwrap().generation, next);
    seen(Acknowledged { now: true, before: true }, false).await;
    for _ in 0..2 {
        let next = store.reserve_generation(store.generation()).await.unwrap();
        store.adopt_generation(next);
    }
    seen(Acknowledged::default(), true).await;
    assert_eq!(store.has(&digest), None);
    assert_eq!(store.disk().blobs, 0);
}

#[tokio::test]
async fn a_broken_index_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(10);
    let digest = Digest::sha256(&bytes);
    put(&open(dir.path()), &bytes).await;
    for round in 0..2 {
        let index = dir.path().join("index.sled");
        if round == 0 {
            fs::remove_dir_all(&index).unwrap();
            fs::write(&index, b"no directory").unwrap();
        } else {
            fs::write(dir.path().join("index.opening"), b"").unwrap();
        }
        let store = open(dir.path());
        assert!(store.verified_at(&digest).is_some());
        assert!(!dir.path().join("index.opening").exists());
    }
}

/// A tmpfs that goes away with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<SmallDisk, String> {
        let dir = tempfile::tempdir().map_err(|err| err.to_string())?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Ok(SmallDisk(dir)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(err) => Err(err.to_string()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let disk = match SmallDisk::mount("24m") {
        Ok(disk) => disk,
        Err(why) => {
            println!("not run: a tmpfs cannot be mounted: {why}");
            return;
        }
    };
    let data = disk.0.path().join("data");
    let store = open(&data);
    let bytes = content(4 << 20);
    let digest = Digest::sha256(&bytes);
    put(&store, &bytes).await;
    let mut staged = Vec::new();
    let full = 'fill: loop {
        assert!(staged.len() < 24, "24 MiB hold 24 times 4 MiB");
        let mut file = match store.stage(None).await {
            Ok(file) => file,
            Err(err) => break err,
        };
        for piece in bytes.chunks(CHUNK) {
            if let Err(err) = file.write(bytes.slice_ref(piece)).await {
                break 'fill err;
            }
        }
        staged.push(file);
    };
    assert!(matches!(full, StoreError::NoSpace), "{full:?}");
    assert!(store.disk().free >= 4 << 20, "the headroom was used");
    assert_eq!(read(&store, &digest, None).await.0, bytes);
    assert!(store.confirm(&digest).await.unwrap().is_some());
    drop(staged);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while store.disk().free < 14 << 20 {
        assert!(tokio::time::Instant::now() < deadline, "space did not come back");
        tokio::task::yield_now().await;
    }
    put(&store, &content(5 << 20)).await;
}

#[tokio::test]
async fn holds_of_one_digest_at_once_leave_one_sound_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(2 * CHUNK);
    futures::future::join_all((0..8).map(|_| put(&store, &bytes))).await;
    assert_eq!(store.verify(&Digest::sha256(&bytes)).await.unwrap(), Some(true));
    assert_eq!(store.disk().blobs, bytes.len() as u64);
}
