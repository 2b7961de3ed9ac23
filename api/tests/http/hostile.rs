//! What attackers send: each has the status and code that is promised for it.
//!
//! | Input | Answer | Test |
//! |---|---|---|
//! | a manifest that is an image and an index | 400 `MANIFEST_INVALID` | [`manifests_that_read_two_ways_are_refused`] |
//! | `mediaType` that is not the `Content-Type` | 400 `MANIFEST_INVALID` | the same |
//! | repeated keys, keys in another case, lists for objects, 10,000 levels | 400 `MANIFEST_INVALID` | the same |
//! | PUT by digest of other bytes | 400 `DIGEST_INVALID` | `manifests::digests_of_manifests_are_verified` |
//! | a digest that climbs, is short, upper case, without a colon, in a path, query or descriptor | 400 `DIGEST_INVALID` | [`digests_and_tags_that_are_none_are_refused`], [`digests_in_descriptors_and_queries_are_read_as_strictly`] |
//! | a digest of another algorithm | 400 `DIGEST_INVALID` | the same |
//! | a name that climbs, has an encoded slash or a NUL, or 4 KiB; a tag of 129 characters | 400 `NAME_INVALID`; 400 `MANIFEST_INVALID`, 404 `MANIFEST_UNKNOWN` | [`names_that_climb_are_refused`], `names` |
//! | a blob that is missing, or only in another repository | 404 `MANIFEST_BLOB_UNKNOWN` | `manifests::what_a_manifest_names_must_be_in_its_repository` |
//! | a subject that is missing | 201, `OCI-Subject` | `kinds::a_subject_need_not_be_here_and_is_named_in_the_answer` |
//! | a descriptor's size that is negative, 2^63 or wrong | 400 `MANIFEST_INVALID`, `SIZE_INVALID` | [`manifests_that_read_two_ways_are_refused`], `manifests::sizes_must_be_those_of_the_blobs` |
//! | a manifest beyond 4 MiB, or without an end | 413 `SIZE_INVALID` | `manifests::a_manifest_beyond_the_limit_is_413_and_the_client_reads_it` |
//! | `n` of 2^63, -1, x, 0 | clamped, 400 `PAGINATION_NUMBER_INVALID`, empty | `pages` |
//! | a blob through a repository that does not link it | 404 `BLOB_UNKNOWN` | `blobs::a_blob_is_seen_only_through_a_repository_that_links_it` |
//! | a blob deleted here and kept elsewhere | 404 for good | `deletes::a_blob_that_was_deleted_here_stays_so_whatever_happens_to_it_elsewhere` |
//! | DELETE while deletes are off | 405 `UNSUPPORTED` | `manifests::deletes_can_be_switched_off` |
//! | a blob that is a web page | `application/octet-stream`, `nosniff` | [`a_blob_never_claims_a_type`] |
//! | a peer's wrong bytes with right checksums | not served whole, not kept, not committed | node: `replicated::tests::hostile`, `replicated::tests::reads`, `repair::tests` |
//! | a peer's path that climbs; a peer of another cluster | 400 or 404; closed | node: `replicated::tests::hostile`, `peer::tests` |
//! | a member's forged lengths, indices, entries, votes, snapshots | an error, nothing changes | raft: `tests/forged.rs`; node: `peer::tests::forged` |
//! | slow heads, half-open connections, more than there are places | closed, disturb nobody, wait | node: `listener::tests` |
//! | two lengths, two encodings, two hosts | 400 | node: `listener::tests` |

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
async fn digests_in_descriptors_and_queries_are_read_as_strictly() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    let right = Digest::sha256(b"layer").to_string();
    let sha384 = format!("sha384:{}", "0".repeat(96));
    let invalid = (400, "DIGEST_INVALID".to_owned());
    for bad in [
        "sha256:../../x",
        "nocolon",
        ":",
        "",
        "sha256:",
        &right[..70],
        &right.to_uppercase(),
        &right.replacen("sha256", "SHA256", 1),
        &format!("{right}0"),
        &format!(" {right}"),
        &format!("{right}\u{0}"),
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        &sha384,
        &right.replacen("sha256", "sha512", 1),
        &right.replacen("sha256", "sha256+b64", 1),
    ] {
        for key in ["config", "layers", "subject", "manifests"] {
            let one = json!({ "mediaType": LAYER, "digest": bad, "size": 5 });
            let (mut document, kind) = match key {
                "manifests" => (json!({ "schemaVersion": 2, "manifests": [] }), INDEX),
                _ => (image("layer"), IMAGE),
            };
            document[key] = if document[key].is_array() { json!([one]) } else { one };
            let put = registry.put_manifest("a", "v2", kind, &document.to_string()).await;
            assert_eq!(problem(put).await, invalid, "{key} {bad:?}");
        }
        let mut url = reqwest::Url::parse(&registry.url("/v2/a/blobs/uploads/")).unwrap();
        for parameter in ["digest", "mount"] {
            url.query_pairs_mut().clear().append_pair(parameter, bad);
            let path = format!("{}?{}", url.path(), url.query().unwrap().replace('+', "%20"));
            let post = registry.request(Method::POST, &path).send().await.unwrap();
            // What is no text at all is refused before it could be a digest.
            let expected =
                if bad.contains('\u{0}') { (400, "UNSUPPORTED".to_owned()) } else { invalid.clone() };
            assert_eq!(problem(post).await, expected, "{parameter} {bad:?}");
        }
    }
    assert_eq!(registry.head("/v2/a/manifests/v2").await.status(), 404);
}

#[tokio::test]
async fn manifests_that_read_two_ways_are_refused() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    let good = image("layer");
    let mut both = good.clone();
    both["manifests"] = json!([descriptor("x", IMAGE)]);
    let config = &good["config"];
    let mut listed = good.clone();
    listed["config"] = json!([config["mediaType"], config["digest"], config["size"], null]);
    let repeated = good.to_string().replacen("{", "{\"layers\":[],", 1);
    let deep =
        good.to_string().replacen("{", &format!("{{\"x\":{}{},", "[".repeat(10_000), "]".repeat(10_000)), 1);
    for (kind, text) in [
        (IMAGE, both.to_string()),
        (INDEX, both.to_string()),
        (INDEX, good.to_string()),
        (IMAGE, repeated),
        (IMAGE, deep),
        (IMAGE, good.to_string().replacen("\"layers\"", "\"LAYERS\":[],\"layers\"", 1)),
        (IMAGE, good.to_string().replacen("\"layers\"", "\"layer\u{17f}\":[],\"layers\"", 1)),
        (IMAGE, good.to_string().replacen("\"digest\"", "\"Digest\":\"x\",\"digest\"", 1)),
        (IMAGE, listed.to_string()),
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
