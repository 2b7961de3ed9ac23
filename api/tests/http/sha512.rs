//! SHA-512 wherever a digest may be, with a hint, without one, and with the wrong one.

use reqwest::{Method, Response};
use serde_json::json;
use trow_raft::{Algorithm, Digest};

use crate::support::{CONFIG, IMAGE, LAYER, Registry, header, log_id, problem};

fn sha512(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, content)
}

async fn begin(registry: &Registry, query: &str) -> String {
    let path = format!("/v2/a/blobs/uploads/{query}");
    let begun = registry.request(Method::POST, &path).send().await.unwrap();
    assert_eq!(begun.status(), 202, "{query}");
    header(&begun, "location").to_owned()
}

async fn close(registry: &Registry, location: &str, digest: &Digest, last: &[u8]) -> Response {
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{separator}digest={digest}");
    registry.request(Method::PUT, &path).body(last.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn a_hint_helps_and_binds_nobody() {
    let registry = Registry::start().await;
    for (n, query) in ["", "?digest-algorithm=sha512", "?digest-algorithm=sha256"].into_iter().enumerate() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let content = format!("content {n}");
            let digest = Digest::of(algorithm, content.as_bytes());
            let (first, rest) = content.as_bytes().split_at(3);
            let mut location = begin(&registry, query).await;
            for (at, chunk) in [(0, first), (3, rest)] {
                let range = format!("{at}-{}", at + chunk.len() - 1);
                let request = registry.request(Method::PATCH, &location).header("content-range", range);
                let taken = request.body(chunk.to_vec()).send().await.unwrap();
                assert_eq!(taken.status(), 202);
                location = header(&taken, "location").to_owned();
            }
            let closed = close(&registry, &location, &digest, b"").await;
            assert_eq!(
                (closed.status().as_u16(), header(&closed, "docker-content-digest")),
                (201, digest.to_string().as_str())
            );
            assert_eq!(header(&closed, "location"), format!("/v2/a/blobs/{digest}"));
            let got = registry.get(&format!("/v2/a/blobs/{digest}")).await;
            assert_eq!(got.text().await.unwrap(), content, "{query} {digest}");
        }
    }
    for bad in ["sha384", "SHA512", "", "md5", "sha512:x"] {
        let path = format!("/v2/a/blobs/uploads/?digest-algorithm={bad}");
        let refused = registry.request(Method::POST, &path).send().await.unwrap();
        assert_eq!(problem(refused).await, (400, "DIGEST_INVALID".into()), "{bad}");
    }
}

#[tokio::test]
async fn the_wrong_sha512_is_refused() {
    let registry = Registry::start().await;
    for query in ["", "?digest-algorithm=sha512"] {
        let location = begin(&registry, query).await;
        let refused = close(&registry, &location, &sha512(b"other"), b"content").await;
        assert_eq!(problem(refused).await, (400, "DIGEST_INVALID".into()));
    }
    assert_eq!(registry.head(&format!("/v2/a/blobs/{}", sha512(b"other"))).await.status(), 404);
}

#[tokio::test]
async fn a_blob_is_mounted_and_deleted_by_its_sha512() {
    let registry = Registry::start().await;
    let digest = registry.push_blob_as("a", Algorithm::Sha512, b"content").await;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(registry.request(Method::POST, &path).send().await.unwrap().status(), 201);
    assert_eq!(registry.delete(&format!("/v2/a/blobs/{digest}")).await.status(), 202);
    assert_eq!(registry.head(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
    assert_eq!(registry.head(&format!("/v2/b/blobs/{digest}")).await.status(), 200);
    // The same bytes under the other digest are another blob.
    assert_eq!(registry.head(&format!("/v2/b/blobs/{}", Digest::sha256(b"content"))).await.status(), 404);
}

#[tokio::test]
async fn a_manifest_lives_under_its_sha512() {
    let registry = Registry::start().await;
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    for blob in [config, layer] {
        registry.push_blob_as("a", Algorithm::Sha512, blob).await;
    }
    let text = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": { "mediaType": CONFIG, "digest": sha512(config), "size": config.len() },
        "layers": [{ "mediaType": LAYER, "digest": sha512(layer), "size": layer.len() }],
    })
    .to_string();
    let digest = sha512(text.as_bytes());
    let path = format!("/v2/a/manifests/{digest}");
    let put = registry.put_manifest("a", &format!("{digest}?tag=v1&tag=v2"), IMAGE, &text).await;
    assert_eq!((put.status().as_u16(), header(&put, "location")), (201, path.as_str()));
    assert_eq!(header(&put, "docker-content-digest"), digest.to_string());
    for reference in [path.clone(), "/v2/a/manifests/v1".into(), "/v2/a/manifests/v2".into()] {
        let (head, got) = (registry.head(&reference).await, registry.get(&reference).await);
        for response in [&head, &got] {
            assert_eq!(
                (response.status().as_u16(), header(response, "docker-content-digest")),
                (200, digest.to_string().as_str())
            );
            assert_eq!(log_id(response), log_id(&put));
        }
        assert_eq!(got.text().await.unwrap(), text);
    }
    // Under its SHA-256 it was not pushed.
    assert_eq!(
        registry.head(&format!("/v2/a/manifests/{}", Digest::sha256(text.as_bytes()))).await.status(),
        404
    );
    let used = registry.delete(&format!("/v2/a/blobs/{}", sha512(layer))).await;
    assert_eq!(problem(used).await, (405, "UNSUPPORTED".into()));
    assert_eq!(registry.delete(&path).await.status(), 202);
    for reference in [&path, "/v2/a/manifests/v1", "/v2/a/manifests/v2"] {
        assert_eq!(registry.head(reference).await.status(), 404);
    }
}
