//! What the scenarios share: a Pod, its verdicts' webhooks, and setting the policy.

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::webhook::Webhook;

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

/// `trow dev` has a node's webhooks three ports above its client listener.
fn webhook_address(client: &str) -> Result<String> {
    let (host, port) = client.rsplit_once(':').context("an address")?;
    Ok(format!("{host}:{}", port.parse::<u16>()? + 3))
}
