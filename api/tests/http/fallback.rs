//! Referrers that clients listed under a tag, for a registry without the API.

use serde_json::{Value, json};
use trow_raft::{Algorithm, Digest};

use crate::support::{CONFIG, IMAGE, INDEX, Registry, descriptor, header, image};

const SBOM: &str = "application/vnd.example.sbom";

async fn with_blobs() -> Registry {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    registry
}

/// Pushes a manifest that says `kind` and `annotations`; gives its text.
async fn push(registry: &Registry, kind: Option<&str>, annotations: Value) -> String {
    let mut document = image("layer");
    if let Some(kind) = kind {
        document["artifactType"] = json!(kind);
    }
    document["annotations"] = annotations;
    let text = document.to_string();
    let digest = Digest::sha256(text.as_bytes()).to_string();
    assert_eq!(registry.put_manifest("a", &digest, IMAGE, &text).await.status(), 201);
    text
}

/// Lists `manifests` under the tag of `subject`.
async fn list(registry: &Registry, subject: &Digest, manifests: &[Value]) {
    let hex: String = subject.hex().chars().take(64).collect();
    let tag = format!("{}-{hex}", subject.algorithm().as_str());
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    assert_eq!(registry.put_manifest("a", &tag, INDEX, &index.to_string()).await.status(), 201, "{tag}");
}

async fn referrers(registry: &Registry, subject: &Digest, query: &str) -> Vec<Value> {
    let response = registry.get(&format!("/v2/a/referrers/{subject}{query}")).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, INDEX));
    let body: Value = response.json().await.unwrap();
    body["manifests"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_tag_of_a_sha512_subject_is_cut_short() {
    let registry = with_blobs().await;
    let text = push(&registry, Some(SBOM), json!({ "a": "b" })).await;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let subject = Digest::of(algorithm, b"subject");
        assert_eq!(referrers(&registry, &subject, "").await, [] as [Value; 0]);
        list(&registry, &subject, &[descriptor(&text, IMAGE)]).await;
        let listed = referrers(&registry, &subject, "").await;
        assert_eq!((listed.len(), &listed[0]["artifactType"]), (1, &json!(SBOM)), "{subject}");
    }
}

#[tokio::test]
async fn what_a_listed_descriptor_leaves_out_the_manifest_says() {
    let registry = with_blobs().await;
    let subject = Digest::sha256(b"subject");
    let bare = push(&registry, Some(SBOM), json!({ "who": "me" })).await;
    let untyped = push(&registry, None, json!({ "who": "you" })).await;
    let mut full = descriptor(&push(&registry, Some("application/x"), json!({})).await, IMAGE);
    full["artifactType"] = json!("application/x");
    full["annotations"] = json!({ "only": "in the list" });
    full["platform"] = json!({ "os": "linux" });
    list(&registry, &subject, &[descriptor(&bare, IMAGE), descriptor(&untyped, IMAGE), full.clone()]).await;
    let find = |listed: &[Value], text: &str| {
        let digest = json!(Digest::sha256(text.as_bytes()));
        listed.iter().find(|one| one["digest"] == digest).cloned().unwrap()
    };
    let listed = referrers(&registry, &subject, "").await;
    assert_eq!(listed.len(), 3);
    assert_eq!(find(&listed, &bare)["artifactType"], SBOM);
    assert_eq!(find(&listed, &bare)["annotations"], json!({ "who": "me" }));
    assert_eq!(find(&listed, &untyped)["artifactType"], CONFIG, "the config's type, as for any image");
    assert!(listed.contains(&full), "what the client wrote besides is kept: {listed:?}");
    // The filter sees what the manifest says.
    let filtered = referrers(&registry, &subject, &format!("?artifactType={SBOM}")).await;
    assert_eq!(filtered, [find(&listed, &bare)]);
    assert_eq!(referrers(&registry, &subject, "?artifactType=application/x").await, [full]);
    assert_eq!(referrers(&registry, &subject, "?artifactType=application/y").await, [] as [Value; 0]);
}

