//! Tags that the upstream deletes, and upstreams that nobody asks.

use trow_api::pull::PullError;

use super::fake::image;
use super::world::{World, until};

#[tokio::test]
async fn a_deleted_tag_is_kept_and_marked() {
    let world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    world.upstream.deletes("app", "1");
    world.passes(300);
    for node in [1, 2, 3] {
        for pulled in
            [world.get(node, "app", "1").await.unwrap(), world.head(node, "app", "1").await.unwrap()]
        {
            assert_eq!(pulled.digest, made.digest);
            assert_eq!(pulled.stale.as_deref(), Some("upstream registry.test: it is not there any more"));
        }
    }
    assert_eq!(world.upstream.count("HEAD app/manifests/1"), 2, "its going is remembered for the freshness");
    assert_eq!(world.tag("app", "1"), Some(made.digest));
    // It comes back.
    world.upstream.has("app", "1", &made);
    world.passes(150);
    world.get(1, "app", "1").await.unwrap();
    until(|| world.upstream.count("HEAD app/manifests/1") == 3).await;
    world.passes(1);
    while world.get(1, "app", "1").await.unwrap().stale.is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_deleted_tag_goes_where_deletes_are_followed() {
    let world = World::with(|settings| {
        for host in settings.hosts.values_mut() {
            host.follow_deletes = true;
        }
    })
    .await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    world.upstream.deletes("app", "1");
    world.passes(300);
    for node in [1, 2, 3] {
        for answer in [world.get(node, "app", "1").await, world.head(node, "app", "1").await] {
            assert!(matches!(answer, Err(PullError::NotFound)), "{answer:?}");
        }
    }
    until(|| world.tag("app", "1").is_none()).await;
    // What it pointed to stays.
    let by_digest = world.get(1, "app", &made.digest.to_string()).await.unwrap();
    assert_eq!(by_digest.bytes, Some(made.bytes.clone()));
    // It comes back.
    world.upstream.has("app", "1", &made);
    world.passes(6);
    assert_eq!(world.get(2, "app", "1").await.unwrap().bytes, Some(made.bytes.clone()));
    world.recorded("app", "1", &made).await;
}

#[tokio::test]
async fn offline_asks_nobody() {
    let mut world = World::new().await;
    let made = image(&["config", "layer"]);
    world.upstream.has("app", "1", &made);
    world.upstream.has("app", "2", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    let asked = world.upstream.asked().len();
    world.restart(|settings| settings.offline = true);
    world.passes(10_000);
    let unknown = image(&["other"]).digest.to_string();
    for node in [1, 2, 3] {
        let pulled = world.get(node, "app", "1").await.unwrap();
        let stale = "upstream registry.test: not asked, upstream.offline = true";
        assert_eq!((pulled.bytes, pulled.stale.as_deref()), (Some(made.bytes.clone()), Some(stale)));
        let by_digest = world.get(node, "app", &made.digest.to_string()).await.unwrap();
        assert_eq!((by_digest.bytes, by_digest.stale), (Some(made.bytes.clone()), None));
        for reference in ["2", "never", &unknown] {
            for answer in [world.get(node, "app", reference).await, world.head(node, "app", reference).await]
            {
                assert!(matches!(answer, Err(PullError::Offline)), "{reference}: {answer:?}");
            }
        }
        // Whoever is told of it comes for its blobs, which are not here.
        assert!(matches!(world.head(node, "app", "1").await, Err(PullError::Offline)));
    }
    world.place(1, "config").await;
    world.place(2, "layer").await;
    assert!(world.head(3, "app", "1").await.unwrap().stale.is_some());
    assert_eq!(world.upstream.asked().len(), asked, "{:?}", world.upstream.asked());
}
