//! What the scenarios share: Pods, policies that let one of two run, the webhooks, and setting the policy.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::webhook::Webhook;
use serde_json::Value;

/// As an API server sends it: a Pod with a container, an init container and a volume of an image.
pub const REVIEW: &str = include_str!("../../../api/tests/http/reviews/pod-create.json");

/// The webhooks of each node of `trow dev`, in order.
pub async fn webhooks(cluster: &Cluster) -> Result<Vec<Webhook>> {
    let (code, bundle, error) = cluster.admin.run(&cluster.nodes[0].client, &["webhook", "ca"]).await?;
    ensure!(code == 0, "trow webhook ca: exit {code}, {error}");
    cluster.nodes.iter().map(|node| Webhook::new(&webhook_address(&node.client)?, &bundle)).collect()
}

/// Sets the policy through one node.
pub async fn set(cluster: &Cluster, node: usize, policy: &str) -> Result<()> {
    let file = cluster.root().join("policy.yaml");
    std::fs::write(&file, policy)?;
    let arguments = ["policy", "set", file.to_str().context("a path of text")?];
    let (code, out, error) = cluster.admin.run(&cluster.nodes[node].client, &arguments).await?;
    ensure!(code == 0, "trow policy set: exit {code}, {out}{error}");
    Ok(())
}

/// Sets the policy, again while there is no leader.
pub async fn set_soon(cluster: &Cluster, node: usize, policy: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = set(cluster, node, policy).await {
        ensure!(Instant::now() < until, "{error:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// `trow dev` has a node's webhooks three ports above its client listener.
fn webhook_address(client: &str) -> Result<String> {
    let (host, port) = client.rsplit_once(':').context("an address")?;
    Ok(format!("{host}:{}", port.parse::<u16>()? + 3))
}

/// That Pod with another image in its container.
pub fn reviewed(image: &str) -> Result<Value> {
    Ok(serde_json::from_str(&REVIEW.replace("docker.io/library/app:1", image))?)
}

/// Two images, of which each policy lets one run.
pub const IMAGES: [&str; 2] = ["docker.io/library/one:1", "docker.io/library/two:1"];

/// The policy after so many changes, which lets `IMAGES[changes % 2]` run and not the other one.
pub fn alternating(changes: usize) -> String {
    let one = ["one", "two"][changes % 2];
    format!(
        "version: 1\ndefault: deny\nallow:\n  - image: docker.io/library/{one}\n  - image: quay.io/tools/**\n  - \
         image: ghcr.io/acme/**\n"
    )
}
