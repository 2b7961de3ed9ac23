//! Registries of others behind the nodes: Debian's docker-registry, and another Trow.

use std::time::Duration;

use anyhow::{Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::registry::Registry;
use chaos_tests::report::scenario;
use chaos_tests::require;

use super::site::{KEEPS, LIMIT, pull};

const REPO: &str = "team/app";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_registry_and_another_trow_are_pulled_through() {
    if require::tools(&["docker-registry"]) {
        scenario("registries of others", LIMIT * 3, run()).await;
    }
}

async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let registry = Registry::start(&dir.path().join("registry")).await?;
    let mut trow = Cluster::start(Plan::of(1)).await?;
    let (theirs, ours) = (Image::random(&[2 << 20, 100_000]), Image::random(&[2 << 20, 100_000]));
    let client = &trow.clients()[0];
    for (image, upstream) in [(&theirs, &registry.client()), (&ours, client)] {
        ensure!(image.push(upstream, REPO, "v1").await?.status == 201, "the push to {}", upstream.node);
    }
    let settings = |host: &str, address: &str| {
        format!(
            "[upstream.\"{host}\"]\nendpoint = \"http://{address}\"\ninsecure = true\nallow_private = true\n"
        )
    };
    let config = KEEPS.to_owned()
        + &settings("registry.example", &registry.address)
        + &settings("trow.example:5000", &trow.nodes[0].client);
    let mut cluster = Cluster::start(Plan::of(3).config(&config)).await?;
    let here = [("f/registry.example", &theirs), ("f/trow.example__5000", &ours)];
    let clients = cluster.clients();
    for (turn, (host, image)) in here.iter().cycle().take(6).enumerate() {
        pull(&clients[turn % 3], &format!("{host}/{REPO}"), "v1", image).await?;
    }
    for (host, image) in here {
        let repo = format!("{host}/{REPO}");
        let answer = clients[2].tags(&repo).await?;
        let list: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(list["tags"] == serde_json::json!(["v1"]), "{repo}: {answer}");
        let part = clients[0].blob_range(&repo, &image.blobs[1].0, 1000, 1999).await?;
        ensure!(
            part.status == 206 && part.body == image.blobs[1].1.bytes().slice(1000..2000),
            "{repo}: {part}"
        );
        let miss = clients[1].manifest(&repo, "v2").await?;
        ensure!(miss.status == 404 && miss.code().as_deref() == Some("MANIFEST_UNKNOWN"), "{repo}: {miss}");
    }

    // Both go away; what was pulled is here.
    trow.nodes[0].kill();
    drop(registry);
    for (host, image) in here {
        for client in &clients {
            pull(&client.clone().within(Duration::from_secs(30)), &format!("{host}/{REPO}"), "v1", image)
                .await?;
        }
    }
    trow.done();
    cluster.done();
    Ok(())
}
