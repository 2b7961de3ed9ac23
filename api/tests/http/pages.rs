//! Lists in pages: whoever follows `Link` gets everything, once, in order.

use reqwest::Method;
use serde_json::{Value, json};
use trow_raft::Digest;

use crate::support::{IMAGE, INDEX, Registry, descriptor, header, image, next_page, problem};

/// What `read` finds on each page from `path` on, following `Link` to the end.
async fn walk(registry: &Registry, path: &str, read: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let response = registry.get(&path).await;
        assert_eq!(response.status(), 200, "{path}");
        next = next_page(&response);
        pages.push(read(&response.json().await.unwrap()));
        assert!(pages.len() < 1000, "the pages do not end");
    }
    pages
}

fn strings(body: &Value, key: &str) -> Vec<String> {
    serde_json::from_value(body[key].clone()).unwrap()
}

#[tokio::test]
async fn tags_are_in_ascii_order_and_every_page_size_gives_them_all() {
    let registry = Registry::start().await;
    let text = registry.push_image("a", "z", "layer").await;
    let mut tags = vec!["z"];
    // Digits come before upper case, that before `_`, that before lower case; `-` and `.` first.
    for tag in
        ["0", "9", "A", "Z", "_", "a", "a-b", "a.b", "a0", "aA", "a_", "aa", "v1.10", "v1.2", "v1-2", "Z9"]
    {
        registry.put_manifest("a", tag, IMAGE, &text).await;
        tags.push(tag);
    }
    tags.sort_unstable_by_key(|tag| tag.as_bytes());
    for n in [1, 2, 3, 5, 7, 16, 17, 18, 10_000] {
        let pages = walk(&registry, &format!("/v2/a/tags/list?n={n}"), |body| strings(body, "tags")).await;
        assert_eq!(pages.concat(), tags, "n={n}");
        assert!(pages.iter().all(|page| page.len() <= n), "n={n}");
        assert_eq!(pages.len(), tags.len().div_ceil(n), "n={n}: {pages:?}");
    }
    let from = async |last: &str| {
        let body: Value = registry.get(&format!("/v2/a/tags/list?last={last}")).await.json().await.unwrap();
        strings(&body, "tags")
    };
    assert_eq!(from("zz").await.len(), 0, "beyond the end");
    assert_eq!(from("z").await.len(), 0, "the last itself");
    assert_eq!(from("a~").await, ["v1-2", "v1.10", "v1.2", "z"], "not a tag at all");
    assert_eq!(from("").await, tags);
    assert_eq!(from("%20").await, tags, "before all");
    assert_eq!(from("%C3%A4").await.len(), 0, "after all");
    let none = registry.get("/v2/a/tags/list?n=0&last=a").await;
    assert_eq!(next_page(&none), None);
    assert_eq!(none.json::<Value>().await.unwrap(), json!({ "name": "a", "tags": [] }));
}

