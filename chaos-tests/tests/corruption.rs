//! A blob file that goes bad on disk is never served past the bad chunk, and heals from a peer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::fault::{Damage, damage};
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use trow_raft::Digest;

const REPO: &str = "bad/disk";
const LEN: u64 = 3 << 20;
/// In the third of twelve chunks.
const AT: u64 = 600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_blob_is_not_served_and_heals() {
    scenario("corruption", Duration::from_secs(180), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let mut blobs = Vec::new();
    for how in
        [Damage::Flip(AT), Damage::Truncate(AT), Damage::Zero(AT, 4096), Damage::Flip(0), Damage::Truncate(0)]
    {
        let content = Content::random(LEN);
        let digest = content.digest();
        ensure!(nodes[0].push_blob(REPO, content, &digest).await?.status == 201, "the push fails");
        blobs.push((how, content, digest));
    }
    cluster.settled(Duration::from_secs(120)).await?;

    let (node, client) = (&cluster.nodes[0], &nodes[0]);
    for (how, content, digest) in &blobs {
        damage(&file(node, digest), *how)?;
        // A range that ends before the damage may be served; one that covers it may only be right.
        let bytes = content.bytes();
        if let Ok(part) = client.blob_range(REPO, digest, AT - 10, AT + 9).await {
            let right = part.body[..] == bytes[AT as usize - 10..AT as usize + 10];
            ensure!(
                part.status == 206 && right || part.status >= 500,
                "{how:?}: a range came wrong: {}",
                part.status
            );
        }
        match client.pull_blob(REPO, digest).await {
            Ok(pulled) if pulled.status == 200 => {
                ensure!(pulled.digest == *digest, "{how:?}: wrong bytes ended cleanly");
            }
            Ok(pulled) => ensure!(pulled.status >= 500, "{how:?}: answered {}", pulled.status),
            Err(broken) => eprintln!("{how:?}: the body broke off: {broken}"),
        }
        heals(node, digest, content).await.with_context(|| format!("{how:?}"))?;
        let pulled = client.pull_blob(REPO, digest).await?;
        ensure!(pulled.status == 200 && pulled.digest == *digest, "{how:?}: not healed: {pulled:?}");
    }
    let quarantined = walk(&node.data_dir.join("quarantine"));
    ensure!(quarantined.len() >= blobs.len(), "only {quarantined:?} were put aside");
    cluster.settled(Duration::from_secs(120)).await?;
    cluster.done();
    Ok(())
}

/// Waits until the file is whole again.
async fn heals(node: &Node, digest: &Digest, content: &Content) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while std::fs::read(file(node, digest)).map_or(true, |bytes| bytes != content.bytes()) {
        ensure!(Instant::now() < until, "the blob was not fetched again within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn file(node: &Node, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    node.data_dir.join("blobs/sha256").join(&hex[..2]).join(hex)
}

fn walk(dir: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
