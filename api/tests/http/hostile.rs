//! What attackers send: each has the status and code that is promised for it.

use reqwest::Method;
use serde_json::json;
use trow_raft::Digest;

use crate::support::{IMAGE, INDEX, LAYER, Registry, descriptor, image, problem};

fn status_and_code(answer: &str) -> (&str, &str) {
    let status = answer.split(' ').nth(1).unwrap_or(answer);
    let code = answer.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
    (status, code.unwrap_or(""))
}

#[tokio::test]
async fn names_that_climb_are_refused() {
    let registry = Registry::start().await;
    let long = "a".repeat(4096);
    for name in ["..", "a/../b", "%2e%2e", "a%00b", "a/%2e%2e/b", "a%2fb", "A", "a//b", &long] {
        for end in ["tags/list".to_owned(), format!("blobs/{}", Digest::sha256(b"x")), "manifests/v1".into()]
        {
            let answer = registry
                .raw(
                    format!("GET /v2/{name}/{end} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        .as_bytes(),
                )
                .await;
            assert_eq!(status_and_code(&answer), ("400", "NAME_INVALID"), "{name}");
        }
    }
}

#[tokio::test]
async fn digests_and_tags_that_are_none_are_refused() {
    let registry = Registry::start().await;
    let upper = format!("sha256:{}", "A".repeat(64));
    for digest in ["sha256:../../x", "sha256:%2e%2e%2fx", "sha256:abc", "nocolon", "md5:00", &upper] {
        let answer = registry
            .raw(
                format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        assert_eq!(status_and_code(&answer), ("400", "DIGEST_INVALID"), "{digest}");
    }
    let long = "t".repeat(129);
    let put = registry.put_manifest("a", &long, IMAGE, "{}").await;
    assert_eq!(problem(put).await, (400, "MANIFEST_INVALID".into()));
    assert_eq!(
        problem(registry.get(&format!("/v2/a/manifests/{long}")).await).await,
        (404, "MANIFEST_UNKNOWN".into())
    );
}

#[tokio::test]
async fn manifests_that_read_two_ways_are_refused() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    let good = image("layer");
    let mut both = good.clone();
    both["manifests"] = json!([descriptor("x", IMAGE)]);
    let repeated = good.to_string().replacen("{", "{\"layers\":[],", 1);
    let deep =
        good.to_string().replacen("{", &format!("{{\"x\":{}{},", "[".repeat(10_000), "]".repeat(10_000)), 1);
    for (kind, text) in [
        (IMAGE, both.to_string()),
        (INDEX, both.to_string()),
        (INDEX, good.to_string()),
        (IMAGE, repeated),
        (IMAGE, deep),
        ("text/html", good.to_string()),
        (IMAGE, String::new()),
    ] {
        let put = registry.put_manifest("a", "v2", kind, &text).await;
        assert_eq!(problem(put).await, invalid, "{kind} {}", &text[..text.len().min(80)]);
    }
    for size in [json!(-1), json!(1u64 << 63)] {
        let mut text = good.clone();
        text["config"]["size"] = size;
        let put = registry.put_manifest("a", "v2", IMAGE, &text.to_string()).await;
        assert_eq!(problem(put).await, invalid);
    }
    for digest in ["sha256:../../x", "sha256:abc", "md5:00"] {
        let mut text = good.clone();
        text["layers"] = json!([{ "mediaType": LAYER, "digest": digest, "size": 1 }]);
        let put = registry.put_manifest("a", "v2", IMAGE, &text.to_string()).await;
        assert_eq!(problem(put).await, (400, "DIGEST_INVALID".into()));
    }
    assert_eq!(registry.head("/v2/a/manifests/v2").await.status(), 404);
}

#[tokio::test]
async fn a_blob_never_claims_a_type() {
    let registry = Registry::start().await;
    let page = b"<html><script>alert(1)</script>";
    let digest = Digest::sha256(page);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let request = registry.request(Method::POST, &path).header("content-type", "text/html");
    assert_eq!(request.body(page.to_vec()).send().await.unwrap().status(), 201);
    let got = registry.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(got.headers()["content-type"], "application/octet-stream");
    assert_eq!(got.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_goes_on_sending() {
    let registry = Registry::start().await;
    // The session does not exist; 8 MiB follow all the same.
    let size = 8 << 20;
    let mut request =
        format!("PATCH /v2/a/blobs/uploads/none HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n")
            .into_bytes();
    request.extend(vec![0; size]);
    request.extend(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = registry.raw(&request).await;
    assert_eq!(status_and_code(&answer), ("404", "BLOB_UPLOAD_UNKNOWN"));
    assert!(answer.contains("HTTP/1.1 200 OK"), "the connection was not usable afterwards");
}

#[tokio::test]
async fn what_destroys_takes_the_admin_token() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    for path in ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/blobs/{}", Digest::sha256(b"layer"))] {
        let without = registry.request(Method::DELETE, &path);
        let wrong = registry.request(Method::DELETE, &path).bearer_auth("wrong");
        let other = registry.request(Method::DELETE, &path).basic_auth("root", Some(crate::support::TOKEN));
        for request in [without, wrong, other] {
            assert_eq!(problem(request.send().await.unwrap()).await, (401, "UNAUTHORIZED".into()));
        }
    }
    let basic = registry
        .request(Method::DELETE, "/v2/a/manifests/v1")
        .basic_auth("admin", Some(crate::support::TOKEN));
    assert_eq!(basic.send().await.unwrap().status(), 202);
}
