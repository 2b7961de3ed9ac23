//! Tags and referrers, relayed and from what is cached.

use serde_json::{Value, json};
use trow_api::pull::{PullError, Relayed};

use super::fake::{Fake, Made, Mood, image, index, referrer};
use super::world::{World, name, soon};

fn json_of(relayed: &Relayed) -> Value {
    serde_json::from_slice(&relayed.json).unwrap()
}

#[tokio::test]
async fn tags_are_the_upstreams_and_in_an_outage_those_that_are_cached() {
    let world = World::new().await;
    world.upstream.lists("app/tags/list", &json!({ "name": "app", "tags": ["1", "2", "3", "4"] }));
    let made = image(&["config"]);
    for tag in ["1", "2", "3"] {
        world.upstream.has("app", tag, &made);
        world.get(1, "app", tag).await.unwrap();
        world.recorded("app", tag, &made).await;
    }
    let tags = async |n, last| soon(world.node(2).tags(&name("app"), n, last)).await;
    let relayed = tags(None, None).await.unwrap();
    assert_eq!((json_of(&relayed)["tags"].clone(), relayed.stale), (json!(["1", "2", "3", "4"]), None));

    world.upstream.mood(Mood::Fails(503));
    let cached = tags(None, None).await.unwrap();
    assert_eq!((json_of(&cached)["tags"].clone(), cached.next), (json!(["1", "2", "3"]), None));
    assert!(cached.stale.unwrap().starts_with("upstream registry.test: "));
    let page = tags(Some(2), None).await.unwrap();
    assert_eq!((json_of(&page)["tags"].clone(), page.next.as_deref()), (json!(["1", "2"]), Some("2")));
    let page = tags(Some(2), Some("2")).await.unwrap();
    assert_eq!((json_of(&page)["tags"].clone(), page.next), (json!(["3"]), None));
    let nothing = soon(world.node(2).tags(&name("other"), None, None)).await;
    assert!(matches!(nothing, Err(PullError::Unavailable { .. })), "{nothing:?}");
    world.upstream.mood(Mood::Answers);
    let unknown = soon(world.node(2).tags(&name("other"), None, None)).await;
    assert!(matches!(unknown, Err(PullError::NotFound)), "{unknown:?}");
}

fn shown(relayed: &Relayed) -> Vec<String> {
    let list = json_of(relayed)["manifests"].as_array().unwrap().clone();
    list.iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect()
}

fn texts(made: &[&Made]) -> Vec<String> {
    let mut all: Vec<_> = made.iter().map(|made| made.digest.to_string()).collect();
    all.sort();
    all
}

async fn pulled(world: &World, upstream: &Fake, tag: &str, made: &Made) {
    upstream.has("app", tag, made);
    world.get(1, "app", tag).await.unwrap();
    world.recorded("app", tag, made).await;
}

#[tokio::test]
async fn referrers_are_relayed_or_found_under_their_tag_or_in_the_cache() {
    let world = World::new().await;
    let subject = image(&["config"]);
    let (signature, bill) = (referrer(&subject, "sig"), referrer(&subject, "sbom"));
    let tag = format!("sha256-{}", subject.digest.hex());
    let referrers = async |kind| soon(world.node(3).referrers(&name("app"), &subject.digest, kind)).await;

    // Of an upstream that knows neither the API nor the tag.
    let none = referrers(None).await.unwrap();
    assert_eq!((shown(&none), none.stale), (vec![], None));
    // By the tag.
    let list = index(&[&signature]);
    world.passes(10);
    pulled(&world, &world.upstream, &tag, &list).await;
    let tagged = referrers(None).await.unwrap();
    assert_eq!((shown(&tagged), tagged.filtered, tagged.stale), (texts(&[&signature]), false, None));
    // By the API.
    let path = format!("app/referrers/{}", subject.digest);
    let both = serde_json::from_slice(&index(&[&signature, &bill]).bytes).unwrap();
    world.upstream.lists(&path, &both);
    let relayed = referrers(None).await.unwrap();
    assert_eq!((shown(&relayed).len(), relayed.stale), (2, None));

    // In an outage: what is cached itself, and what the cached list names.
    pulled(&world, &world.upstream, "sbom", &bill).await;
    world.upstream.mood(Mood::Fails(500));
    let cached = referrers(None).await.unwrap();
    assert_eq!(shown(&cached), texts(&[&signature, &bill]));
    assert!(cached.stale.unwrap().contains("500"));
    let filtered = referrers(Some("sbom")).await.unwrap();
    assert_eq!((shown(&filtered), filtered.filtered), (texts(&[&bill]), true));
    let other = soon(world.node(3).referrers(&name("other"), &subject.digest, None)).await;
    assert!(matches!(other, Err(PullError::Unavailable { .. })), "{other:?}");
}
