//! Manifests: pushed, read by tag and by digest, refused, deleted; and what refers to them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use trow_api::Settings;
use trow_raft::{Algorithm, Digest};

use crate::support::{CONFIG, IMAGE, INDEX, LAYER, Registry, descriptor, header, image, log_id, problem};

#[tokio::test]
async fn a_manifest_is_served_as_it_was_pushed() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    // White space and order are part of the bytes.
    let text = format!("  {}\n", image("layer"));
    let digest = Digest::sha256(text.as_bytes());
    let put = registry.put_manifest("a", "v1", &format!("{IMAGE}; charset=utf-8"), &text).await;
    assert_eq!(put.status(), 201);
    assert_eq!(header(&put, "location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(header(&put, "docker-content-digest"), digest.to_string());
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        let (head, got) = (registry.head(&path).await, registry.get(&path).await);
        for response in [&head, &got] {
            assert_eq!(response.status(), 200);
            assert_eq!(header(response, "content-type"), IMAGE);
            assert_eq!(header(response, "content-length"), text.len().to_string());
            assert_eq!(header(response, "docker-content-digest"), digest.to_string());
            assert_eq!(log_id(response), log_id(&put));
        }
        assert_eq!(got.text().await.unwrap(), text);
    }
    let missing = registry.get("/v2/a/manifests/v2").await;
    assert!(log_id(&missing) >= log_id(&put));
    assert_eq!(problem(missing).await, (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn the_log_id_of_a_tag_is_of_the_entry_that_moved_it() {
    let registry = Registry::start().await;
    let first = registry.push_image("a", "v1", "one").await;
    let before = log_id(&registry.get("/v2/a/manifests/v1").await);
    let second = registry.push_image("a", "v1", "two").await;
    let moved = log_id(&registry.get("/v2/a/manifests/v1").await);
    assert!(moved > before);
    let by_digest = format!("/v2/a/manifests/{}", Digest::sha256(first.as_bytes()));
    assert_eq!(log_id(&registry.get(&by_digest).await), before);
    let again = registry.put_manifest("a", "v1", IMAGE, &second).await;
    assert_eq!((again.status().as_u16(), log_id(&registry.get("/v2/a/manifests/v1").await)), (201, moved));
}

#[tokio::test]
async fn what_a_manifest_names_must_be_in_its_repository() {
    let registry = Registry::start().await;
    registry.push_image("elsewhere", "v1", "layer").await;
    registry.push_blob("a", b"{}").await;
    let refused = registry.put_manifest("a", "v1", IMAGE, &image("layer").to_string()).await;
    assert_eq!(problem(refused).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));
    let child = image("layer").to_string();
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor(&child, IMAGE)] }).to_string();
    let refused = registry.put_manifest("a", "v1", INDEX, &index).await;
    assert_eq!(problem(refused).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));

    registry.push_blob("a", b"layer").await;
    assert_eq!(registry.put_manifest("a", "child", IMAGE, &child).await.status(), 201);
    assert_eq!(registry.put_manifest("a", "v1", INDEX, &index).await.status(), 201);
    let used = format!("/v2/a/blobs/{}", Digest::sha256(b"layer"));
    assert_eq!(registry.delete(&used).await.status(), 405);
}

#[tokio::test]
async fn sparse_accepts_what_is_not_here() {
    let registry = Registry::with(Settings { sparse: true, ..Settings::default() }).await;
    let text = image("never pushed").to_string();
    assert_eq!(registry.put_manifest("a", "v1", IMAGE, &text).await.status(), 201);
    assert_eq!(registry.get("/v2/a/manifests/v1").await.text().await.unwrap(), text);
}

