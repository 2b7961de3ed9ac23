//! Eviction on real files, beside a state of one process and a disk that is as the test says.

mod random;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trow_raft::command::NewManifest;
use trow_raft::{Command, Digest, Outcome, Planted, Reference, RepoName};

use super::{EvictError, Evicted, Evictor, Watermarks};
use crate::copies::tests::sim::Sim;
use crate::store::{Store, StoreError};
use crate::sweep::Sweeper;

/// The test's disk, in bytes.
const TOTAL: u64 = 1_000_000;
/// Files are of this size.
const FILE: u64 = 50_000;
const MARKS: Watermarks = Watermarks { high: 40, low: 20 };

/// A node alone with its evictor; the disk has its blobs on it, and so many bytes of others.
struct Node {
    sim: Arc<Sim>,
    others: Arc<AtomicU64>,
    evictor: Evictor,
}

impl Node {
    fn new() -> Node {
        Node::of(Sim::new(1, 1, &[1], Planted::NONE))
    }

    fn of(sim: Arc<Sim>) -> Node {
        let others = Arc::new(AtomicU64::new(0));
        let (store, taken) = (sim.store(1), others.clone());
        let files = store.clone();
        let disk = move || (TOTAL, TOTAL.saturating_sub(files.disk().blobs + taken.load(Ordering::Relaxed)));
        let sweeper = Sweeper::new(store.clone(), sim.agreed(1), sim.others(), Planted::NONE);
        let evictor = Evictor::over(store, sim.agreed(1), sweeper, MARKS, Arc::new(disk));
        Node { sim, others, evictor }
    }

    /// As after a restart.
    fn again(self) -> Node {
        let Node { sim, evictor, .. } = self;
        drop(evictor);
        sim.restart(1);
        Node::of(sim)
    }

    fn store(&self) -> Store {
        self.sim.store(1)
    }

    async fn keep(&self, number: u64) -> Digest {
        let bytes = content(number);
        let digest = Digest::sha256(&bytes);
        let mut staged = self.store().stage(None).await.unwrap();
        staged.write(bytes).await.unwrap();
        staged.keep(&digest).await.unwrap();
        tick().await;
        digest
    }

    /// Records a manifest that lists these blobs and names these children, under a tag of its name.
    fn record(&self, name: &str, blobs: &[Digest], children: &[Digest]) -> Digest {
        let bytes = Bytes::copy_from_slice(name.as_bytes());
        let digest = Digest::sha256(&bytes);
        let set = |digests: &[Digest]| digests.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let manifest = NewManifest {
            digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            artifact_type: None,
            bytes,
            blobs: set(blobs),
            children: set(children),
            subject: None,
            descriptor: None,
        };
        let repo = repo();
        let row = self.sim.view(1).tag(&repo, &name.parse().unwrap()).unwrap();
        let tag = Some((name.parse().unwrap(), row.map_or(0, |row| row.revision)));
        assert_eq!(self.sim.commit(Command::PutCached { repo, manifest, tag }), Some(Outcome::Done));
        digest
    }

    fn pin(&self, reference: Reference) {
        let pin = Command::SetPins { add: vec![(repo(), reference)], remove: Vec::new() };
        assert_eq!(self.sim.commit(pin), Some(Outcome::Done));
    }

    fn here(&self, digests: &[Digest]) -> Vec<bool> {
        digests.iter().map(|digest| self.store().has(digest).is_some()).collect()
    }
}

