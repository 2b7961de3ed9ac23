//! What rules may require of an image besides its name, and what is rewritten: with images that were pushed here
//! and images of upstreams.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use trow_api::Settings;
use trow_api::pull::memory::Repo;
use trow_api::pull::{PullError, UpstreamName};
use trow_raft::Digest;

use crate::reviews;
use crate::support::{BOUND, CONFIG, IMAGE, INDEX, LAYER, Registry, image};
use crate::webhook::{Webhook, first_image, set_policy};

fn upstream_name(host: &str, repo: &str) -> UpstreamName {
    UpstreamName::new(host.parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

/// An upstream's repository with one image, tagged `1`; its digest.
fn upstream(registry: &Registry, host: &str, repo: &str) -> Digest {
    let text = image("layer").to_string();
    let digest = Digest::sha256(text.as_bytes());
    let manifests = BTreeMap::from([(digest, (IMAGE.to_owned(), text.into()))]);
    let tags = BTreeMap::from([("1".parse().unwrap(), digest)]);
    registry.upstreams.put(upstream_name(host, repo), Repo { manifests, tags, ..Repo::default() });
    digest
}

fn requiring(required: &[&str]) -> String {
    let allow = json!([{ "image": "**", "require": required }]);
    json!({ "version": 1, "default": "deny", "allow": allow }).to_string()
}

#[tokio::test]
async fn an_image_must_exist_where_a_rule_says_so() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    let ours = Digest::sha256(registry.push_image("app", "1", "layer").await.as_bytes());
    let theirs = upstream(&registry, "docker.io", "nginx");
    set_policy(&registry, &requiring(&["exists"])).await;
    let other = Digest::sha256(b"no manifest");
    for here in [
        "trow.test/app:1".to_owned(),
        format!("trow.test/app@{ours}"),
        "nginx:1".to_owned(),
        "trow.test/f/docker.io/library/nginx:1".to_owned(),
        format!("trow.test:5000/hub/nginx@{theirs}"),
    ] {
        assert_eq!(webhook.validate(&reviews::of_image(&here)).await, None, "{here}");
    }
    for missing in [
        "trow.test/app:2".to_owned(),
        "trow.test/none:1".to_owned(),
        format!("trow.test/app:1@{other}"),
        "nginx:2".to_owned(),
        "quay.io/none:1".to_owned(),
    ] {
        let message = webhook.validate(&reviews::of_image(&missing)).await;
        let message = message.unwrap_or_else(|| panic!("{missing} is let in"));
        assert!(
            message.contains("denied by allow[0]") && message.contains("there is no such image"),
            "{message}"
        );
    }
    // No blob was asked for, and nothing but what a HEAD tells.
    assert!(registry.upstreams.asked().iter().all(|asked| asked.starts_with("head ")));

    let fails =
        PullError::Unavailable { why: "docker.io does not answer".into(), retry: Duration::from_secs(5) };
    registry
        .upstreams
        .put(upstream_name("docker.io", "nginx"), Repo { fails: Some(fails), ..Repo::default() });
    let message = webhook.validate(&reviews::of_image("nginx:1")).await.expect("what is not known is let in");
    assert!(message.contains("docker.io does not answer"), "{message}");
}

#[tokio::test]
async fn an_image_must_be_on_all_its_nodes_where_a_rule_says_so() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    registry.push_image("app", "1", "layer").await;
    upstream(&registry, "docker.io", "nginx");
    set_policy(&registry, &requiring(&["replicated"])).await;
    // A cluster that was just born has its owners only when the leader has placed them.
    let placed = async {
        while webhook.validate(&reviews::of_image("trow.test/app:1")).await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, placed).await.expect("what is on its only owner is not replicated");
    assert!(webhook.validate(&reviews::of_image("trow.test/app:2")).await.is_some());
    // Cached images have as many copies as there happen to be.
    assert!(webhook.validate(&reviews::of_image("nginx:1")).await.is_some());
    registry.blobs.damage(&Digest::sha256(b"layer"), None);
    let message = webhook.validate(&reviews::of_image("trow.test/app:1")).await.expect("a copy is missing");
    let why = "n1, which should have it, does not have it yet: try again in a moment";
    assert!(message.contains("denied by allow[0]") && message.contains(why), "{message}");
}

