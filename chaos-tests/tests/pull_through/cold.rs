//! Many clients at once ask for what nobody has asked for before.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chaos_tests::image::Image;
use chaos_tests::upstream::{Kind, Rule, Twist};
use tokio::task::JoinSet;

use super::site::{HERE, REPO, Site, holders, index, pull, through_three_nodes, until};

const PULLS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cold_pulls_ask_upstream_once_for_each_object() {
    through_three_nodes("cold pulls", "", run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let image = Image::random(&[1 << 20, 300_000, 40_000]);
    site.upstream.add(REPO, "v1", &image);
    // Slow enough that all of them wait for the same bytes.
    site.upstream.rule(Rule::new(Twist::Late(Duration::from_millis(200))).kind(Kind::Manifest));
    site.upstream.rule(Rule::new(Twist::Slow(Duration::from_millis(50))).kind(Kind::Blob));
    let (clients, began) = (site.clients(), Instant::now());
    let mut pulls = JoinSet::new();
    for number in 0..PULLS {
        let (client, image) = (clients[number % clients.len()].clone(), image.clone());
        pulls.spawn(async move { pull(&client, HERE, "v1", &image).await });
    }
    while let Some(pulled) = pulls.join_next().await {
        pulled??;
    }
    let objects = image.blobs.len() + 1;
    let gets = site.upstream.count("GET", Kind::Manifest) + site.upstream.count("GET", Kind::Blob);
    let heads = site.upstream.count("HEAD", Kind::Manifest);
    let mut peaks = Vec::new();
    for node in &site.cluster.nodes {
        peaks.push(node.peak_memory()? >> 20);
    }
    eprintln!(
        "{PULLS} cold pulls over three nodes in {:.1} s: {gets} upstream GETs for {objects} objects, {heads} HEADs; \
         at most {peaks:?} MiB resident",
        began.elapsed().as_secs_f64()
    );
    site.fetched_once(REPO, &image)?;
    ensure!(gets == objects, "{gets} GETs for {objects} objects:\n{}", site.asked());
    ensure!(heads <= 1, "{heads} HEADs of one tag:\n{}", site.asked());

    // One node more than the one that fetched has each blob, so that the loss of one loses nothing.
    until("each blob is on two nodes", async || {
        Ok(image.blobs.iter().all(|(digest, _)| holders(&site.cluster.nodes, digest).len() >= 2))
    })
    .await?;
    ensure!(site.upstream.count("GET", Kind::Blob) == image.blobs.len(), "a copy came from upstream");

    one_architecture(site).await
}

/// Of an index nothing is fetched that nobody asks for.
async fn one_architecture(site: &mut Site) -> Result<()> {
    site.upstream.behave();
    site.upstream.forget();
    let (ours, others) = (Image::random(&[50_000]), Image::random(&[60_000]));
    for (tag, image) in [("ours", &ours), ("others", &others)] {
        site.upstream.add("library/multi", tag, image);
    }
    site.upstream.add_manifest("library/multi", Some("v1"), index(&[(&ours, "amd64"), (&others, "arm64")]));
    let (here, client) = ("f/docker.io/library/multi", &site.clients()[1]);
    let answer = super::site::head(client, here, "v1").await?;
    ensure!(answer.status == 200, "HEAD of the index: {answer}");
    ensure!(
        site.upstream.count("GET", Kind::Manifest) == 0 && site.upstream.count("HEAD", Kind::Manifest) == 1,
        "a HEAD costs one HEAD:\n{}",
        site.asked()
    );
    ensure!(client.manifest(here, "v1").await?.status == 200, "GET of the index");
    ensure!(client.manifest(here, &ours.digest.to_string()).await?.status == 200, "GET of the image");
    for (digest, _) in &ours.blobs {
        ensure!(client.pull_blob(here, digest).await?.digest == *digest, "{digest} is wrong");
    }
    let wanted = [format!("manifests/{}", others.digest), format!("blobs/{}", others.blobs[0].0)];
    let seen = site.asked();
    ensure!(!wanted.iter().any(|part| seen.contains(part)), "what nobody asked for was fetched:\n{seen}");
    ensure!(site.upstream.count("GET", Kind::Blob) == ours.blobs.len(), "{seen}");
    Ok(())
}
