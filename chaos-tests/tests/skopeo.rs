//! A multi-architecture image goes in through one node and comes out through another, byte for byte,
//! with the leader killed in between.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::layout::{INDEX, Layout, blobs};
use chaos_tests::report::scenario;
use chaos_tests::require;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_a_multi_architecture_image_through_any_node() {
    if require::tools(&["skopeo"]) {
        scenario("skopeo", Duration::from_secs(180), run()).await;
    }
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(5)).await?;
    let (layout, index) = Layout::multi(&cluster.root().join("layout"), "multi")?;
    skopeo(
        &format!("oci:{}:multi", layout.dir.display()),
        &format!("docker://{}/multi/arch:v1", cluster.nodes[0].client),
    )
    .await?;
    let leader = cluster.leader(Duration::from_secs(10)).await?;
    // The image must come back through n5, so when n5 leads it is n1 that may not be needed any more.
    let (victim, back) = if leader == 4 { (4, 3) } else { (leader, 4) };
    cluster.nodes[victim].kill();
    let copy = cluster.root().join("copy");
    skopeo(
        &format!("docker://{}/multi/arch:v1", cluster.nodes[back].client),
        &format!("oci:{}:multi", copy.display()),
    )
    .await?;
    ensure!(blobs(&layout.dir)? == blobs(&copy)?, "what came back has other blobs");
    let through = cluster.nodes[back].client().manifest("multi/arch", "v1").await?;
    ensure!(through.body == index, "the index has other bytes");
    ensure!(through.header("content-type") == Some(INDEX), "the index has another media type");
    cluster.done();
    Ok(())
}

async fn skopeo(from: &str, to: &str) -> Result<()> {
    let arguments =
        ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let arguments = arguments.iter().filter(|flag| match **flag {
        "--src-tls-verify=false" => from.starts_with("docker:"),
        "--dest-tls-verify=false" => to.starts_with("docker:"),
        _ => true,
    });
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).args([from, to]).output();
    let output = output.await.context("run skopeo")?;
    ensure!(output.status.success(), "skopeo copy {from} {to}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