fn content(number: u64) -> Bytes {
    let mut bytes = vec![number as u8; FILE as usize];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

fn repo() -> RepoName {
    "f/docker.io/library/app".parse().unwrap()
}

/// Until the clock, which counts accesses in milliseconds, says something else.
async fn tick() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[tokio::test]
async fn the_least_recently_used_go_until_the_low_mark() {
    let node = Node::new();
    let mut files = Vec::new();
    for number in 0..8 {
        files.push(node.keep(number).await);
    }
    assert!(node.evictor.room_for(0).await.is_some(), "at the high mark");
    assert_eq!(node.here(&files), [true; 8], "nothing goes at the high mark");
    files.push(node.keep(8).await);
    for used in [0, 3] {
        node.store().touch(&files[used]);
        tick().await;
    }
    assert!(node.evictor.room_for(0).await.is_some());
    let left = [true, false, false, true, false, false, false, true, true];
    assert_eq!(node.here(&files), left, "the two that were used, and the two newest");
    assert_eq!(node.store().cached().bytes, 4 * FILE);
    assert_eq!(node.store().disk().blobs, 4 * FILE);
    let mut registry = prometheus_client::registry::Registry::default();
    node.evictor.meter().register(&mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    assert!(page.contains("trow_cache_evicted_blobs_total 5\n"), "{page}");
    assert!(page.contains(&format!("trow_cache_evicted_bytes_total {}\n", 5 * FILE)), "{page}");
}

#[tokio::test]
async fn pinned_images_stay_with_their_children_as_long_as_they_are_pinned() {
    let node = Node::new();
    let mut files = Vec::new();
    for number in 0..6 {
        files.push(node.keep(number).await);
    }
    let child = node.record("child", &files[..2], &[]);
    let uncached = Digest::sha256(b"of another architecture");
    node.record("index", &[], &[child, uncached]);
    let by_digest = node.record("by-digest", &files[2..3], &[]);
    node.record("free", &files[3..5], &[]);
    node.pin(Reference::Tag("index".parse().unwrap()));
    node.pin(Reference::Digest(by_digest));
    node.pin(Reference::Tag("not-cached".parse().unwrap()));
    let gone = node.evictor.evict(u64::MAX).await.unwrap();
    assert_eq!(gone, Evicted { blobs: 3, bytes: 3 * FILE, acknowledged: 0 });
    assert_eq!(node.here(&files), [true, true, true, false, false, false]);
    // The tag moves on, and with it what is pinned.
    files.push(node.keep(6).await);
    let newer = node.record("newer", &files[6..], &[]);
    node.record("index", &[], &[newer]);
    let remove = vec![(repo(), Reference::Digest(by_digest))];
    node.sim.commit(Command::SetPins { add: Vec::new(), remove });
    node.evictor.evict(u64::MAX).await.unwrap();
    // One name, two manifests: this is what "index" says now.
    let pinned: Vec<bool> = node.here(&files);
    assert_eq!(pinned[2..], [false, false, false, false, true]);
}

#[tokio::test]
async fn what_is_durable_or_acknowledged_stays() {
    let node = Node::new();
    let (durable, held, free) = (node.keep(1).await, node.keep(2).await, node.keep(3).await);
    node.sim.push(&content(1), &[1]).await;
    let evidence = node.store().confirm(&held).await.unwrap().unwrap();
    let gone = node.evictor.evict(u64::MAX).await.unwrap();
    assert_eq!((gone.blobs, gone.acknowledged > 0), (1, true));
    assert_eq!(node.here(&[durable, held, free]), [true, true, false]);
    // A fence came in between, by which that word is void; whoever had it gathers again and finds it.
    assert_ne!(evidence.generation, node.store().generation());
    node.evictor.inner.sweeper.fence().await.unwrap();
    node.evictor.evict(u64::MAX).await.unwrap();
    assert_eq!(node.here(&[durable, held]), [true, false], "two fences later nobody counts on it");
}

#[tokio::test]
async fn nothing_goes_before_this_process_has_fenced_the_store() {
    let node = Node::new();
    let cached = node.keep(1).await;
    // The process before gave its word, which counts as long as its generation does.
    let before = node.store().confirm(&cached).await.unwrap().unwrap();
    let node = node.again();
    assert!(node.store().is_cached(&cached) && !node.store().is_fenced());
    node.sim.follow(1, false);
    assert!(matches!(node.evictor.evict(u64::MAX).await, Err(EvictError::Fence(_))));
    assert_eq!(node.here(&[cached]), [true]);
    node.sim.follow(1, true);
    assert_eq!(node.evictor.evict(u64::MAX).await.unwrap().blobs, 1);
    assert!(node.store().is_fenced());
    let refused = node.sim.commit_blob(&content(1), &[(1, before.generation)]);
    assert!(matches!(refused, Some(Outcome::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_disk_full_of_other_things_is_left_alone_and_nothing_is_kept_on_it() {
    let node = Node::new();
    let durable = node.sim.hold(1, &content(1)).await;
    assert_eq!(node.sim.commit_blob(&content(1), &[(1, durable.generation)]), Some(Outcome::Done));
    node.others.store(TOTAL / 2, Ordering::Relaxed);
    let refused = node.store().stage_cached(None, Some(FILE)).await.err();
    assert!(matches!(refused, Some(StoreError::NoSpace)), "{refused:?}");
    assert!(node.evictor.room_for(0).await.is_none());
    // A push finds room all the same.
    node.sim.hold(1, &content(2)).await;

    // Of what is cached all goes, once; then it waits until something changes.
    let cached = node.keep(3).await;
    assert!(node.evictor.room_for(0).await.is_none());
    assert_eq!(node.here(&[cached]), [true], "it would make no room for another");
    node.evictor.make_room(0).await.unwrap();
    assert_eq!(node.here(&[cached]), [false]);
    assert!(node.evictor.is_stuck());
    let looks = Arc::new(AtomicU64::new(0));
    let (store, counted) = (node.store(), looks.clone());
    let full = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        (TOTAL, 0)
    };
    let sweeper = Sweeper::new(store.clone(), node.sim.agreed(1), node.sim.others(), Planted::NONE);
    let evictor = Evictor::over(store, node.sim.agreed(1), sweeper, MARKS, Arc::new(full));
    node.keep(4).await;
    let running = tokio::spawn(evictor.run());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    running.abort();
    let looks = looks.load(Ordering::Relaxed);
    assert!((1..50).contains(&looks), "looked {looks} times at a disk that stays full");
}

#[tokio::test]
async fn a_file_is_begun_only_where_it_fits() {
    let node = Node::new();
    let mut files = Vec::new();
    for number in 0..4 {
        files.push(node.keep(number).await);
    }
    let stage = |size: u64| {
        let store = node.store();
        async move { store.stage_cached(None, Some(size)).await }
    };
    // What can never fit costs nobody anything.
    assert!(matches!(stage(TOTAL).await, Err(StoreError::NoSpace)));
    assert_eq!(node.here(&files), [true; 4]);
    // What is on its way counts until it is there, or given up.
    let first = stage(150_000).await.unwrap();
    let second = stage(50_000).await.unwrap();
    assert_eq!(node.here(&files), [true; 4]);
    drop(first);
    let mut third = stage(150_000).await.unwrap();
    assert_eq!(node.here(&files), [true; 4]);
    let fourth = stage(100_000).await.unwrap();
    assert_eq!(node.here(&files), [false, false, true, true], "room was made for the fourth");
    assert!(matches!(stage(350_000).await, Err(StoreError::NoSpace)), "others are on their way");
    let bytes = content(9);
    third.write(bytes.clone()).await.unwrap();
    third.keep(&Digest::sha256(&bytes)).await.unwrap();
    drop((second, fourth));
    assert_eq!(node.evictor.inner.reserved.load(Ordering::Relaxed), 0, "all room was given back");
}

#[tokio::test]
async fn what_the_index_forgot_is_known_again_and_garbage_goes() {
    let node = Node::new();
    let (listed, unlisted) = (node.keep(1).await, node.keep(2).await);
    let garbage = content(3);
    node.sim.hold(1, &garbage).await;
    let (durable, garbage) = (node.keep(4).await, Digest::sha256(&garbage));
    node.record("app", &[listed, durable], &[]);
    node.sim.push(&content(4), &[1]).await;
    let files = [listed, unlisted, garbage, durable];
    let data = node.sim.path(1, &listed);
    let data = data.ancestors().nth(4).unwrap();
    std::fs::remove_dir_all(data.join("index.sled")).unwrap();
    let node = node.again();
    assert!(!node.store().knows_cached() && !node.store().is_cached(&listed));
    let sweep = async || {
        for _ in 0..3 {
            node.evictor.inner.sweeper.pass(&mut BTreeSet::new(), true).await.unwrap();
        }
    };
    sweep().await;
    assert_eq!(node.here(&files), [true; 4], "nobody can say yet what of it is cached");
    node.evictor.learn().await;
    assert!(node.store().knows_cached());
    let cached: Vec<bool> = files.iter().map(|digest| node.store().is_cached(digest)).collect();
    assert_eq!(cached, [true, false, false, false]);
    sweep().await;
    assert_eq!(node.here(&files), [true, false, false, true]);
    // The index has it again.
    let node = node.again();
    assert!(node.store().knows_cached() && node.store().is_cached(&listed));
}

#[tokio::test]
async fn what_no_manifest_lists_goes_after_a_while() {
    let node = Node::new();
    let (kept, purged, never, held) =
        (node.keep(1).await, node.keep(2).await, node.keep(3).await, node.keep(4).await);
    let files = [kept, purged, never, held];
    node.record("kept", &[kept], &[]);
    let manifest = node.record("purged", &[purged, kept], &[]);
    assert_eq!(node.evictor.orphans(Duration::from_secs(60)).await.unwrap(), Evicted::default());
    assert_eq!(node.here(&files), [true; 4], "they were asked for lately");
    node.store().confirm(&held).await.unwrap();
    node.sim.commit(Command::DropCached { repo: repo(), digests: vec![manifest] });
    assert_eq!(node.evictor.orphans(Duration::ZERO).await.unwrap().blobs, 2);
    assert_eq!(node.here(&files), [true, false, false, true]);
}

#[tokio::test]
async fn a_cached_blob_that_becomes_durable_is_cached_no_more() {
    let node = Node::new();
    let (pushed, other) = (node.keep(1).await, node.keep(2).await);
    let position = node.sim.agreed(1).changes.position();
    node.sim.push(&content(1), &[1]).await;
    node.evictor.forget_durable(position).await;
    assert!(!node.store().is_cached(&pushed) && node.store().is_cached(&other));
    assert_eq!(node.store().cached().bytes, FILE);
    // Or while nobody looked.
    node.sim.push(&content(2), &[1]).await;
    let node = node.again();
    node.evictor.learn().await;
    assert!(!node.store().is_cached(&other));
    assert_eq!(node.here(&[pushed, other]), [true, true]);
}
