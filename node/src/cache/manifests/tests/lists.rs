//! Tags and referrers, relayed and from what is cached.

use serde_json::{Value, json};
use trow_api::pull::{PullError, Relayed};

use super::fake::{Fake, Made, Mood, image, index, referrer};
use super::world::{World, name, soon, until};

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

#[tokio::test]
async fn many_who_ask_at_once_on_all_nodes_cost_one_request_for_each_list() {
    let world = World::new().await;
    let (subject, wanted) = (image(&["config"]), json!({ "name": "app", "tags": ["1", "2"] }));
    let referrers = format!("app/referrers/{}", subject.digest);
    world.upstream.lists("app/tags/list", &wanted);
    world.upstream.lists(&referrers, &serde_json::from_slice(&index(&[&subject]).bytes).unwrap());
    world.upstream.mood(Mood::Waits);
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..90u64 {
        let (manifests, subject) = (world.node(n % 3 + 1).clone(), subject.digest);
        requests.spawn(async move {
            match n / 3 % 2 {
                0 => manifests.tags(&name("app"), None, None).await.unwrap(),
                _ => manifests.referrers(&name("app"), &subject, None).await.unwrap(),
            }
        });
    }
    let (tags, referrers) = ("GET app/tags/list".to_owned(), format!("GET {referrers}"));
    until(|| world.upstream.asked().len() >= 2).await;
    // One thread runs all of them: whoever has not asked yet does so before this goes on.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    world.upstream.mood(Mood::Answers);
    let mut both = std::collections::BTreeMap::<Vec<u8>, usize>::new();
    while let Some(relayed) = soon(requests.join_next()).await {
        *both.entry(relayed.unwrap().json.to_vec()).or_default() += 1;
    }
    assert_eq!(both.into_values().collect::<Vec<_>>(), [45, 45]);
    let mut asked = world.upstream.asked();
    asked.sort();
    assert_eq!(asked, [referrers, tags]);
    // Nothing of it is kept.
    let again = soon(world.node(1).tags(&name("app"), None, None)).await.unwrap();
    assert_eq!((json_of(&again), world.upstream.asked().len()), (wanted, 3));
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
