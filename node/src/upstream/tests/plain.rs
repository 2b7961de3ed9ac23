//! What registries say, proper ones and liars.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use tokio::sync::Notify;
use trow_api::route::Reference;
use trow_raft::{Algorithm, Digest};

use super::fake::{BOUND, Fake, MANIFEST, host_named, manifest, name, registries, status, tag, with};
use crate::upstream::{Registries, Repositories, UpstreamError, UpstreamSettings};

const BODY: &str = "{\"schemaVersion\":2}";

fn digest() -> Digest {
    Digest::sha256(BODY.as_bytes())
}

#[tokio::test]
async fn a_head_tells_what_a_manifest_is() {
    let fake = Fake::start(|_| manifest(BODY)).await;
    let told = fake.registries().describe(&name("app"), &tag("1")).await.unwrap();
    assert_eq!((told.digest, told.media_type.as_str(), told.size), (digest(), MANIFEST, BODY.len() as u64));
    assert_eq!(told.bytes, None);
    assert_eq!(fake.asked(), ["HEAD /v2/app/manifests/1"]);
    assert!(fake.seen()[0].header("accept").contains(MANIFEST));
}

#[tokio::test]
async fn a_head_that_does_not_tell_enough_is_followed_by_one_get() {
    for bare in [true, false] {
        let fake = Fake::start(move |seen| match (seen.method.as_str(), bare) {
            ("HEAD", true) => with(200, &[("content-type", MANIFEST)], BODY),
            ("HEAD", false) => status(405),
            _ => manifest(BODY),
        })
        .await;
        let told = fake.registries().describe(&name("app"), &tag("1")).await.unwrap();
        assert_eq!((told.digest, told.bytes.as_deref()), (digest(), Some(BODY.as_bytes())));
        assert_eq!(fake.asked(), ["HEAD /v2/app/manifests/1", "GET /v2/app/manifests/1"]);
    }
}

#[tokio::test]
async fn a_manifest_has_the_digest_that_was_asked_for_or_named() {
    let fake = Fake::start(|seen| match seen.path.rsplit('/').next().unwrap() {
        "named" => manifest(BODY),
        "unnamed" => with(200, &[("content-type", &format!("{MANIFEST}; charset=utf-8"))], BODY),
        "untyped" => with(200, &[], format!("{{\"mediaType\":\"{MANIFEST}\"}}")),
        "lied" => {
            with(200, &[("content-type", MANIFEST), ("docker-content-digest", &digest().to_string())], "{}")
        }
        "nameless" => with(200, &[], BODY),
        "large" => with(200, &[("content-type", MANIFEST)], vec![b' '; (4 << 20) + 1]),
        _ => with(200, &[("content-type", MANIFEST)], BODY),
    })
    .await;
    let registries = fake.registries();
    for good in ["named", "unnamed"] {
        let fetched = registries.manifest(&name("app"), &tag(good)).await.unwrap();
        assert_eq!((fetched.digest, fetched.media_type.as_str()), (digest(), MANIFEST), "{good}");
    }
    assert_eq!(registries.manifest(&name("app"), &tag("untyped")).await.unwrap().media_type, MANIFEST);
    for bad in ["lied", "nameless", "large"] {
        let error = registries.manifest(&name("app"), &tag(bad)).await.unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Bad(why) if why.starts_with("upstream registry.test: ")),
            "{bad}: {error:?}"
        );
    }
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let right = Reference::Digest(Digest::of(algorithm, BODY.as_bytes()));
        registries.manifest(&name("app"), &right).await.unwrap();
        let wrong = Reference::Digest(Digest::of(algorithm, b"other"));
        let error = registries.manifest(&name("app"), &wrong).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Bad(_)), "{error:?}");
    }
}

#[tokio::test]
async fn blobs_arrive_whole_or_from_a_byte_on() {
    let fake = Fake::start(|seen| match (seen.header("range"), seen.path.starts_with("/v2/rangeless/")) {
        ("bytes=4-", false) => with(206, &[("content-range", "bytes 4-9/10")], "456789"),
        ("bytes=5-", false) => with(206, &[("content-range", "bytes 4-9/10")], "456789"),
        _ => with(200, &[], "0123456789"),
    })
    .await;
    let registries = fake.registries();
    for (repo, from, expected) in
        [("app", 0, (0, "0123456789")), ("app", 4, (4, "456789")), ("rangeless", 4, (0, "0123456789"))]
    {
        let arriving = registries.blob(&name(repo), &digest(), from).await.unwrap();
        assert_eq!((arriving.size, arriving.from), (Some(10), expected.0));
        let bytes: Vec<u8> = arriving.body.map(|piece| piece.unwrap().to_vec()).concat().await;
        assert_eq!(bytes, expected.1.as_bytes());
    }
    let error = registries.blob(&name("app"), &digest(), 5).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Bad(_)), "{error:?}");
    assert_eq!(registries.blob_size(&name("app"), &digest()).await, Ok(10));
}

