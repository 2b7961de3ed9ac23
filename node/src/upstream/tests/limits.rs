//! What registries say of their limits, and how slow they may be.

use std::time::Duration;

use trow_raft::Digest;

use super::fake::{BOUND, Fake, manifest, name, registries, tag, with};
use crate::upstream::{HostSettings, UpstreamError};

const BODY: &str = "{\"schemaVersion\":2}";

#[tokio::test]
async fn a_registry_that_says_429_is_left_alone() {
    let fake = Fake::start(|_| with(429, &[("retry-after", "40")], "")).await;
    let registries = fake.registries();
    for _ in 0..3 {
        let error = registries.manifest(&name("app"), &tag("1")).await.unwrap_err();
        let UpstreamError::Unavailable { why, retry } = error else { panic!("{error:?}") };
        assert!(
            why.contains("rate limit") && retry > Duration::from_secs(5) && retry <= Duration::from_secs(40)
        );
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn limits_and_requests_are_shown() {
    let fake = Fake::start(|_| {
        let mut response = manifest(BODY);
        response.headers_mut().insert("ratelimit-limit", "100;w=21600".parse().unwrap());
        response.headers_mut().insert("ratelimit-remaining", "0;w=21600".parse().unwrap());
        response
    })
    .await;
    let registries = fake.registries();
    let mut metrics = prometheus_client::registry::Registry::default();
    registries.register(&mut metrics);
    let text = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics).unwrap();
        text
    };
    let requests =
        "trow_upstream_requests_total{host=\"registry.test\",method=\"GET\",kind=\"manifest\",code=\"200\"}";
    assert!(text().contains(&format!("{requests} 0")), "{}", text());
    registries.manifest(&name("app"), &tag("1")).await.unwrap();
    let error = registries.manifest(&name("app"), &tag("1")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error:?}");
    registries.describe(&name("app"), &tag("1")).await.unwrap();
    for line in [
        &format!("{requests} 1"),
        "trow_upstream_ratelimit_limit{host=\"registry.test\"} 100",
        "trow_upstream_ratelimit_remaining{host=\"registry.test\"} 0",
        "trow_upstream_requests_in_flight{host=\"registry.test\"} 0",
    ] {
        assert!(text().contains(line), "{line} is not in {}", text());
    }
}

#[tokio::test]
async fn what_does_not_answer_is_not_waited_for() {
    let fake = Fake::slow(|_| Box::pin(std::future::pending())).await;
    let registries = registries(HostSettings { timeout: Duration::from_millis(300), ..fake.settings() });
    let (app, one) = (name("app"), tag("1"));
    let asked = registries.describe(&app, &one);
    let error = tokio::time::timeout(BOUND, asked).await.unwrap().unwrap_err();
    assert!(matches!(&error, UpstreamError::Unavailable { why, .. } if why.contains("in time")), "{error:?}");
}

#[tokio::test]
async fn a_manifest_without_end_is_given_up() {
    let fake = Fake::start(|_| {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        with(200, &[("content-type", "a/b")], axum::body::Body::from_stream(endless))
    })
    .await;
    let error = fake.registries().manifest(&name("app"), &tag("1")).await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Bad(why) if why.contains("4 MiB")), "{error:?}");
    let error = fake.registries().tags(&name("app"), None, None).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Bad(_)), "{error:?}");
}

#[tokio::test]
async fn a_body_keeps_its_place_until_it_is_let_go() {
    let fake = Fake::start(|_| {
        with(
            200,
            &[("content-length", "9")],
            axum::body::Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>()),
        )
    })
    .await;
    let registries = registries(HostSettings { concurrency: 1, ..fake.settings() });
    let digest = Digest::sha256(b"x");
    let first = registries.blob(&name("app"), &digest, 0).await.unwrap();
    let (app, second) = (name("app"), registries.clone());
    let mut second = Box::pin(second.blob(&app, &digest, 0));
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err(),
        "waits for its turn"
    );
    drop(first);
    tokio::time::timeout(BOUND, second).await.unwrap().unwrap();
}
