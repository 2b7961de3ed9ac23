//! A single node with data in it becomes three by starting two more with its cluster directory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::audit;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::load::Acked;
use chaos_tests::report::scenario;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_with_data_grows_to_three_and_survives_its_own_loss() {
    scenario("growth", Duration::from_secs(180), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(1)).await?;
    let first = cluster.nodes[0].client();
    let mut acked = Vec::new();
    for index in 0..10 {
        let image = Image::random(&[50_000, 3_000]);
        let answer = image.push(&first, "grown/image", &format!("v{index}")).await?;
        ensure!(answer.status == 201, "push {index}: {}", answer);
        acked.extend(image.blobs.iter().map(|(digest, _)| Acked::Blob("grown/image".to_owned(), *digest)));
        acked.push(Acked::Manifest("grown/image".to_owned(), image));
    }
    for _ in 0..2 {
        cluster.add()?.start()?;
    }
    cluster.healthy(Duration::from_secs(60)).await?;
    cluster.settled(Duration::from_secs(90)).await?;
    let nodes = cluster.clients();
    audit::everything(&nodes, &acked).await?;
    let status = cluster.admin.status(&first).await?;
    let members = status["members"].as_array().context("members")?;
    ensure!(members.len() == 3 && members.iter().all(|member| member["role"] == "voter"), "{members:?}");
    for node in &cluster.nodes {
        ensure!(node.held().len() == 30, "{} holds {} of 30 blobs", node.name, node.held().len());
    }

    cluster.nodes[0].kill();
    audit::everything(&nodes[1..], &acked).await.context("without the first node")?;
    let answer = Image::random(&[1000]).push(&nodes[1], "grown/image", "after").await?;
    ensure!(answer.status == 201, "a push without the first node: {}", answer);
    cluster.done();
    Ok(())
}
