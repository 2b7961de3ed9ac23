//! Without a quorum content by digest is served, names are served as stale, and the rest says when to
//! come back; with it, everything goes on by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::audit;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::report::scenario;

const REPO: &str = "alone/image";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_nodes_serves_what_it_knows_and_says_what_it_does_not() {
    scenario("no quorum", Duration::from_secs(180), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let image = Image::random(&[300_000]);
    let answer = image.push(&nodes[0], REPO, "v1").await?;
    ensure!(answer.status == 201, "the push: {answer}");
    cluster.settled(Duration::from_secs(120)).await?;
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();

    let last = &nodes[2];
    for (digest, _) in &image.blobs {
        audit::blob(last, REPO, digest).await.context("right after the quorum is gone")?;
    }
    let by_digest = last.manifest(REPO, &image.digest.to_string()).await?;
    ensure!(by_digest.status == 200 && by_digest.body == image.manifest, "by digest: {by_digest}");

    let began = Instant::now();
    let by_tag = last.manifest(REPO, "v1").await?;
    ensure!(by_tag.status == 200 && by_tag.body == image.manifest, "by tag: {by_tag}");
    ensure!(
        by_tag.stale(),
        "a tag read without a quorum does not say that it is stale: {:?}",
        by_tag.headers
    );
    ensure!(began.elapsed() < Duration::from_secs(4), "a stale tag took {:?}", began.elapsed());

    let missing = last.manifest(REPO, "v2").await?;
    later(&missing, "a miss")?;
    let tagged = last.put_manifest(REPO, "v3", MANIFEST, image.manifest.clone()).await?;
    later(&tagged, "a write")?;
    let content = Content::random(1000);
    let pushed = last.push_blob(REPO, content, &content.digest()).await?;
    later(&pushed, "a push")?;

    let arguments = ["cluster", "status", "--output", "json"];
    let (code, out, _) = cluster.admin.run(&cluster.nodes[2].client, &arguments).await?;
    let status: serde_json::Value = serde_json::from_str(&out).context("status is JSON")?;
    ensure!(code == 3 && status["stale"] == true && status["quorum"] == false, "exit {code}, {status}");

    cluster.nodes[1].start()?;
    let until = Instant::now() + Duration::from_secs(20);
    while last.put_manifest(REPO, "v4", MANIFEST, image.manifest.clone()).await?.status != 201 {
        ensure!(Instant::now() < until, "no write 20 s after the second node is started");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(!last.manifest(REPO, "v4").await?.stale(), "a tag is called stale with a quorum");
    cluster.nodes[0].start()?;
    cluster.healthy(Duration::from_secs(60)).await?;
    cluster.settled(Duration::from_secs(120)).await?;
    cluster.done();
    Ok(())
}

/// Answered 503, and when to come back.
fn later(answer: &chaos_tests::client::Answer, what: &str) -> Result<()> {
    ensure!(answer.status == 503, "{what} without a quorum: {answer}");
    let seconds = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    ensure!(seconds.is_some(), "{what} without a quorum names no Retry-After");
    Ok(())
}
