//! Names at their limits, and repositories named like our own paths.

use reqwest::Method;
use serde_json::Value;
use trow_raft::Digest;

use crate::support::{IMAGE, Registry, image, problem};

/// Everything that can be done in a repository.
async fn works(registry: &Registry, repo: &str) {
    let text = registry.push_image(repo, "list", "layer").await;
    let (manifest, layer) = (Digest::sha256(text.as_bytes()), Digest::sha256(b"layer"));
    let get = async |path: String| registry.get(&path).await;
    assert_eq!(get(format!("/v2/{repo}/manifests/list")).await.text().await.unwrap(), text, "{repo}");
    assert_eq!(get(format!("/v2/{repo}/manifests/{manifest}")).await.text().await.unwrap(), text, "{repo}");
    assert_eq!(get(format!("/v2/{repo}/blobs/{layer}")).await.text().await.unwrap(), "layer", "{repo}");
    let tags: Value = get(format!("/v2/{repo}/tags/list")).await.json().await.unwrap();
    assert_eq!(tags, serde_json::json!({ "name": repo, "tags": ["list"] }));
    let referrers: Value = get(format!("/v2/{repo}/referrers/{manifest}")).await.json().await.unwrap();
    assert_eq!(referrers["manifests"], serde_json::json!([]));
    let begun = registry.request(Method::POST, &format!("/v2/{repo}/blobs/uploads/")).send().await.unwrap();
    assert_eq!(begun.status(), 202, "{repo}");
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(registry.get(&location).await.status(), 204, "{location}");
    assert_eq!(registry.request(Method::DELETE, &location).send().await.unwrap().status(), 204);
    assert_eq!(registry.delete(&format!("/v2/{repo}/manifests/{manifest}")).await.status(), 202, "{repo}");
    assert_eq!(registry.delete(&format!("/v2/{repo}/blobs/{layer}")).await.status(), 202, "{repo}");
}

#[tokio::test]
async fn repositories_named_like_our_paths_are_repositories() {
    let registry = Registry::start().await;
    for repo in [
        "v2",
        "v2/v2",
        "tags",
        "tags/list",
        "a/tags/list",
        "manifests",
        "x/manifests",
        "manifests/latest",
        "blobs",
        "blobs/uploads",
        "a/blobs/uploads",
        "blobs/uploads/blobs/uploads",
        "referrers",
        "a/referrers/b",
        "oci/ext/discover",
        "catalog",
        "sha256",
    ] {
        works(&registry, repo).await;
    }
    let all: Value = registry.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(all["repositories"].as_array().unwrap().len(), 17);
    for reserved in ["_catalog", "_oci/ext", "-", "a/_b"] {
        let refused = registry.get(&format!("/v2/{reserved}/tags/list")).await;
        assert_eq!(problem(refused).await, (400, "NAME_INVALID".into()), "{reserved}");
    }
}

#[tokio::test]
async fn the_longest_names_work_and_one_more_character_does_not() {
    let registry = Registry::start().await;
    let many = vec!["a"; 128].join("/");
    assert_eq!(many.len(), 255);
    let separated = format!("a{}b__c.d", "-".repeat(248));
    assert_eq!(separated.len(), 255);
    for repo in ["a".repeat(255), many, separated] {
        works(&registry, &repo).await;
        let longer = format!("{repo}a");
        for (method, path) in [
            (Method::GET, format!("/v2/{longer}/tags/list")),
            (Method::PUT, format!("/v2/{longer}/manifests/v1")),
            (Method::POST, format!("/v2/{longer}/blobs/uploads/")),
            (Method::GET, format!("/v2/{longer}/blobs/{}", Digest::sha256(b"layer"))),
            (Method::GET, format!("/v2/{longer}/referrers/{}", Digest::sha256(b"layer"))),
        ] {
            let refused = registry.request(method, &path).send().await.unwrap();
            assert_eq!(problem(refused).await, (400, "NAME_INVALID".into()));
        }
        let from = format!("/v2/b/blobs/uploads/?mount={}&from={longer}", Digest::sha256(b"layer"));
        let refused = registry.request(Method::POST, &from).send().await.unwrap();
        assert_eq!(problem(refused).await, (400, "NAME_INVALID".into()));
    }
}

