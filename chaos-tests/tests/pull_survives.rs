//! A pull goes on within the same response when the node that the bytes come from is killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::metrics;
use chaos_tests::report::scenario;

const LEN: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_survives_the_kill_of_its_source() {
    scenario("pull survives", Duration::from_secs(240), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(4)).await?;
    let (content, nodes) = (Content::random(LEN), cluster.clients());
    let digest = content.digest();
    let pushed = nodes[0].push_blob("big/one", content, &digest).await?;
    ensure!(pushed.status == 201, "the push is answered {}", pushed.status);
    cluster.settled(Duration::from_secs(90)).await?;

    let without = cluster.nodes.iter().position(|node| !node.held().contains(&digest.hex()));
    let without = without.context("at four nodes and factor 3 one node holds no copy")?;
    let before = sent(&cluster).await?;
    let reader = nodes[without].clone().within(Duration::from_secs(120));
    let (mut killed, sources) = (None, &mut cluster);
    let pulled = reader
        .pull_blob_watched("big/one", &digest, async |read| {
            if killed.is_none() && read > LEN / 4 {
                // The reader stands still, so the body cannot end before its source does.
                let now = sent(sources).await.unwrap_or_default();
                let moved = before.iter().zip(&now).map(|(before, now)| now - before);
                let source =
                    moved.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index);
                if let Some(source) = source {
                    sources.nodes[source].kill();
                    killed = Some((source, read));
                }
            }
        })
        .await?;
    let (source, at) = killed.context("the source was never killed")?;
    eprintln!(
        "{} was killed with {at} of {LEN} bytes read through n{}",
        cluster.nodes[source].name,
        without + 1
    );
    ensure!(source != without, "the reader's own node sent the bytes");
    ensure!(
        pulled.status == 200 && pulled.len == LEN && pulled.digest == digest,
        "{pulled:?} instead of {digest}"
    );
    ensure!(
        !cluster.nodes[without].held().contains(&digest.hex()),
        "the pull left a copy on a node that owns none"
    );
    cluster.done();
    Ok(())
}

/// Blob bytes sent to peers by each node.
async fn sent(cluster: &Cluster) -> Result<Vec<f64>> {
    let labels = ["kind=\"blob\"", "direction=\"out\""];
    futures::future::try_join_all(
        cluster.nodes.iter().map(|node| metrics::read(node, "trow_peer_bytes_total", &labels)),
    )
    .await
}
