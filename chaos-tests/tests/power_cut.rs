//! The power of every node goes at once; what was acknowledged is there when it comes back.
//!
//! With the feature `planted` the same cut meets a program that skips one fsync of the blob store or of
//! the log, and must find it out. Votes, truncation and checkpoints need a finer cut: `storage_cut.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::check::Expect;
use chaos_tests::cluster::Plan;
use chaos_tests::content::Content;
use chaos_tests::image::Image;
use chaos_tests::load::{Acked, Load};
use chaos_tests::powered::Powered;
use chaos_tests::process::Node;
use chaos_tests::report::{judge, scenario};
use chaos_tests::{audit, require};
use trow_raft::Digest;

/// Bytes of each disk; sparse, so that they cost what is written.
const DISK: u64 = 512 << 20;
const REPO: &str = "cut/images";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_all_nodes_under_load_loses_nothing_acknowledged() {
    if require::loop_disks() {
        scenario("power cut", Duration::from_secs(240), under_load()).await;
    }
}

async fn under_load() -> Result<()> {
    let mut powered = Powered::start(Plan::of(3), DISK).await?;
    let nodes = powered.cluster.clients();
    let mut acked = Vec::new();
    for round in 0..2 {
        let load = Load::start(4, &nodes);
        let until = Instant::now() + Duration::from_secs(30);
        while load.shared.acked().len() < 30 || !load.shared.history.has_each_kind() {
            ensure!(Instant::now() < until, "4 clients got less than 30 pushes, or no read, through in 30 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for node in &nodes {
            load.shared.history.fault(&node.node, "kill");
        }
        powered.cut_and_power_on()?;
        let shared = load.stop().await;
        check_disks(&powered.cluster.nodes)?;
        powered.restart(Duration::from_secs(60)).await?;
        powered.cluster.settled(Duration::from_secs(90)).await?;
        acked.extend(shared.acked());
        let name = format!("power-cut-{round}");
        judge(&name, &shared.history, Expect { no_failed_reads: false, faults: 3, acknowledged: 1 })?;
        audit::everything(&nodes, &acked).await?;
        audit::tags(&nodes, &shared.history.events()).await?;
    }
    audit::same_state(&powered.cluster.admin, &nodes).await?;
    powered.cluster.done();
    Ok(())
}

/// What must hold of a data directory before the program has touched it again: a blob under its name has
/// its bytes, and its checksums, which were synced before it.
fn check_disks(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        for hex in node.held() {
            let file = node.data_dir.join("blobs/sha256").join(&hex[..2]).join(&hex);
            let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            ensure!(
                Digest::sha256(&bytes).hex() == hex,
                "{}: blob {hex} has other bytes after the cut",
                node.name
            );
            let sidecar = node.data_dir.join("checksums/sha256").join(&hex[..2]).join(format!("{hex}.crc"));
            check_sidecar(&sidecar, bytes.len() as u64)
                .with_context(|| format!("{}: blob {hex}", node.name))?;
        }
    }
    Ok(())
}

/// The sidecar is there, says the blob's length, and has a checksum for each chunk.
fn check_sidecar(file: &Path, length: u64) -> Result<()> {
    let bytes = std::fs::read(file).context("its checksums are gone")?;
    let said = bytes.get(16..24).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes);
    ensure!(bytes.starts_with(b"TROWCRC"), "its checksums are {} bytes of something else", bytes.len());
    ensure!(said == Some(length), "its checksums speak of {said:?} bytes, it has {length}");
    ensure!(bytes.len() as u64 == 24 + 4 * length.div_ceil(256 << 10), "its checksums are cut short");
    Ok(())
}

/// Pushes one thing after the other, cuts the power the moment the last is acknowledged, and reads all
/// of it back. An error is a promise that was broken.
async fn cut_after_the_last(plan: Plan) -> Result<()> {
    let mut powered = Powered::start(plan, DISK).await?;
    let nodes = powered.cluster.clients();
    let (image, mut acked) = (Image::random(&[100_000]), Vec::new());
    ensure!(image.push(&nodes[0], REPO, "first").await?.status == 201, "the push fails");
    acked.push(Acked::Manifest(REPO.to_owned(), image));
    for turn in 0..6 {
        let content = Content::random(300_000 + turn);
        let digest = content.digest();
        let answer = nodes[turn as usize % 3].push_blob(REPO, content, &digest).await?;
        ensure!(answer.status == 201, "push {turn}: {}", answer);
        acked.push(Acked::Blob(REPO.to_owned(), digest));
    }
    powered.cut_and_power_on()?;
    let found = judge_cut(&mut powered, &acked).await;
    powered.cluster.done();
    found
}

async fn judge_cut(powered: &mut Powered, acked: &[Acked]) -> Result<()> {
    check_disks(&powered.cluster.nodes)?;
    powered.restart(Duration::from_secs(30)).await?;
    let nodes: Vec<_> =
        powered.cluster.clients().into_iter().map(|node| node.within(Duration::from_secs(15))).collect();
    audit::everything(&nodes, acked).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_right_after_an_acknowledgement_loses_nothing() {
    if require::loop_disks() {
        scenario(
            "power cut after an acknowledgement",
            Duration::from_secs(120),
            cut_after_the_last(Plan::of(3)),
        )
        .await;
    }
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use chaos_tests::binary;

    /// Whether one of a few cuts finds out that `variant` is in force; each may be lucky.
    async fn is_caught(variant: &'static str) {
        if !require::loop_disks() {
            return;
        }
        let run = async {
            for _ in 0..3 {
                let plan = Plan::of(3).program(binary::planted()).env("TROW_PLANTED", variant);
                if let Err(violation) = cut_after_the_last(plan).await {
                    eprintln!("{variant} is caught: {violation:#}");
                    return Ok(());
                }
            }
            anyhow::bail!("three power cuts did not find out that {variant} is in force")
        };
        scenario(variant, Duration::from_secs(300), run).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_blob_file_that_is_not_synced_is_caught() {
        is_caught("skip-fsync-blob-file").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_blob_directory_that_is_not_synced_is_caught() {
        is_caught("skip-fsync-blob-directory").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sidecar_that_is_not_synced_is_caught() {
        is_caught("skip-fsync-sidecar").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_log_append_that_is_not_synced_is_caught() {
        is_caught("skip-fsync-log-append").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_same_program_without_a_variant_is_not() {
        if require::loop_disks() {
            let plan = Plan::of(3).program(binary::planted());
            scenario("clean twin", Duration::from_secs(120), cut_after_the_last(plan)).await;
        }
    }
}