#[tokio::test]
async fn a_body_that_breaks_off_or_stops_ends_in_an_error() {
    let half_is_here = Arc::new(Notify::new());
    let told = half_is_here.clone();
    let fake = Fake::start(move |seen| {
        let (stops, told) = (seen.path.contains("/stops/"), told.clone());
        let first = futures::stream::once(async { Ok("half") });
        let rest = futures::stream::once(async move {
            if stops {
                std::future::pending::<()>().await;
            }
            told.notified().await;
            Err(std::io::Error::other("gone"))
        });
        with(200, &[("content-length", "8")], Body::from_stream(first.chain(rest)))
    })
    .await;
    let mut settings = fake.settings();
    settings.timeout = Duration::from_secs(2);
    let registries = registries(settings);
    for (repo, why) in [("breaks", "broke off"), ("stops", "no progress")] {
        let mut arriving = registries.blob(&name(repo), &digest(), 0).await.unwrap();
        assert_eq!(arriving.body.next().await.unwrap().unwrap(), "half");
        half_is_here.notify_one();
        let rest: Vec<_> = tokio::time::timeout(BOUND, arriving.body.collect()).await.unwrap();
        let [Err(error)] = &rest[..] else { panic!("{rest:?}") };
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn lists_are_of_their_shape_and_say_where_the_next_page_begins() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/app/tags/list" if seen.query == "n=2&last=a" => with(
            200,
            &[("link", "</v2/app/tags/list?n=2&last=c>; rel=\"next\"")],
            r#"{"name":"app","tags":["b","c"]}"#,
        ),
        "/v2/other/tags/list" => with(
            200,
            &[("link", "</v2/x?next_page=abc>; rel=\"next\"")],
            r#"{"name":"app","tags":["b","c"]}"#,
        ),
        "/v2/none/tags/list" => with(200, &[], r#"{"name":"app","tags":null}"#),
        path if path.starts_with("/v2/app/referrers/sha256:") => with(
            200,
            &[("oci-filters-applied", "artifactType")],
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"x","size":1}]}"#,
        ),
        path if path.starts_with("/v2/old/") => status(404),
        _ => with(200, &[], r#"["tags"]"#),
    })
    .await;
    let registries = fake.registries();
    let listed = registries.tags(&name("app"), Some(2), Some("a")).await.unwrap();
    assert_eq!(
        (listed.next.as_deref(), &listed.json[..]),
        (Some("c"), &br#"{"name":"app","tags":["b","c"]}"#[..])
    );
    assert_eq!(registries.tags(&name("other"), None, None).await.unwrap().next.as_deref(), Some("c"));
    assert_eq!(registries.tags(&name("none"), None, None).await.unwrap().next, None);
    assert!(matches!(registries.tags(&name("bad"), None, None).await, Err(UpstreamError::Bad(_))));
    assert!(registries.referrers(&name("app"), &digest(), Some("a/b")).await.unwrap().filtered);
    assert!(!registries.referrers(&name("app"), &digest(), None).await.unwrap().filtered);
    assert_eq!(registries.referrers(&name("old"), &digest(), None).await, Err(UpstreamError::NotFound));
    assert!(matches!(registries.referrers(&name("bad"), &digest(), None).await, Err(UpstreamError::Bad(_))));
}

#[tokio::test]
async fn a_status_says_whether_to_come_again() {
    let fake = Fake::start(|seen| status(seen.path.split('/').nth(2).unwrap().parse().unwrap())).await;
    let registries = fake.registries();
    for (code, expected) in [
        (404, "NotFound"),
        (403, "Denied"),
        (500, "Unavailable"),
        (503, "Unavailable"),
        (400, "Bad"),
        (204, "Bad"),
        (304, "Bad"),
    ] {
        let error = registries.manifest(&name(&code.to_string()), &tag("1")).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn what_the_settings_do_not_allow_is_not_asked() {
    let fake = Fake::start(|_| manifest(BODY)).await;
    let offline = Registries::new(UpstreamSettings {
        offline: true,
        hosts: [(host_named("registry.test"), fake.settings())].into(),
        ..UpstreamSettings::default()
    });
    assert!(offline.rules(&name("app")).offline);
    let mut settings = fake.settings();
    settings.repositories = Repositories { deny: vec!["app".parse().unwrap()], ..Repositories::default() };
    settings.freshness = Duration::from_secs(7);
    let denying = registries(settings);
    let rules = denying.rules(&name("app"));
    assert_eq!(
        (rules.offline, rules.freshness, rules.follow_deletes),
        (false, Duration::from_secs(7), false)
    );
    assert!(rules.allowed.is_err() && denying.rules(&name("other")).allowed.is_ok());
    for registries in [offline, denying] {
        let error = registries.describe(&name("app"), &tag("1")).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Denied(_)), "{error:?}");
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}
