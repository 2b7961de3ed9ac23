//! Memory is bounded: blobs pass through in pieces, whatever their size and number.
//!
//! Eight blobs of `TROW_MEMORY_MIB` (64 unless said; a full run uses 512) are pushed while eight pulls
//! of others go on, spread over three nodes. Each of the others is pulled twice, to spare the disk: a
//! full run takes 18 GiB.

use std::time::Duration;

use anyhow::{Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::report::scenario;
use futures::future::try_join_all;

const REPO: &str = "big/blobs";
const LIMIT: u64 = 150_000_000;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_big_pushes_and_pulls_at_once_stay_below_150_mb() {
    let mib: u64 = std::env::var("TROW_MEMORY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    scenario("memory", Duration::from_secs(120 + 2 * mib), run(mib << 20)).await;
}

async fn run(len: u64) -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes: Vec<_> =
        cluster.clients().into_iter().map(|node| node.within(Duration::from_secs(900))).collect();
    for node in &cluster.nodes {
        eprintln!("{} idle: {} MB resident", node.name, node.resident_memory()? / 1_000_000);
    }
    let first: Vec<Content> = (0..AT_ONCE as u64 / 2).map(|turn| Content::random(len + turn)).collect();
    push(&nodes, &first).await?;
    let second: Vec<Content> = (0..AT_ONCE as u64).map(|turn| Content::random(len + turn)).collect();
    let pulls = first.iter().chain(&first).enumerate().map(async |(turn, content)| {
        let (digest, node) = (content.digest(), &nodes[(turn + 1) % nodes.len()]);
        let pulled = node.pull_blob(REPO, &digest).await?;
        ensure!(pulled.status == 200 && pulled.digest == digest, "{pulled:?} instead of {digest}");
        Ok(())
    });
    futures::future::try_join(push(&nodes, &second), try_join_all(pulls)).await?;
    for node in &cluster.nodes {
        let peak = node.peak_memory()?;
        eprintln!("{} under load: {} MB resident at most", node.name, peak / 1_000_000);
        ensure!(peak <= LIMIT, "{} used {} MB", node.name, peak / 1_000_000);
    }
    cluster.done();
    Ok(())
}

async fn push(nodes: &[chaos_tests::client::Client], contents: &[Content]) -> Result<()> {
    let pushes = contents.iter().enumerate().map(async |(turn, content)| {
        let answer = nodes[turn % nodes.len()].push_blob_by_patch(REPO, *content, &content.digest()).await?;
        ensure!(answer.status == 201, "push {turn}: {}", answer);
        Ok(())
    });
    try_join_all(pushes).await.map(drop)
}
