//! Upstreams that fail, nodes that die and lie, and a cluster without a quorum.

use std::time::{Duration, Instant};

use serde_json::json;
use trow_api::pull::PullError;
use trow_raft::{NodeId, RepoName};

use super::fake::{Mood, blob, image, index};
use super::world::{BOUND, World, name, until};
use crate::upstream::{HostSettings, UpstreamSettings};

/// Moods in which an upstream gives no answer, and what is told of each.
const TROUBLE: [(Mood, &str); 5] = [
    (Mood::Fails(500), "500"),
    (Mood::Fails(503), "503"),
    (Mood::Fails(429), "429"),
    (Mood::Fails(401), ""),
    (Mood::Waits, "2 s"),
];

#[tokio::test]
async fn whatever_ails_the_upstream_what_is_cached_is_given_and_marked() {
    futures::future::join_all(TROUBLE.map(|(mood, why)| ails(mood, why))).await;
}

async fn ails(mood: Mood, why: &str) {
    let mut world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    for restarted in [false, true] {
        if restarted {
            world.restart(|_| ());
        }
        world.passes(300);
        world.upstream.mood(mood);
        for node in [1, 2, 3] {
            let begun = Instant::now();
            let pulled = world.get(node, "app", "1").await.unwrap();
            assert_eq!(pulled.bytes, Some(made.bytes.clone()), "{mood:?}");
            let stale = pulled.stale.expect("it is not marked");
            assert!(stale.starts_with("upstream registry.test: ") && stale.contains(why), "{stale}");
            assert!(begun.elapsed() < BOUND / 2, "{mood:?}: {:?}", begun.elapsed());
        }
        world.upstream.mood(Mood::Answers);
        world.passes(300);
        until_fresh(&world).await;
    }
}

/// Once the upstream is back, answers are no longer marked.
async fn until_fresh(world: &World) {
    let bound = Instant::now() + BOUND;
    while world.get(1, "app", "1").await.unwrap().stale.is_some() {
        assert!(Instant::now() < bound, "it stays marked");
        tokio::time::sleep(Duration::from_millis(100)).await;
        // After a 429 the client of upstreams waits by the real clock; the cache then waits by the test's.
        world.passes(10);
    }
}

