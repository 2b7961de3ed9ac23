//! Who does not hold the cluster directory gets nothing from the peer listener, and is logged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::report::scenario;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_nothing_from_the_peer_listener() {
    scenario("strangers", Duration::from_secs(120), run()).await;
}

async fn run() -> Result<()> {
    let cluster = Cluster::start(Plan::of(1)).await?;
    let node = cluster.nodes[0].client();
    let image = Image::random(&[5000]);
    ensure!(image.push(&node, "secret/image", "v1").await?.status == 201, "the push fails");
    let (digest, _) = image.blobs[1];

    // Plain HTTP, and TLS without a certificate.
    let bold = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let bold = bold.timeout(Duration::from_secs(10)).build()?;
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{}/blob/{digest}", cluster.nodes[0].peer);
        let answer = bold.get(&url).header("trow-cluster", "0000000000000000").send().await;
        ensure!(answer.as_ref().is_err(), "{scheme} without a certificate is answered {answer:?}");
    }

    // A node with another cluster directory, sent here to join.
    let mut foreign = Cluster::prepare(Plan::of(1)).await?;
    let peer = cluster.nodes[0].peer.clone();
    let stranger = &mut foreign.nodes[0];
    let join = stranger.command.iter().position(|word| word == "--join").context("--join")?;
    stranger.command.truncate(join);
    stranger.command.extend(["--join".to_owned(), peer]);
    stranger.start()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = cluster.admin.status(&node).await?;
    ensure!(
        status["members"].as_array().is_some_and(|members| members.len() == 1),
        "a stranger joined: {status}"
    );
    ensure!(stranger.is_running(), "a node that is refused waits: {}", stranger.log_tail(20));
    ensure!(stranger.held().is_empty(), "a stranger was given blobs");

    let log = cluster.nodes[0].log_tail(1000);
    ensure!(
        log.to_lowercase().contains("peer") && (log.contains("WARN") || log.contains("refus")),
        "nothing is logged:\n{log}"
    );
    foreign.done();
    cluster.done();
    Ok(())
}
