//! Reads under a condition: what the client has already is not sent again.

use reqwest::{Method, Response};
use trow_raft::Digest;

use crate::support::{IMAGE, Registry, header};

async fn ask(registry: &Registry, method: Method, path: &str, have: &str) -> Response {
    registry.request(method, path).header("if-none-match", have).send().await.unwrap()
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "v1", "layer").await;
    let manifest = Digest::sha256(text.as_bytes());
    let layer = Digest::sha256(b"layer");
    for (path, digest) in [
        ("/v2/a/manifests/v1".to_owned(), manifest),
        (format!("/v2/a/manifests/{manifest}"), manifest),
        (format!("/v2/a/blobs/{layer}"), layer),
    ] {
        let tag = format!("\"{digest}\"");
        for method in [Method::GET, Method::HEAD] {
            let whole = registry.request(method.clone(), &path).send().await.unwrap();
            assert_eq!((whole.status().as_u16(), header(&whole, "etag")), (200, tag.as_str()));
            for have in
                [tag.clone(), format!("W/{tag}"), digest.to_string(), "*".into(), format!("\"x\", {tag}")]
            {
                let same = ask(&registry, method.clone(), &path, &have).await;
                assert_eq!((same.status().as_u16(), header(&same, "etag")), (304, tag.as_str()), "{have}");
                assert_eq!(header(&same, "docker-content-digest"), digest.to_string());
                assert_eq!(header(&same, "trow-node"), "n1");
                assert_eq!(same.bytes().await.unwrap().len(), 0);
            }
            let other = ask(&registry, method.clone(), &path, "\"sha256:x\"").await;
            assert_eq!(other.status(), 200);
        }
    }
    // A condition of the client comes before a part that it asks for.
    let part = registry.request(Method::GET, &format!("/v2/a/blobs/{layer}")).header("range", "bytes=0-1");
    let part = part.header("if-none-match", format!("\"{layer}\"")).send().await.unwrap();
    assert_eq!(part.status(), 304);
}

#[tokio::test]
async fn a_tag_that_moved_is_sent() {
    let registry = Registry::start().await;
    let first = registry.push_image("a", "v1", "one").await;
    let tag = format!("\"{}\"", Digest::sha256(first.as_bytes()));
    assert_eq!(ask(&registry, Method::GET, "/v2/a/manifests/v1", &tag).await.status(), 304);
    let second = registry.push_image("a", "v1", "two").await;
    let moved = ask(&registry, Method::GET, "/v2/a/manifests/v1", &tag).await;
    assert_eq!(moved.status(), 200);
    assert_eq!(moved.text().await.unwrap(), second);
    assert_eq!(ask(&registry, Method::GET, "/v2/a/manifests/v2", "*").await.status(), 404);
    // What a read gave as its tag is what a push may be conditional on.
    let put = registry.request(Method::PUT, "/v2/a/manifests/v1").header("content-type", IMAGE);
    let now = header(&registry.head("/v2/a/manifests/v1").await, "etag").to_owned();
    assert_eq!(put.header("if-match", now).body(first).send().await.unwrap().status(), 201);
}
