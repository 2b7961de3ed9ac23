//! A node that lost its disk comes back as a new member under its old name, and gets its copies again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::audit;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::load::Acked;
use chaos_tests::report::scenario;

const REPO: &str = "wiped/image";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_emptied_data_directory_joins_again_under_a_new_id() {
    scenario("wiped", Duration::from_secs(240), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::dev(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let mut acked = Vec::new();
    for index in 0..10 {
        let image = Image::random(&[20_000]);
        let answer = image.push(&nodes[index % 3], REPO, &format!("v{index}")).await?;
        ensure!(answer.status == 201, "push {index}: {answer}");
        acked.extend(image.blobs.iter().map(|(digest, _)| Acked::Blob(REPO.to_owned(), *digest)));
        acked.push(Acked::Manifest(REPO.to_owned(), image));
    }
    cluster.settled(Duration::from_secs(120)).await?;
    let before = cluster.admin.status(&nodes[0]).await?;

    let node = &mut cluster.nodes[2];
    node.kill();
    for entry in std::fs::read_dir(&node.data_dir)?.flatten() {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    node.start()?;
    cluster.healthy(Duration::from_secs(90)).await.context("the emptied node joins")?;
    cluster.settled(Duration::from_secs(120)).await.context("with the emptied node")?;

    let after = cluster.admin.status(&nodes[0]).await?;
    let id = |status: &serde_json::Value| {
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let named: Vec<_> = members.iter().filter(|member| member["name"] == "n3").cloned().collect();
        (members.len(), named.len(), named.first().map(|member| member["id"].clone()))
    };
    let ((_, _, old), (members, named, new)) = (id(&before), id(&after));
    ensure!(members == 3 && named == 1, "the members are {}", after["members"]);
    ensure!(old != new, "an emptied node has its old id");
    ensure!(cluster.nodes[2].held().len() == 20, "it holds {} of 20 blobs", cluster.nodes[2].held().len());
    audit::everything(&nodes, &acked).await?;

    // Its copies count: the two others may go.
    cluster.nodes[0].kill();
    audit::everything(&nodes[1..], &acked).await.context("without n1")?;
    cluster.done();
    Ok(())
}
