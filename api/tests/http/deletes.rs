//! What is deleted is gone: at once, on every node that can be reached, and for good (H3, H5).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use trow_raft::Digest;

use crate::peers::Peers;
use crate::support::{IMAGE, INDEX, Registry, descriptor, problem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_is_seen_on_every_node_when_it_is_answered() {
    let peers = Peers::start(3).await;
    let mut registries = Vec::new();
    for node in 1..=3 {
        registries.push(peers.registry(node).await);
    }
    for n in 0..12 {
        let (through, layer) = (&registries[n % 3], format!("layer {n}"));
        let text = through.push_image("a", "v1", &layer).await;
        let (manifest, blob) = (Digest::sha256(text.as_bytes()), Digest::sha256(layer.as_bytes()));
        for path in [
            "/v2/a/manifests/v1".into(),
            format!("/v2/a/manifests/{manifest}"),
            format!("/v2/a/blobs/{blob}"),
        ] {
            assert_eq!(through.delete(&path).await.status(), 202, "{path}");
            for registry in &registries {
                assert_eq!(registry.head(&path).await.status(), 404, "{path} after its delete");
                assert_eq!(registry.get(&path).await.status(), 404, "{path} after its delete");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_does_not_wait_for_a_node_that_is_away() {
    let peers = Peers::start(3).await;
    let leader = peers.leader().await;
    let away = (1..=3).find(|node| *node != leader).unwrap();
    let through = peers.registry(leader).await;
    let digest = through.push_blob("a", b"content").await;
    peers.deafen(away, true);
    let began = Instant::now();
    assert_eq!(through.delete(&format!("/v2/a/blobs/{digest}")).await.status(), 202);
    assert!(began.elapsed() < Duration::from_secs(3), "it waited {:?}", began.elapsed());
    peers.deafen(away, false);
    // It is behind, and knows that it may be: a hit by digest is all that it may be wrong about.
    let lagging = peers.registry(away).await;
    let caught_up = async {
        while lagging.head(&format!("/v2/a/blobs/{digest}")).await.status() != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), caught_up).await.expect("it catches up");
}

#[tokio::test]
async fn a_blob_is_deleted_only_when_no_manifest_of_its_repository_uses_it() {
    let registry = Registry::start().await;
    let used = (405, "UNSUPPORTED".to_owned());
    let layer = format!("/v2/a/blobs/{}", Digest::sha256(b"layer"));
    let config = format!("/v2/a/blobs/{}", Digest::sha256(b"{}"));
    let text = registry.push_image("a", "v1", "layer").await;
    // The same layer under another manifest, with another config.
    let mut other: serde_json::Value = serde_json::from_str(&text).unwrap();
    other["annotations"] = json!({ "other": "one" });
    assert_eq!(registry.put_manifest("a", "v2", IMAGE, &other.to_string()).await.status(), 201);
    let manifest = |text: &str| format!("/v2/a/manifests/{}", Digest::sha256(text.as_bytes()));
    for path in [&layer, &config] {
        assert_eq!(problem(registry.delete(path).await).await, used, "two use it");
    }
    // A tag is no use.
    assert_eq!(registry.delete("/v2/a/manifests/v1").await.status(), 202);
    assert_eq!(problem(registry.delete(&layer).await).await, used, "the manifest is still there");
    assert_eq!(registry.delete(&manifest(&text)).await.status(), 202);
    assert_eq!(problem(registry.delete(&layer).await).await, used, "the other one uses it");
    // Uses in another repository do not count here, nor the other way round.
    registry.push_image("b", "v1", "layer").await;
    assert_eq!(registry.delete(&manifest(&other.to_string())).await.status(), 202);
    for path in [&layer, &config] {
        assert_eq!(registry.delete(path).await.status(), 202);
        assert_eq!(registry.head(path).await.status(), 404);
    }
    assert_eq!(problem(registry.delete(&layer.replace("/a/", "/b/")).await).await, used);
}

#[tokio::test]
async fn a_manifest_that_an_index_names_may_go_and_the_index_stays() {
    let registry = Registry::start().await;
    let child = registry.push_image("a", "child", "layer").await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(&child, IMAGE)] });
    assert_eq!(registry.put_manifest("a", "v1", INDEX, &index.to_string()).await.status(), 201);
    let path = format!("/v2/a/manifests/{}", Digest::sha256(child.as_bytes()));
    assert_eq!(registry.delete(&path).await.status(), 202);
    assert_eq!(registry.head(&path).await.status(), 404);
    assert_eq!(registry.head("/v2/a/manifests/v1").await.status(), 200);
    // Its own blobs are free with it; a push of the index again finds that the child is gone.
    assert_eq!(registry.delete(&format!("/v2/a/blobs/{}", Digest::sha256(b"layer"))).await.status(), 202);
    let again = registry.put_manifest("a", "v2", INDEX, &index.to_string()).await;
    assert_eq!(problem(again).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn a_blob_that_was_deleted_here_stays_so_whatever_happens_to_it_elsewhere() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"shared").await;
    registry.push_blob("b", b"shared").await;
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(registry.delete(&path).await.status(), 202);
    let gone = async || assert_eq!(problem(registry.get(&path).await).await, (404, "BLOB_UNKNOWN".into()));
    gone().await;
    // It is pushed elsewhere, mounted elsewhere and read elsewhere.
    registry.push_blob("c", b"shared").await;
    let mount = format!("/v2/d/blobs/uploads/?mount={digest}&from=b");
    assert_eq!(registry.request(Method::POST, &mount).send().await.unwrap().status(), 201);
    for repo in ["b", "c", "d"] {
        assert_eq!(registry.get(&format!("/v2/{repo}/blobs/{digest}")).await.text().await.unwrap(), "shared");
        gone().await;
    }
    let from_a = registry.request(Method::POST, &format!("/v2/e/blobs/uploads/?mount={digest}&from=a"));
    assert_eq!(from_a.send().await.unwrap().status(), 202, "a does not have it to give");
}