#[tokio::test]
async fn sizes_must_be_those_of_the_blobs() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    let mut wrong = image("layer");
    wrong["layers"][0]["size"] = json!(4);
    let refused = registry.put_manifest("a", "v1", IMAGE, &wrong.to_string()).await;
    assert_eq!(problem(refused).await, (400, "SIZE_INVALID".into()));
    wrong["layers"][0]["size"] = json!(-1);
    let refused = registry.put_manifest("a", "v1", IMAGE, &wrong.to_string()).await;
    assert_eq!(problem(refused).await, (400, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn digests_of_manifests_are_verified() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    let text = image("layer").to_string();
    let other = Digest::sha256(b"other").to_string();
    let refused = registry.put_manifest("a", &other, IMAGE, &text).await;
    assert_eq!(problem(refused).await, (400, "DIGEST_INVALID".into()));
    let sha512 = Digest::of(Algorithm::Sha512, text.as_bytes()).to_string();
    let put = registry.put_manifest("a", &sha512, IMAGE, &text).await;
    assert_eq!((put.status().as_u16(), header(&put, "docker-content-digest")), (201, sha512.as_str()));
    assert_eq!(registry.get(&format!("/v2/a/manifests/{sha512}")).await.text().await.unwrap(), text);
}

#[tokio::test]
async fn one_push_may_move_many_tags() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "v0", "layer").await;
    let digest = Digest::sha256(text.as_bytes());
    let tags: Vec<String> = (1..=10).map(|n| format!("t{n}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let put = registry.put_manifest("a", &format!("{digest}?{}", query.join("&")), IMAGE, &text).await;
    assert_eq!(put.status(), 201);
    let named: Vec<_> = put.headers().get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!(named, tags);
    for tag in &tags {
        assert_eq!(registry.get(&format!("/v2/a/manifests/{tag}")).await.text().await.unwrap(), text);
    }
    let many: Vec<String> = (0..101).map(|n| format!("tag=t{n}")).collect();
    let refused = registry.put_manifest("a", &format!("{digest}?{}", many.join("&")), IMAGE, &text).await;
    assert_eq!(refused.status(), 414);
    let refused = registry.put_manifest("a", &format!("{digest}?tag=.bad"), IMAGE, &text).await;
    assert_eq!(problem(refused).await, (400, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn conditions_make_a_push_compare_and_set() {
    let registry = Registry::start().await;
    let (one, two) = (registry.push_image("a", "x", "one").await, registry.push_image("a", "y", "two").await);
    let put = async |text: &str, name: &str, value: &str| {
        let request = registry.request(Method::PUT, "/v2/a/manifests/v1").header("content-type", IMAGE);
        request.header(name, value).body(text.to_owned()).send().await.unwrap()
    };
    let quoted = |text: &str| format!("\"{}\"", Digest::sha256(text.as_bytes()));
    let failed = (412, "PRECONDITION_FAILED".to_owned());
    assert_eq!(problem(put(&one, "if-match", &quoted(&one)).await).await, failed);
    assert_eq!(put(&one, "if-none-match", "*").await.status(), 201);
    assert_eq!(problem(put(&two, "if-none-match", "*").await).await, failed);
    assert_eq!(problem(put(&two, "if-match", &quoted(&two)).await).await, failed);
    assert_eq!(put(&two, "if-match", &quoted(&one)).await.status(), 201);
    let weak = format!("W/{}", quoted(&two));
    assert_eq!(problem(put(&one, "if-match", &weak).await).await, (400, "MANIFEST_INVALID".into()));
    assert_eq!(registry.get("/v2/a/manifests/v1").await.text().await.unwrap(), two);
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_along() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "v1", "layer").await;
    registry.put_manifest("a", "v2", IMAGE, &text).await;
    let digest = Digest::sha256(text.as_bytes());
    let anonymous = registry.request(Method::DELETE, "/v2/a/manifests/v1").send().await.unwrap();
    assert_eq!(problem(anonymous).await, (401, "UNAUTHORIZED".into()));

    assert_eq!(registry.delete("/v2/a/manifests/v1").await.status(), 202);
    assert_eq!(registry.head("/v2/a/manifests/v1").await.status(), 404);
    assert_eq!(registry.head("/v2/a/manifests/v2").await.status(), 200);
    let gone = registry.delete(&format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(gone.status(), 202);
    assert!(log_id(&gone) > 0);
    for reference in ["v2".to_owned(), digest.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        assert_eq!(registry.head(&path).await.status(), 404);
        assert_eq!(problem(registry.delete(&path).await).await, (404, "MANIFEST_UNKNOWN".into()));
    }
    assert_eq!(registry.delete(&format!("/v2/a/blobs/{}", Digest::sha256(b"layer"))).await.status(), 202);
}

#[tokio::test]
async fn deletes_can_be_switched_off() {
    let registry = Registry::with(Settings { delete: false, ..Settings::default() }).await;
    let text = registry.push_image("a", "v1", "layer").await;
    let digest = Digest::sha256(text.as_bytes());
    for path in [
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{digest}"),
        format!("/v2/a/blobs/{digest}"),
    ] {
        assert_eq!(problem(registry.delete(&path).await).await, (405, "UNSUPPORTED".into()));
    }
}

#[tokio::test]
async fn a_manifest_beyond_the_limit_is_413_and_the_client_reads_it() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    let mut document = image("layer");
    document["annotations"] = json!({ "filler": "" });
    let overhead = document.to_string().len();
    let sized = |size: usize| {
        let mut document = document.clone();
        document["annotations"]["filler"] = json!("A".repeat(size - overhead));
        document.to_string()
    };
    let most = sized(4 << 20);
    assert_eq!(registry.put_manifest("a", "v1", IMAGE, &most).await.status(), 201);
    assert_eq!(registry.get("/v2/a/manifests/v1").await.text().await.unwrap(), most);
    for size in [(4 << 20) + 1, 64 << 20] {
        let refused = registry.put_manifest("a", "v2", IMAGE, &sized(size)).await;
        assert_eq!(problem(refused).await, (413, "SIZE_INVALID".into()));
    }
    // Without a length, and without an end: the answer does not wait for one.
    let endless = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some((Ok::<_, std::io::Error>(vec![b' '; 1 << 20]), ()))
    });
    let request = registry.request(Method::PUT, "/v2/a/manifests/v3").header("content-type", IMAGE);
    let refused = request.body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
    assert_eq!(refused.status(), 413);
}

#[tokio::test]
async fn referrers_list_what_names_a_subject() {
    let registry = Registry::start().await;
    let subject = Digest::sha256(b"a subject that was never pushed");
    let path = format!("/v2/a/referrers/{subject}");
    let listed = async |query: &str| {
        let response = registry.get(&format!("{path}{query}")).await;
        assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, INDEX));
        let link = header(&response, "link").to_owned();
        let filtered = header(&response, "oci-filters-applied").to_owned();
        let body: Value = response.json().await.unwrap();
        (body["manifests"].as_array().unwrap().clone(), link, filtered)
    };
    assert_eq!(listed("").await.0.len(), 0);

    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    for kind in ["application/vnd.example.one+json", "application/vnd.example.two"] {
        let mut artifact = image("layer");
        artifact["artifactType"] = json!(kind);
        artifact["subject"] = json!({ "mediaType": IMAGE, "digest": subject, "size": 31 });
        artifact["annotations"] = json!({ "kind": kind });
        let put = registry
            .put_manifest(
                "a",
                &Digest::sha256(artifact.to_string().as_bytes()).to_string(),
                IMAGE,
                &artifact.to_string(),
            )
            .await;
        assert_eq!((put.status().as_u16(), header(&put, "oci-subject")), (201, subject.to_string().as_str()));
    }
    let (all, link, filtered) = listed("").await;
    assert_eq!((all.len(), link.as_str(), filtered.as_str()), (2, "", ""));
    assert!(all.iter().all(|d| d["artifactType"] == d["annotations"]["kind"] && d["mediaType"] == IMAGE));

    let (one, _, filtered) = listed("?artifactType=application/vnd.example.one%2Bjson").await;
    assert_eq!((one.len(), filtered.as_str()), (1, "artifactType"));
    let (first, link, _) = listed("?n=1").await;
    let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
    let (second, link, _) = listed(next.strip_prefix(&path).unwrap()).await;
    assert_eq!((&[first, second].concat(), link.as_str()), (&all, ""));
    assert_eq!(registry.get("/v2/a/referrers/sha256:x").await.status(), 400);
}

#[tokio::test]
async fn referrers_under_the_fallback_tag_are_adopted() {
    let registry = Registry::start().await;
    let old = registry.push_image("a", "old", "layer").await;
    let gone = descriptor("not here", IMAGE);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(&old, IMAGE)] });
    let subject = Digest::sha256(b"subject");
    let tag = format!("sha256-{}", subject.hex());
    assert_eq!(registry.put_manifest("a", &tag, INDEX, &index.to_string()).await.status(), 201);
    let response = registry.get(&format!("/v2/a/referrers/{subject}")).await;
    let body: Value = response.json().await.unwrap();
    let mut expected = descriptor(&old, IMAGE);
    expected["artifactType"] = json!(CONFIG);
    assert_eq!(body["manifests"], json!([expected]));
    assert_ne!(body["manifests"][0], gone);
}

#[tokio::test]
async fn foreign_layers_need_not_be_here() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    let mut foreign = image("layer");
    foreign["layers"][0]["urls"] = json!(["https://example.com/layer"]);
    assert_eq!(foreign["layers"][0]["mediaType"], LAYER);
    assert_eq!(registry.put_manifest("a", "v1", IMAGE, &foreign.to_string()).await.status(), 201);
}
