//! What is cached: listed, pinned, purged.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use trow_api::manifest::parse::parse;
use trow_raft::command::NewManifest;
use trow_raft::{Command, Digest, NodeId, RepoName};

use super::{ME, Node};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NGINX: &str = "f/docker.io/library/nginx";

fn blob(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn descriptor(kind: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

fn made(kind: &str, document: &Value) -> NewManifest {
    let bytes = Bytes::from(document.to_string());
    parse(Digest::sha256(&bytes), Some(kind), bytes).unwrap().manifest
}

/// An image of a config of 10 bytes and layers of these sizes.
fn image(name: &str, layers: &[usize]) -> (NewManifest, Vec<Digest>) {
    let config = blob(name);
    let named: Vec<Digest> = (0..layers.len()).map(|n| blob(&format!("{name} {n}"))).collect();
    let layer = |(digest, size): (&Digest, &usize)| {
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest, *size)
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config, 10),
        "layers": named.iter().zip(layers).map(layer).collect::<Vec<_>>(),
    });
    (made(IMAGE, &document), std::iter::once(config).chain(named).collect())
}

fn index(children: &[&NewManifest]) -> NewManifest {
    let child = |child: &&NewManifest| descriptor(IMAGE, &child.digest, child.bytes.len());
    let children: Vec<Value> = children.iter().map(child).collect();
    made(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children }))
}

fn put(repo: &str, manifest: &NewManifest, tag: Option<&str>) -> Command {
    Command::PutCached {
        repo: repo.parse().unwrap(),
        manifest: manifest.clone(),
        tag: tag.map(|tag| (tag.parse().unwrap(), 0)),
    }
}