#[tokio::test]
async fn a_requirement_holds_however_our_image_is_named() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    registry.push_image("acme/app", "1", "layer").await;
    let member = registry.metadata.local().members().unwrap().remove(0).client;
    let allow = json!([{ "image": "trow.test/acme/**", "require": ["exists"] }]);
    set_policy(&registry, &json!({ "version": 1, "default": "allow", "allow": allow }).to_string()).await;
    let hosts =
        ["trow.test", "trow.test:5000", "TROW.test:443", "trow.test/f/trow.test__5001", member.as_str()];
    for host in hosts.into_iter().filter(|host| !host.is_empty()) {
        let message = webhook.validate(&reviews::of_image(&format!("{host}/acme/nope:1"))).await;
        let message = message.unwrap_or_else(|| panic!("{host}/acme/nope is let in"));
        assert!(message.contains("there is no such image"), "{message}");
        let there = webhook.validate(&reviews::of_image(&format!("{host}/acme/app:1"))).await;
        assert_eq!(there, None, "{host}");
    }
}

#[tokio::test]
async fn a_tag_gets_the_digest_that_a_pull_gets() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    let ours = Digest::sha256(registry.push_image("app", "1", "layer").await.as_bytes());
    let theirs = upstream(&registry, "docker.io", "nginx");
    let review = reviews::of_image("trow.test/app:1");
    assert_eq!(webhook.mutate(&review).await.1, 0, "mutation is off until a policy turns it on");
    let policy = json!({
        "version": 1, "default": "allow", "requireDigest": true, "forbidTags": ["latest"],
        "deny": [{ "image": "docker.io/library/bad" }], "mutate": { "tagToDigest": true },
    });
    set_policy(&registry, &policy.to_string()).await;
    assert!(webhook.validate(&review).await.is_some());

    let (pod, operations) = webhook.mutate(&review).await;
    assert_eq!((first_image(&pod), operations), (&*format!("trow.test/app:1@{ours}"), 2));
    let originals = &pod["metadata"]["annotations"]["trow.io/original-images"];
    assert_eq!(originals, &json!({ "containers/web": "trow.test/app:1" }).to_string());
    assert_eq!(pod["metadata"]["annotations"]["example.com/owner"], "team");
    let mutated = reviews::of_pod(&pod);
    assert_eq!(webhook.validate(&mutated).await, None);
    assert_eq!(webhook.mutate(&mutated).await.1, 0, "what was rewritten is rewritten again");

    let (pod, _) = webhook.mutate(&reviews::of_image("nginx:1")).await;
    assert_eq!(first_image(&pod), format!("docker.io/library/nginx:1@{theirs}"));
    // A tag that is forbidden stays forbidden.
    registry.push_image("app", "latest", "layer").await;
    let (pod, operations) = webhook.mutate(&reviews::of_image("trow.test/app")).await;
    assert_eq!(operations, 0);
    assert!(webhook.validate(&reviews::of_pod(&pod)).await.unwrap().contains("forbidTags"));
    for untouched in ["trow.test/app:2", "bad:1", "Nginx", &format!("trow.test/app@{ours}")] {
        assert_eq!(webhook.mutate(&reviews::of_image(untouched)).await.1, 0, "{untouched}");
    }
    assert!(!registry.upstreams.asked().iter().any(|asked| asked.contains("library/bad")));

    // Templates are whoever keeps them, and what a kubelet runs anyway is not ours to change.
    let deployment = reviews::all().remove("deployment-create").unwrap();
    assert_eq!(webhook.mutate(&deployment).await.1, 0);
    let mut shown = reviews::of_image("trow.test/app:1");
    shown["request"]["object"]["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "hash".into();
    assert_eq!(webhook.mutate(&shown).await.1, 0);
    // A Pod that has no annotations gets some; an image that was there before an update stays.
    let mut bare = reviews::of_image("trow.test/app:1");
    bare["request"]["object"]["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(first_image(&webhook.mutate(&bare).await.0), format!("trow.test/app:1@{ours}"));
    bare["request"]["operation"] = "UPDATE".into();
    bare["request"]["oldObject"] = bare["request"]["object"].clone();
    assert_eq!(webhook.mutate(&bare).await.1, 0);
}

#[tokio::test]
async fn an_image_of_another_registry_gets_its_name_here() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    registry.push_image("app", "1", "layer").await;
    let digest = upstream(&registry, "docker.io", "nginx");
    upstream(&registry, "localhost:5001", "a/b");
    let policy = |pin: bool| {
        json!({
            "version": 1, "default": "deny",
            "allow": [{ "image": "docker.io/library/nginx" }, { "image": "trow.test/**" }, { "image": "localhost:5001/**" }],
            "mutate": { "mirror": "trow.test", "tagToDigest": pin },
        })
    };
    set_policy(&registry, &policy(false).to_string()).await;
    for (image, becomes) in [
        ("nginx:1", "trow.test/f/docker.io/library/nginx:1"),
        ("localhost:5001/a/b:1", "trow.test/f/localhost__5001/a/b:1"),
        // Ours, not allowed, and not to be had.
        ("trow.test/app:1", "trow.test/app:1"),
        ("trow.test/hub/nginx:1", "trow.test/hub/nginx:1"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        ("nginx:2", "nginx:2"),
    ] {
        let (pod, _) = webhook.mutate(&reviews::of_image(image)).await;
        assert_eq!(first_image(&pod), becomes);
        let again = reviews::of_pod(&pod);
        assert_eq!(webhook.mutate(&again).await.1, 0, "{becomes} is rewritten again");
        // It is judged as what it is.
        let before = webhook.validate(&reviews::of_image(image)).await;
        assert_eq!(webhook.validate(&again).await, before, "{image}");
    }
    set_policy(&registry, &policy(true).to_string()).await;
    let (pod, _) = webhook.mutate(&reviews::of_image("nginx:1")).await;
    assert_eq!(first_image(&pod), format!("trow.test/f/docker.io/library/nginx:1@{digest}"));
}

#[tokio::test]
async fn a_rewritten_pod_keeps_what_was_recorded_before() {
    let registry = Registry::start().await;
    let webhook = Webhook::start(&registry).await;
    registry.push_image("app", "1", "layer").await;
    set_policy(&registry, "version: 1\ndefault: allow\nmutate: {tagToDigest: true}\n").await;
    let digest = format!("sha256:{}", "0a".repeat(32));
    let mut review = reviews::of_image("trow.test/app:1");
    let containers = review.pointer_mut("/request/object/spec/containers").unwrap().as_array_mut().unwrap();
    containers.push(json!({ "name": "sidecar", "image": format!("none.test/a:1@{digest}") }));
    containers.push(json!({ "name": "mirrored", "image": format!("trow.test/f/none.test/b:1@{digest}") }));
    let web = ("containers/web", "trow.test/app:1");
    for (before, after) in [
        // What was never one of its containers has no entry for long.
        (
            json!({ "containers/sidecar": "none.test/a:1", "containers/forged": "b:1", "initContainers/web": "c:1" })
                .to_string(),
            json!({ "containers/sidecar": "none.test/a:1", web.0: web.1 }),
        ),
        // Nor has what cannot have been its image: another one, or one that had another digest.
        (
            json!({ "containers/sidecar": "a:1", "containers/mirrored": "none.test/b:1" }).to_string(),
            json!({ "containers/mirrored": "none.test/b:1", web.0: web.1 }),
        ),
        (
            json!({
                "containers/sidecar": format!("none.test/a:1@{}", digest.replace("0a", "0b")),
                "containers/mirrored": "none.test/b:2",
                "containers/web": "quay.io/innocent:1",
            })
            .to_string(),
            json!({ web.0: web.1 }),
        ),
        (json!({ "containers/sidecar": "NONE", "containers/mirrored": "" }).to_string(), json!({ web.0: web.1 })),
        (json!({ "containers/sidecar": ["none.test/a:1"] }).to_string(), json!({ web.0: web.1 })),
        ("not JSON".to_owned(), json!({ web.0: web.1 })),
    ] {
        review["request"]["object"]["metadata"]["annotations"]["trow.io/original-images"] = before.into();
        let (pod, _) = webhook.mutate(&review).await;
        let recorded = pod["metadata"]["annotations"]["trow.io/original-images"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(recorded).unwrap(), after);
        // What is recorded now is what is recorded when the Pod comes again.
        let mut again = review.clone();
        again["request"]["object"] = pod;
        assert_eq!(webhook.mutate(&again).await.1, 0);
    }
    // A Pod of which nothing is rewritten keeps no entry that is not so.
    let mut pinned = reviews::of_image(&format!("none.test/a:1@{digest}"));
    for (before, after) in [
        (json!({ "containers/web": "quay.io/innocent:1" }), None),
        (json!({ "containers/web": "none.test/a:1" }), Some(json!({ "containers/web": "none.test/a:1" }))),
        (
            json!({ "containers/web": "none.test/a:1", "containers/x": "a:1" }),
            Some(json!({ "containers/web": "none.test/a:1" })),
        ),
        (json!({}), None),
    ] {
        let recorded = before.to_string();
        pinned["request"]["object"]["metadata"]["annotations"]["trow.io/original-images"] = recorded.into();
        let (pod, _) = webhook.mutate(&pinned).await;
        let recorded = pod["metadata"]["annotations"].get("trow.io/original-images");
        let recorded = recorded.map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap());
        assert_eq!(recorded, after, "{before}");
    }
}