#[tokio::test]
async fn what_is_not_cached_is_unavailable_and_a_failing_upstream_is_left_alone() {
    let world = World::new().await;
    world.upstream.mood(Mood::Fails(503));
    let digest = image(&["x"]).digest.to_string();
    for reference in ["1", &digest] {
        for node in [1, 2, 3, 1] {
            for answer in [world.get(node, "app", reference).await, world.head(node, "app", reference).await]
            {
                match answer {
                    Err(PullError::Unavailable { why, retry }) => {
                        assert!(why.starts_with("upstream registry.test: "), "{why}");
                        assert!(retry > Duration::ZERO && retry <= Duration::from_secs(60), "{retry:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(world.upstream.asked().len(), 2, "{:?}", world.upstream.asked());
    world.upstream.mood(Mood::Answers);
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.passes(61);
    assert_eq!(world.get(1, "app", "1").await.unwrap().bytes, Some(made.bytes));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_at_all_is_unavailable() {
    let world = World::with(|settings| {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for host in settings.hosts.values_mut() {
            host.endpoint = format!("http://{nobody}").parse().ok();
        }
    })
    .await;
    let answer = world.get(1, "app", "1").await;
    assert!(matches!(answer, Err(PullError::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_head_during_an_outage_promises_only_what_is_here_as_a_whole() {
    let mut world = World::new().await;
    let (one, other) = (image(&["config", "layer"]), image(&["arm64"]));
    let both = index(&[&one, &other]);
    world.upstream.has("app", "one", &one);
    world.upstream.has("app", "", &other);
    world.upstream.has("app", "both", &both);
    for tag in ["one", "both"] {
        world.get(1, "app", tag).await.unwrap();
    }
    world.recorded("app", "one", &one).await;
    world.recorded("app", "both", &both).await;
    world.restart(|_| ());
    world.upstream.mood(Mood::Fails(503));
    let check = async |there: &[(&str, bool)]| {
        for (tag, is_there) in there {
            for node in [1, 2, 3] {
                let answer = world.head(node, "app", tag).await;
                match is_there {
                    true => assert!(answer.unwrap().stale.is_some(), "it is not marked"),
                    false => assert!(matches!(answer, Err(PullError::Unavailable { .. })), "{answer:?}"),
                }
                // A GET gives what there is of it.
                assert!(world.get(node, "app", tag).await.unwrap().stale.is_some());
            }
        }
    };
    check(&[("one", false), ("both", false)]).await;
    world.place(1, "config").await;
    check(&[("one", false), ("both", false)]).await;
    // Wherever it is.
    world.place(3, "layer").await;
    check(&[("one", true), ("both", true)]).await;
    assert!(matches!(world.head(1, "app", "never").await, Err(PullError::Unavailable { .. })));
}

#[tokio::test]
async fn a_head_during_an_outage_does_not_tell_what_is_cached_for_others() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"auths": {"secret.test": {"username": "u", "password": "p"}}}"#).unwrap();
    let login = HostSettings { auth_file: Some(file.path().to_owned()), ..HostSettings::default() };
    let host = "secret.test".parse().unwrap();
    let mut world = World::with(|settings| drop(settings.hosts.insert(host, login))).await;
    let made = image(&["config", "layer"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    world.restart(|_| ());
    world.upstream.mood(Mood::Fails(503));
    let secret: RepoName = "f/secret.test/app".parse().unwrap();
    world.cache(1, "config", &secret).await;
    world.cache(2, "layer", &secret).await;
    for node in [1, 2, 3] {
        let answer = world.head(node, "app", "1").await;
        assert!(matches!(answer, Err(PullError::Unavailable { .. })), "{answer:?}");
    }
    // Once everybody may have them it is here.
    for (node, content) in [(1, "config"), (2, "layer")] {
        world.node(node).store().set_origin(&blob(content).0, name("app").local().clone());
    }
    for node in [1, 2, 3] {
        assert!(world.head(node, "app", "1").await.unwrap().stale.is_some());
    }
}

#[tokio::test]
async fn an_index_of_which_nothing_is_cached_is_not_whole() {
    let mut world = World::new().await;
    let both = index(&[&image(&["amd64"])]);
    world.upstream.has("app", "1", &both);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &both).await;
    world.restart(|_| ());
    world.upstream.mood(Mood::Fails(503));
    assert!(matches!(world.head(1, "app", "1").await, Err(PullError::Unavailable { .. })));
}

#[tokio::test]
async fn a_head_waits_for_a_slow_upstream_when_there_is_nothing_to_promise() {
    let mut world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    world.restart(|_| ());
    world.upstream.mood(Mood::Waits);
    let slow = world.upstream.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        slow.mood(Mood::Answers);
    });
    let pulled = world.head(1, "app", "1").await.unwrap();
    assert_eq!((pulled.digest, pulled.stale), (made.digest, None));
}

#[tokio::test]
async fn without_a_quorum_a_pull_goes_on_unrecorded() {
    let world = World::new().await;
    world.quorum(false);
    let made = image(&["config", "layer"]);
    world.upstream.has("app", "1", &made);
    for node in [1, 2, 3] {
        for reference in ["1", &made.digest.to_string()] {
            let pulled = world.get(node, "app", reference).await.unwrap();
            assert_eq!((pulled.bytes, pulled.stale), (Some(made.bytes.clone()), None));
        }
        let (digest, size) = blob("layer");
        assert_eq!(world.node(node).listed(&name("app"), &digest).await.unwrap(), Some(size));
    }
    assert_eq!(world.tag("app", "1"), None);
    assert_eq!(world.upstream.asked().len(), 2, "{:?}", world.upstream.asked());
    // It is recorded once there is a quorum again, without anybody asking.
    world.quorum(true);
    world.recorded("app", "1", &made).await;
}

#[tokio::test]
async fn when_the_state_takes_no_more_a_pull_goes_on_unrecorded() {
    let world = World::new().await;
    world.full(true);
    let made = image(&["config", "layer"]);
    world.upstream.has("app", "1", &made);
    for node in [1, 2, 3] {
        for reference in ["1", &made.digest.to_string()] {
            let pulled = world.get(node, "app", reference).await.unwrap();
            assert_eq!((pulled.bytes, pulled.stale), (Some(made.bytes.clone()), None));
        }
        let (digest, size) = blob("layer");
        assert_eq!(world.node(node).listed(&name("app"), &digest).await.unwrap(), Some(size));
    }
    assert_eq!(world.upstream.asked().len(), 2, "{:?}", world.upstream.asked());
    assert_eq!(world.view().manifest(name("app").local(), &made.digest).unwrap(), None);
    // Once there is room it is recorded when somebody asks for it, after a while.
    world.full(false);
    world.passes(61);
    for node in [1, 2, 3] {
        world.get(node, "app", &made.digest.to_string()).await.unwrap();
    }
    until(|| world.view().manifest(name("app").local(), &made.digest).unwrap().is_some()).await;
    assert_eq!(world.upstream.asked().len(), 2, "{:?}", world.upstream.asked());
}

#[tokio::test]
async fn the_next_node_does_it_when_the_home_is_gone() {
    let world = World::new().await;
    let (home, other) = world.home("app");
    let third = 6 - home - other;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    // It is gone without anybody having noticed: the call itself fails.
    world.get(other, "app", "1").await.unwrap();
    world.net.down(NodeId(home));
    for node in [other, third] {
        assert_eq!(world.get(node, "app", "1").await.unwrap().bytes, Some(made.bytes.clone()));
    }
    let heads = world.upstream.count("HEAD app/manifests/1");
    assert_eq!(heads, 2, "one by each home");
}

#[tokio::test]
async fn a_peer_that_gives_other_bytes_is_not_believed() {
    let world = World::new().await;
    let (home, other) = world.home("app");
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.net.lies(NodeId(home));
    for reference in ["1", &made.digest.to_string()] {
        let pulled = world.get(other, "app", reference).await.unwrap();
        assert_eq!(pulled.bytes, Some(made.bytes.clone()), "by {reference}");
    }
    assert!(world.net.calls.lock().unwrap().iter().any(|call| *call == format!("{home} /cache/manifest")));
}

#[tokio::test]
async fn bytes_that_are_there_already_do_not_travel() {
    let world = World::new().await;
    let (_, other) = world.home("app");
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(other, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    // Liars change bytes: what the asker has itself arrives whole.
    let question = crate::peer_blobs::wire::AskManifest {
        repo: name("app").local().clone(),
        reference: super::world::named("1").into(),
        head: false,
        have: Some(made.digest),
        for_user: false,
    };
    let told = world.node(other).for_peer(question).await.unwrap();
    assert!(told.len() < made.bytes.len() + 300 && told.ends_with(b"\n"));
    assert_eq!(world.get(other, "app", "1").await.unwrap().bytes, Some(made.bytes));
}

#[tokio::test]
async fn a_tag_that_moved_stays_until_the_new_manifest_is_here() {
    let world = World::new().await;
    let (old, new) = (image(&["old"]), image(&["new"]));
    world.upstream.has("app", "1", &old);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &old).await;
    world.passes(300);
    // The tag names a manifest that the registry does not give.
    world.upstream.has("app", "1", &new);
    world.upstream.deletes("app", &new.digest.to_string());
    let pulled = world.get(1, "app", "1").await.unwrap();
    assert_eq!(pulled.bytes, Some(old.bytes));
    assert!(pulled.stale.unwrap().contains("does not give"));
    world.upstream.has("app", "1", &new);
    world.passes(300);
    assert_eq!(world.get(1, "app", "1").await.unwrap().bytes, Some(new.bytes));
}

#[tokio::test]
async fn settings_that_deny_a_repository_deny_what_is_cached_of_it() {
    let mut world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    world.restart(|settings| settings.repositories.deny = vec!["registry.test/app".parse().unwrap()]);
    for reference in ["1", &made.digest.to_string()] {
        let answer = world.get(2, "app", reference).await;
        assert!(matches!(answer, Err(PullError::Denied(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn who_asks_again_within_seconds_is_told_what_the_first_was_told() {
    let world = World::new().await;
    world.upstream.mood(Mood::Fails(403));
    for _ in 0..2 {
        let answer = world.get(1, "app", "1").await;
        assert!(matches!(answer, Err(PullError::Denied(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_home_with_credentials_tells_nothing_to_a_node_that_does_not_know_of_them_yet() {
    let mut world = World::new().await;
    let (home, other) = world.home("app");
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.upstream.lists("app/tags/list", &json!({ "name": "app", "tags": ["1"] }));
    let file = tempfile::NamedTempFile::new().unwrap();
    let login = r#"{"auths": {"registry.test": {"username": "u", "password": "p"}}}"#;
    std::fs::write(file.path(), login).unwrap();
    let login = |settings: &mut UpstreamSettings| {
        settings.hosts.values_mut().for_each(|host| host.auth_file = Some(file.path().to_owned()));
    };
    world.roll_out(&[home], login);
    // It stays in the memory of the home.
    world.quorum(false);
    let by_digest = made.digest.to_string();
    for reference in ["1", &by_digest] {
        for answer in [world.get(other, "app", reference).await, world.head(other, "app", reference).await] {
            assert!(matches!(answer, Err(PullError::LoginNeeded)), "{reference}: {answer:?}");
        }
    }
    let list = world.node(other).tags(&name("app"), None, None).await;
    assert!(matches!(list, Err(PullError::LoginNeeded)), "{list:?}");
    // Whoever comes to the home itself has shown who it is.
    assert_eq!(world.get(home, "app", "1").await.unwrap().bytes, Some(made.bytes.clone()));
    let (config, _) = blob("config");
    let repo = name("app").local().clone();
    world.cache(home, "config", &repo).await;
    let of_other = world.node(other).peers();
    for for_user in [false, true] {
        let size = of_other.lists(NodeId(home), &repo, &config, for_user).await.unwrap();
        assert_eq!(size.is_some(), for_user);
        let has = of_other.has(NodeId(home), &[config], Some(&repo), for_user).await.unwrap();
        assert_eq!(has, [for_user]);
    }
    // Once both know, both tell.
    world.roll_out(&[home, other], login);
    assert_eq!(world.get(other, "app", "1").await.unwrap().bytes, Some(made.bytes));
    assert!(world.node(other).tags(&name("app"), None, None).await.is_ok());
}

#[test]
fn what_an_older_build_asks_is_for_everybody() {
    let question =
        r#"{"repo": "f/registry.test/app", "reference": {"tag": "1"}, "head": true, "have": null}"#;
    let question: crate::peer_blobs::wire::AskManifest = serde_json::from_str(question).unwrap();
    assert!(!question.for_user);
}
