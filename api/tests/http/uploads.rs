//! Uploads: in one request, in several, mounted, cancelled, wrong.

use std::time::Duration;

use reqwest::{Method, Response};
use tokio::io::AsyncWriteExt;
use trow_raft::{Algorithm, Digest};

use crate::support::{BOUND, Registry, header, log_id, problem};

async fn begin(registry: &Registry, repo: &str) -> String {
    let response =
        registry.request(Method::POST, &format!("/v2/{repo}/blobs/uploads/")).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = header(&response, "location").to_owned();
    assert!(location.starts_with(&format!("/v2/{repo}/blobs/uploads/")), "{location}");
    location
}

async fn patch(registry: &Registry, location: &str, range: Option<&str>, body: &[u8]) -> Response {
    let mut request = registry.request(Method::PATCH, location).body(body.to_vec());
    if let Some(range) = range {
        request = request.header("content-range", range);
    }
    request.send().await.unwrap()
}

async fn put(registry: &Registry, location: &str, digest: &Digest, body: &[u8]) -> Response {
    let path = format!("{location}&digest={digest}");
    registry.request(Method::PUT, &path).body(body.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn every_way_of_pushing_a_blob_works() {
    let registry = Registry::start().await;
    let digest = Digest::sha256(b"hello world");

    let location = begin(&registry, "put").await;
    let created = put(&registry, &location, &digest, b"hello world").await;
    assert_eq!(created.status(), 201);
    assert_eq!(header(&created, "location"), format!("/v2/put/blobs/{digest}"));
    assert_eq!(header(&created, "docker-content-digest"), digest.to_string());
    assert!(log_id(&created) > 0);

    let location = begin(&registry, "stream").await;
    let appended = patch(&registry, &location, None, b"hello world").await;
    assert_eq!((appended.status().as_u16(), header(&appended, "range")), (202, "0-10"));
    assert_eq!(put(&registry, header(&appended, "location"), &digest, b"").await.status(), 201);

    let location = begin(&registry, "chunks").await;
    let first = patch(&registry, &location, Some("0-5"), b"hello ").await;
    assert_eq!(header(&first, "range"), "0-5");
    let status = registry.get(header(&first, "location")).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-5"));
    assert_eq!(put(&registry, header(&status, "location"), &digest, b"world").await.status(), 201);

    registry.push_blob("single", b"hello world").await;
    for repo in ["put", "stream", "chunks", "single"] {
        let got = registry.get(&format!("/v2/{repo}/blobs/{digest}")).await;
        assert_eq!(got.bytes().await.unwrap(), "hello world", "{repo}");
    }
    assert_eq!(registry.blobs.open_sessions(), 0);
}

#[tokio::test]
async fn sha512_needs_no_hint() {
    let registry = Registry::start().await;
    let digest = Digest::of(Algorithm::Sha512, b"content");
    let location = begin(&registry, "a").await;
    patch(&registry, &location, Some("0-6"), b"content").await;
    assert_eq!(put(&registry, &location, &digest, b"").await.status(), 201);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{digest}")).await.text().await.unwrap(), "content");
}

#[tokio::test]
async fn a_chunk_out_of_order_is_told_where_to_go_on() {
    let registry = Registry::start().await;
    let location = begin(&registry, "a").await;
    patch(&registry, &location, Some("0-3"), b"0123").await;
    for range in ["8-9", "0-1", "3-4"] {
        let refused = patch(&registry, &location, Some(range), b"xx").await;
        assert_eq!(header(&refused, "range"), "0-3");
        assert_eq!(header(&refused, "location"), location);
        assert_eq!(problem(refused).await, (416, "BLOB_UPLOAD_INVALID".into()));
    }
    for (range, body) in [("4-9", b"xx".as_slice()), ("9-4", b"xx"), ("x", b"xx"), ("4", b"xx")] {
        let refused = patch(&registry, &location, Some(range), body).await;
        assert_eq!(problem(refused).await, (400, "BLOB_UPLOAD_INVALID".into()), "{range}");
    }
    patch(&registry, &location, Some("4-5"), b"45").await;
    assert_eq!(put(&registry, &location, &Digest::sha256(b"012345"), b"").await.status(), 201);
}

#[tokio::test]
async fn a_session_ends_once_and_its_close_may_be_repeated() {
    let registry = Registry::start().await;
    let digest = Digest::sha256(b"content");
    let location = begin(&registry, "a").await;
    let first = put(&registry, &location, &digest, b"content").await;
    assert_eq!(first.status(), 201);
    for body in [b"content".as_slice(), b""] {
        let again = put(&registry, &location, &digest, body).await;
        assert_eq!((again.status().as_u16(), log_id(&again)), (201, log_id(&first)));
    }
    let late = patch(&registry, &location, None, b"x").await;
    assert_eq!(problem(late).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));

    let location = begin(&registry, "a").await;
    assert_eq!(registry.request(Method::DELETE, &location).send().await.unwrap().status(), 204);
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        let response = registry.request(method, &location).send().await.unwrap();
        assert_eq!(problem(response).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    }
}

#[tokio::test]
async fn wrong_digests_are_refused_everywhere() {
    let registry = Registry::start().await;
    let other = Digest::sha256(b"other");
    let location = begin(&registry, "a").await;
    assert_eq!(
        problem(put(&registry, &location, &other, b"content").await).await,
        (400, "DIGEST_INVALID".into())
    );
    let single = format!("/v2/a/blobs/uploads/?digest={other}");
    let single = registry.request(Method::POST, &single).body("content").send().await.unwrap();
    assert_eq!(problem(single).await, (400, "DIGEST_INVALID".into()));
    assert_eq!(registry.head(&format!("/v2/a/blobs/{other}")).await.status(), 404);

    let location = begin(&registry, "a").await;
    for bad in ["", "digest=", "digest=sha256:abc", "digest=md5:00", "digest=sha256:..%2Fx"] {
        let path = format!("{location}&{bad}");
        let response = registry.request(Method::PUT, &path).body("content").send().await.unwrap();
        assert_eq!(problem(response).await, (400, "DIGEST_INVALID".into()), "{bad}");
        if !bad.is_empty() {
            let path = format!("/v2/a/blobs/uploads/?{bad}");
            let response = registry.request(Method::POST, &path).body("content").send().await.unwrap();
            assert_eq!(problem(response).await, (400, "DIGEST_INVALID".into()), "{bad}");
        }
    }
    let hint = registry.request(Method::POST, "/v2/a/blobs/uploads/?digest-algorithm=md5");
    assert_eq!(problem(hint.send().await.unwrap()).await, (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn a_session_belongs_to_its_repository_and_its_token() {
    let registry = Registry::start().await;
    let location = begin(&registry, "mine").await;
    let (path, state) = location.split_once("?_state=").unwrap();
    let elsewhere = location.replace("/mine/", "/yours/");
    let flipped = state.chars().rev().collect::<String>();
    for bad in
        [elsewhere, path.to_owned(), format!("{path}?_state={flipped}x"), format!("{path}?_state=%2e%2e")]
    {
        let mark = if bad.contains('?') { '&' } else { '?' };
        let put = format!("{bad}{mark}digest={}", Digest::sha256(b"content"));
        let requests =
            [(Method::GET, &bad), (Method::PATCH, &bad), (Method::PUT, &put), (Method::DELETE, &bad)];
        for (method, path) in requests {
            let response = registry.request(method.clone(), path).send().await.unwrap();
            assert_eq!(problem(response).await, (404, "BLOB_UPLOAD_UNKNOWN".into()), "{method} {path}");
        }
    }
    assert_eq!(registry.get(&location).await.status(), 204);
}

#[tokio::test]
async fn mounting_links_what_another_repository_has() {
    let registry = Registry::start().await;
    let digest = registry.push_blob("from", b"content").await;
    let post = async |query: &str| {
        registry.request(Method::POST, &format!("/v2/to/blobs/uploads/?{query}")).send().await.unwrap()
    };
    let absent = post(&format!("mount={digest}&from=nowhere")).await;
    assert_eq!(absent.status(), 202);
    assert!(header(&absent, "location").starts_with("/v2/to/blobs/uploads/"));
    assert_eq!(post(&format!("mount={}", Digest::sha256(b"unknown"))).await.status(), 202);

    let mounted = post(&format!("mount={digest}&from=from")).await;
    assert_eq!(mounted.status(), 201);
    assert_eq!(header(&mounted, "location"), format!("/v2/to/blobs/{digest}"));
    assert!(log_id(&mounted) > 0);
    assert_eq!(registry.get(&format!("/v2/to/blobs/{digest}")).await.text().await.unwrap(), "content");

    let path = format!("/v2/third/blobs/uploads/?mount={digest}");
    assert_eq!(registry.request(Method::POST, &path).send().await.unwrap().status(), 201);
    assert_eq!(problem(post("mount=sha256:x&from=from").await).await, (400, "DIGEST_INVALID".into()));
    assert_eq!(problem(post(&format!("mount={digest}&from=..")).await).await, (400, "NAME_INVALID".into()));
}

#[tokio::test]
async fn a_full_disk_and_too_many_sessions_have_their_codes() {
    let registry = Registry::start().await;
    registry.blobs.fill(true);
    let location = begin(&registry, "a").await;
    assert_eq!(problem(patch(&registry, &location, None, b"x").await).await, (507, "NO_SPACE".into()));
    registry.blobs.fill(false);
    assert_eq!(patch(&registry, &location, None, b"x").await.status(), 202);

    registry.blobs.limit_sessions(1);
    let refused = registry.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    assert_eq!(header(&refused, "retry-after"), "10");
    assert_eq!(problem(refused).await, (429, "TOOMANYREQUESTS".into()));
}

#[tokio::test]
async fn a_change_is_finished_though_its_client_went_away() {
    let registry = Registry::start().await;
    let digest = Digest::sha256(b"content");
    let request = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\ncontent"
    );
    let mut stream = tokio::net::TcpStream::connect(&registry.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    let there = async {
        while registry.head(&format!("/v2/a/blobs/{digest}")).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, there).await.unwrap();
}
