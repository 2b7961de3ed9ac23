//! What many ask for at once is asked for once.

use trow_api::pull::PullError;
use trow_raft::Command;

use super::fake::{Mood, blob, image, index};
use super::world::{World, name, named, soon, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_on_all_nodes_cost_one_head_and_one_get() {
    let world = World::new().await;
    let made = image(&["config", "layer"]);
    world.upstream.has("app", "1", &made);
    world.upstream.mood(Mood::Waits);
    let digest = made.digest.to_string();
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..1000u64 {
        let (manifests, made) = (world.node(n % 3 + 1).clone(), made.clone());
        // By tag, HEAD and GET; by digest, GET.
        let (reference, head) = [("1", true), ("1", false), (digest.as_str(), false)][n as usize / 3 % 3];
        let reference = named(reference);
        requests.spawn(async move {
            let pulled = manifests.manifest(&name("app"), &reference, head).await.unwrap();
            assert_eq!((pulled.digest, pulled.size), (made.digest, made.bytes.len() as u64));
            assert_eq!(pulled.media_type, made.media_type);
            assert_eq!((pulled.bytes, pulled.stale), ((!head).then(|| made.bytes.clone()), None));
        });
    }
    let (head, get) = ("HEAD app/manifests/1", format!("GET app/manifests/{digest}"));
    until(|| world.upstream.count(head) == 1 && world.upstream.count(&get) == 1).await;
    world.upstream.mood(Mood::Answers);
    while let Some(request) = soon(requests.join_next()).await {
        request.unwrap();
    }
    let mut asked = world.upstream.asked();
    asked.sort();
    assert_eq!(asked, [get, head.to_owned()]);
    world.recorded("app", "1", &made).await;
}

#[tokio::test]
async fn a_head_costs_a_head_and_what_it_tells_is_remembered() {
    let world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    for node in [1, 2, 3, 1] {
        let pulled = world.head(node, "app", "1").await.unwrap();
        assert_eq!((pulled.digest, pulled.bytes, pulled.stale), (made.digest, None, None));
        let pulled = world.head(node, "app", &made.digest.to_string()).await.unwrap();
        assert_eq!((pulled.digest, pulled.size), (made.digest, made.bytes.len() as u64));
    }
    let by_digest = format!("HEAD app/manifests/{}", made.digest);
    assert_eq!(world.upstream.asked(), ["HEAD app/manifests/1".to_owned(), by_digest]);
    assert_eq!(world.tag("app", "1"), None, "nothing was fetched");
}

/// As containerd does it: HEAD of the tag, then GET of its digest.
#[tokio::test]
async fn a_tag_is_recorded_though_its_manifest_came_by_digest() {
    let world = World::new().await;
    let (home, other) = world.home("app");
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.upstream.has("app", "latest", &made);
    for tag in ["1", "latest"] {
        world.head(other, "app", tag).await.unwrap();
    }
    let pulled = world.get(other, "app", &made.digest.to_string()).await.unwrap();
    assert_eq!(pulled.bytes, Some(made.bytes.clone()));
    world.recorded("app", "1", &made).await;
    world.recorded("app", "latest", &made).await;
    // A tag that comes later points to what is here already.
    world.upstream.has("app", "2", &made);
    world.head(home, "app", "2").await.unwrap();
    world.recorded("app", "2", &made).await;
    assert_eq!(world.upstream.count(&format!("GET app/manifests/{}", made.digest)), 1);
}

#[tokio::test]
async fn a_recorded_answer_has_the_index_of_what_recorded_it() {
    let world = World::new().await;
    let made = image(&["config"]);
    world.upstream.has("app", "1", &made);
    world.get(1, "app", "1").await.unwrap();
    world.recorded("app", "1", &made).await;
    let row = world.view().tag(name("app").local(), &"1".parse().unwrap()).unwrap().unwrap();
    let manifest = world.view().manifest(name("app").local(), &made.digest).unwrap().unwrap();
    for node in [1, 2, 3] {
        assert_eq!(world.get(node, "app", "1").await.unwrap().index, row.revision);
        assert_eq!(world.head(node, "app", "1").await.unwrap().index, row.revision);
        let by_digest = world.get(node, "app", &made.digest.to_string()).await.unwrap();
        assert_eq!(by_digest.index, manifest.index);
    }
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once_in_a_few_seconds() {
    let world = World::new().await;
    let digest = image(&["x"]).digest.to_string();
    for reference in ["none", &digest] {
        for node in [1, 2, 3, 1, 2, 3] {
            for answer in [world.head(node, "app", reference).await, world.get(node, "app", reference).await]
            {
                assert!(matches!(answer, Err(PullError::NotFound)), "{answer:?}");
            }
        }
        assert_eq!(world.upstream.count(&format!("HEAD app/manifests/{reference}")), 1);
        assert_eq!(world.upstream.count(&format!("GET app/manifests/{reference}")), 0);
        world.passes(6);
        assert!(world.head(1, "app", reference).await.is_err());
        assert_eq!(world.upstream.count(&format!("HEAD app/manifests/{reference}")), 2);
    }
    // It came into being meanwhile.
    let made = image(&["config"]);
    world.upstream.has("app", "none", &made);
    world.passes(6);
    assert_eq!(world.get(2, "app", "none").await.unwrap().bytes, Some(made.bytes));
}

#[tokio::test]
async fn of_an_index_only_what_is_asked_for_is_fetched() {
    let world = World::new().await;
    let (one, other) = (image(&["amd64"]), image(&["arm64"]));
    let both = index(&[&one, &other]);
    for made in [&one, &other] {
        world.upstream.has("app", "", made);
    }
    world.upstream.has("app", "1", &both);
    world.get(1, "app", "1").await.unwrap();
    world.get(2, "app", &one.digest.to_string()).await.unwrap();
    let asked = world.upstream.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(world.upstream.count(&format!("GET app/manifests/{}", one.digest)), 1);
    assert_eq!(world.upstream.count(&format!("GET app/manifests/{}", other.digest)), 0);
}

#[tokio::test]
async fn a_blob_is_listed_under_its_own_name_alone() {
    let world = World::new().await;
    world.quorum(false);
    let (private, public) = (image(&["secret", "both"]), image(&["open", "both"]));
    world.upstream.has("private", "1", &private);
    world.upstream.has("public", "1", &public);
    world.get(1, "private", "1").await.unwrap();
    world.get(1, "public", "1").await.unwrap();
    let check = async |when: &str| {
        for (repo, of, there) in [
            ("private", "secret", true),
            ("private", "both", true),
            ("private", "open", false),
            ("public", "secret", false),
            ("public", "both", true),
            ("public", "open", true),
            ("other", "both", false),
        ] {
            let (digest, size) = blob(of);
            for node in [1, 2, 3] {
                let listed = soon(world.node(node).listed(&name(repo), &digest)).await.unwrap();
                assert_eq!(listed, there.then_some(size), "{of} in {repo} on {node} {when}");
            }
        }
        // A manifest, too, belongs to its name.
        let answer = world.get(2, "public", &private.digest.to_string()).await;
        assert!(matches!(answer, Err(PullError::NotFound)), "{answer:?}");
    };
    check("in memory").await;
    world.quorum(true);
    world.passes(300);
    world.get(1, "private", "1").await.unwrap();
    world.get(1, "public", "1").await.unwrap();
    world.recorded("private", "1", &private).await;
    world.recorded("public", "1", &public).await;
    check("recorded").await;
}

#[tokio::test]
async fn the_bytes_of_a_manifest_are_in_the_log_once_however_many_tags_it_has() {
    let world = World::new().await;
    let made = image(&["config", "layer"]);
    let tags = ["1", "1.2", "1.2.3", "latest"];
    for (node, tag) in [1, 2, 3, 1].into_iter().zip(tags) {
        world.upstream.has("app", tag, &made);
        world.head(node, "app", tag).await.unwrap();
        world.get(node, "app", tag).await.unwrap();
        world.recorded("app", tag, &made).await;
    }
    let proposed = world.proposed();
    let first = Some("1".parse().unwrap());
    for command in &proposed {
        if let Command::PutCached { tag, .. } = command {
            let tag = tag.as_ref().map(|(tag, _)| tag.clone());
            assert!(tag.is_none() || tag == first, "{proposed:?}");
        }
    }
    let alone = proposed.iter().filter(|command| matches!(command, Command::TagCached { .. })).count();
    assert_eq!(alone, tags.len() - 1, "{proposed:?}");
    assert_eq!(world.view().tag_count(name("app").local(), &made.digest).unwrap(), tags.len() as u64);
}
