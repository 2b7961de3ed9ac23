//! The rule of freshness from end to end.

use std::time::Duration;

use trow_raft::{Command, Outcome};

use super::fake::{Mood, image};
use super::world::{World, name, until};

const ASKED: &str = "HEAD app/manifests/1";

#[tokio::test]
async fn fresh_then_refreshed_behind_then_waited_for() {
    let world = World::new().await;
    let (old, new) = (image(&["old"]), image(&["new"]));
    world.upstream.has("app", "1", &old);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &old).await;

    // Fresh: nobody is asked, whichever node is.
    world.upstream.has("app", "1", &new);
    world.passes(70);
    for node in [1, 2, 3] {
        let pulled = world.get(node, "app", "1").await.unwrap();
        assert_eq!((pulled.bytes, pulled.stale), (Some(old.bytes.clone()), None));
    }
    assert_eq!(world.upstream.count(ASKED), 1);

    // Up to twice the freshness: the answer comes at once, and a refresh behind it.
    world.passes(80);
    world.upstream.mood(Mood::Waits);
    for node in [1, 2, 3] {
        let pulled = world.get(node, "app", "1").await.unwrap();
        assert_eq!((pulled.digest, pulled.stale), (old.digest, None));
    }
    until(|| world.upstream.count(ASKED) == 2).await;
    world.upstream.mood(Mood::Answers);
    world.recorded("app", "1", &new).await;
    for node in [1, 2, 3] {
        assert_eq!(world.get(node, "app", "1").await.unwrap().bytes, Some(new.bytes.clone()));
    }
    assert_eq!(world.upstream.count(ASKED), 2);

    // Older: it is waited for. Nothing moved, so nothing is fetched.
    world.passes(201);
    assert_eq!(world.head(2, "app", "1").await.unwrap().digest, new.digest);
    assert_eq!(world.upstream.count(ASKED), 3);
    world.passes(201);
    world.upstream.has("app", "1", &old);
    assert_eq!(world.get(3, "app", "1").await.unwrap().bytes, Some(old.bytes.clone()));
    assert_eq!(world.upstream.count(ASKED), 4);
    let gets: Vec<_> = world.upstream.asked().into_iter().filter(|asked| asked.starts_with("GET")).collect();
    assert_eq!(gets.len(), 2, "each manifest was fetched once: {gets:?}");
    world.recorded("app", "1", &old).await;
}

#[tokio::test]
async fn what_nobody_remembers_is_refreshed_and_waited_for() {
    let mut world = World::new().await;
    let (old, new) = (image(&["old"]), image(&["new"]));
    world.upstream.has("app", "1", &old);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &old).await;
    world.restart(|_| ());
    world.upstream.has("app", "1", &new);
    assert_eq!(world.get(1, "app", "1").await.unwrap().bytes, Some(new.bytes.clone()));
    // By digest nothing is asked again, ever.
    world.passes(10_000);
    world.upstream.mood(Mood::Fails(500));
    let asked = world.upstream.asked().len();
    for node in [1, 2, 3] {
        let pulled = world.get(node, "app", &old.digest.to_string()).await.unwrap();
        assert_eq!((pulled.bytes, pulled.stale), (Some(old.bytes.clone()), None));
    }
    assert_eq!(world.upstream.asked().len(), asked);
}

#[tokio::test]
async fn a_slow_refresh_does_not_put_what_was_before_over_what_is() {
    let world = World::new().await;
    let (home, other) = world.home("app");
    let (first, slow, new) = (image(&["first"]), image(&["slow"]), image(&["new"]));
    world.upstream.has("app", "1", &first);
    world.get(home, "app", "1").await.unwrap();
    world.recorded("app", "1", &first).await;

    // The home asks, and what it hears is on its way for long.
    world.passes(300);
    world.upstream.has("app", "1", &slow);
    world.upstream.mood(Mood::Waits);
    let asking = {
        let manifests = world.node(home).clone();
        tokio::spawn(async move { manifests.manifest(&name("app"), &super::world::named("1"), false).await })
    };
    until(|| world.upstream.count(ASKED) == 2).await;
    // Meanwhile the tag moves on, and others, to whom the home is lost, record that it did.
    world.upstream.has("app", "1", &new);
    world.net.down(trow_raft::NodeId(home));
    let put = |made: &super::fake::Made| {
        let parse = trow_api::manifest::parse::parse;
        let manifest = parse(made.digest, Some(made.media_type), made.bytes.clone()).unwrap().manifest;
        let row = world.view().tag(name("app").local(), &"1".parse().unwrap()).unwrap().unwrap();
        let tag = Some(("1".parse().unwrap(), row.revision));
        Command::PutCached { repo: name("app").local().clone(), manifest, tag }
    };
    assert_eq!(world.propose(put(&new)), Outcome::Done);

    // The old word arrives. It is not recorded over the new one, and its node does not go on believing it.
    world.upstream.mood(Mood::Answers);
    let _ = asking.await.unwrap();
    until(|| world.upstream.count(&format!("GET app/manifests/{}", slow.digest)) == 1).await;
    until(|| {
        let words = &world.node(home).inner.words;
        words.get(name("app").local(), &super::world::named("1")).word.is_none_or(|word| {
            !matches!(word.said, crate::cache::freshness::Said::Is { digest, .. } if digest == slow.digest)
        })
    })
    .await;
    assert_eq!(world.tag("app", "1"), Some(new.digest));
    assert_eq!(world.get(home, "app", "1").await.unwrap().bytes, Some(new.bytes.clone()));
    world.net.up(trow_raft::NodeId(home));
    assert_eq!(world.get(other, "app", "1").await.unwrap().bytes, Some(new.bytes));
    assert_eq!(world.tag("app", "1"), Some(new.digest));
}

#[tokio::test]
async fn purged_is_asked_for_anew() {
    let world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    // The home hears that it was recorded.
    let (home, _) = world.home("app");
    until(|| {
        let word = world.node(home).inner.words.get(name("app").local(), &super::world::named("1")).word;
        word.is_some_and(|word| word.revision > 0)
    })
    .await;
    let drop = Command::DropCached { repo: name("app").local().clone(), digests: vec![made.digest] };
    assert_eq!(world.propose(drop), Outcome::Done);
    world.get(1, "app", "1").await.unwrap();
    assert_eq!(world.upstream.count(ASKED), 2);
    world.recorded("app", "1", &made).await;
}

#[tokio::test]
async fn a_freshness_of_nothing_follows_every_move() {
    let world = World::with(|settings| {
        for host in settings.hosts.values_mut() {
            host.freshness = Duration::ZERO;
        }
    })
    .await;
    for n in 0..5 {
        let made = image(&[&format!("layer {n}")]);
        world.upstream.has("app", "1", &made);
        assert_eq!(world.get(n % 3 + 1, "app", "1").await.unwrap().bytes, Some(made.bytes));
    }
}