#[tokio::test]
async fn an_image_of_more_parts_than_are_looked_for_is_not_replicated() {
    let registry = Registry::with(Settings { sparse: true, ..Settings::default() }).await;
    let webhook = Webhook::start(&registry).await;
    set_policy(&registry, &requiring(&["replicated"])).await;
    let named = |count: usize, kind: &str| -> Vec<Value> {
        let of = |n: usize| Digest::sha256(n.to_string().as_bytes()).to_string();
        (0..count).map(|n| json!({ "mediaType": kind, "digest": of(n), "size": 1 })).collect()
    };
    let index = |count| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": named(count, IMAGE) });
    let image = |count| {
        let config = json!({ "mediaType": CONFIG, "digest": Digest::sha256(b"0").to_string(), "size": 1 });
        json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": named(count, LAYER) })
    };
    for (tag, kind, manifest, why) in [
        // The index is one of them, and what it lists is not here.
        ("index", INDEX, index(999), None),
        ("larger", INDEX, index(1000), Some("it is an index of more than 1000 manifests")),
        ("image", IMAGE, image(10_001), Some("it has more than 10000 blobs")),
    ] {
        let put = registry.request(Method::PUT, &format!("/v2/app/manifests/{tag}"));
        let put = put.header("content-type", kind).body(manifest.to_string()).send().await.unwrap();
        assert_eq!(put.status(), 201, "{tag}");
        let message = webhook.validate(&reviews::of_image(&format!("trow.test/app:{tag}"))).await;
        match (&message, why) {
            (None, None) => {}
            (Some(message), Some(why)) => {
                let unknown = format!("whether it is replicated could not be found out: {why}");
                assert!(message.contains("denied by allow[0]") && message.contains(&unknown), "{message}");
            }
            _ => panic!("{tag}: {message:?}"),
        }
    }
}
