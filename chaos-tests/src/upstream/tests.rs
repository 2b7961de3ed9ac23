//! That the upstream is an honest registry without rules, and does with rules what they say.

use std::time::{Duration, Instant};

use reqwest::Method;

use super::*;
use crate::client::{Client, Unknown};
use crate::registry::Registry;
use crate::require;

const REPO: &str = "library/app";
const LIMIT: Duration = Duration::from_secs(20);

async fn upstream() -> (Upstream, Image, Client) {
    let upstream = Upstream::start().await.unwrap();
    let image = Image::random(&[300_000]);
    upstream.add(REPO, "v1", &image);
    let client = Client::new("upstream", &upstream.address);
    (upstream, image, client)
}

fn blob(kind: Twist) -> Rule {
    Rule::new(kind).kind(Kind::Blob)
}

/// What clients see of a registry: statuses, headers, bytes.
async fn look(client: &Client, image: &Image) -> Vec<String> {
    let layer = image.blobs[1].0;
    let mut seen = Vec::new();
    for (method, path, range) in [
        (Method::GET, "/v2/".to_owned(), None),
        (Method::HEAD, format!("/v2/{REPO}/manifests/v1"), None),
        (Method::GET, format!("/v2/{REPO}/manifests/v1"), None),
        (Method::GET, format!("/v2/{REPO}/manifests/{}", image.digest), None),
        (Method::GET, format!("/v2/{REPO}/manifests/v2"), None),
        (Method::HEAD, format!("/v2/{REPO}/blobs/{layer}"), None),
        (Method::GET, format!("/v2/{REPO}/blobs/{layer}"), None),
        (Method::GET, format!("/v2/{REPO}/blobs/{layer}"), Some("bytes=70000-200000".to_owned())),
        (Method::GET, format!("/v2/{REPO}/blobs/{layer}"), Some("bytes=299999-".to_owned())),
        (Method::GET, format!("/v2/{REPO}/blobs/{}", image.digest), None),
        (Method::GET, format!("/v2/{REPO}/tags/list"), None),
    ] {
        let mut request = client.request(method.clone(), &path);
        request = request.header("accept", crate::image::MANIFEST);
        if let Some(range) = &range {
            request = request.header("range", range);
        }
        let answer = client.send("look", request).await.unwrap();
        let mut line = format!("{method} {path} {range:?}: {}", answer.status);
        if path.ends_with("/list") {
            let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            line.push_str(&list.to_string());
        } else if answer.ok() {
            for name in ["content-length", "content-range", "docker-content-digest"] {
                line.push_str(&format!(", {name} {:?}", answer.header(name)));
            }
            line.push_str(&format!(", {}", Digest::sha256(&answer.body)));
        }
        seen.push(line);
    }
    seen
}

#[tokio::test]
async fn without_rules_it_answers_as_docker_registry_does() {
    if !require::tools(&["docker-registry"]) {
        return;
    }
    let (_upstream, image, client) = upstream().await;
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path()).await.unwrap();
    assert_eq!(image.push(&registry.client(), REPO, "v1").await.unwrap().status, 201);
    let (ours, theirs) = (look(&client, &image).await, look(&registry.client(), &image).await);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}

#[tokio::test]
async fn requests_are_counted_by_what_they_are_about() {
    let (upstream, image, client) = upstream().await;
    client.manifest(REPO, "v1").await.unwrap();
    for (digest, content) in &image.blobs {
        assert_eq!(client.pull_blob(REPO, digest).await.unwrap().len, content.len());
    }
    let layer = &image.blobs[1].0;
    client.blob_range(REPO, layer, 0, 9).await.unwrap();
    client.head_blob(REPO, layer).await.unwrap();
    assert_eq!(client.blob_range(REPO, layer, 300_000, 300_009).await.unwrap().status, 416);
    assert_eq!(upstream.count("GET", Kind::Manifest), 1);
    assert_eq!((upstream.count("GET", Kind::Blob), upstream.count("HEAD", Kind::Blob)), (4, 1));
    assert_eq!(upstream.asked("GET", &format!("/v2/{REPO}/blobs/{layer}")), 3);
    let shown: Vec<String> = upstream.seen().iter().map(ToString::to_string).collect();
    assert_eq!(shown[3], format!("GET /v2/{REPO}/blobs/{layer} (bytes=0-9) -> 206"));
    upstream.forget();
    assert_eq!(upstream.seen(), []);
}

