//! What replies have in common: errors that say what is wrong, and HEAD as GET without the body.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use trow_api::Settings;
use trow_raft::Digest;

use crate::support::{IMAGE, Registry, TOKEN, descriptor, header, image};

/// The status, the code and the detail of an error in the form of the distribution-spec.
async fn said(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let [error] = body["errors"].as_array().unwrap().as_slice() else { panic!("{body}") };
    let message = error["message"].as_str().unwrap();
    assert!(message.len() > 10 && !message.contains("Error"), "{message}");
    let code = error["code"].as_str().unwrap();
    assert!(!code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{code}");
    (status, code.to_owned(), error["detail"].clone())
}

#[tokio::test]
async fn every_error_names_what_is_wrong() {
    let registry = Registry::start().await;
    registry.push_image("a", "v1", "layer").await;
    let (x, layer) = (Digest::sha256(b"x"), Digest::sha256(b"layer"));
    let begun = registry.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    let session = header(&begun, "location").to_owned();
    let put = |reference: &str, kind: &str, body: String| {
        let request = registry.request(Method::PUT, &format!("/v2/a/manifests/{reference}"));
        request.header("content-type", kind.to_owned()).body(body)
    };
    let plain = |method: Method, path: String| registry.request(method, &path).bearer_auth(TOKEN);
    let wrong_size = {
        let mut document = image("layer");
        document["layers"][0]["size"] = json!(4);
        document.to_string()
    };
    let tags = (0..101).map(|n| format!("tag=t{n}")).collect::<Vec<_>>().join("&");
    let cases = [
        (
            plain(Method::GET, format!("/v2/a/blobs/{x}")),
            404,
            "BLOB_UNKNOWN",
            json!({ "name": "a", "digest": x }),
        ),
        (
            plain(Method::DELETE, format!("/v2/a/blobs/{x}")),
            404,
            "BLOB_UNKNOWN",
            json!({ "name": "a", "digest": x }),
        ),
        (
            plain(Method::DELETE, format!("/v2/a/blobs/{layer}")),
            405,
            "UNSUPPORTED",
            json!({ "name": "a", "digest": layer }),
        ),
        (
            plain(Method::GET, "/v2/a/blobs/sha256:x".into()),
            400,
            "DIGEST_INVALID",
            json!({ "digest": "sha256:x" }),
        ),
        (
            plain(Method::GET, format!("/v2/a/blobs/{layer}")).header("range", "bytes=5-"),
            416,
            "RANGE_INVALID",
            json!({ "size": 5 }),
        ),
        (
            plain(Method::GET, "/v2/a/manifests/v2".into()),
            404,
            "MANIFEST_UNKNOWN",
            json!({ "name": "a", "reference": "v2" }),
        ),
        (
            plain(Method::DELETE, "/v2/a/manifests/v2".into()),
            404,
            "MANIFEST_UNKNOWN",
            json!({ "name": "a", "reference": "v2" }),
        ),
        (
            plain(Method::DELETE, format!("/v2/a/manifests/{x}")),
            404,
            "MANIFEST_UNKNOWN",
            json!({ "name": "a", "reference": x }),
        ),
        (plain(Method::GET, "/v2/A/tags/list".into()), 400, "NAME_INVALID", json!({ "name": "A" })),
        (
            plain(Method::GET, "/v2/%00/tags/list".into()),
            400,
            "NAME_INVALID",
            json!({ "path": "/v2/%00/tags/list" }),
        ),
        (plain(Method::GET, "/v2/b/tags/list".into()), 404, "NAME_UNKNOWN", json!({ "name": "b" })),
        (
            plain(Method::GET, "/v2/a/tags/list?n=x".into()),
            400,
            "PAGINATION_NUMBER_INVALID",
            json!({ "n": "x" }),
        ),
        (plain(Method::GET, "/v2/a/tags/list?n=%".into()), 400, "UNSUPPORTED", json!({ "query": "n=%" })),
        (plain(Method::GET, "/v2/a".into()), 404, "UNSUPPORTED", json!({ "path": "/v2/a" })),
        (
            plain(Method::GET, "/v2/a/manifests/v1?ns=x.io".into()),
            404,
            "MANIFEST_UNKNOWN",
            json!({ "name": "f/x.io/a", "registry": "x.io", "reference": "v1" }),
        ),
        (plain(Method::GET, "/v2/?ns=x:y".into()), 400, "NAME_INVALID", json!({ "ns": "x:y" })),
        (
            plain(Method::PATCH, "/v2/a/manifests/v1".into()),
            405,
            "UNSUPPORTED",
            json!({ "method": "PATCH", "allow": "GET, HEAD, PUT, DELETE" }),
        ),
        (put("v2", IMAGE, "{".into()), 400, "MANIFEST_INVALID", json!({ "line": 1, "column": 1 })),
        (
            put("v2", "text/html", image("layer").to_string().replace(IMAGE, "text/html")),
            400,
            "MANIFEST_INVALID",
            json!({ "mediaType": "text/html" }),
        ),
        (
            put("v2", "a/b", image("layer").to_string()),
            400,
            "MANIFEST_INVALID",
            json!({ "contentType": "a/b", "mediaType": IMAGE }),
        ),
        (
            put("v2", IMAGE, json!({ "manifests": [] }).to_string()),
            400,
            "MANIFEST_INVALID",
            json!({ "mediaType": IMAGE }),
        ),
        (put(".x", IMAGE, "{}".into()), 400, "MANIFEST_INVALID", json!({ "tag": ".x" })),
        (
            put("v2", IMAGE, image("x").to_string()),
            404,
            "MANIFEST_BLOB_UNKNOWN",
            json!({ "missing": [x], "count": 1 }),
        ),
        (
            put("v2", IMAGE, wrong_size),
            400,
            "SIZE_INVALID",
            json!({ "digest": layer, "size": 4, "known": 5 }),
        ),
        (put("v2", IMAGE, "x".repeat((4 << 20) + 1)), 413, "SIZE_INVALID", json!({ "max": 4 << 20 })),
        (
            put(&x.to_string(), IMAGE, "y".into()),
            400,
            "DIGEST_INVALID",
            json!({ "digest": x, "has": Digest::sha256(b"y") }),
        ),
        (put(&format!("{x}?{tags}"), IMAGE, "x".into()), 414, "MANIFEST_INVALID", json!({ "max": 100 })),
        (
            put("v1", IMAGE, image("layer").to_string()).header("if-match", format!("\"{x}\"")),
            412,
            "PRECONDITION_FAILED",
            json!({ "current": Digest::sha256(image("layer").to_string().as_bytes()) }),
        ),
        (
            put("v1", IMAGE, "{}".into()).header("if-match", "x"),
            400,
            "MANIFEST_INVALID",
            json!({ "header": "If-Match" }),
        ),
        (
            plain(Method::GET, "/v2/a/blobs/uploads/none".into()),
            404,
            "BLOB_UPLOAD_UNKNOWN",
            json!({ "name": "a", "upload": "none" }),
        ),
        (
            plain(Method::PATCH, "/v2/a/blobs/uploads/none".into()).body("x"),
            404,
            "BLOB_UPLOAD_UNKNOWN",
            json!({ "name": "a", "upload": "none" }),
        ),
        (
            plain(Method::DELETE, "/v2/a/blobs/uploads/none".into()),
            404,
            "BLOB_UPLOAD_UNKNOWN",
            json!({ "name": "a", "upload": "none" }),
        ),
        (
            plain(Method::GET, "/v2/a/blobs/uploads/..%2F".into()),
            404,
            "BLOB_UPLOAD_UNKNOWN",
            json!({ "name": "a", "upload": "../" }),
        ),
        (plain(Method::PUT, session.clone()), 400, "DIGEST_INVALID", json!({ "parameter": "digest" })),
        (
            plain(Method::PATCH, session.clone()).header("content-range", "x").body("x"),
            400,
            "BLOB_UPLOAD_INVALID",
            json!({ "contentRange": "x", "contentLength": 1 }),
        ),
        (
            plain(Method::PATCH, session.clone()).header("content-range", "5-5").body("x"),
            416,
            "BLOB_UPLOAD_INVALID",
            json!({ "have": 0 }),
        ),
        (
            plain(Method::POST, format!("/v2/a/blobs/uploads/?digest={x}")).body("y"),
            400,
            "DIGEST_INVALID",
            json!({ "digest": x }),
        ),
        (
            plain(Method::POST, "/v2/a/blobs/uploads/?digest-algorithm=md5".into()),
            400,
            "DIGEST_INVALID",
            json!({ "digest-algorithm": "md5" }),
        ),
        (
            plain(Method::POST, format!("/v2/a/blobs/uploads/?mount={x}&from=..")),
            400,
            "NAME_INVALID",
            json!({ "from": ".." }),
        ),
        (
            plain(Method::PUT, format!("{session}&digest={x}")).body("y"),
            400,
            "DIGEST_INVALID",
            json!({ "digest": x }),
        ),
    ];
    for (request, status, code, detail) in cases {
        let response = request.send().await.unwrap();
        let path = response.url().to_string();
        assert_eq!(said(response).await, (status, code.to_owned(), detail), "{path}");
    }
}

#[tokio::test]
async fn what_is_shown_of_a_request_is_bounded() {
    let registry = Registry::start().await;
    let long = "%41".repeat(5000);
    let x = Digest::sha256(b"x");
    for path in [
        format!("/v2/{long}/tags/list"),
        format!("/v2/a/blobs/sha256:{long}"),
        format!("/v2/a/manifests/{long}"),
        format!("/v2/a/tags/list?n={long}"),
        format!("/v2/a/blobs/{x}?ns={long}"),
        format!("/{long}"),
    ] {
        let body = registry.get(&path).await.text().await.unwrap();
        assert!(body.len() < 2000, "{} bytes: {}", body.len(), &body[..100]);
    }
    let missing: Vec<Value> = (0..1000).map(|n| descriptor(&n.to_string(), "x")).collect();
    let mut document = image("layer");
    document["layers"] = json!(missing);
    let refused = registry.put_manifest("a", "v1", IMAGE, &document.to_string()).await;
    let (status, code, detail) = said(refused).await;
    assert_eq!((status, code.as_str(), &detail["count"]), (404, "MANIFEST_BLOB_UNKNOWN", &json!(1001)));
    assert_eq!(detail["missing"].as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn a_head_has_the_headers_of_the_get() {
    let settings = Settings { hostnames: vec!["trow.example.com".into()], ..Settings::default() };
    let registry = Registry::with(settings).await;
    let text = registry.push_image("a", "v1", "layer").await;
    let x = Digest::sha256(b"x");
    for path in [
        "/v2/".to_owned(),
        "/v2/_catalog".into(),
        "/v2/_oci/ext/discover".into(),
        "/v2/a/tags/list?n=0".into(),
        "/v2/a/manifests/v1".into(),
        "/v2/a/manifests/v1?ns=trow.example.com".into(),
        format!("/v2/a/manifests/{}", Digest::sha256(text.as_bytes())),
        format!("/v2/a/blobs/{}", Digest::sha256(b"layer")),
        format!("/v2/a/referrers/{x}?artifactType=x"),
        format!("/v2/a/blobs/{x}"),
        "/v2/a/manifests/v2".into(),
        "/v2/b/tags/list".into(),
        "/v2/a/tags/list?n=x".into(),
        "/v2/A/tags/list".into(),
    ] {
        let ask = async |method: Method| {
            let sent = registry.request(method, &path).header("x-request-id", "same").send().await.unwrap();
            let mut headers = sent.headers().clone();
            headers.remove("date");
            (sent.status(), headers, sent.bytes().await.unwrap())
        };
        let (head, get) = (ask(Method::HEAD).await, ask(Method::GET).await);
        assert_eq!((head.0, &head.1), (get.0, &get.1), "{path}");
        assert_eq!((head.2.len(), get.2.is_empty()), (0, false), "{path}");
        assert_eq!(get.1["content-length"], get.2.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn extensions_are_discovered_and_namespaces_named() {
    let settings = Settings { hostnames: vec!["trow.example.com".into()], ..Settings::default() };
    let registry = Registry::with(settings).await;
    registry.push_image("a", "v1", "layer").await;
    let found = registry.get("/v2/_oci/ext/discover").await;
    assert_eq!((found.status().as_u16(), header(&found, "content-type")), (200, "application/json"));
    assert_eq!(found.json::<Value>().await.unwrap(), json!({ "extensions": [] }));
    let layer = Digest::sha256(b"layer");
    for path in ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/blobs/{layer}"), "/v2/a/tags/list".into()] {
        let named = registry.get(&format!("{path}?ns=TROW.example.com")).await;
        assert_eq!(
            (named.status().as_u16(), header(&named, "oci-namespace")),
            (200, "TROW.example.com"),
            "{path}"
        );
        assert_eq!(header(&registry.get(&path).await, "oci-namespace"), "", "{path}");
    }
}