#[tokio::test]
async fn wrong_facts_in_a_list_are_put_right() {
    let registry = with_blobs().await;
    let subject = Digest::sha256(b"subject");
    let text = push(&registry, Some(SBOM), json!({})).await;
    let lie = json!({
        "mediaType": INDEX, "digest": Digest::sha256(text.as_bytes()), "size": text.len(), "artifactType": "application/lie",
    });
    list(&registry, &subject, &[lie]).await;
    let listed = referrers(&registry, &subject, "").await;
    assert_eq!((&listed[0]["mediaType"], &listed[0]["artifactType"]), (&json!(IMAGE), &json!(SBOM)));
    assert_eq!(listed[0]["size"], text.len());
}

#[tokio::test]
async fn a_referrer_is_listed_once_and_not_after_it_was_deleted() {
    let registry = with_blobs().await;
    let subject = Digest::sha256(b"subject");
    let mut document = image("layer");
    document["artifactType"] = json!(SBOM);
    document["subject"] = descriptor("subject", IMAGE);
    let text = document.to_string();
    let digest = Digest::sha256(text.as_bytes());
    assert_eq!(registry.put_manifest("a", &digest.to_string(), IMAGE, &text).await.status(), 201);
    let other = push(&registry, Some("application/other"), json!({})).await;
    // In the list twice, and known by its subject as well.
    let twice = descriptor(&text, IMAGE);
    list(&registry, &subject, &[twice.clone(), descriptor(&other, IMAGE), twice]).await;
    let listed = referrers(&registry, &subject, "").await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(registry.delete(&format!("/v2/a/manifests/{digest}")).await.status(), 202);
    let listed = referrers(&registry, &subject, "").await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["digest"], json!(Digest::sha256(other.as_bytes())));
    // With the tag goes the list.
    assert_eq!(registry.delete(&format!("/v2/a/manifests/sha256-{}", subject.hex())).await.status(), 202);
    assert_eq!(referrers(&registry, &subject, "").await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_tag_that_is_no_list_of_referrers_lists_none() {
    let registry = with_blobs().await;
    let subject = Digest::sha256(b"subject");
    // Cosign's signatures are under such names with an ending, and images may be under the name itself.
    let tag = format!("sha256-{}", subject.hex());
    let text = image("layer").to_string();
    assert_eq!(registry.put_manifest("a", &tag, IMAGE, &text).await.status(), 201);
    assert_eq!(registry.put_manifest("a", &format!("{tag}.sig"), IMAGE, &text).await.status(), 201);
    assert_eq!(referrers(&registry, &subject, "").await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_list_costs_what_its_page_costs_however_often_it_names_a_large_manifest() {
    let registry = with_blobs().await;
    let subject = Digest::sha256(b"subject");
    let mut large = Vec::new();
    for fill in ["a", "b", "c"] {
        large.push(push(&registry, Some(SBOM), json!({ "fill": fill.repeat(1_900_000) })).await);
    }
    let named: Vec<Value> = (0..3000).map(|turn| descriptor(&large[turn % 3], IMAGE)).collect();
    list(&registry, &subject, &named).await;
    // Two fit in a page of 4 MB; a server that copies each mention would need 6 GB.
    let first = registry.get(&format!("/v2/a/referrers/{subject}")).await;
    let next = header(&first, "link").to_owned();
    let first: Value = first.json().await.unwrap();
    assert_eq!(first["manifests"].as_array().unwrap().len(), 2);
    let next = next.strip_prefix('<').and_then(|link| link.split_once('>')).unwrap().0.to_owned();
    let second = registry.get(&next).await;
    assert!(second.headers().get("link").is_none());
    let second: Value = second.json().await.unwrap();
    assert_eq!(second["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(referrers(&registry, &subject, "?artifactType=application/y").await, [] as [Value; 0]);
}
