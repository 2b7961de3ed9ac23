//! Requests of a peer about blobs and uploads that are none: a path that climbs, a ticket that is
//! somebody else's, bodies and ranges that cannot be. Nothing on the disk is touched.

use axum::body::Body;
use http::{Method, Request};
use tower::ServiceExt as _;
use trow_api::blobs::Blobs as _;
use trow_raft::metadata::PeerId;

use super::harness::*;
use crate::peer_blobs::wire;

async fn ask(
    nodes: &Nodes,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from(body.to_owned())).unwrap();
    request.extensions_mut().insert(PeerId(id(2)));
    let reply = nodes.blobs(1).peer_router().oneshot(request).await.unwrap();
    let status = reply.status().as_u16();
    let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_climb_lead_nowhere() {
    let nodes = Nodes::new(3).await;
    let digest = nodes.place(&content(1, 1000), &[1, 2]).await;
    // Something to be found one level up.
    std::fs::write(nodes.dir(1).join("secret"), "secret").unwrap();
    for path in [
        "/blob/sha256:../../secret",
        "/blob/..%2f..%2fsecret",
        "/blob/sha256:..%2f..%2fsecret",
        "/blob/%2e%2e/%2e%2e/secret",
        "/blob/../secret",
        "/blob/%00",
        "/blob/",
        &format!("/blob/{}", digest.to_string().to_uppercase()),
        &format!("/blob/{digest}%00"),
        &format!("/blob/{}", &digest.to_string()[..70]),
        &format!("//blob/{digest}"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let (status, body) = ask(&nodes, method, path, &[], "").await;
            assert!(matches!(status, 400 | 404), "{path}: {status}");
            assert!(!body.contains("secret\"") && body != "secret", "{path}: {body}");
        }
        let (status, _) = ask(&nodes, Method::POST, &format!("{path}/hold"), &[], "{\"sources\":[]}").await;
        assert!(matches!(status, 400 | 404 | 415), "{path}/hold: {status}");
    }
    let there = ask(&nodes, Method::GET, &format!("/blob/{digest}"), &[], "").await;
    assert_eq!((there.0, there.1.is_empty()), (200, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_are_refused() {
    let nodes = Nodes::new(3).await;
    let json = [("content-type", "application/json")];
    let digest = nodes.place(&content(2, 1000), &[1, 2]).await;
    let many =
        format!("{{\"digests\":[{}]}}", vec![format!("\"{digest}\""); wire::CONFIRM_MAX + 1].join(","));
    for (body, expected) in [
        ("", 400),
        ("{", 400),
        ("{\"digests\":[\"sha256:../../x\"]}", 422),
        (&"[".repeat(100_000), 422),
        (&many, 429),
        (&format!("{{\"digests\":[],\"x\":\"{}\"}}", "x".repeat(300 << 10)), 413),
    ] {
        let (status, _) = ask(&nodes, Method::POST, "/confirm", &json, body).await;
        assert_eq!(status, expected, "{}", &body[..body.len().min(60)]);
    }
    for range in ["bytes=0-1000", "bytes=5-4", "bytes=x-1", "bytes=0-18446744073709551615", "items=0-1", ""] {
        let (status, _) = ask(&nodes, Method::GET, &format!("/blob/{digest}"), &[("range", range)], "").await;
        assert_eq!(status, 416, "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_of_nobody_reach_no_session() {
    let nodes = Nodes::new(3).await;
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let flipped: String = token.state().chars().rev().collect();
    for (repo, ticket) in [
        ("library/test", ""),
        ("library/test", "AAAA"),
        ("library/test", flipped.as_str()),
        ("library/other", token.state()),
        ("../../etc", token.state()),
        ("", token.state()),
    ] {
        let headers = [(wire::REPO, repo), (wire::TICKET, ticket)];
        for (method, path) in [
            (Method::GET, "/upload"),
            (Method::PATCH, "/upload"),
            (Method::DELETE, "/upload"),
            (Method::POST, "/upload/claim?takeover=true"),
            (Method::POST, "/mirror?reset=true"),
            (Method::PATCH, "/mirror?at=0"),
            (Method::DELETE, "/mirror"),
        ] {
            let (status, _) = ask(&nodes, method.clone(), path, &headers, "x").await;
            assert_eq!(status, 404, "{method} {path} {repo} {ticket}");
        }
    }
    assert!(nodes.blobs(1).progress(&repo(), &token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_with_right_checksums_are_not_kept() {
    let nodes = Nodes::new(3).await;
    let bytes = content(3, 300_000);
    let digest = nodes.place(&bytes, &[2, 3]).await;
    nodes.net.lies(2);
    nodes.net.lies(3);
    let refused = soon(nodes.blobs(1).hold_here(&digest, &[id(2), id(3)])).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(nodes.holders(&digest), [2, 3], "what is not the blob was kept");
    let store = nodes.dir(1);
    let left = walk(&store);
    assert!(left.iter().all(|path| !path.ends_with(&digest.hex())), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gives_its_word_for_what_it_hashed_itself() {
    let nodes = Nodes::new(2).await;
    let bytes = content(4, 300_000);
    let digest = trow_raft::Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    assert_eq!(nodes.where_is(&token), [1, 2]);
    // What the home sends on is not what it got.
    nodes.net.lies(1);
    let closed = soon(nodes.blobs(1).finish(&repo(), &token, &digest, None, body(&bytes), "t")).await;
    assert!(closed.is_err(), "acknowledged with one copy");
    assert!(!nodes.is_linked(&digest) && !nodes.holders(&digest).contains(&2));
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}
