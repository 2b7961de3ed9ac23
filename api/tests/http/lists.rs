//! Lists of tags and of repositories, the base, and whose registry a mirror client means.

use reqwest::Method;
use serde_json::{Value, json};
use trow_api::Settings;

use crate::support::{IMAGE, Registry, header, log_id, problem};

async fn tags(registry: &Registry, path: &str) -> (Vec<String>, String) {
    let response = registry.get(path).await;
    assert_eq!(response.status(), 200);
    assert!(log_id(&response) > 0);
    let link = header(&response, "link").to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["name"], "a");
    (serde_json::from_value(body["tags"].clone()).unwrap(), link)
}

#[tokio::test]
async fn tags_are_listed_in_byte_order_and_in_pages() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "b", "layer").await;
    for tag in ["a", "Z", "_", "0", "a.1", "a-1", "aa"] {
        registry.put_manifest("a", tag, IMAGE, &text).await;
    }
    let expected = ["0", "Z", "_", "a", "a-1", "a.1", "aa", "b"];
    assert_eq!(
        tags(&registry, "/v2/a/tags/list").await,
        (expected.map(String::from).to_vec(), String::new())
    );

    let mut seen = Vec::new();
    let mut path = "/v2/a/tags/list?n=3".to_owned();
    loop {
        let (page, link) = tags(&registry, &path).await;
        assert!(page.len() <= 3);
        seen.extend(page);
        let Some(next) = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) else {
            break;
        };
        path = next.to_owned();
    }
    assert_eq!(seen, expected);
    let exact = tags(&registry, "/v2/a/tags/list?n=8").await;
    assert_eq!((exact.0.len(), exact.1.as_str()), (8, ""));
    assert_eq!(tags(&registry, "/v2/a/tags/list?n=0").await, (vec![], String::new()));
    assert_eq!(tags(&registry, "/v2/a/tags/list?last=a0").await.0, ["aa", "b"]);
    assert_eq!(tags(&registry, "/v2/a/tags/list?n=9223372036854775808").await.0.len(), 8);
    for bad in ["-1", "x", ""] {
        let response = registry.get(&format!("/v2/a/tags/list?n={bad}")).await;
        assert_eq!(problem(response).await, (400, "PAGINATION_NUMBER_INVALID".into()));
    }
}

#[tokio::test]
async fn a_repository_exists_from_its_first_blob() {
    let registry = Registry::start().await;
    assert_eq!(problem(registry.get("/v2/a/tags/list").await).await, (404, "NAME_UNKNOWN".into()));
    registry.push_blob("a", b"x").await;
    assert_eq!(tags(&registry, "/v2/a/tags/list").await.0.len(), 0);
}

#[tokio::test]
async fn the_catalog_is_paged() {
    let registry = Registry::start().await;
    for repo in ["b", "a/b", "a", "c"] {
        registry.push_blob(repo, b"x").await;
    }
    let all: Value = registry.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(all, json!({ "repositories": ["a", "a/b", "b", "c"] }));
    let page = registry.get("/v2/_catalog?n=2").await;
    assert_eq!(header(&page, "link"), "</v2/_catalog?n=2&last=a%2Fb>; rel=\"next\"");
    let rest: Value = registry.get("/v2/_catalog?n=2&last=a%2Fb").await.json().await.unwrap();
    assert_eq!(rest, json!({ "repositories": ["b", "c"] }));
}

#[tokio::test]
async fn the_base_answers_and_ids_are_kept() {
    let registry = Registry::start().await;
    for path in ["/v2", "/v2/"] {
        let request = registry.request(Method::GET, path).header("x-request-id", "abc-1");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-request-id"), "abc-1");
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    }
    let posted = registry.request(Method::POST, "/v2/").send().await.unwrap();
    assert_eq!(header(&posted, "allow"), "GET, HEAD");
    assert_eq!(problem(posted).await, (405, "UNSUPPORTED".into()));
}

#[tokio::test]
async fn a_mirror_client_must_mean_this_registry() {
    let settings = Settings { hostnames: vec!["trow.example.com".into()], ..Settings::default() };
    let registry = Registry::with(settings).await;
    registry.push_image("a", "v1", "layer").await;
    let ours = registry.get("/v2/a/manifests/v1?ns=trow.example.com").await;
    assert_eq!((ours.status().as_u16(), header(&ours, "oci-namespace")), (200, "trow.example.com"));
    let other = registry.get("/v2/a/manifests/v1?ns=docker.io").await;
    assert_eq!(problem(other).await, (404, "MANIFEST_UNKNOWN".into()), "ours was given for another's");
}