async fn cached(node: &Node, query: &str) -> Vec<(String, Vec<String>, String)> {
    let reply = node.ask("GET", &format!("cache{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let images = reply.body["images"].as_array().unwrap().iter();
    images
        .map(|image| {
            let tags = image["tags"].as_array().unwrap().iter().map(text).collect();
            (text(&image["repository"]), tags, text(&image["digest"]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cached_is_listed_with_who_has_it() {
    let node = Node::start().await;
    let empty = node.ask("GET", "cache").await;
    assert_eq!(empty.body, json!({ "images": [], "pins": [], "next": null }));
    let (nginx, blobs) = image("nginx", &[100, 1000]);
    let (app, _) = image("app", &[7]);
    node.done(put(NGINX, &nginx, Some("1.27"))).await;
    node.done(put(NGINX, &nginx, Some("latest"))).await;
    node.done(put(NGINX, &index(&[&nginx]), Some("all"))).await;
    node.done(put("f/localhost__5001/team/app", &app, None)).await;
    node.held.lock().unwrap().extend([
        (ME, BTreeSet::from([blobs[0], blobs[1]])),
        (NodeId(9), BTreeSet::from([blobs[1]])),
        (NodeId(8), BTreeSet::new()),
    ]);
    let reply = node.ask("GET", "cache?host=docker.io").await;
    let images = reply.body["images"].as_array().unwrap();
    assert_eq!(images.len(), 2, "{}", reply.body);
    let shown = images.iter().find(|one| one["digest"] == json!(nginx.digest)).unwrap();
    for (key, expected) in [
        ("repository", json!("docker.io/library/nginx")),
        ("tags", json!(["1.27", "latest"])),
        ("media_type", json!(IMAGE)),
        ("blobs", json!(3)),
        ("size", json!(1110)),
        ("cached_bytes", json!(110)),
        ("nodes", json!([{ "node": null, "bytes": 100 }, { "node": "n1", "bytes": 110 }])),
        ("pinned", json!(false)),
    ] {
        assert_eq!(shown[key], expected, "{key}");
    }
    assert!(shown["pushed_at"].as_str().unwrap().starts_with("20"), "{shown}");
    let of_index = images.iter().find(|one| one["media_type"] == INDEX).unwrap();
    assert_eq!((&of_index["tags"], &of_index["size"]), (&json!(["all"]), &json!(0)));

    let whole = cached(&node, "").await;
    assert_eq!(whole.len(), 3);
    assert_eq!(whole[2], ("localhost:5001/team/app".to_owned(), vec![], app.digest.to_string()));
    assert_eq!(cached(&node, "?host=localhost%3A5001").await, whole[2..]);
    // Page by page it is the same.
    let (mut paged, mut query) = (Vec::new(), "?n=1".to_owned());
    loop {
        let reply = node.ask("GET", &format!("cache{query}")).await;
        paged.extend(cached(&node, &query).await);
        let Some(next) = reply.body["next"].as_str() else { break };
        query = format!("?n=1&after={next}");
    }
    assert_eq!(paged, whole);
    for bad in ["?host=..", "?after=x", "?after=a@b", "?n=-1", "?hosts=docker.io"] {
        assert_eq!(node.ask("GET", &format!("cache{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pins_are_set_and_taken_away_by_whatever_name_an_image_has() {
    let node = Node::start().await;
    let (nginx, _) = image("nginx", &[1]);
    let set = node.ask("PUT", "cache/pins?image=nginx").await;
    assert_eq!(set.status, 200, "{}", set.body);
    let expected = json!({ "image": "docker.io/library/nginx:latest", "pinned": true, "log_id": set.log_id });
    assert!(set.log_id.is_some() && set.body == expected, "{}", set.body);
    node.done(put(NGINX, &nginx, Some("latest"))).await;
    let by_digest = format!("quay.io/a@{}", nginx.digest);
    assert_eq!(node.ask("PUT", &format!("cache/pins?image={by_digest}")).await.status, 200);
    let listed = node.ask("GET", "cache").await.body;
    assert_eq!(listed["pins"], json!(["docker.io/library/nginx:latest", by_digest]));
    assert_eq!(listed["images"][0]["pinned"], true, "{listed}");
    let of_quay = node.ask("GET", "cache?host=quay.io").await.body;
    assert_eq!((&of_quay["pins"], &of_quay["images"]), (&json!([by_digest]), &json!([])));

    let gone = "cache/pins?image=index.docker.io/library/nginx:latest";
    let taken = node.ask("DELETE", gone).await;
    assert_eq!((taken.status.as_u16(), &taken.body["pinned"]), (200, &json!(false)));
    assert_eq!(node.ask("DELETE", gone).await.status, 404);
    assert_eq!(node.ask("GET", "cache").await.body["images"][0]["pinned"], false);
    for bad in ["", "?image=", "?image=Nginx", "?image=a&host=b"] {
        assert_eq!(node.ask("PUT", &format!("cache/pins{bad}")).await.status, 400, "{bad}");
    }
    assert_eq!(node.ask("GET", "cache/pins").await.status, 405);
    assert_eq!(node.ask("PUT", "cache").await.status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purging_an_image_takes_what_only_it_names() {
    let node = Node::start().await;
    let [(a, _), (b, _), (shared, _), (tagged, _)] =
        ["a", "b", "shared", "tagged"].map(|name| image(name, &[1]));
    let (first, second) = (index(&[&a, &b, &shared, &tagged]), index(&[&shared]));
    node.done(put(NGINX, &first, Some("1"))).await;
    node.done(put(NGINX, &second, Some("2"))).await;
    for (child, tag) in [(&a, None), (&b, None), (&shared, None), (&tagged, Some("amd64"))] {
        node.done(put(NGINX, child, tag)).await;
    }
    node.done(put("f/quay.io/x", &a, Some("1"))).await;
    assert_eq!(node.ask("DELETE", "cache?image=nginx:3").await.status, 404);
    assert_eq!(node.ask("DELETE", &format!("cache?image=nginx@{}", blob("x"))).await.status, 404);
    let pin = format!("cache/pins?image=nginx@{}", b.digest);
    assert_eq!(node.ask("PUT", &pin).await.status, 200);
    assert_eq!(node.ask("PUT", "cache/pins?image=nginx:1").await.status, 200);
    let refused = node.ask("DELETE", "cache?image=nginx:1").await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(cached(&node, "").await.len(), 7);
    assert_eq!(node.ask("DELETE", "cache/pins?image=nginx:1").await.status, 200);

    let purged = node.ask("DELETE", "cache?image=nginx:1").await;
    assert_eq!((&purged.body["dropped"], &purged.body["pinned"]), (&json!(2), &json!(1)), "{}", purged.body);
    let left: BTreeSet<String> = cached(&node, "").await.into_iter().map(|(_, _, digest)| digest).collect();
    // The image of the same bytes in another repository is another image.
    let kept = [&second, &shared, &tagged, &b, &a].map(|one| one.digest.to_string());
    assert_eq!(left, BTreeSet::from(kept));
    assert_eq!(cached(&node, "?host=quay.io").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purging_a_registry_or_all_leaves_what_is_pinned() {
    let node = Node::start().await;
    for repo in [NGINX, "f/docker.io/acme/app", "f/docker.io__5000/x", "f/quay.io/x"] {
        for name in ["a", "b"] {
            node.done(put(repo, &image(name, &[1]).0, Some(name))).await;
        }
    }
    assert_eq!(node.ask("PUT", "cache/pins?image=acme/app:a").await.status, 200);
    for bad in ["", "?all=false", "?host=docker.io&all=true", "?image=nginx&all=true", "?host="] {
        assert_eq!(node.ask("DELETE", &format!("cache{bad}")).await.status, 400, "{bad}");
    }
    let purged = node.ask("DELETE", "cache?host=docker.io").await.body;
    assert_eq!(
        (&purged["dropped"], &purged["pinned"], &purged["next"]),
        (&json!(3), &json!(1), &json!(null))
    );
    assert_eq!(cached(&node, "").await.len(), 5, "another port is another registry");
    let purged = node.ask("DELETE", "cache?all=true").await.body;
    assert_eq!((&purged["dropped"], &purged["pinned"]), (&json!(4), &json!(1)));
    let again = node.ask("DELETE", "cache?all=true").await.body;
    assert_eq!(again, json!({ "dropped": 0, "pinned": 1, "log_id": null, "next": null }));
    let left = cached(&node, "").await;
    assert_eq!((left[0].0.as_str(), &left[0].1), ("docker.io/acme/app", &vec!["a".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_or_changes_the_cache_without_the_token() {
    let node = Node::start().await;
    node.done(put(NGINX, &image("a", &[1]).0, Some("1"))).await;
    for (method, path) in [
        ("GET", "cache"),
        ("DELETE", "cache?all=true"),
        ("PUT", "cache/pins?image=nginx"),
        ("DELETE", "cache/pins?image=nginx"),
    ] {
        for token in [None, Some("another")] {
            assert_eq!(node.ask_with(method, path, token).await.status, 401, "{method} {path}");
        }
    }
    let repo: RepoName = NGINX.parse().unwrap();
    let view = node.metadata.local();
    assert!(view.pins().unwrap().is_empty());
    assert!(view.tag(&repo, &"1".parse().unwrap()).unwrap().is_some());
}