#[tokio::test]
async fn the_longest_tag_works_and_one_more_character_does_not() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "v1", "layer").await;
    let digest = Digest::sha256(text.as_bytes());
    for tag in
        ["t".repeat(128), format!("_{}", ".".repeat(127)), format!("A{}Z", "-".repeat(126)), "0".into()]
    {
        assert_eq!(registry.put_manifest("a", &tag, IMAGE, &text).await.status(), 201, "{tag}");
        assert_eq!(registry.get(&format!("/v2/a/manifests/{tag}")).await.text().await.unwrap(), text);
        assert_eq!(registry.delete(&format!("/v2/a/manifests/{tag}")).await.status(), 202);
    }
    for tag in [
        "t".repeat(129),
        ".a".into(),
        "-a".into(),
        "a%20b".into(),
        "a%C3%A4".into(),
        "a+b".into(),
        "a@b".into(),
    ] {
        let invalid = (400, "MANIFEST_INVALID".to_owned());
        assert_eq!(problem(registry.put_manifest("a", &tag, IMAGE, &text).await).await, invalid, "{tag}");
        let query = registry.put_manifest("a", &format!("{digest}?tag={tag}"), IMAGE, &text).await;
        assert_eq!(problem(query).await, invalid, "{tag}");
        let read = registry.get(&format!("/v2/a/manifests/{tag}")).await;
        assert_eq!(problem(read).await, (404, "MANIFEST_UNKNOWN".into()), "{tag}");
        let deleted = registry.delete(&format!("/v2/a/manifests/{tag}")).await;
        assert_eq!(problem(deleted).await, (404, "MANIFEST_UNKNOWN".into()), "{tag}");
    }
    let tags: Value = registry.get("/v2/a/tags/list").await.json().await.unwrap();
    assert_eq!(tags["tags"], serde_json::json!(["v1"]));
}

#[tokio::test]
async fn a_hundred_tags_move_at_once_and_one_more_moves_none() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    let text = image("layer").to_string();
    let digest = Digest::sha256(text.as_bytes());
    let query = |count: usize| (0..count).map(|n| format!("tag=t{n:03}")).collect::<Vec<_>>().join("&");
    let refused = registry.put_manifest("a", &format!("{digest}?{}", query(101)), IMAGE, &text).await;
    assert_eq!(problem(refused).await, (414, "MANIFEST_INVALID".into()));
    assert_eq!(registry.head(&format!("/v2/a/manifests/{digest}")).await.status(), 404, "nothing was stored");
    let named = |put: &reqwest::Response| {
        assert!(put.headers().len() < 80, "more header lines than clients and proxies take");
        let lines = put.headers().get_all("oci-tag").iter().map(|line| line.to_str().unwrap());
        lines.flat_map(|line| line.split(", ").map(str::to_owned)).collect::<Vec<String>>()
    };
    let put = registry.put_manifest("a", &format!("{digest}?{}", query(100)), IMAGE, &text).await;
    assert_eq!((put.status().as_u16(), named(&put)), (201, (0..100).map(|n| format!("t{n:03}")).collect()));
    let tags: Value = registry.get("/v2/a/tags/list").await.json().await.unwrap();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 100);
    // The same tag again is one tag.
    let again = registry.put_manifest("a", &format!("{digest}?{}&tag=t000", query(100)), IMAGE, &text).await;
    assert_eq!((again.status().as_u16(), named(&again).len()), (201, 100));
    let fifty = registry.put_manifest("a", &format!("{digest}?{}", query(50)), IMAGE, &text).await;
    assert_eq!(fifty.headers().get_all("oci-tag").iter().count(), 50, "a line for each while they suffice");
}