#[tokio::test]
async fn the_catalog_is_walked_through_names_with_slashes() {
    let registry = Registry::start().await;
    let mut repos =
        vec!["a", "a-b", "a.b", "a/b", "a/b/c", "a/b-c", "a_b", "a__b", "ab", "b", "0/1", "v2", "tags/list"];
    for repo in &repos {
        registry.push_blob(repo, b"x").await;
    }
    repos.sort_unstable();
    for n in [1, 2, 3, 5, 13, 14] {
        let pages =
            walk(&registry, &format!("/v2/_catalog?n={n}"), |body| strings(body, "repositories")).await;
        assert_eq!(pages.concat(), repos, "n={n}");
        assert_eq!(pages.len(), repos.len().div_ceil(n), "n={n}");
    }
    for (query, count) in [("?n=0", 0), ("?last=zzz", 0), ("?last=a%2Fb", 8), ("?n=9223372036854775808", 13)]
    {
        let response = registry.get(&format!("/v2/_catalog{query}")).await;
        assert_eq!((response.status().as_u16(), next_page(&response)), (200, None), "{query}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(strings(&body, "repositories").len(), count, "{query}");
    }
}

#[tokio::test]
async fn referrers_are_walked_with_their_filter() {
    let registry = Registry::start().await;
    let subject = Digest::sha256(b"subject");
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    // Whatever a type has in it, it comes back through the link.
    let kinds =
        ["application/vnd.example+json", "a b/c&d=e#f?g", "x/\"quoted\"; rel=\"next\">", "x/ä€", "100%/25"];
    let mut expected: Vec<Vec<String>> = vec![Vec::new(); kinds.len()];
    for n in 0..kinds.len() * 4 {
        let kind = n % kinds.len();
        let mut artifact = image("layer");
        artifact["artifactType"] = json!(kinds[kind]);
        artifact["subject"] = descriptor("subject", IMAGE);
        artifact["annotations"] = json!({ "n": n.to_string() });
        let text = artifact.to_string();
        let digest = Digest::sha256(text.as_bytes()).to_string();
        assert_eq!(registry.put_manifest("a", &digest, IMAGE, &text).await.status(), 201);
        expected[kind].push(digest);
    }
    let digests = |body: &Value| -> Vec<String> {
        assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(INDEX)));
        let listed = body["manifests"].as_array().unwrap().iter();
        listed.map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
    };
    let path = format!("/v2/a/referrers/{subject}");
    for n in [1, 3, 7, 20] {
        let mut found = walk(&registry, &format!("{path}?n={n}"), digests).await.concat();
        let mut all = expected.concat();
        all.sort();
        assert_eq!(found.len(), all.len());
        found.sort();
        assert_eq!(found, all, "n={n}");
    }
    for (kind, digests_of_kind) in kinds.iter().zip(&mut expected) {
        let mut url = reqwest::Url::parse(&registry.url(&path)).unwrap();
        url.query_pairs_mut().append_pair("n", "3").append_pair("artifactType", kind);
        // A form writes a space as `+`, which a type may have; in a URI it is %20.
        let query = url.query().unwrap().replace('+', "%20");
        let first = registry.get(&format!("{path}?{query}")).await;
        assert_eq!(header(&first, "oci-filters-applied"), "artifactType");
        let mut found = walk(&registry, &format!("{path}?{query}"), digests).await.concat();
        found.sort();
        digests_of_kind.sort();
        assert_eq!(&found, digests_of_kind, "{kind}");
    }
    let none = registry.get(&format!("{path}?n=0")).await;
    assert_eq!((none.status().as_u16(), next_page(&none)), (200, None));
    let unknown = registry.get(&format!("{path}?artifactType=nobody/has-this")).await;
    assert_eq!(header(&unknown, "oci-filters-applied"), "artifactType");
    assert_eq!(digests(&unknown.json().await.unwrap()).len(), 0);
}

#[tokio::test]
async fn sizes_of_pages_that_are_none_are_refused_everywhere() {
    let registry = Registry::start().await;
    registry.push_blob("a", b"x").await;
    let referrers = format!("/v2/a/referrers/{}", Digest::sha256(b"x"));
    for path in ["/v2/a/tags/list", "/v2/_catalog", &referrers] {
        for bad in ["-1", "x", "", "1.5", "%2B1", "0x10", "1e3", "%20"] {
            let response = registry.get(&format!("{path}?n={bad}")).await;
            assert_eq!(problem(response).await, (400, "PAGINATION_NUMBER_INVALID".into()), "{path} {bad}");
        }
        for fine in ["0", "9223372036854775808", "18446744073709551616", "10001", "007"] {
            let response = registry.request(Method::GET, &format!("{path}?n={fine}")).send().await.unwrap();
            assert_eq!((response.status().as_u16(), next_page(&response)), (200, None), "{path} {fine}");
        }
        let response = registry.get(&format!("{path}?last=%zz")).await;
        assert_eq!(problem(response).await, (400, "UNSUPPORTED".into()), "{path}");
    }
}
