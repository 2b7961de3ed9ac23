//! Blobs: read, by HEAD, deleted from one repository and not from another.

use bytes::Bytes;
use reqwest::Method;
use trow_raft::Digest;

use crate::support::{Registry, header, log_id, problem};

#[tokio::test]
async fn a_pushed_blob_is_served_byte_for_byte() {
    let registry = Registry::start().await;
    let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let digest = registry.push_blob("a/b", &content).await;
    let path = format!("/v2/a/b/blobs/{digest}");
    let head = registry.head(&path).await;
    let got = registry.get(&path).await;
    for response in [&head, &got] {
        assert_eq!(response.status(), 200);
        assert_eq!(header(response, "content-length"), "300000");
        assert_eq!(header(response, "docker-content-digest"), digest.to_string());
        assert_eq!(header(response, "content-type"), "application/octet-stream");
        assert_eq!(header(response, "x-content-type-options"), "nosniff");
        assert_eq!(header(response, "accept-ranges"), "bytes");
        assert_eq!(header(response, "trow-node"), "n1");
    }
    assert_eq!(got.bytes().await.unwrap(), content);
    let empty = registry.push_blob("a/b", b"").await;
    let got = registry.get(&format!("/v2/a/b/blobs/{empty}")).await;
    assert_eq!((got.status().as_u16(), got.bytes().await.unwrap().len()), (200, 0));
}

#[tokio::test]
async fn ranges_give_what_they_ask_for() {
    let registry = Registry::start().await;
    let content: Vec<u8> = (0..200_000u32).map(|i| (i % 241) as u8).collect();
    let digest = registry.push_blob("a", &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    let ask =
        async |range: &str| registry.request(Method::GET, &path).header("range", range).send().await.unwrap();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=500-1499", 500, 1499),
        ("bytes=65000-140000", 65_000, 140_000),
        ("bytes=199999-", 199_999, 199_999),
        ("bytes=-500", 199_500, 199_999),
        ("bytes=199000-999999", 199_000, 199_999),
        ("bytes=-999999", 0, 199_999),
    ] {
        let response = ask(range).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(header(&response, "content-range"), format!("bytes {first}-{last}/200000"));
        assert_eq!(response.bytes().await.unwrap(), content[first..=last], "{range}");
    }
    for range in ["bytes=200000-", "bytes=500-0", "bytes=200000-300000", "bytes=-0"] {
        let response = ask(range).await;
        assert_eq!(header(&response, "content-range"), "bytes */200000", "{range}");
        assert_eq!(problem(response).await, (416, "RANGE_INVALID".into()), "{range}");
    }
    for range in ["bytes=0-1,5-6", "lines=0-1", "bytes=x"] {
        assert_eq!(ask(range).await.status(), 200, "{range}");
    }
    let stale = registry.request(Method::GET, &path).header("range", "bytes=0-1").header("if-range", "\"x\"");
    assert_eq!(stale.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_blob_is_seen_only_through_a_repository_that_links_it() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("private", b"secret").await;
    for path in [format!("/v2/other/blobs/{digest}"), format!("/v2/private/x/blobs/{digest}")] {
        let response = registry.get(&path).await;
        assert!(log_id(&response) > 0);
        assert_eq!(problem(response).await, (404, "BLOB_UNKNOWN".into()));
        assert_eq!(registry.head(&path).await.status(), 404);
    }
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_alone() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"shared").await;
    registry.push_blob("b", b"shared").await;
    let path = format!("/v2/a/blobs/{digest}");
    let anonymous = registry.request(Method::DELETE, &path).send().await.unwrap();
    assert!(header(&anonymous, "www-authenticate").starts_with("Basic "));
    assert_eq!(problem(anonymous).await, (401, "UNAUTHORIZED".into()));
    let deleted = registry.delete(&path).await;
    assert_eq!(deleted.status(), 202);
    assert!(log_id(&deleted) > 0);
    assert_eq!(registry.head(&path).await.status(), 404);
    assert_eq!(registry.head(&format!("/v2/b/blobs/{digest}")).await.status(), 200);
    assert_eq!(problem(registry.delete(&path).await).await, (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn a_used_blob_is_not_deleted() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    let path = format!("/v2/a/blobs/{}", Digest::sha256(b"layer"));
    assert_eq!(problem(registry.delete(&path).await).await, (405, "UNSUPPORTED".into()));
    assert_eq!(registry.head(&path).await.status(), 200);
}

#[tokio::test]
async fn a_damaged_blob_breaks_the_body_off() {
    let registry = Registry::start().await;
    let content = vec![7u8; 300_000];
    let digest = registry.push_blob("a", &content).await;
    let mut wrong = content.clone();
    wrong[150_000] = 8;
    registry.blobs.damage(&digest, Some(Bytes::from(wrong)));
    // The connection is closed before the end, sometimes with the head still unsent.
    let path = format!("/v2/a/blobs/{digest}");
    let whole =
        async { registry.request(Method::GET, &path).send().await?.error_for_status()?.bytes().await };
    assert!(whole.await.is_err(), "a damaged blob ended cleanly");

    let small = registry.push_blob("a", b"small").await;
    registry.blobs.damage(&small, Some(Bytes::from_static(b"smell")));
    let response = registry.get(&format!("/v2/a/blobs/{small}")).await;
    assert_eq!(problem(response).await, (503, "UNAVAILABLE".into()));
}

#[tokio::test]
async fn a_blob_that_nobody_reachable_holds_is_unavailable_and_not_unknown() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"content").await;
    registry.blobs.damage(&digest, None);
    let response = registry.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(header(&response, "retry-after"), "1");
    assert_eq!(problem(response).await, (503, "UNAVAILABLE".into()));
}

#[tokio::test]
async fn requests_and_blob_bytes_are_counted() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("a", b"12345").await;
    registry.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap();
    registry.get("/nothing/here").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry.counters).unwrap();
    for line in [
        r#"trow_http_requests_total{route="blob",method="GET",code="200"} 1"#,
        r#"trow_http_requests_total{route="uploads",method="POST",code="201"} 1"#,
        r#"trow_http_requests_total{route="manifest",method="GET",code="200"} 0"#,
        r#"trow_http_requests_total{route="other",method="GET",code="404"} 1"#,
        r#"trow_http_request_seconds_count{route="blob",method="GET"} 1"#,
        r#"trow_blob_bytes_total{direction="in"} 5"#,
        r#"trow_blob_bytes_total{direction="out"} 5"#,
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
}
