//! A blob that a client was told of stays long enough for its manifest to come (H6).

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use trow_api::Settings;
use trow_raft::{Command, Digest, LinkRow, RepoName};

use crate::peers::Peers;
use crate::support::{IMAGE, Registry, image};

const GRACE: Duration = Duration::from_secs(24 * 3600);

/// State time passes.
async fn passes(registry: &Registry, time: Duration) {
    let elapsed = time.as_millis() as u64;
    registry.metadata.propose("test", Command::Tick { elapsed }).await.unwrap();
}

fn link(registry: &Registry, repo: &str, digest: &Digest) -> Option<LinkRow> {
    registry.metadata.local().link(&repo.parse().unwrap(), digest).unwrap()
}

fn now(registry: &Registry) -> u64 {
    registry.metadata.local().time().unwrap()
}

fn applied(registry: &Registry) -> u64 {
    registry.metadata.local().applied().unwrap()
}

/// What the leader proposes when it looks for what nobody uses.
async fn reclaim(registry: &Registry, links: &[(&str, Digest)]) {
    let links = links.iter().map(|(repo, digest)| (repo.parse::<RepoName>().unwrap(), *digest)).collect();
    let before = now(registry).saturating_sub(GRACE.as_millis() as u64);
    let command = Command::Reclaim { links, blobs: Vec::new(), before };
    registry.metadata.propose(trow_raft::command::SYSTEM, command).await.unwrap();
}

#[tokio::test]
async fn a_head_late_in_the_grace_begins_it_anew_and_an_early_one_costs_nothing() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"layer").await;
    let path = format!("/v2/a/blobs/{digest}");
    passes(&registry, GRACE / 2).await;
    let before = applied(&registry);
    assert_eq!(registry.head(&path).await.status(), 200);
    assert_eq!(registry.get(&path).await.status(), 200);
    assert_eq!(applied(&registry), before, "nothing was due");

    passes(&registry, Duration::from_secs(1)).await;
    assert_eq!(registry.head(&path).await.status(), 200);
    assert_eq!(link(&registry, "a", &digest).unwrap().wanted_at, now(&registry), "answered before it was so");
    let after = applied(&registry);
    assert_eq!(registry.head(&path).await.status(), 200);
    assert_eq!(applied(&registry), after, "it is wanted already");
}

#[tokio::test]
async fn a_push_survives_a_reclaim_between_its_head_and_its_manifest() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    for asked in [true, false] {
        let layer = format!("layer, asked for: {asked}");
        let digest = registry.push_blob("a", layer.as_bytes()).await;
        passes(&registry, GRACE - Duration::from_secs(60)).await;
        registry.head(&format!("/v2/a/blobs/{}", Digest::sha256(b"{}"))).await;
        if asked {
            assert_eq!(registry.head(&format!("/v2/a/blobs/{digest}")).await.status(), 200);
        }
        passes(&registry, Duration::from_secs(120)).await;
        reclaim(&registry, &[("a", digest), ("a", Digest::sha256(b"{}"))]).await;
        let put = registry.put_manifest("a", "v1", IMAGE, &image(&layer).to_string()).await;
        assert_eq!(put.status(), if asked { 201 } else { 404 });
    }
}

#[tokio::test]
async fn a_mount_begins_the_grace_of_what_it_gives() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("from", b"layer").await;
    let mount = format!("/v2/to/blobs/uploads/?mount={digest}&from=from");
    for _ in 0..2 {
        passes(&registry, GRACE - Duration::from_secs(60)).await;
        assert_eq!(registry.request(Method::POST, &mount).send().await.unwrap().status(), 201);
        passes(&registry, Duration::from_secs(120)).await;
        reclaim(&registry, &[("to", digest)]).await;
        assert!(link(&registry, "to", &digest).is_some(), "reclaimed a minute after it was mounted");
    }
}

#[tokio::test]
async fn what_a_manifest_uses_is_not_wanted_and_its_grace_begins_with_the_last_use() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "v1", "layer").await;
    let digest = Digest::sha256(b"layer");
    passes(&registry, GRACE * 3).await;
    let before = applied(&registry);
    assert_eq!(registry.head(&format!("/v2/a/blobs/{digest}")).await.status(), 200);
    assert_eq!(applied(&registry), before, "what is used has no grace");
    registry.delete(&format!("/v2/a/manifests/{}", Digest::sha256(text.as_bytes()))).await;
    reclaim(&registry, &[("a", digest)]).await;
    assert_eq!(link(&registry, "a", &digest).unwrap().wanted_at, now(&registry));
    passes(&registry, GRACE + Duration::from_secs(1)).await;
    reclaim(&registry, &[("a", digest)]).await;
    assert_eq!(registry.head(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_many_links_share_entries() {
    let grace = Duration::from_secs(10);
    let registry = Registry::with(Settings { gc_grace: grace, ..Settings::default() }).await;
    let mut paths = Vec::new();
    for n in 0..64 {
        let digest = registry.push_blob(&format!("r{}", n % 5), format!("{n}").as_bytes()).await;
        paths.push(format!("/v2/r{}/blobs/{digest}", n % 5));
    }
    passes(&registry, grace).await;
    let before = applied(&registry);
    for head in join_all(paths.iter().map(|path| registry.head(path))).await {
        assert_eq!(head.status(), 200);
    }
    let entries = applied(&registry) - before;
    assert!((1..=32).contains(&entries), "{entries} entries for 64 questions at once");
    join_all(paths.iter().map(|path| registry.head(path))).await;
    assert_eq!(applied(&registry) - before, entries, "all are wanted by now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_head_is_answered_all_the_same_and_at_once() {
    let mut peers = Peers::start(2).await;
    let registry = peers.registry(1).await;
    let digest = registry.push_blob("a", b"layer").await;
    passes(&registry, GRACE).await;
    peers.stop(2).await;
    let mut leadership = registry.metadata.leadership_watch();
    let lost = leadership.wait_for(|leadership| !leadership.quorum);
    tokio::time::timeout(crate::support::BOUND, lost).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    assert_eq!(registry.head(&format!("/v2/a/blobs/{digest}")).await.status(), 200);
    assert!(began.elapsed() < Duration::from_millis(1500), "it took {:?}", began.elapsed());
}
