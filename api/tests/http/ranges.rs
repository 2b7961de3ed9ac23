//! Parts of everything that has parts, and of what has none.

use reqwest::{Method, Response};
use trow_raft::{Algorithm, Digest};

use crate::support::{Registry, header, problem};

async fn ask(registry: &Registry, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = registry.request(method, path);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

#[tokio::test]
async fn a_blob_of_sha512_has_parts_as_any_other() {
    let registry = Registry::start().await;
    let content: Vec<u8> = (0..100_000u32).map(|i| (i % 233) as u8).collect();
    let digest = registry.push_blob_as("a", Algorithm::Sha512, &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    for (range, first, last) in
        [("bytes=10-99", 10, 99), ("bytes=99990-", 99_990, 99_999), ("bytes=-7", 99_993, 99_999)]
    {
        let part = ask(&registry, Method::GET, &path, &[("range", range)]).await;
        assert_eq!(
            (part.status().as_u16(), header(&part, "docker-content-digest")),
            (206, digest.to_string().as_str())
        );
        assert_eq!(header(&part, "content-range"), format!("bytes {first}-{last}/100000"));
        assert_eq!(header(&part, "content-length"), (last - first + 1).to_string());
        assert_eq!(part.bytes().await.unwrap(), content[first..=last]);
    }
    let beyond = ask(&registry, Method::GET, &path, &[("range", "bytes=100000-")]).await;
    assert_eq!(header(&beyond, "content-range"), "bytes */100000");
    assert_eq!(problem(beyond).await, (416, "RANGE_INVALID".into()));
}

#[tokio::test]
async fn a_blob_of_nothing_has_no_part() {
    let registry = Registry::start().await;
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", b"").await);
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
        let response = ask(&registry, Method::GET, &path, &[("range", range)]).await;
        assert_eq!(header(&response, "content-range"), "bytes */0", "{range}");
        assert_eq!(problem(response).await, (416, "RANGE_INVALID".into()), "{range}");
    }
    let whole = ask(&registry, Method::GET, &path, &[]).await;
    assert_eq!((whole.status().as_u16(), header(&whole, "content-length")), (200, "0"));
}

#[tokio::test]
async fn a_head_has_no_parts() {
    let registry = Registry::start().await;
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", b"0123456789").await);
    for range in ["bytes=2-3", "bytes=20-30", "x"] {
        let head = ask(&registry, Method::HEAD, &path, &[("range", range)]).await;
        assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "10"), "{range}");
        assert_eq!((header(&head, "content-range"), header(&head, "accept-ranges")), ("", "bytes"));
    }
}

#[tokio::test]
async fn a_part_is_of_the_content_that_the_client_has() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let tag = header(&ask(&registry, Method::HEAD, &path, &[]).await, "etag").to_owned();
    assert_eq!(tag, format!("\"{digest}\""));
    let conditional = async |value: &str| {
        let response =
            ask(&registry, Method::GET, &path, &[("range", "bytes=2-3"), ("if-range", value)]).await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(conditional(&tag).await, (206, "23".into()));
    for other in ["\"x\"", &format!("W/{tag}"), "Sat, 01 Jan 2022 00:00:00 GMT", ""] {
        assert_eq!(conditional(other).await, (200, "0123456789".into()), "{other:?}");
    }
}

#[tokio::test]
async fn a_manifest_is_sent_whole() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "v1", "layer").await;
    for path in
        ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/manifests/{}", Digest::sha256(text.as_bytes()))]
    {
        for range in ["bytes=0-9", "bytes=999999-", "bytes=-1"] {
            let whole = ask(&registry, Method::GET, &path, &[("range", range)]).await;
            assert_eq!((whole.status().as_u16(), header(&whole, "accept-ranges")), (200, ""), "{range}");
            assert_eq!(whole.text().await.unwrap(), text);
        }
    }
}