#[tokio::test]
async fn a_body_is_held_truncated_and_falsified_where_the_rule_says() {
    let (upstream, image, client) = upstream().await;
    let (layer, content) = image.blobs[1];
    let hold = Hold::default();
    upstream.rule(blob(Twist::Half(100_000, hold.clone())));
    let came = std::cell::Cell::new(0);
    let pulling = client.pull_blob_watched(REPO, &layer, async |len| came.set(len));
    let holding = async {
        hold.reached(1, LIMIT).await.unwrap();
        let until = Instant::now() + LIMIT;
        while came.get() < 100_000 {
            assert!(Instant::now() < until, "half of it does not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((came.get(), upstream.most_at_once()), (100_000, 1));
        hold.release();
    };
    let (pulled, ()) = tokio::join!(pulling, holding);
    assert_eq!(pulled.unwrap().digest, layer);

    upstream.behave();
    upstream.rule(blob(Twist::Truncate(100_001)).times(1));
    let mut came = 0;
    let broken = client.pull_blob_watched(REPO, &layer, async |len| came = len).await;
    assert!(broken.is_err());
    assert_eq!(came, 100_001);
    assert_eq!(client.pull_blob(REPO, &layer).await.unwrap().digest, layer, "once only");

    upstream.rule(blob(Twist::Wrong(150_000)));
    let wrong = client.blob_range(REPO, &layer, 149_999, 150_000).await.unwrap().body;
    let right: Vec<u8> = content.part(149_999..150_001).flatten().collect();
    assert_eq!(wrong[..], [right[0], !right[1]]);
    assert_ne!(client.pull_blob(REPO, &layer).await.unwrap().digest, layer);
    upstream.behave();
    upstream.rule(blob(Twist::NoRange));
    let whole = client.blob_range(REPO, &layer, 5, 9).await.unwrap();
    assert_eq!((whole.status, whole.body.len()), (200, 300_000));
}

#[tokio::test]
async fn answers_are_replaced_and_changed_for_requests_that_match() -> Result<(), Unknown> {
    let (upstream, image, client) = upstream().await;
    upstream.rule(Rule::new(Twist::Answer(429)).method("HEAD").kind(Kind::Manifest));
    upstream.rule(Rule::new(Twist::Header("retry-after", "7".to_owned())).method("HEAD"));
    upstream.rule(Rule::new(Twist::Without("docker-content-digest")).method("GET"));
    upstream.rule(Rule::new(Twist::Redirect("http://127.0.0.1:1{path}".to_owned())).path("/elsewhere/"));
    let head = client.send("head", client.request(Method::HEAD, &format!("/v2/{REPO}/manifests/v1"))).await?;
    assert_eq!((head.status, head.header("retry-after")), (429, Some("7")));
    let get = client.manifest(REPO, "v1").await?;
    assert_eq!((get.status, get.body, get.headers.get("docker-content-digest")), (200, image.manifest, None));
    assert!(client.manifest("elsewhere/app", "v1").await.is_err(), "the redirect leads nowhere");
    upstream.behave();
    upstream.rule(Rule::new(Twist::Late(Duration::from_millis(300))));
    let began = Instant::now();
    client.manifest(REPO, "v1").await?;
    assert!(began.elapsed() >= Duration::from_millis(300));
    Ok(())
}

#[tokio::test]
async fn a_token_is_good_for_its_repository_alone() -> Result<(), Unknown> {
    let (upstream, _, client) = upstream().await;
    let realm = format!("http://{}{}", upstream.address, Guard::REALM);
    upstream.guard(Some(Guard::Bearer { realm, user: Some(("alice".to_owned(), "wonderland".to_owned())) }));
    let refused = client.manifest(REPO, "v1").await?;
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"upstream\",scope=\"repository:{REPO}:pull\"",
        upstream.address
    );
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(challenge.as_str())));
    let path = format!("/token?service=upstream&scope=repository:{REPO}:pull");
    let asked =
        |password: &'static str| client.request(Method::GET, &path).basic_auth("alice", Some(password));
    assert_eq!(client.send("token", asked("looking-glass")).await?.status, 401);
    let given = client.send("token", asked("wonderland")).await?;
    let given: serde_json::Value = serde_json::from_slice(&given.body).unwrap();
    let with = |repo: &str| {
        let request = client.request(Method::GET, &format!("/v2/{repo}/manifests/v1"));
        client.send("manifest", request.bearer_auth(given["token"].as_str().unwrap()))
    };
    assert_eq!(with(REPO).await?.status, 200);
    assert_eq!(with("library/other").await?.status, 401);
    upstream.guard(Some(Guard::Basic { user: "alice".to_owned(), password: "wonderland".to_owned() }));
    let request = client.request(Method::GET, &format!("/v2/{REPO}/manifests/v1"));
    assert_eq!(client.send("basic", request.basic_auth("alice", Some("wonderland"))).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn it_goes_and_comes_back_where_it_was() {
    let (mut upstream, _, client) = upstream().await;
    let hold = Hold::default();
    upstream.rule(Rule::new(Twist::Silent(hold.clone())).times(1));
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.manifest(REPO, "v1").await }
    });
    hold.reached(1, LIMIT).await.unwrap();
    upstream.down().await;
    assert!(waits.await.unwrap().is_err());
    assert!(client.manifest(REPO, "v1").await.is_err());
    upstream.up().await.unwrap();
    assert_eq!(client.manifest(REPO, "v1").await.unwrap().status, 200);
    upstream.remove_tag(REPO, "v1");
    assert_eq!(client.manifest(REPO, "v1").await.unwrap().status, 404);
}
